//! A provider: an adapter bound to what the operator configured and granted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use keyward_contract::{AuthScheme, GRANT_READ_CONTENT, ProviderKind, SettingType};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{
    grant,
    models::{self, ModelFacts},
};
use crate::{
    Failure, FailureKind, Fault, config, contract,
    egress::{Client, ClientOptions, Dns, FrameLimits, Injection, Secrets, Target, Timeouts},
    ids::{ModelName, ProviderName},
    sandbox::Plugin,
    vault::{KeyError, KeyResolver, KeySource, Slot},
};

/// Exchanges one provider may have open at once, unless configured.
const DEFAULT_CONCURRENCY: usize = 512;

/// How long a request waits for a place at a provider that is at its limit.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// What all providers of a gateway use together.
#[derive(Clone)]
pub(super) struct Shared {
    pub keys: KeyResolver,
    pub dns: Arc<dyn Dns>,
}

/// Shared by all exchanges with this provider; never changes.
pub struct Provider {
    pub name: ProviderName,
    pub kind: ProviderKind,
    pub plugin: Arc<Plugin>,
    /// A JSON object that fits the descriptor's settings, defaults filled in.
    pub settings: String,
    pub grants: Vec<String>,
    pub client: Client,
    pub frame_limits: FrameLimits,
    models: Vec<ModelName>,
    /// What else callers may say for a model.
    aliases: HashMap<ModelName, ModelName>,
    /// What the configuration says of models; empty if it lists none.
    configured: Vec<config::Model>,
    origins: HashMap<String, Origin>,
    keys: KeyResolver,
    places: Arc<Semaphore>,
}

/// One base URL of a provider, and the credential that goes there and nowhere else.
pub struct Origin {
    pub base: Url,
    pub target: Target,
    credential: Option<CredentialSlot>,
}

struct CredentialSlot {
    slot: Slot,
    scheme: AuthScheme,
    /// As configured; otherwise the vault is asked, then the vendor's usual variable.
    configured: Option<KeySource>,
    usual: Option<&'static str>,
    required: bool,
    /// What the last secret was made into: it rarely changes, and preparing it costs more than
    /// resolving it.
    prepared: ArcSwapOption<Prepared>,
}

struct Prepared {
    secret: SecretString,
    injection: Injection,
}

/// Where a provider's credential comes from, for people.
#[derive(Clone, Debug)]
pub struct KeyStatus {
    pub provider: ProviderName,
    pub field: String,
    pub origin: String,
    pub required: bool,
    pub source: KeySource,
    /// Whether the source has something, as far as can be told without reading it.
    pub present: bool,
}

impl CredentialSlot {
    /// The first source that has something: as configured, else the vault, else the variable.
    fn source(&self, keys: &KeyResolver) -> KeySource {
        match (&self.configured, self.usual) {
            (Some(source), _) => source.clone(),
            (None, Some(variable))
                if !keys.vault().contains(&self.slot) && std::env::var_os(variable).is_some() =>
            {
                KeySource::Environment(variable.into())
            }
            (None, _) => KeySource::Vault,
        }
    }

    /// False if there is surely nothing.
    fn present(&self, keys: &KeyResolver) -> bool {
        match self.source(keys) {
            KeySource::Vault => keys.vault().contains(&self.slot),
            KeySource::Environment(name) => std::env::var_os(&*name).is_some(),
            KeySource::File(_) => true,
        }
    }

    async fn injection(&self, keys: &KeyResolver) -> Result<Option<Injection>, Failure> {
        // Without a record there is nothing a sealed vault could be opened for.
        if !self.required && !self.present(keys) {
            return Ok(None);
        }
        let resolved = keys.resolve(&self.source(keys), &self.slot).await;
        if resolved.is_err() {
            self.prepared.store(None);
        }
        match resolved {
            Ok(secret) => self.prepare(secret).map(Some),
            Err(KeyError::NotStored { .. }) => Err(self.refused(self.advice())),
            Err(error) => Err(error.into()),
        }
    }

    fn prepare(&self, secret: SecretString) -> Result<Injection, Failure> {
        if let Some(last) = &*self.prepared.load()
            && last.secret.expose_secret() == secret.expose_secret()
        {
            return Ok(last.injection.clone());
        }
        let injection = Injection::new(&self.scheme, &secret).map_err(|error| {
            self.refused(format!("the key of '{}' can't be sent: {error}", self.slot.provider()))
        })?;
        let prepared = Prepared { secret, injection: injection.clone() };
        self.prepared.store(Some(Arc::new(prepared)));
        Ok(injection)
    }

    fn refused(&self, message: String) -> Failure {
        Failure::new(FailureKind::Authentication, Fault::Host, message)
    }

