//! Short forms for the parts of a [`Descriptor`](crate::Descriptor).
//!
//! A descriptor is made once, when the component is loaded, so these take what is pleasant to
//! write.

use crate::descriptor::{
    Auth, AuthScheme, Credential, Document, Model, OperationKind, Origin, Setting, SettingType,
};

/// Chat, embeddings, model list and probe.
pub const ALL_OPERATIONS: [OperationKind; 4] =
    [OperationKind::Chat, OperationKind::Embed, OperationKind::ListModels, OperationKind::Probe];

/// The vendor's origin "api" at this base URL, without a trailing slash.
pub fn api(base_url: &str) -> Origin {
    Origin { name: crate::request::DEFAULT_ORIGIN.to_owned(), base_url: Some(base_url.to_owned()) }
}

/// The origin "api" is authenticated by the credential "api_key" in this way.
pub fn api_key(scheme: AuthScheme) -> Auth {
    Auth {
        origin: crate::request::DEFAULT_ORIGIN.to_owned(),
        scheme,
        credential: "api_key".to_owned(),
    }
}

/// The credential "api_key", required, usually found in the environment variable `variable`.
pub fn api_key_credential(help: &str, variable: &str) -> Credential {
    Credential {
        name: "api_key".to_owned(),
        label: "API key".to_owned(),
        help: help.to_owned(),
        required: true,
        environment: vec![variable.to_owned()],
    }
}

pub fn document(title: &str, url: &str, version: &str) -> Document {
    Document { title: title.to_owned(), url: url.to_owned(), version: version.to_owned() }
}

/// An optional setting without a default.
pub fn setting(name: &str, kind: SettingType, label: &str, help: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        kind,
        label: label.to_owned(),
        help: help.to_owned(),
        required: false,
        secret: false,
        default: None,
    }
}

/// A model with its context window in tokens; 0 if unknown.
pub fn model(id: &str, title: &str, context_window: u32, capabilities: &[&str]) -> Model {
    Model {
        id: id.to_owned(),
        aliases: Vec::new(),
        title: Some(title.to_owned()).filter(|title| !title.is_empty()),
        context_window: Some(context_window).filter(|&window| window > 0),
        max_output_tokens: None,
        capabilities: strings(capabilities),
        prices: Vec::new(),
    }
}

/// The models of an adapter's own file, `include_str!("../models.json")`: an object whose `models`
/// is a list as descriptors have it. Other members are for people.
///
/// # Panics
/// If it isn't such a file. The adapter's tests describe it, so they find out.
#[allow(clippy::panic, reason = "the file is part of the adapter, not input")]
pub fn models(file: &str) -> Vec<Model> {
    #[derive(serde::Deserialize)]
    struct File {
        models: Vec<Model>,
    }
    match serde_json::from_str::<File>(file) {
        Ok(file) => file.models,
        Err(error) => panic!("models.json: {error}"),
    }
}

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}
