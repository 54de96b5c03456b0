//! Errors in the OpenAI shape, and what they mean for routing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Failure,
    contract::{FailureKind, Fault},
    json,
};

const UNKNOWN_URL: &str = "unknown_url";

/// A failure from the body of an answer that isn't a success, whatever its shape.
///
/// Known are `{"error": {...}}`, `{"error": "..."}`, the error's members without the envelope
/// (vLLM) and `{"detail": ...}` (frameworks in front of compatible servers).
pub fn failure(status: u16, body: &str) -> Failure {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
        error: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
        detail: Option<&'a RawValue>,
    }
    let parsed = serde_json::from_str::<Body<'_>>(body);
    match parsed {
        Ok(Body { error: Some(error), .. }) => from_error(Some(status), error.get()),
        Ok(Body { detail: Some(detail), .. }) => {
            let message = serde_json::from_str::<Cow<'_, str>>(detail.get());
            Failure::from_status(status, message.as_deref().unwrap_or(detail.get()))
                .with_kind(kind(Some(status), "", "", detail.get()))
        }
        Ok(_) => from_error(Some(status), body),
        Err(_) => Failure::from_status(status, body).with_kind(kind(Some(status), "", "", body)),
    }
}

/// A failure from an error object, or a string in its place. Without a status in streams that had
/// begun well.
pub(super) fn from_error(status: Option<u16>, error: &str) -> Failure {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Error<'a> {
        #[serde(borrow, deserialize_with = "json::cow_or_null")]
        message: Option<Cow<'a, str>>,
        #[serde(borrow, deserialize_with = "json::cow_or_null")]
        r#type: Option<Cow<'a, str>>,
        #[serde(borrow, deserialize_with = "json::cow_or_null")]
        param: Option<Cow<'a, str>>,
        /// A string with OpenAI, a number with some.
        #[serde(borrow, deserialize_with = "json::raw_or_null")]
        code: Option<&'a RawValue>,
    }
    let error: Error<'_> = serde_json::from_str(error).unwrap_or_else(|_| Error {
        message: serde_json::from_str(error).ok(),
        ..Error::default()
    });
    let message = error.message.as_deref().unwrap_or_default();
    let vendor_type = error.r#type.as_deref().unwrap_or_default();
    let code = error.code.map(|code| code.get().trim_matches('"')).unwrap_or_default();
    // In a stream some give the status they would have answered with as the code.
    let status_of_code = code.parse().ok().filter(|code| (400..600).contains(code));
    let meant = status.or(status_of_code);
    let kind = kind(meant, code, vendor_type, message);
    let mut failure = match meant {
        Some(status) => Failure::from_status(status, message).with_kind(kind),
        None if message.is_empty() => {
            Failure::of(kind, "The vendor ended the answer with an error and gave no reason.")
        }
        None => Failure::of(kind, message),
    };
    if code == UNKNOWN_URL {
        // The operator's endpoint is wrong, whatever the caller asked.
        failure.fault = Fault::Host;
    }
    let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    failure.code = owned(code);
    failure.type_ = owned(vendor_type);
    failure.param = error.param.as_deref().and_then(owned);
    failure
}

