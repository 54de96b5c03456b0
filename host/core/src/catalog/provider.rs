//! A provider: an adapter bound to what the operator configured and granted.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use keyward_contract::{
    GRANT_READ_CONTENT, ProviderKind, SettingType,
    price::{Day, Tariff},
};
use serde_json::Value;
use url::Url;

use super::{
    credential::{Credential, KeyStatus},
    grant,
};
use crate::{
    Failure,
    clock::SystemClock,
    config, contract,
    egress::{Client, ClientOptions, Dns, FrameLimits, Injection, Secrets, Target, Timeouts},
    health::Health,
    ids::{ModelName, ProviderName},
    metering::Tokens,
    models::{self, ModelFacts},
    routing::{
        self,
        carry::Stop,
        gate::{Gate, GateLimits, Pass},
        keyring::{KeyAt, Keyed, Keyring},
        leave::{self, Asking, Leave},
    },
    sandbox::Plugin,
    vault::{KeyResolver, Slot},
};

/// Exchanges one provider may have open at once, unless configured.
const DEFAULT_CONCURRENCY: u32 = 512;

/// Requests that wait for their turn at a provider, and how long, unless configured.
const DEFAULT_QUEUE: u32 = 256;
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Models of one provider that are known not to stream; those of OpenAI that don't are a handful.
const MAX_STREAMLESS: usize = 64;

/// Counts what [`Provider::bind`] made.
static BINDINGS: AtomicU64 = AtomicU64::new(0);

/// What all providers of a gateway use together.
#[derive(Clone)]
pub(crate) struct Shared {
    pub keys: KeyResolver,
    pub dns: Arc<dyn Dns>,
}

/// Shared by all exchanges with this provider. But for what is found out of its models, it never
/// changes.
pub struct Provider {
    pub name: ProviderName,
    pub kind: ProviderKind,
    pub plugin: Arc<Plugin>,
    /// A JSON object that fits the descriptor's settings, defaults filled in.
    pub settings: String,
    pub grants: Vec<String>,
    pub client: Client,
    pub frame_limits: FrameLimits,
    /// Of all that are or were bound: another configuration or adapter makes another.
    pub binding: u64,
    /// Whether answers are kept.
    pub cache: Option<config::AnswerCache>,
    /// Whether embeddings requests are put together and cut.
    pub batch: Option<config::Batching>,
    /// How long an answer may take to begin while another provider is left, if it is its own.
    pub patience: Option<Duration>,
    models: Vec<ModelName>,
    /// Models that were found to answer in one piece alone.
    streamless: Mutex<HashSet<ModelName>>,
    /// What else callers may say for a model.
    aliases: HashMap<ModelName, ModelName>,
    /// What the configuration says of models; empty if it lists none.
    configured: Vec<config::Model>,
    /// What is known without asking the vendor, by every name a model has.
    facts: Arc<HashMap<ModelName, Arc<ModelFacts>>>,
    auto: bool,
    cost_tracking: bool,
    origins: HashMap<String, Origin>,
    keys: KeyResolver,
    keyring: Keyring,
    gate: Gate,
}

/// One base URL of a provider, and the credential that goes there and nowhere else.
pub struct Origin {
    pub base: Url,
    pub target: Target,
    credential: Option<Credential>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.name)
    }
}

