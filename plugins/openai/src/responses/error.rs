//! Failures inside answers that began well.
//!
//! A response that failed names a code; an `error` event has the same members, or an error object
//! around them. Codes decide, then types. What isn't known is the vendor's fault.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, json};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorObject<'a> {
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    code: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type", deserialize_with = "json::cow_or_null")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    param: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "json::raw_or_null")]
    error: Option<&'a RawValue>,
}

/// The failure an error object, or an event of the type `error`, stands for.
pub fn failure(json: &str) -> Failure {
    let outer: ErrorObject<'_> = json::parse(json).unwrap_or_default();
    let inner = outer.error.and_then(|inner| json::parse(inner.get()).ok());
    let error: ErrorObject<'_> = inner.unwrap_or(outer);
    let (code, vendor_type) =
        (error.code.as_deref().unwrap_or_default(), error.kind.as_deref().unwrap_or_default());
    let message = error.message.as_deref().filter(|message| !message.is_empty());
    let message = message.unwrap_or("OpenAI ended the answer with an error and gave no reason.");
    let mut failure = Failure::of(kind(code, vendor_type), message);
    let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    failure.code = owned(code);
    // An event's own type says nothing.
    failure.type_ = owned(vendor_type).filter(|kind| kind != "error");
    failure.param = error.param.as_deref().and_then(owned);
    failure
}

fn kind(code: &str, vendor_type: &str) -> FailureKind {
    match code {
        "rate_limit_exceeded" => FailureKind::RateLimited,
        "insufficient_quota" | "billing_hard_limit_reached" => FailureKind::QuotaExhausted,
        "server_is_overloaded" | "slow_down" => FailureKind::Overloaded,
        "vector_store_timeout" => FailureKind::Timeout,
        "context_length_exceeded" => FailureKind::ContextTooLong,
        "model_not_found" => FailureKind::ModelNotFound,
        "invalid_prompt" | "content_filter" => FailureKind::ContentBlocked,
        _ if code.ends_with("policy_violation") => FailureKind::ContentBlocked,
        // What is wrong with an image, or with a field.
        _ if code.contains("image") || code.starts_with("invalid_") => FailureKind::InvalidRequest,
        _ => match vendor_type {
            "invalid_request_error" | "image_generation_user_error" => FailureKind::InvalidRequest,
            "rate_limit_error" | "requests" | "tokens" => FailureKind::RateLimited,
            "service_unavailable_error" => FailureKind::Overloaded,
            _ => FailureKind::Unavailable,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_sdk::Fault;

    #[test]
    fn every_class_of_error_has_its_kind() {
        for (code, kind) in [
            ("server_error", FailureKind::Unavailable),
            ("rate_limit_exceeded", FailureKind::RateLimited),
            ("server_is_overloaded", FailureKind::Overloaded),
            ("invalid_prompt", FailureKind::ContentBlocked),
            ("image_content_policy_violation", FailureKind::ContentBlocked),
            ("vector_store_timeout", FailureKind::Timeout),
            ("failed_to_download_image", FailureKind::InvalidRequest),
            ("unsupported_image_media_type", FailureKind::InvalidRequest),
            ("invalid_encrypted_content", FailureKind::InvalidRequest),
            ("of_a_later_year", FailureKind::Unavailable),
        ] {
            let failure = failure(&format!(r#"{{"code":"{code}","message":"m"}}"#));
            assert_eq!(failure.kind, kind, "{code}");
            assert_eq!(failure.code.as_deref(), Some(code));
        }
    }

    #[test]
    fn an_event_may_hold_the_error_or_be_it() {
        for json in [
            r#"{"type":"error","code":"slow_down","message":"Busy.","param":null,"sequence_number":3}"#,
            r#"{"type":"error","error":{"type":"service_unavailable_error","code":"server_is_overloaded","message":"Busy."}}"#,
            r#"{"type":"error","error":{"type":"service_unavailable_error","message":"Busy."}}"#,
        ] {
            let failure = failure(json);
            assert_eq!(
                (failure.kind.clone(), failure.fault),
                (FailureKind::Overloaded, Fault::Vendor)
            );
            assert_eq!(failure.message, "Busy.");
            assert_ne!(failure.type_.as_deref(), Some("error"));
        }
        assert_eq!(failure("garbage").kind, FailureKind::Unavailable);
    }
}
