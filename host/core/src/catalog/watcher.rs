//! Keeps the snapshot true to the files it is made from.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use tokio::task::JoinHandle;

use super::{Provider, ProviderState, Snapshot, folder::Folder, provider::Shared};
use crate::{
    config::{self, Config, State},
    egress::SystemDns,
    ids::{AdapterName, Digest, ProviderName},
    sandbox::{Compiler, Limits},
    vault::KeyResolver,
    watch::DirWatch,
};

/// The current snapshot, and the task that renews it. Dropping it stops the task.
pub struct Catalog {
    current: Arc<ArcSwap<Snapshot>>,
    task: JoinHandle<()>,
    _config: config::Watcher,
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Catalog {
    /// Loads the plugins once, then follows them and the configuration.
    pub async fn start(
        config: config::Watcher,
        plugins: PathBuf,
        compiler: Compiler,
        keys: KeyResolver,
    ) -> Self {
        let mut states = config.subscribe();
        let mut maker = Maker {
            config: config.state(),
            folder: Folder::new(plugins.clone()),
            compiler,
            shared: Shared { keys, dns: Arc::new(SystemDns::default()) },
            bound: HashMap::new(),
        };
        maker.scan().await;
        let current = Arc::new(ArcSwap::from_pointee(maker.snapshot()));
        let publish = Arc::clone(&current);
        let task = tokio::spawn(async move {
            let mut folder = DirWatch::new();
            folder.watch(BTreeSet::from([plugins.canonicalize().unwrap_or(plugins)])).await;
            loop {
                let changed = tokio::select! {
                    () = folder.changed() => maker.scan().await,
                    changed = states.changed() => {
                        // The watcher lives as long as this task; without it nothing changes.
                        if changed.is_err() {
                            return;
                        }
                        let state = states.borrow_and_update().clone();
                        maker.configure(state)
                    }
                };
                if changed {
                    publish.store(Arc::new(maker.snapshot()));
                }
            }
        });
        Self { current, task, _config: config }
    }

    /// What holds now. Keep it for the length of one request, no longer.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// Makes snapshots from what it has read last.
struct Maker {
    config: State,
    folder: Folder,
    compiler: Compiler,
    shared: Shared,
    /// Providers of the last snapshot, to be kept with their connections if nothing of theirs has
    /// changed.
    bound: HashMap<ProviderName, (config::Provider, Digest, Arc<Provider>)>,
}

impl Maker {
    async fn scan(&mut self) -> bool {
        let config = Arc::clone(&self.config.loaded.config);
        let limits = Arc::new(move |path: &Path| limits_of(&config, path));
        self.folder.scan(&self.compiler, limits).await
    }

    fn configure(&mut self, state: State) -> bool {
        match &state.broken {
            None => tracing::info!(digest = %state.loaded.digest, "configuration loaded"),
            Some(error) => {
                tracing::error!(
                    "the configuration can't be used; the last good one stays:\n{error}"
                );
            }
        }
        self.config = state;
        true
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot {
            config: Arc::clone(&self.config.loaded.config),
            providers: IndexMap::new(),
            plugins: self.folder.status(),
            config_problem: self.config.broken.as_ref().map(ToString::to_string),
        };
        let config = Arc::clone(&snapshot.config);
        let mut bound = HashMap::new();
        for (name, configured) in config.providers.iter().filter(|(_, p)| p.enabled) {
            let state = match self.bind(name, configured, &snapshot) {
                Ok(provider) => {
                    let digest = provider.plugin.digest;
                    bound.insert(name.clone(), (configured.clone(), digest, Arc::clone(&provider)));
                    ProviderState::Ready(provider)
                }
                Err(reason) => {
                    tracing::warn!(provider = %name, "not available: {reason}");
                    let models = configured.models.iter().map(|m| m.id.clone()).collect();
                    ProviderState::Unavailable { reason, models }
                }
            };
            snapshot.providers.insert(name.clone(), state);
        }
        self.bound = bound;
        snapshot
    }

    fn bind(
        &self,
        name: &ProviderName,
        configured: &config::Provider,
        snapshot: &Snapshot,
    ) -> Result<Arc<Provider>, String> {
        let adapter = &configured.adapter;
        let plugin = snapshot.plugin(adapter).ok_or_else(|| no_plugin(adapter, snapshot))?;
        let before = self.bound.get(name).filter(|(as_before, _, _)| as_before == configured);
        if let Some((_, digest, provider)) = before
            && *digest == plugin.digest
        {
            return Ok(Arc::clone(provider));
        }
        let before = before.map(|(_, _, provider)| &**provider);
        Provider::bind(name, configured, Arc::clone(plugin), &self.shared, before).map(Arc::new)
    }
}

fn no_plugin(adapter: &AdapterName, snapshot: &Snapshot) -> String {
    let file = format!("{adapter}.wasm");
    let refused = snapshot
        .plugins
        .iter()
        .find(|status| status.path.file_name().is_some_and(|name| name == file.as_str()));
    match refused.and_then(|status| status.problem.as_ref()) {
        Some(problem) => format!("{file} was refused: {}", problem.reason),
        None => format!("the plugins folder has no adapter '{adapter}': put {file} there"),
    }
}

/// The limits for a component file: the defaults, then `plugins.limits`, then what
/// `plugins.overrides` says for the file's stem.
fn limits_of(config: &Config, path: &Path) -> Limits {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let configured = match AdapterName::new(stem) {
        Ok(name) => config.plugins.limits_of(&name),
        Err(_) => config.plugins.limits.clone(),
    };
    Limits::configured(&configured)
}