impl Provider {
    /// Binds an adapter to a provider's configuration. `before` is the same configuration bound to
    /// another version of the adapter.
    ///
    /// # Errors
    /// If the configuration doesn't fit the adapter: the text says what is missing and what to
    /// write.
    pub(super) fn bind(
        name: &ProviderName,
        configured: &config::Provider,
        plugin: Arc<Plugin>,
        shared: &Shared,
        gate: Gate,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let descriptor = &plugin.descriptor;
        let kind = grant::kind(descriptor, configured.kind);
        let grants: Vec<String> =
            configured.grants.iter().map(|grant| grant.as_str().to_owned()).collect();
        check_grants(descriptor, &grants)?;
        let settings = settings(descriptor, &configured.settings)?;
        let mut origins = HashMap::new();
        for (at, origin) in descriptor.origins.iter().enumerate() {
            let first = configured.endpoint.as_ref().filter(|_| at == 0);
            let endpoint = configured.endpoints.get(&origin.name).or(first);
            let base = grant::base(descriptor, origin, endpoint)?;
            let target = Target::new(&base, kind).map_err(|e| format!("{base}: {e}"))?;
            let credential = Credential::wanted(name, configured, descriptor, &origin.name, &base)?;
            origins.insert(origin.name.clone(), Origin { base, target, credential });
        }
        let models = models::names(&configured.models, &descriptor.models, &[]);
        let alias = |model: &config::Model| Some((model.alias.clone()?, model.id.clone()));
        let aliases = configured.models.iter().filter_map(alias).collect();
        let targets: Vec<Target> = origins.values().map(|origin| origin.target.clone()).collect();
        let client = match before {
            // Another version of the adapter: open connections serve it as well.
            Some(before) if before.kind == kind && before.sends_to_the_same(&origins) => {
                before.client.clone()
            }
            _ => Client::new(&targets, client_options(configured, kind, &shared.dns)?)
                .map_err(|error| error.to_string())?,
        };
        Ok(Self {
            name: name.clone(),
            kind,
            settings,
            grants,
            client,
            frame_limits: FrameLimits::default(),
            binding: BINDINGS.fetch_add(1, Ordering::Relaxed),
            cache: configured.cache.clone(),
            batch: configured.batch.clone(),
            patience: configured.timeouts.patience,
            models,
            streamless: Mutex::default(),
            aliases,
            configured: configured.models.clone(),
            facts: Arc::new(models::all_facts(&configured.models, &descriptor.models)),
            auto: configured.auto,
            cost_tracking: configured.cost_tracking,
            origins,
            keys: shared.keys.clone(),
            keyring: Keyring::new(
                name,
                configured.keys.iter().map(|key| key.name.clone()).collect(),
                configured.account.clone(),
            ),
            gate,
            plugin,
        })
    }

    fn sends_to_the_same(&self, origins: &HashMap<String, Origin>) -> bool {
        self.origins.len() == origins.len()
            && origins.iter().all(|(name, origin)| {
                self.origins.get(name).is_some_and(|known| known.base == origin.base)
            })
    }

    /// True if the operator lets this provider's adapter read prompts.
    pub fn reads_content(&self) -> bool {
        self.grants.iter().any(|grant| grant == GRANT_READ_CONTENT)
    }

    /// Where a request to this origin of the descriptor goes.
    ///
    /// # Errors
    /// If the adapter named an origin that its descriptor doesn't list.
    pub fn origin(&self, name: &str) -> Result<&Origin, Failure> {
        self.origins.get(name).ok_or_else(|| {
            Failure::plugin(format!(
                "the adapter named the origin '{}', which its descriptor doesn't list",
                name.escape_default()
            ))
        })
    }

    /// Base URLs by the descriptor's names for them.
    pub fn origins(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.origins.iter().map(|(name, origin)| (name.as_str(), origin))
    }

    /// The models the configuration lists, or else those the adapter knows.
    pub fn models(&self) -> &[ModelName] {
        &self.models
    }

    /// What is known of each model, with the vendor's list merged in.
    pub fn model_facts(&self, listed: &[contract::Model]) -> Vec<ModelFacts> {
        let known = &self.plugin.descriptor.models;
        let names = models::names(&self.configured, known, listed);
        let facts = |id| models::facts(id, &self.configured, known, listed);
        names.iter().map(facts).collect()
    }

    /// What is known of a model without asking the vendor: by the operator and the adapter.
    pub fn known(&self, model: &ModelName) -> Option<&Arc<ModelFacts>> {
        self.facts.get(model)
    }

    /// The prices of a model that hold on a day. None if nobody knows any, or if this provider's costs
    /// aren't tracked.
    pub fn tariff(&self, model: &ModelName, day: Day) -> Option<&Arc<Tariff>> {
        self.known(model)?.tariff(day).filter(|_| self.cost_tracking)
    }

    /// What routing needs to know of this provider.
    pub(super) fn entry(&self) -> routing::Entry {
        routing::Entry {
            kind: self.kind,
            state: routing::Serves::Operations(self.plugin.descriptor.operations.clone()),
            models: self.models.clone(),
            aliases: self.aliases.clone(),
            facts: Arc::clone(&self.facts),
            auto: self.auto,
            cost_tracking: self.cost_tracking,
        }
    }

    /// True if the vendor should be asked which models it has.
    pub fn models_are_open(&self) -> bool {
        self.configured.is_empty()
            && self.plugin.can(keyward_contract::OperationKind::ListModels)
            && self.kind == ProviderKind::Local
    }

