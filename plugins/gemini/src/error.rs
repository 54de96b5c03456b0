//! The vendor's errors as failures.
//!
//! `{"error":{"code":…,"message":…,"status":…,"details":[…]}}`, alone, in an array, or inside a
//! stream that began with 200. The reason in `details` decides, then the status; where one status
//! stands for several things (`INVALID_ARGUMENT` and `FAILED_PRECONDITION` do), the vendor's words
//! do. A body in another form comes from something between: its HTTP status decides then.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, Fault, json::parse, time};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A spent quota of the day names, beside itself, a time that holds for the quotas of a minute.
const NO_DAY_MS: u64 = 60_000;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Error<'a>,
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(default)]
    code: Option<u16>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    details: Vec<&'a RawValue>,
}

/// What is read of `RetryInfo`, `QuotaFailure`, `BadRequest` and `ErrorInfo`: their members have
/// different names.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    retry_delay: Cow<'a, str>,
    violations: Vec<Violation>,
    field_violations: Vec<FieldViolation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Violation {
    #[serde(default)]
    quota_id: String,
}

#[derive(Deserialize)]
struct FieldViolation {
    #[serde(default)]
    field: String,
}

/// The failure an answer with this status and body stands for.
pub fn in_body(status: u16, body: &str) -> Failure {
    let one = if body.trim_start().starts_with('[') {
        parse::<Vec<Body<'_>>>(body).ok().and_then(|bodies| bodies.into_iter().next())
    } else {
        parse::<Body<'_>>(body).ok()
    };
    match one {
        Some(body) => vendor(Some(status), body.error),
        None => by_status(status, body),
    }
}

/// The failure an error object inside a stream stands for.
pub fn in_stream(error: &str) -> Failure {
    parse::<Error<'_>>(error).map_or_else(|failure| failure, |error| vendor(None, error))
}

fn vendor(status: Option<u16>, error: Error<'_>) -> Failure {
    // Details of a kind or shape that isn't known say nothing here.
    let details: Vec<Detail<'_>> =
        error.details.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect();
    let reason = details.iter().map(|one| one.reason.as_ref()).find(|reason| !reason.is_empty());
    let daily = details
        .iter()
        .flat_map(|one| &one.violations)
        .any(|violation| violation.quota_id.contains("PerDay"));
    let message = error.message.as_ref();

    let meant = status.or(error.code);
    let known = by_reason(reason.unwrap_or_default())
        .or_else(|| by_words(message))
        .or_else(|| daily.then_some(FailureKind::QuotaExhausted))
        .or_else(|| by_name(&error.status, message));
    let mut failure = match (known, meant) {
        (Some(kind), Some(status)) => Failure::from_status(status, message).with_kind(kind),
        (Some(kind), None) => Failure::of(kind, message),
        (None, Some(status)) => by_status(status, message),
        (None, None) => Failure::of(FailureKind::Unavailable, message),
    };
    let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    failure.code = reason.and_then(owned);
    failure.type_ = owned(&error.status);
    failure.param = details
        .iter()
        .flat_map(|one| &one.field_violations)
        .map(|violation| violation.field.clone())
        .find(|field| !field.is_empty());
    failure.retry_after_ms = details
        .iter()
        .find_map(|one| time::duration_ms(&one.retry_delay))
        .filter(|&delay| !daily || delay >= NO_DAY_MS);
    failure
}

fn by_reason(reason: &str) -> Option<FailureKind> {
    Some(match reason {
        "API_KEY_INVALID"
        | "API_KEY_EXPIRED"
        | "CREDENTIALS_MISSING"
        | "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        | "ACCESS_TOKEN_EXPIRED" => FailureKind::Authentication,
        "SERVICE_DISABLED"
        | "CONSUMER_INVALID"
        | "CONSUMER_SUSPENDED"
        | "API_KEY_SERVICE_BLOCKED"
        | "API_KEY_HTTP_REFERRER_BLOCKED"
        | "API_KEY_IP_ADDRESS_BLOCKED" => FailureKind::Permission,
        "BILLING_DISABLED" => FailureKind::QuotaExhausted,
        _ => return None,
    })
}

/// What the vendor says under a status that stands for many things.
fn by_words(message: &str) -> Option<FailureKind> {
    const WORDS: [(&str, FailureKind); 12] = [
        ("API key not valid", FailureKind::Authentication),
        ("API key expired", FailureKind::Authentication),
        ("reported as leaked", FailureKind::Authentication),
        ("unregistered callers", FailureKind::Authentication),
        ("exceeds the maximum number of tokens", FailureKind::ContextTooLong),
        ("payload size exceeds", FailureKind::ContextTooLong),
        ("User location is not supported", FailureKind::Permission),
        ("enable billing", FailureKind::QuotaExhausted),
        ("credits are depleted", FailureKind::QuotaExhausted),
        // Quotas of nothing: the account's tier doesn't have the model.
        (", limit: 0", FailureKind::QuotaExhausted),
        (" is not enabled for ", FailureKind::Unsupported),
        ("is no longer available", FailureKind::ModelNotFound),
    ];
    WORDS.into_iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| kind)
}