/// The vendor's own code says most, then its type, then the status; messages only where servers
/// give nothing else.
fn kind(status: Option<u16>, code: &str, vendor_type: &str, message: &str) -> FailureKind {
    for name in [code, vendor_type] {
        let kind = match name {
            "invalid_api_key" | "account_deactivated" | "authentication_error" => {
                FailureKind::Authentication
            }
            "unsupported_country_region_territory" | "permission_error" | "permission_denied" => {
                FailureKind::Permission
            }
            "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" => {
                FailureKind::QuotaExhausted
            }
            "rate_limit_exceeded" | "rate_limit_error" => FailureKind::RateLimited,
            "context_length_exceeded" | "exceed_context_size_error" => FailureKind::ContextTooLong,
            "model_not_found" | "model_not_available" => FailureKind::ModelNotFound,
            "content_filter"
            | "content_policy_violation"
            | "moderation_blocked"
            | "invalid_prompt" => FailureKind::ContentBlocked,
            "engine_overloaded" | "overloaded_error" | "server_overloaded" => {
                FailureKind::Overloaded
            }
            UNKNOWN_URL => FailureKind::Other("endpoint".to_owned()),
            // A type that goes with many statuses says less than they do.
            "server_error" if status.is_none() => FailureKind::Unavailable,
            "invalid_request_error" if status.is_none() => FailureKind::InvalidRequest,
            _ => continue,
        };
        return kind;
    }
    let Some(status) = status else {
        return FailureKind::Unavailable;
    };
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    match status {
        400 | 422 if says(&["maximum context length", "context window", "context size"]) => {
            FailureKind::ContextTooLong
        }
        503 => FailureKind::Overloaded,
        _ => Failure::from_status(status, "").kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_error_has_its_kind() {
        let error = |message: &str, r#type: &str, code: &str| {
            format!(
                r#"{{"error": {{"message": "{message}", "type": "{type}", "param": null, "code": {code}}}}}"#
            )
        };
        let invalid = "invalid_request_error";
        let table = [
            (401, error("m", invalid, "\"invalid_api_key\""), FailureKind::Authentication),
            (404, error("m", invalid, "\"model_not_found\""), FailureKind::ModelNotFound),
            (404, error("m", invalid, "\"unknown_url\""), FailureKind::Other("endpoint".into())),
            (400, error("m", invalid, "\"context_length_exceeded\""), FailureKind::ContextTooLong),
            (400, error("m", invalid, "\"content_filter\""), FailureKind::ContentBlocked),
            (400, error("m", invalid, "null"), FailureKind::InvalidRequest),
            (
                429,
                error("m", "insufficient_quota", "\"insufficient_quota\""),
                FailureKind::QuotaExhausted,
            ),
            (429, error("m", "tokens", "\"rate_limit_exceeded\""), FailureKind::RateLimited),
            (500, error("m", "server_error", "null"), FailureKind::Unavailable),
            (503, error("m", "server_error", "null"), FailureKind::Overloaded),
            (
                400,
                "{\"object\": \"error\", \"message\": \"This model's maximum context length is \
                   8\", \"type\": \"BadRequestError\", \"code\": 400}"
                    .into(),
                FailureKind::ContextTooLong,
            ),
            (422, "{\"detail\": \"no\"}".into(), FailureKind::InvalidRequest),
            (400, "{\"error\": \"no such thing\"}".into(), FailureKind::InvalidRequest),
            (502, "<html>Bad Gateway</html>".into(), FailureKind::Unavailable),
        ];
        for (status, body, kind) in table {
            let failure = failure(status, &body);
            assert_eq!(failure.kind, kind, "{status} {body}");
            assert_eq!(failure.status, Some(status), "{body}");
            assert!(!failure.message.is_empty(), "{body}");
        }
    }

    #[test]
    fn the_vendors_own_words_are_kept() {
        let failure = failure(
            400,
            r#"{"error": {"message": "Unknown parameter: 'x'.", "type": "invalid_request_error",
                "param": "x", "code": "unknown_parameter"}}"#,
        );
        assert_eq!(failure.message, "Unknown parameter: 'x'.");
        assert_eq!(failure.param.as_deref(), Some("x"));
        assert_eq!(failure.code.as_deref(), Some("unknown_parameter"));
        assert_eq!(failure.type_.as_deref(), Some("invalid_request_error"));
        assert_eq!(failure.fault, Fault::Caller);
    }

    #[test]
    fn an_error_within_a_stream_may_carry_a_status_as_its_code() {
        let failure = from_error(None, r#"{"message": "busy", "code": 429}"#);
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert_eq!(from_error(None, "\"broken\"").message, "broken");
        assert_eq!(from_error(None, "{}").kind, FailureKind::Unavailable);
    }
}