    /// The model a caller means by `name`, if this provider lists it, by its own name or another.
    pub fn listed(&self, name: &ModelName) -> Option<&ModelName> {
        self.aliases.get(name).or_else(|| self.models.iter().find(|model| *model == name))
    }

    /// The credential for one of this provider's origins, fresh from its source.
    ///
    /// # Errors
    /// If one is required and there is none, it can't be read, or the vault is sealed.
    pub async fn credential(
        &self,
        origin: &Origin,
        key: KeyAt,
    ) -> Result<Option<Injection>, Failure> {
        match &origin.credential {
            Some(credential) => credential.injection(key, &self.keys).await,
            None => Ok(None),
        }
    }

    /// All credentials of this provider that can be had, to search for.
    pub async fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for credential in self.credentials() {
            for injection in credential.injections(&self.keys).await {
                secrets = secrets.and(injection.secrets());
            }
        }
        secrets
    }

    fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.origins.values().filter_map(|origin| origin.credential.as_ref())
    }

    /// What to do before this provider can be used, if a required key is nowhere.
    pub fn missing_key(&self) -> Option<String> {
        Keyed::missing_key(self)
    }

    /// Which credentials this provider uses, and where each comes from.
    pub fn key_status(&self) -> Vec<KeyStatus> {
        self.credentials().flat_map(|credential| credential.status(&self.keys)).collect()
    }

    /// Whether a model may be asked for a stream where nobody but the host wants one.
    pub(crate) fn may_stream(&self, model: &ModelName) -> bool {
        !self.streamless().contains(model)
    }

    /// The vendor was asked for a stream of this model's and only gives whole answers.
    pub(crate) fn streams_not(&self, model: &ModelName) {
        let mut streamless = self.streamless();
        // Callers may name any model.
        if streamless.len() >= MAX_STREAMLESS {
            streamless.clear();
        }
        streamless.insert(model.clone());
    }

    fn streamless(&self) -> MutexGuard<'_, HashSet<ModelName>> {
        self.streamless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first key that isn't missing, for what hangs on no key.
    pub fn first_key(&self) -> KeyAt {
        self.keyring.keys().find(|key| self.has_key(*key)).unwrap_or_default()
    }

    /// Where a credential of this provider is kept in the vault. `field` may be left out where
    /// there is only one.
    ///
    /// # Errors
    /// If the adapter knows no such credential, or several and none was named.
    pub fn key_slot(&self, field: Option<&str>) -> Result<Slot, Failure> {
        let slots: Vec<&Slot> =
            self.credentials().flat_map(|credential| credential.slots(field)).collect();
        let known = || {
            let all = self.credentials().flat_map(|credential| credential.slots(None));
            let names: Vec<&str> = all.map(Slot::field).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        match slots[..] {
            [slot] => Ok(slot.clone()),
            [] => Err(Failure::invalid(
                "field",
                format!("'{}' has no such key; its keys: {}", self.name, known()),
            )),
            _ => Err(Failure::invalid(
                "field",
                format!("'{}' has several keys: name one of {}", self.name, known()),
            )),
        }
    }

    /// A turn at this provider for a request that is expected to take so many tokens.
    ///
    /// # Errors
    /// If there is none in time: the failure says when to ask again.
    pub(crate) async fn enter(
        &self,
        caller: &Arc<str>,
        tokens: Tokens,
        deadline: Instant,
    ) -> Result<Pass, Failure> {
        let entered = self.gate.enter(&SystemClock, caller, tokens.0, deadline).await;
        entered.map_err(|full| full.failure(&self.name))
    }

    /// Leave to send one attempt now, with one of this provider's keys.
    ///
    /// # Errors
    /// If nothing may be sent here.
    pub(crate) async fn leave(&self, asking: &Asking<'_>, health: &Health) -> Result<Leave, Stop> {
        Leave::with_a_key(asking, self, health, &self.gate, &SystemClock).await
    }

    /// What the failure of an attempt means; see [`leave::stopped`].
    pub(crate) fn stop(
        &self,
        failure: Failure,
        model: &ModelName,
        health: &Health,
        asked: usize,
    ) -> Stop {
        leave::stopped(failure, self, model, health, asked, Instant::now())
    }

    /// The limits before this provider, and what of them is in use.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Keyed for Provider {
    fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    fn has_key(&self, key: KeyAt) -> bool {
        self.credentials().all(|credential| credential.present(key, &self.keys))
    }

    fn missing_key(&self) -> Option<String> {
        self.credentials().find_map(|credential| credential.missing(&self.keys))
    }
}

