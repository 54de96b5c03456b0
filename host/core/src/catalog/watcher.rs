//! Keeps the snapshot true to the files it is made from.
//!
//! Two tasks, one after the other in the flow of data: one watches the plugins folder and loads what is
//! new, the other binds what is loaded to the configuration and publishes. So an adapter that takes
//! its ten seconds to compile delays neither a saved configuration nor another adapter.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use keyward_contract::ProviderKind;
use tokio::{sync::watch, task::JoinSet};

use super::{
    PluginStatus, Provider, ProviderState, Snapshot,
    folder::{Folder, LimitsOf},
    provider::{Shared, gate_limits},
};
use crate::{
    config::{self, Config, State},
    ids::{AdapterName, ProviderName},
    privacy::Detectors,
    routing::{self, Roster, RouteState, gate::Gate},
    sandbox::{Compiler, Limits},
    watch::DirWatch,
};

/// The current snapshot, and the tasks that renew it. Dropping it stops them.
pub struct Catalog {
    current: Arc<ArcSwap<Snapshot>>,
    _tasks: JoinSet<()>,
    _config: config::Watcher,
}

impl Catalog {
    /// Loads the plugins once, then follows them and the configuration.
    pub(crate) async fn start(
        config: config::Watcher,
        dir: PathBuf,
        compiler: Compiler,
        shared: Shared,
    ) -> Self {
        let mut states = config.subscribe();
        let mut folder = Folder::new(dir.clone());
        let mut plugins = Vec::new();
        folder.scan(&compiler, limits(&config.state()), |found| plugins = found).await;
        let mut maker = Maker {
            config: config.state(),
            plugins,
            shared,
            bound: HashMap::new(),
            gates: HashMap::new(),
        };
        let current = Arc::new(ArcSwap::from_pointee(maker.snapshot()));
        let (found, mut plugins) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        let mut settings = config.subscribe();
        tasks.spawn(async move {
            let mut changes = DirWatch::new();
            changes.watch(BTreeSet::from([dir.canonicalize().unwrap_or(dir)])).await;
            loop {
                // A limit or a grant may have changed as well as a file.
                tokio::select! {
                    () = changes.changed() => {}
                    configured = settings.changed() => if configured.is_err() { return },
                }
                let limits = limits(&settings.borrow_and_update());
                folder.scan(&compiler, limits, |plugins| drop(found.send(plugins))).await;
            }
        });
        let publish = Arc::clone(&current);
        tasks.spawn(async move {
            loop {
                let alive = tokio::select! {
                    changed = plugins.changed() => changed.map(|()| {
                        maker.plugins.clone_from(&plugins.borrow_and_update());
                    }),
                    changed = states.changed() => changed.map(|()| {
                        let state = states.borrow_and_update().clone();
                        maker.configure(state);
                    }),
                };
                // Both senders live as long as the catalog; without one nothing changes.
                if alive.is_err() {
                    return;
                }
                publish.store(Arc::new(maker.snapshot()));
            }
        });
        Self { current, _tasks: tasks, _config: config }
    }

    /// What holds now. Keep it for the length of one request, no longer.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// Makes snapshots from what it was told last.
struct Maker {
    config: State,
    plugins: Vec<PluginStatus>,
    shared: Shared,
    /// Providers of the last snapshot, to be kept with their connections if nothing of theirs has
    /// changed.
    bound: HashMap<ProviderName, (config::Provider, Arc<Provider>)>,
    /// One for each provider, whatever else of it changes: those who wait stay in their queue.
    gates: HashMap<ProviderName, Gate>,
}

impl Maker {
    fn configure(&mut self, state: State) {
        match &state.broken {
            None => tracing::info!(digest = %state.loaded.digest, "configuration loaded"),
            Some(error) => {
                tracing::error!(
                    "the configuration can't be used; the last good one stays:\n{error}"
                );
            }
        }
        self.config = state;
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot {
            config: Arc::clone(&self.config.loaded.config),
            providers: IndexMap::new(),
            plugins: self.plugins.clone(),
            roster: Roster::default(),
            detectors: detectors(&self.config.loaded.config),
            config_problem: self.config.broken.as_ref().map(ToString::to_string),
        };
        let config = Arc::clone(&snapshot.config);
        let mut bound = HashMap::new();
        for (name, configured) in config.providers.iter().filter(|(_, p)| p.enabled) {
            let limits = gate_limits(&configured.limits);
            let gate = self.gates.entry(name.clone()).or_insert_with(|| Gate::new(limits)).clone();
            gate.set_limits(limits);
            let state = match self.bind(name, configured, gate, &snapshot) {
                Ok(provider) => {
                    bound.insert(name.clone(), (configured.clone(), Arc::clone(&provider)));
                    ProviderState::Ready(provider)
                }
                Err(reason) => {
                    let reason = format!("{}{reason}", place(&config, name));
                    tracing::warn!(provider = %name, "not available: {reason}");
                    let models = configured.models.iter().map(|m| m.id.clone()).collect();
                    ProviderState::Unavailable { reason, models }
                }
            };
            snapshot.providers.insert(name.clone(), state);
        }
        self.bound = bound;
        self.gates.retain(|name, _| snapshot.providers.contains_key(name));
        snapshot.roster = roster(&snapshot);
        snapshot
    }

