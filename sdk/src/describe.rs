//! Short forms for the parts of a [`Descriptor`](crate::Descriptor).
//!
//! A descriptor is made once, when the component is loaded, so these take what is pleasant to
//! write.

use crate::descriptor::{
    Auth, AuthScheme, Credential, Document, Model, OperationKind, Origin, Price, Setting,
    SettingType,
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
        title: Some(title.to_owned()).filter(|title| !title.is_empty()),
        context_window: Some(context_window).filter(|&window| window > 0),
        max_output_tokens: None,
        capabilities: strings(capabilities),
        prices: Vec::new(),
    }
}

/// US dollars per million tokens, by class ("input", "cache-read", "cache-write", "output").
pub fn dollars(from: &str, source: &str, per_million: &[(&str, &str)]) -> Price {
    Price {
        from: from.to_owned(),
        currency: "USD".to_owned(),
        per_million: per_million
            .iter()
            .map(|(class, amount)| ((*class).to_owned(), (*amount).to_owned()))
            .collect(),
        per_unit: Default::default(),
        source: source.to_owned(),
    }
}

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}
