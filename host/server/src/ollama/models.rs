//! Models by the names that Ollama's clients have for them: what they are called, listed, shown.
//!
//! In Ollama `llama3.2` and `llama3.2:latest` are one model, and clients write either whatever the
//! list said. So a name that nobody here knows is tried with the tag added or taken away. Of a model
//! only what the host knows is told: no size, no template, no quantization.

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use keyward::{
    Failure,
    catalog::{Provider, ProviderState, Snapshot},
    gateway::{Gateway, ListedModel},
    ids::{Digest, ModelName, ProviderName},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{error, request};
use crate::dialect::{
    answer::as_json,
    read::{self, object},
};

const LATEST: &str = ":latest";

/// The model that a caller means. Costs one look through the lists of models; providers that tell
/// their models themselves are asked only if nobody else has it.
pub async fn resolve(gateway: &Gateway, asked: ModelName) -> ModelName {
    let Some(other) = other_name(&asked) else { return asked };
    let snapshot = gateway.snapshot();
    if let Some((state, _)) = named(&snapshot, &asked) {
        // What a provider doesn't list it may have all the same, under the name as it is.
        let lists = |name: &ModelName| {
            let (_, model) = named(&snapshot, name)?;
            state.ready()?.listed(&model).map(|_| ())
        };
        return if lists(&asked).is_none() && lists(&other).is_some() { other } else { asked };
    }
    if listed(&snapshot, &asked) {
        return asked;
    }
    let models = gateway.models().await;
    let has = |name: &ModelName| models.iter().any(|model| model.id == *name);
    if !has(&asked) && (listed(&snapshot, &other) || has(&other)) { other } else { asked }
}

/// The other name of the same model, if it has one.
fn other_name(name: &ModelName) -> Option<ModelName> {
    let text = name.as_str();
    let last = text.rsplit('/').next().unwrap_or_default();
    let other = match text.strip_suffix(LATEST) {
        Some(untagged) => untagged.to_owned(),
        None if last.contains(':') => return None,
        None => format!("{text}{LATEST}"),
    };
    ModelName::new(&other).ok()
}

fn listed(snapshot: &Snapshot, name: &ModelName) -> bool {
    snapshot.providers.values().filter_map(ProviderState::ready).any(|p| p.listed(name).is_some())
}

/// The provider and the rest, if the name begins with a provider's.
fn named<'a>(snapshot: &'a Snapshot, name: &ModelName) -> Option<(&'a ProviderState, ModelName)> {
    let (provider, model) = name.as_str().split_once('/')?;
    Some((snapshot.providers.get(provider)?, ModelName::new(model).ok()?))
}

/// A model and who has it.
struct Found {
    id: ModelName,
    provider: ProviderName,
    created: Option<u64>,
}

/// # Errors
/// If no provider has it.
async fn find(gateway: &Gateway, asked: &ModelName) -> Result<Found, Failure> {
    let id = resolve(gateway, asked.clone()).await;
    let snapshot = gateway.snapshot();
    if let Some((ProviderState::Ready(provider), _)) = named(&snapshot, &id) {
        return Ok(Found { id, provider: provider.name.clone(), created: None });
    }
    let provider_of = |provider: &&std::sync::Arc<Provider>| provider.listed(&id).is_some();
    let mut ready = snapshot.providers.values().filter_map(ProviderState::ready);
    if let Some(provider) = ready.find(provider_of) {
        let provider = provider.name.clone();
        return Ok(Found { id, provider, created: None });
    }
    let mut models = gateway.models().await.into_iter();
    let found = models.find(|model| model.id == id);
    let ListedModel { id, provider, created } = found.ok_or_else(|| error::no_model(asked))?;
    Ok(Found { id, provider, created })
}

/// # Errors
/// If no provider has it.
pub async fn check(gateway: &Gateway, asked: &ModelName) -> Result<(), Failure> {
    find(gateway, asked).await.map(|_| ())
}

#[derive(Serialize)]
struct Details<'a> {
    parent_model: &'static str,
    format: &'static str,
    /// The nearest thing that is known.
    family: &'a str,
    families: [&'a str; 1],
    parameter_size: &'static str,
    quantization_level: &'static str,
}

impl<'a> Details<'a> {
    fn new(provider: &'a ProviderName) -> Self {
        let family = provider.as_str();
        Self {
            parent_model: "",
            format: "",
            family,
            families: [family],
            parameter_size: "",
            quantization_level: "",
        }
    }
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    model: &'a str,
    modified_at: String,
    size: u64,
    digest: String,
    details: Details<'a>,
}

/// `GET /api/tags`. A name that several providers have is listed once, as it can be said once.
pub async fn tags(gateway: &Gateway) -> Response {
    #[derive(Serialize)]
    struct Tags<'a> {
        models: Vec<Tag<'a>>,
    }

    let listed = gateway.models().await;
    let mut seen = std::collections::HashSet::new();
    let first = listed.iter().filter(|model| seen.insert(&model.id));
    let tags = Tags { models: first.map(tag).collect() };
    as_json(serde_json::to_vec(&tags).unwrap_or_default()).into_response()
}

fn tag(model: &ListedModel) -> Tag<'_> {
    let name = model.id.as_str();
    Tag {
        name,
        model: name,
        modified_at: time(model.created),
        size: 0,
        digest: Digest::of(format!("{}/{name}", model.provider).as_bytes()).to_string(),
        details: Details::new(&model.provider),
    }
}

