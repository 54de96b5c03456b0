//! The credentials of a provider: one for each origin that wants one, from one or several keys.
//!
//! A key comes from where the configuration says, else from the vault, else from the vendor's usual
//! variable. Which of several is used is decided by [`crate::routing::keyring`].

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use keyward_contract::AuthScheme;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::grant;
use crate::{
    Failure, FailureKind, Fault, config,
    egress::Injection,
    ids::{KeyName, ProviderName},
    routing::keyring::KeyAt,
    vault::{KeyError, KeyResolver, KeySource, Slot},
};

/// Stands between a credential's name and its key's where a provider has several. Neither has it.
const OF: char = '@';

/// What one origin wants, from whichever key.
pub(super) struct Credential {
    scheme: AuthScheme,
    usual: Option<&'static str>,
    required: bool,
    /// One for each of the provider's keys, at least one.
    keys: Vec<Key>,
}

struct Key {
    name: Option<KeyName>,
    slot: Slot,
    /// As configured; otherwise the vault is asked, then the vendor's usual variable.
    configured: Option<KeySource>,
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

impl Credential {
    /// The credential that the descriptor wants for one origin, if any.
    ///
    /// # Errors
    /// If it can't be bound to this URL.
    pub fn wanted(
        provider: &ProviderName,
        configured: &config::Provider,
        descriptor: &keyward_contract::Descriptor,
        origin: &str,
        base: &Url,
    ) -> Result<Option<Self>, String> {
        let Some(auth) = descriptor.auth.iter().find(|auth| auth.origin == origin) else {
            return Ok(None);
        };
        let Some(field) = descriptor.credentials.iter().find(|c| c.name == auth.credential) else {
            return Ok(None);
        };
        let key = |name: Option<&KeyName>, source: Option<&config::KeySource>| {
            let of = name.map(|name| format!("{OF}{name}")).unwrap_or_default();
            let slot = Slot::new(provider.clone(), &format!("{}{of}", field.name), base);
            Ok(Key {
                name: name.cloned(),
                slot: slot.map_err(|error| error.to_string())?,
                configured: source.map(|source| match source {
                    config::KeySource::Env(name) => KeySource::Environment(name.as_str().into()),
                    config::KeySource::File(path) => KeySource::File(path.as_path().into()),
                }),
                prepared: ArcSwapOption::empty(),
            })
        };
        let keys: Result<Vec<Key>, String> = match &configured.keys[..] {
            [] => [key(None, configured.key.as_ref())].into_iter().collect(),
            several => several.iter().map(|k| key(Some(&k.name), k.source.as_ref())).collect(),
        };
        Ok(Some(Self {
            scheme: auth.scheme.clone(),
            // One variable is one key.
            usual: grant::usual_variable(&descriptor.name, origin)
                .filter(|_| configured.keys.is_empty()),
            required: field.required,
            keys: keys?,
        }))
    }

    /// The first source that has something: as configured, else the vault, else the variable.
    fn source(&self, key: &Key, keys: &KeyResolver) -> KeySource {
        match (&key.configured, self.usual) {
            (Some(source), _) => source.clone(),
            (None, Some(variable))
                if !keys.vault().contains(&key.slot) && std::env::var_os(variable).is_some() =>
            {
                KeySource::Environment(variable.into())
            }
            (None, _) => KeySource::Vault,
        }
    }

    /// False if there is surely nothing.
    fn has(&self, key: &Key, keys: &KeyResolver) -> bool {
        match self.source(key, keys) {
            KeySource::Vault => keys.vault().contains(&key.slot),
            KeySource::Environment(name) => std::env::var_os(&*name).is_some(),
            KeySource::File(_) => true,
        }
    }

    /// Whether this key of the provider can be used here.
    pub fn present(&self, at: KeyAt, keys: &KeyResolver) -> bool {
        !self.required || self.keys.get(at.index()).is_some_and(|key| self.has(key, keys))
    }

    /// What to do, if none of the keys that are required is anywhere.
    pub fn missing(&self, keys: &KeyResolver) -> Option<String> {
        let none = self.required && !self.keys.iter().any(|key| self.has(key, keys));
        self.keys.first().filter(|_| none).map(|key| self.advice(key))
    }

    /// What the key is sent as, fresh from its source.
    ///
    /// # Errors
    /// If it is required and there is none, it can't be read, or the vault is sealed.
    pub async fn injection(
        &self,
        at: KeyAt,
        keys: &KeyResolver,
    ) -> Result<Option<Injection>, Failure> {
        let Some(key) = self.keys.get(at.index()).or(self.keys.first()) else { return Ok(None) };
        // Without a record there is nothing a sealed vault could be opened for.
        if !self.required && !self.has(key, keys) {
            return Ok(None);
        }
        let resolved = keys.resolve(&self.source(key, keys), &key.slot).await;
        if resolved.is_err() {
            key.prepared.store(None);
        }
        match resolved {
            Ok(secret) => self.prepare(key, secret).map(Some),
            Err(KeyError::NotStored { .. }) => Err(refused(self.advice(key))),
            Err(error) => Err(error.into()),
        }
    }

    /// All that can be had.
    pub async fn injections(&self, keys: &KeyResolver) -> Vec<Injection> {
        let mut all = Vec::new();
        for at in 0..self.keys.len() {
            all.extend(self.injection(KeyAt::new(at), keys).await.ok().flatten());
        }
        all
    }

    fn prepare(&self, key: &Key, secret: SecretString) -> Result<Injection, Failure> {
        if let Some(last) = &*key.prepared.load()
            && last.secret.expose_secret() == secret.expose_secret()
        {
            return Ok(last.injection.clone());
        }
        let injection = Injection::new(&self.scheme, &secret).map_err(|error| {
            refused(format!("the key of '{}' can't be sent: {error}", key.slot.provider()))
        })?;
        let prepared = Prepared { secret, injection: injection.clone() };
        key.prepared.store(Some(Arc::new(prepared)));
        Ok(injection)
    }

    /// What to do when there is none.
    fn advice(&self, key: &Key) -> String {
        let provider = key.slot.provider();
        if let Some(KeySource::Environment(name)) = &key.configured {
            return format!("'{provider}' has no key: the variable {name} isn't set");
        }
        let field = key.name.as_ref().map(|name| format!(" --field {name}")).unwrap_or_default();
        let variable = self.usual.map(|name| format!(", or set {name}")).unwrap_or_default();
        format!("'{provider}' has no key: run `keyward key set {provider}{field}`{variable}")
    }

    pub fn status(&self, keys: &KeyResolver) -> impl Iterator<Item = KeyStatus> {
        self.keys.iter().map(|key| KeyStatus {
            provider: key.slot.provider().clone(),
            field: key.slot.field().to_owned(),
            origin: key.slot.origin().to_owned(),
            required: self.required,
            source: self.source(key, keys),
            present: self.has(key, keys),
        })
    }

    /// Where the keys of this name, or of a key of this name, are kept in the vault.
    pub fn slots<'a>(&'a self, field: Option<&'a str>) -> impl Iterator<Item = &'a Slot> {
        let named = move |key: &&Key| {
            field.is_none_or(|field| {
                key.slot.field() == field
                    || key.name.as_ref().is_some_and(|name| name.as_str() == field)
            })
        };
        self.keys.iter().filter(named).map(|key| &key.slot)
    }
}

fn refused(message: String) -> Failure {
    Failure::new(FailureKind::Authentication, Fault::Host, message)
}