    fn bind(
        &self,
        name: &ProviderName,
        configured: &config::Provider,
        gate: Gate,
        snapshot: &Snapshot,
    ) -> Result<Arc<Provider>, String> {
        let adapter = &configured.adapter;
        let plugin = snapshot.plugin(adapter).ok_or_else(|| no_plugin(adapter, snapshot))?;
        let before = self.bound.get(name).filter(|(as_before, _)| as_before == configured);
        // The same bytes loaded anew may have other limits.
        if let Some((_, provider)) = before
            && Arc::ptr_eq(&provider.plugin, plugin)
        {
            return Ok(Arc::clone(provider));
        }
        let before = before.map(|(_, provider)| &**provider);
        Provider::bind(name, configured, Arc::clone(plugin), &self.shared, gate, before)
            .map(Arc::new)
    }
}

/// Rules were tried out when they were read. Should one fail all the same, the built-in detectors look.
fn detectors(config: &Config) -> Detectors {
    Detectors::compile(&config.privacy).unwrap_or_else(|error| {
        tracing::error!(%error, "a rule of `privacy:` can't be used");
        Detectors::default()
    })
}

/// Who may serve what, and the routes as far as they are in force.
fn roster(snapshot: &Snapshot) -> Roster {
    let config = &snapshot.config;
    let entry = |(name, state): (&ProviderName, &ProviderState)| {
        let entry = match state {
            ProviderState::Ready(provider) => provider.entry(),
            ProviderState::Unavailable { reason, models } => routing::Entry {
                // What an adapter says of itself isn't known without it: it may be anything.
                kind: config.providers[name].kind.unwrap_or(ProviderKind::External),
                state: routing::Serves::Nothing(reason.clone()),
                models: models.clone(),
                aliases: HashMap::new(),
                facts: Arc::default(),
                auto: config.providers[name].auto,
                cost_tracking: false,
            },
        };
        (name.clone(), entry)
    };
    let entries = snapshot.providers.iter().map(entry).collect();
    let roster = Roster::new(entries, &config.routes, &config.routing);
    for (name, state) in roster.routes() {
        if let RouteState::Refused(reason) = state {
            let problem = config.problem(&format!("routes.{name}"), reason, None);
            tracing::error!("a route isn't in force:\n{problem}");
        }
    }
    roster
}

fn no_plugin(adapter: &AdapterName, snapshot: &Snapshot) -> String {
    let file = format!("{adapter}.wasm");
    let refused = snapshot
        .plugins
        .iter()
        .find(|status| status.path.file_name().is_some_and(|name| name == file.as_str()));
    match refused.and_then(|status| status.problem.as_ref()) {
        Some(problem) => format!("{file} was refused: {}", problem.reason),
        None => {
            let names = snapshot.plugins.iter().filter_map(|s| Some(&s.serving.as_ref()?.name));
            let near = names
                .map(|name| (strsim::damerau_levenshtein(name.as_str(), adapter.as_str()), name))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let advice = match near {
                Some((_, name)) => format!("did you mean `adapter: {name}`?"),
                None => format!("put {file} there"),
            };
            format!("the plugins folder has no adapter '{adapter}': {advice}")
        }
    }
}

/// Where the provider stands in the configuration, as "file:line:column: ".
fn place(config: &Config, name: &ProviderName) -> String {
    match config.position(&format!("providers.{name}")) {
        Some(at) => format!("{}:{}:{}: ", config.file().display(), at.line, at.column),
        None => String::new(),
    }
}

fn limits(state: &State) -> LimitsOf {
    let config = Arc::clone(&state.loaded.config);
    Arc::new(move |path: &Path| Limits::of(&config.plugins, path))
}
