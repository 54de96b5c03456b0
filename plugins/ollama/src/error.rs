//! Ollama's errors as failures.
//!
//! `{"error": "…"}` with a status, or as a line of a stream that began with 200. There are no
//! codes: what a status leaves open is told from Ollama's words.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, Fault, json::parse};
use serde::Deserialize;

use crate::settings::LongPrompts;

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: Cow<'a, str>,
}

/// The failure an answer with this status and body stands for. `model` is the one asked for.
pub fn in_body(status: u16, body: &str, model: &str) -> Failure {
    let Ok(ErrorBody { error: message }) = parse::<ErrorBody<'_>>(body) else {
        // Not Ollama's own words, so a 404 is about the path, not about a model.
        let mut failure = Failure::from_status(status, body);
        if status == 404 {
            failure = failure.with_kind(FailureKind::Other("endpoint".to_owned()));
            // Most likely configured wrongly, whatever the caller asked.
            failure.fault = Fault::Host;
        }
        return failure;
    };
    let failure = Failure::from_status(status, &message);
    match by_words(&message) {
        Some(kind) => explained(failure.with_kind(kind), model),
        None if status == 404 => explained(failure, model),
        None if status == 503 => failure.with_kind(FailureKind::Overloaded),
        None => failure,
    }
}

/// The failure a line with `error` stands for.
pub fn in_stream(message: &str, model: &str) -> Failure {
    let kind = by_words(message).unwrap_or(FailureKind::Unavailable);
    explained(Failure::of(kind, message), model)
}

fn by_words(message: &str) -> Option<FailureKind> {
    const WORDS: [(&str, FailureKind); 6] = [
        ("try pulling it first", FailureKind::ModelNotFound),
        ("does not support", FailureKind::Unsupported),
        ("is not supported", FailureKind::Unsupported),
        ("exceeds the context length", FailureKind::ContextTooLong),
        ("exceeded max context length", FailureKind::ContextTooLong),
        ("longer than the context length", FailureKind::ContextTooLong),
    ];
    let missing = message.starts_with("model ") && message.ends_with(" not found");
    let by_words = || WORDS.into_iter().find(|(words, _)| message.contains(words));
    if missing { Some(FailureKind::ModelNotFound) } else { by_words().map(|(_, kind)| kind) }
}

/// Says what to do about a model that isn't installed, and about a prompt that doesn't fit.
fn explained(mut failure: Failure, model: &str) -> Failure {
    if failure.kind == FailureKind::ContextTooLong {
        failure.message = format!(
            "The prompt doesn't fit. The provider's setting num_ctx makes more room, and {} cuts \
             prompts off. (Ollama says: {})",
            LongPrompts::NAME,
            failure.message
        );
    }
    if failure.kind == FailureKind::ModelNotFound && !model.is_empty() {
        failure.message = format!(
            "The model \"{model}\" isn't installed in Ollama. Install it with: ollama pull {model} \
             (Ollama says: {})",
            failure.message
        );
    }
    failure
}
