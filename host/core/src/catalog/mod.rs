//! What can be used right now: plugins, providers, and how they came to be.
//!
//! A [`Snapshot`] is immutable. An exchange takes one when it begins and holds its provider until
//! it ends, so a reload changes what new requests see and nothing else; code and connections of the
//! old one are freed when the last exchange on them has ended. The [`Catalog`] makes snapshots: it
//! watches the plugins folder and the configuration, does all checking and compiling off the
//! request path, and swaps the pointer when a whole new snapshot is ready. What can't be loaded
//! never replaces what works; why not is kept in the snapshot for everyone who asks.
//!
//! Costs: reading the snapshot is one atomic load. A changed file is noticed by the system's
//! notification or within one poll, and read, hashed and compiled once.

mod credential;
mod folder;
mod grant;
mod provider;
mod watcher;

use std::{path::PathBuf, sync::Arc};

use indexmap::IndexMap;

use crate::{
    config::Config,
    ids::{AdapterName, Digest, ModelName, ProviderName},
    privacy::Detectors,
    routing::Roster,
    sandbox::Plugin,
};

pub use credential::KeyStatus;
pub use grant::usual_variable;
pub(crate) use provider::Shared;
pub use provider::{Origin, Provider};
pub use watcher::Catalog;

/// Everything an exchange may use, as of one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub config: Arc<Config>,
    /// By name, in the order of the configuration.
    pub providers: IndexMap<ProviderName, ProviderState>,
    /// By file name.
    pub plugins: Vec<PluginStatus>,
    /// Who may serve what.
    pub roster: Roster,
    /// What makes a request sensitive by its content.
    pub detectors: Detectors,
    /// Why the configuration file as it is now isn't in force, if so.
    pub config_problem: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ProviderState {
    Ready(Arc<Provider>),
    Unavailable {
        /// What is missing and what to do about it.
        reason: String,
        /// The models the configuration lists for it.
        models: Vec<ModelName>,
    },
}

impl ProviderState {
    pub fn models(&self) -> &[ModelName] {
        match self {
            Self::Ready(provider) => provider.models(),
            Self::Unavailable { models, .. } => models,
        }
    }

    pub fn ready(&self) -> Option<&Arc<Provider>> {
        match self {
            Self::Ready(provider) => Some(provider),
            Self::Unavailable { .. } => None,
        }
    }
}

/// One file in the plugins folder.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    pub path: PathBuf,
    /// What is served from this file, possibly from before its last change.
    pub serving: Option<Arc<Plugin>>,
    /// Why the file as it is now isn't served, and what to do about it.
    pub problem: Option<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The refused bytes; absent if the file couldn't be read.
    pub digest: Option<Digest>,
    pub reason: String,
}

impl Snapshot {
    /// The plugin that serves an adapter's name.
    pub fn plugin(&self, name: &AdapterName) -> Option<&Arc<Plugin>> {
        self.plugins.iter().filter_map(|status| status.serving.as_ref()).find(|p| p.name == *name)
    }
}

/// Everything about a plugin that people and tools want to see. Strings are the adapter's own: a
/// stranger wrote them.
pub fn describe_plugin(plugin: &Plugin) -> serde_json::Value {
    // A descriptor is made of strings, numbers and lists, so it always has a JSON form.
    let mut described = serde_json::to_value(&plugin.descriptor).unwrap_or_default();
    if let Some(object) = described.as_object_mut() {
        object.insert("contract".into(), keyward_contract::CONTRACT_VERSION.into());
        object.insert("digest".into(), plugin.digest.to_string().into());
        object.insert("size".into(), plugin.size.into());
        // Admission refuses every component that has others, or has these without the grant.
        let imports = if plugin.wasi { "wasi (granted)" } else { "none" };
        object.insert("imports".into(), imports.into());
    }
    described
}