    /// What to do when there is none.
    fn advice(&self) -> String {
        let provider = self.slot.provider();
        if let Some(KeySource::Environment(name)) = &self.configured {
            return format!("'{provider}' has no key: the variable {name} isn't set");
        }
        let variable = self.usual.map(|name| format!(", or set {name}")).unwrap_or_default();
        format!("'{provider}' has no key: run `keyward key set {provider}`{variable}")
    }
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
            let credential = credential(name, configured, descriptor, &origin.name, &base)?;
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
        let places = configured.limits.concurrency.map_or(DEFAULT_CONCURRENCY, |n| n as usize);
        Ok(Self {
            name: name.clone(),
            kind,
            settings,
            grants,
            client,
            frame_limits: FrameLimits::default(),
            models,
            aliases,
            configured: configured.models.clone(),
            origins,
            keys: shared.keys.clone(),
            places: Arc::new(Semaphore::new(places)),
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
    pub async fn credential(&self, origin: &Origin) -> Result<Option<Injection>, Failure> {
        match &origin.credential {
            Some(slot) => slot.injection(&self.keys).await,
            None => Ok(None),
        }
    }

    /// All credentials of this provider that can be had, to search for.
    pub async fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for origin in self.origins.values() {
            if let Ok(Some(injection)) = self.credential(origin).await {
                secrets = secrets.and(injection.secrets());
            }
        }
        secrets
    }

    fn credential_slots(&self) -> impl Iterator<Item = &CredentialSlot> {
        self.origins.values().filter_map(|origin| origin.credential.as_ref())
    }

    /// What to do before this provider can be used, if a required key is nowhere.
    pub fn missing_key(&self) -> Option<String> {
        let missing = |slot: &&CredentialSlot| slot.required && !slot.present(&self.keys);
        self.credential_slots().find(missing).map(CredentialSlot::advice)
    }

    /// Which credentials this provider uses, and where each comes from.
    pub fn key_status(&self) -> Vec<KeyStatus> {
        let status = |slot: &CredentialSlot| KeyStatus {
            provider: self.name.clone(),
            field: slot.slot.field().to_owned(),
            origin: slot.slot.origin().to_owned(),
            required: slot.required,
            source: slot.source(&self.keys),
            present: slot.present(&self.keys),
        };
        self.credential_slots().map(status).collect()
    }

    /// Where a credential of this provider is kept in the vault. `field` may be left out where
    /// there is only one.
    ///
    /// # Errors
    /// If the adapter knows no such credential, or several and none was named.
    pub fn key_slot(&self, field: Option<&str>) -> Result<Slot, Failure> {
        let slots: Vec<&Slot> = self
            .credential_slots()
            .map(|credential| &credential.slot)
            .filter(|slot| field.is_none_or(|field| slot.field() == field))
            .collect();
        let known = || {
            let names: Vec<&str> =
                self.plugin.descriptor.credentials.iter().map(|c| c.name.as_str()).collect();
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

    /// A place among the exchanges this provider may have open.
    ///
    /// # Errors
    /// If none came free in time.
    pub async fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let waited = tokio::time::timeout(QUEUE_WAIT, Arc::clone(&self.places).acquire_owned());
        waited.await.ok().and_then(Result::ok).ok_or_else(|| {
            Failure::new(
                FailureKind::Overloaded,
                Fault::Host,
                format!(
                    "'{}' has as many requests open as it may (`limits.concurrency`)",
                    self.name
                ),
            )
        })
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

/// The credential the descriptor wants for one origin, if any.
fn credential(
    name: &ProviderName,
    configured: &config::Provider,
    descriptor: &keyward_contract::Descriptor,
    origin: &str,
    base: &Url,
) -> Result<Option<CredentialSlot>, String> {
    let Some(auth) = descriptor.auth.iter().find(|auth| auth.origin == origin) else {
        return Ok(None);
    };
    let Some(field) = descriptor.credentials.iter().find(|c| c.name == auth.credential) else {
        return Ok(None);
    };
    let slot = Slot::new(name.clone(), &field.name, base).map_err(|error| error.to_string())?;
    Ok(Some(CredentialSlot {
        slot,
        scheme: auth.scheme.clone(),
        configured: configured.key.as_ref().map(|key| match key {
            config::KeySource::Env(name) => KeySource::Environment(name.as_str().into()),
            config::KeySource::File(path) => KeySource::File(path.as_path().into()),
        }),
        usual: grant::usual_variable(&descriptor.name, origin),
        required: field.required,
        prepared: ArcSwapOption::empty(),
    }))
}

fn client_options(
    configured: &config::Provider,
    kind: ProviderKind,
    dns: &Arc<dyn Dns>,
) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::of(kind);
    let config::Timeouts { connect, first_byte, idle, total } = configured.timeouts;
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