/// Clients want a time and take the beginning of time for none.
fn time(created: Option<u64>) -> String {
    let seconds = created.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

object!(WireShow { "model" model: String, "name" name: String, });

/// Reads the body of `/api/show`; `name` is what `model` was once called.
///
/// # Errors
/// If no model is named.
pub fn parse_show(body: &[u8]) -> Result<ModelName, Failure> {
    let wire: WireShow = read::body(body)?;
    request::model(wire.model.or(wire.name))
}

/// `POST /api/show`: what the operator, the vendor's list or the adapter says of it.
///
/// # Errors
/// If no provider has the model.
pub async fn show(gateway: &Gateway, asked: &ModelName) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Shown<'a> {
        license: &'static str,
        modelfile: String,
        parameters: &'static str,
        template: &'static str,
        details: Details<'a>,
        model_info: Map<String, Value>,
        capabilities: Vec<&'a str>,
        modified_at: String,
    }

    let found = find(gateway, asked).await?;
    let snapshot = gateway.snapshot();
    let name = named(&snapshot, &found.id).map_or_else(|| found.id.clone(), |(_, model)| model);
    let facts = gateway.model_facts(found.provider.as_str()).await?;
    let known = facts.iter().find(|one| one.id == name || one.alias.as_ref() == Some(&name));
    let family = found.provider.as_str();
    let mut model_info = Map::new();
    model_info.insert("general.architecture".into(), json!(family));
    model_info.insert("general.basename".into(), json!(name.as_str()));
    if let Some(tokens) = known.and_then(|model| model.context_window) {
        model_info.insert(format!("{family}.context_length"), json!(tokens.value));
    }
    let capabilities = known.and_then(|model| model.capabilities.as_ref());
    let capabilities = capabilities.map(|words| capabilities_of(&words.value)).unwrap_or_default();
    let shown = Shown {
        license: "",
        modelfile: format!("FROM {}\n", found.id),
        parameters: "",
        template: "",
        details: Details::new(&found.provider),
        model_info,
        // What isn't known can't be ruled out, and without it clients wouldn't even chat.
        capabilities: if capabilities.is_empty() { vec!["completion"] } else { capabilities },
        modified_at: time(found.created.or(known.and_then(|model| model.created))),
    };
    Ok(as_json(serde_json::to_vec(&shown).unwrap_or_default()).into_response())
}

/// The contract's words in Ollama's.
fn capabilities_of(known: &[String]) -> Vec<&str> {
    let word = |word: &'_ String| match word.as_str() {
        "chat" => "completion",
        "embed" => "embedding",
        "images" => "vision",
        "reasoning" => "thinking",
        _ => "",
    };
    let words = known.iter().map(|known| match word(known) {
        "" => known.as_str(),
        word => word,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_name_with_the_tag_and_one_without() {
        for (name, other) in [
            ("llama3.2", Some("llama3.2:latest")),
            ("llama3.2:latest", Some("llama3.2")),
            ("llama3.2:1b", None),
            ("ollama/llama3.2", Some("ollama/llama3.2:latest")),
            ("ollama/llama3.2:latest", Some("ollama/llama3.2")),
            ("localhost:5000/llama", Some("localhost:5000/llama:latest")),
            (":latest", None),
        ] {
            let found = other_name(&ModelName::new(name).unwrap());
            assert_eq!(found.as_ref().map(ModelName::as_str), other, "{name}");
        }
    }

    #[test]
    fn a_listed_model_has_everything_that_clients_read() {
        let model = ListedModel {
            id: ModelName::new("llama3.2:latest").unwrap(),
            provider: ProviderName::new("ollama").unwrap(),
            created: Some(1_700_000_000),
        };
        let shown = serde_json::to_value(tag(&model)).unwrap();
        assert_eq!(shown["name"], "llama3.2:latest");
        assert_eq!(shown["model"], "llama3.2:latest");
        assert_eq!(shown["modified_at"], "2023-11-14T22:13:20Z");
        assert_eq!(shown["size"], 0);
        assert_eq!(shown["digest"].as_str().unwrap().len(), 64);
        assert_eq!(shown["details"]["families"], json!(["ollama"]));
        assert_eq!(shown["digest"], serde_json::to_value(tag(&model)).unwrap()["digest"]);
        let elsewhere = ListedModel { provider: ProviderName::new("other").unwrap(), ..model };
        assert_ne!(shown["digest"], serde_json::to_value(tag(&elsewhere)).unwrap()["digest"]);
    }

    #[test]
    fn the_model_to_show_is_named_by_either_name_of_the_field() {
        assert_eq!(parse_show(br#"{"model": "a"}"#).unwrap().as_str(), "a");
        assert_eq!(parse_show(br#"{"name": "a", "verbose": true}"#).unwrap().as_str(), "a");
        assert_eq!(parse_show(b"{}").unwrap_err().param.as_deref(), Some("model"));
    }

    #[test]
    fn capabilities_are_told_in_ollamas_words() {
        let known = ["chat", "tools", "images", "reasoning", "embed"].map(str::to_owned);
        let expected = ["completion", "tools", "vision", "thinking", "embedding"];
        assert_eq!(capabilities_of(&known), expected);
    }
}