/// By the name of the status, which proxies leave alone.
fn by_name(status: &str, message: &str) -> Option<FailureKind> {
    Some(match status {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => FailureKind::InvalidRequest,
        "UNAUTHENTICATED" => FailureKind::Authentication,
        "PERMISSION_DENIED" => FailureKind::Permission,
        "NOT_FOUND" if message.contains("odels/") => FailureKind::ModelNotFound,
        // A file or a cache of the caller's.
        "NOT_FOUND" => FailureKind::InvalidRequest,
        "RESOURCE_EXHAUSTED" => FailureKind::RateLimited,
        "UNAVAILABLE" => FailureKind::Overloaded,
        "DEADLINE_EXCEEDED" => FailureKind::Timeout,
        "INTERNAL" | "UNKNOWN" | "ABORTED" | "CANCELLED" | "DATA_LOSS" => FailureKind::Unavailable,
        "UNIMPLEMENTED" => FailureKind::Unsupported,
        _ => return None,
    })
}

fn by_status(status: u16, message: &str) -> Failure {
    let failure = Failure::from_status(status, message);
    match status {
        // Not the API's own answer: the endpoint was configured wrongly.
        404 => {
            let mut failure = failure.with_kind(FailureKind::Other("endpoint".to_owned()));
            failure.fault = Fault::Host;
            failure
        }
        499 => failure.with_kind(FailureKind::Unavailable),
        503 => failure.with_kind(FailureKind::Overloaded),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(status: u16, name: &str, message: &str, details: &str) -> Failure {
        in_body(
            status,
            &format!(
                r#"{{"error":{{"code":{status},"message":"{message}","status":"{name}","details":[{details}]}}}}"#
            ),
        )
    }

    #[test]
    fn every_class_of_error_has_its_kind() {
        use FailureKind::*;
        let info = |reason: &str| {
            format!(
                r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"googleapis.com"}}"#
            )
        };
        for (status, name, message, details, kind, fault) in [
            (400, "INVALID_ARGUMENT", "m", info("API_KEY_INVALID"), Authentication, Fault::Host),
            (400, "INVALID_ARGUMENT", "m", String::new(), InvalidRequest, Fault::Caller),
            (
                400,
                "INVALID_ARGUMENT",
                "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                String::new(),
                ContextTooLong,
                Fault::Caller,
            ),
            (
                400,
                "FAILED_PRECONDITION",
                "User location is not supported for the API use.",
                String::new(),
                Permission,
                Fault::Host,
            ),
            (
                400,
                "INVALID_ARGUMENT",
                "Function calling is not enabled for models/gemma-3-4b-it",
                String::new(),
                Unsupported,
                Fault::Caller,
            ),
            (401, "UNAUTHENTICATED", "m", String::new(), Authentication, Fault::Host),
            (403, "PERMISSION_DENIED", "m", info("SERVICE_DISABLED"), Permission, Fault::Host),
            (
                403,
                "PERMISSION_DENIED",
                "Your API key was reported as leaked.",
                String::new(),
                Authentication,
                Fault::Host,
            ),
            (
                404,
                "NOT_FOUND",
                "models/x is not found for API version v1beta",
                String::new(),
                ModelNotFound,
                Fault::Caller,
            ),
            (429, "RESOURCE_EXHAUSTED", "m", String::new(), RateLimited, Fault::Host),
            (
                429,
                "RESOURCE_EXHAUSTED",
                "Your prepayment credits are depleted.",
                String::new(),
                QuotaExhausted,
                Fault::Host,
            ),
            (499, "CANCELLED", "m", String::new(), Unavailable, Fault::Vendor),
            (500, "INTERNAL", "m", String::new(), Unavailable, Fault::Vendor),
            (503, "UNAVAILABLE", "m", String::new(), Overloaded, Fault::Vendor),
            (504, "DEADLINE_EXCEEDED", "m", String::new(), Timeout, Fault::Vendor),
        ] {
            let failure = body(status, name, message, &details);
            assert_eq!((&failure.kind, failure.fault), (&kind, fault), "{status} {message}");
            assert_eq!(failure.status, Some(status));
            assert_eq!(failure.type_.as_deref(), Some(name));
        }
    }

    #[test]
    fn a_days_quota_is_spent_and_its_retry_time_must_be_a_days() {
        let details = |quota: &str, delay: &str| {
            format!(
                r#"{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"{quota}","quotaValue":"20"}}]}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}"#
            )
        };
        for (quota, delay, kind, retry) in [
            ("RequestsPerMinute", "34.074824224s", FailureKind::RateLimited, Some(34_075)),
            ("RequestsPerDay-FreeTier", "0.9s", FailureKind::QuotaExhausted, None),
            ("RequestsPerDay-FreeTier", "31167s", FailureKind::QuotaExhausted, Some(31_167_000)),
            ("RequestsPerMinute", "soon", FailureKind::RateLimited, None),
        ] {
            let failure = body(429, "RESOURCE_EXHAUSTED", "m", &details(quota, delay));
            assert_eq!((&failure.kind, failure.retry_after_ms), (&kind, retry), "{quota} {delay}");
        }
    }

    #[test]
    fn an_array_of_one_error_and_an_error_in_a_stream_are_read_alike() {
        let error = r#"{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}"#;
        let array = in_body(503, &format!(r#"[{{"error":{error}}}]"#));
        assert_eq!(array.kind, FailureKind::Overloaded);
        let stream = in_stream(error);
        assert_eq!((&stream.kind, stream.status), (&FailureKind::Overloaded, Some(503)));
        assert_eq!(stream.message, "The model is overloaded.");
    }

    #[test]
    fn what_isnt_the_vendors_is_told_by_its_status() {
        let page = in_body(404, "<html>no such page</html>");
        assert_eq!(page.kind, FailureKind::Other("endpoint".to_owned()));
        assert_eq!(page.fault, Fault::Host);
        assert_eq!(in_body(503, "").kind, FailureKind::Overloaded);
        assert_eq!(in_body(502, "[]").kind, FailureKind::Unavailable);
    }
}
