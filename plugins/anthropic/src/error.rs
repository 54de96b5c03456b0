//! The vendor's errors as failures.
//!
//! `{"type":"error","error":{"type":…,"message":…},"request_id":…}`, with a status or inside a
//! stream that began with 200. The type decides; where one type stands for several things (400
//! does), the vendor's words do. A body in another form comes from something between: the status
//! decides then.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, Fault, json::parse};
use serde::Deserialize;

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: ErrorObject<'a>,
    #[serde(default)]
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    message: String,
}

/// The failure an answer with this status and body stands for.
pub fn in_body(status: u16, body: &str) -> Failure {
    match parse::<ErrorBody<'_>>(body) {
        Ok(error) => vendor(Some(status), error),
        Err(_) => by_status(status, body),
    }
}

/// The failure an `error` event stands for.
pub fn in_stream(data: &str) -> Failure {
    parse::<ErrorBody<'_>>(data).map_or_else(|failure| failure, |error| vendor(None, error))
}

fn vendor(status: Option<u16>, body: ErrorBody<'_>) -> Failure {
    let ErrorObject { kind: vendor_type, message } = body.error;
    let kind = match vendor_type.as_ref() {
        "invalid_request_error" => by_words(&message).or(Some(FailureKind::InvalidRequest)),
        "authentication_error" => Some(FailureKind::Authentication),
        "permission_error" => Some(FailureKind::Permission),
        "billing_error" => Some(FailureKind::QuotaExhausted),
        "not_found_error" if message.starts_with("model") => Some(FailureKind::ModelNotFound),
        "not_found_error" => Some(endpoint()),
        "conflict_error" => Some(FailureKind::InvalidRequest),
        "request_too_large" => Some(FailureKind::ContextTooLong),
        "rate_limit_error" => by_words(&message).or(Some(FailureKind::RateLimited)),
        "overloaded_error" => Some(FailureKind::Overloaded),
        "timeout_error" => Some(FailureKind::Timeout),
        "api_error" => Some(FailureKind::Unavailable),
        _ => None,
    };
    let mut failure = match (kind, status) {
        (Some(kind), _) => Failure::of(kind, message),
        (None, Some(status)) => by_status(status, &message),
        (None, None) => Failure::of(FailureKind::Unavailable, message),
    };
    failure.status = status;
    failure.request_id = body.request_id;
    let failure = operators(failure);
    if vendor_type.is_empty() { failure } else { failure.with_type(vendor_type) }
}

/// What the vendor says under a type that stands for many things.
fn by_words(message: &str) -> Option<FailureKind> {
    const WORDS: [(&str, FailureKind); 6] = [
        ("prompt is too long", FailureKind::ContextTooLong),
        ("exceed context limit", FailureKind::ContextTooLong),
        ("credit balance is too low", FailureKind::QuotaExhausted),
        ("API usage limits", FailureKind::QuotaExhausted),
        ("content filtering policy", FailureKind::ContentBlocked),
        // Newer models refuse a forced call. Another provider's may take it.
        ("tool_choice: type", FailureKind::Unsupported),
    ];
    WORDS.into_iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| kind)
}

fn by_status(status: u16, message: &str) -> Failure {
    let failure = Failure::from_status(status, message);
    match status {
        404 => operators(failure.with_kind(endpoint())),
        503 => failure.with_kind(FailureKind::Overloaded),
        _ => failure,
    }
}

/// A path that doesn't exist: most likely the endpoint was configured wrongly.
fn endpoint() -> FailureKind {
    FailureKind::Other("endpoint".to_owned())
}

/// A wrong endpoint is the operator's, whatever the caller asked.
fn operators(mut failure: Failure) -> Failure {
    if failure.kind == endpoint() {
        failure.fault = Fault::Host;
    }
    failure
}