pub(super) fn gate_limits(configured: &config::Limits) -> GateLimits {
    GateLimits {
        concurrency: configured.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
        requests_per_minute: configured.requests_per_minute,
        tokens_per_minute: configured.tokens_per_minute.map(u64::from),
        queue: configured.queue.unwrap_or(DEFAULT_QUEUE),
        wait: configured.wait.unwrap_or(DEFAULT_WAIT),
    }
}

fn check_grants(descriptor: &keyward_contract::Descriptor, given: &[String]) -> Result<(), String> {
    let known = |grant: &String| grant == GRANT_READ_CONTENT;
    if let Some(unknown) = given.iter().find(|grant| !known(grant)) {
        return Err(format!(
            "`grants`: there is no grant '{unknown}'; known: {GRANT_READ_CONTENT}"
        ));
    }
    match descriptor.grants.iter().find(|wanted| !given.contains(wanted)) {
        Some(wanted) => Err(format!(
            "the adapter '{}' needs the grant '{wanted}': write `grants: [{wanted}]` under this \
             provider if you trust it with that",
            descriptor.name
        )),
        None => Ok(()),
    }
}

fn client_options(
    configured: &config::Provider,
    kind: ProviderKind,
    dns: &Arc<dyn Dns>,
) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::of(kind);
    let config::Timeouts { connect, first_byte, patience: _, idle, total } = configured.timeouts;
    let usual = options.timeouts;
    options.timeouts = Timeouts {
        connect: connect.unwrap_or(usual.connect),
        first_byte: first_byte.unwrap_or(usual.first_byte),
        whole: first_byte.unwrap_or(usual.whole),
        idle: idle.unwrap_or(usual.idle),
        total: total.unwrap_or(usual.total),
    };
    options.dns = Arc::clone(dns);
    if let Some(path) = &configured.ca_file {
        let pem = std::fs::read(path);
        options.extra_roots = Some(pem.map_err(|e| format!("`ca_file` {}: {e}", path.display()))?);
    }
    Ok(options)
}

/// Checks the configured settings against the descriptor and fills in defaults.
fn settings(
    descriptor: &keyward_contract::Descriptor,
    configured: &serde_json::Map<String, Value>,
) -> Result<String, String> {
    let known = |name: &str| descriptor.settings.iter().find(|setting| setting.name == name);
    if let Some(unknown) = configured.keys().find(|name| known(name).is_none()) {
        let names: Vec<&str> = descriptor.settings.iter().map(|s| s.name.as_str()).collect();
        let near = names.iter().find(|n| strsim::damerau_levenshtein(n, unknown) <= 2);
        let advice = match near {
            Some(near) => format!("did you mean '{near}'?"),
            None if names.is_empty() => "it has none".to_owned(),
            None => format!("it knows {}", names.join(", ")),
        };
        return Err(format!(
            "`settings.{unknown}`: the adapter '{}' doesn't know it; {advice}",
            descriptor.name
        ));
    }
    let mut complete = serde_json::Map::new();
    for setting in &descriptor.settings {
        match configured.get(&setting.name).or(setting.default.as_ref()) {
            Some(value) => {
                fits(&setting.kind, value)
                    .map_err(|wanted| format!("`settings.{}` must be {wanted}", setting.name))?;
                if !setting.secret {
                    complete.insert(setting.name.clone(), value.clone());
                }
            }
            None if setting.required => {
                return Err(format!("`settings.{}` is required: {}", setting.name, setting.help));
            }
            None => {}
        }
    }
    Ok(Value::Object(complete).to_string())
}

fn fits(kind: &SettingType, value: &Value) -> Result<(), String> {
    let (fits, wanted) = match kind {
        SettingType::String => (value.is_string(), "a text".to_owned()),
        SettingType::Integer => (value.is_i64() || value.is_u64(), "a whole number".to_owned()),
        SettingType::Number => (value.is_number(), "a number".to_owned()),
        SettingType::Boolean => (value.is_boolean(), "true or false".to_owned()),
        SettingType::Choice(choices) => (
            value.as_str().is_some_and(|text| choices.iter().any(|choice| choice == text)),
            format!("one of {}", choices.join(", ")),
        ),
    };
    if fits { Ok(()) } else { Err(wanted) }
}
