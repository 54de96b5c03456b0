//! Failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` and the status
//! from which its SDKs choose their exception.
//!
//! The vendor's class reaches the caller as if the caller spoke to the vendor: a refused credential
//! is a 401 although it is the operator's, because programs already branch on the SDK's exception
//! types. What is the gateway's own shows in the code (`upstream_authentication` against
//! `invalid_api_key`) and in the headers `x-keyward-error` and `x-keyward-fault`.
//!
//! SDKs repeat 408, 409, 429 and 5xx by themselves, twice by default. Where that can't help
//! (no credit, no master key, a broken adapter) `x-should-retry: false` stops them.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use keyward::{Failure, FailureKind};
use serde::Serialize;

use crate::dialect::answer::{as_json, failure_headers};

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: Error<'a>,
}

/// The members of an error object.
#[derive(Clone, Copy, Serialize)]
pub struct Error<'a> {
    pub message: &'a str,
    pub r#type: &'a str,
    pub param: Option<&'a str>,
    pub code: Option<&'a str>,
}

/// How one class of failure looks in this dialect.
struct Shape {
    status: StatusCode,
    r#type: &'static str,
    /// Without one, the vendor's own code is passed on.
    code: Option<&'static str>,
    /// What SDKs are told about repeating the request; nothing where their own rule is right.
    retry: Option<bool>,
}

fn shape(failure: &Failure) -> Shape {
    use FailureKind as Kind;
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";

    let (status, r#type, code, retry) = match failure.kind {
        Kind::Authentication => (
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            Some("upstream_authentication"),
            None,
        ),
        Kind::Permission => (StatusCode::FORBIDDEN, "permission_error", None, None),
        Kind::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"), None)
        }
        Kind::QuotaExhausted => {
            let code = "insufficient_quota";
            (StatusCode::TOO_MANY_REQUESTS, code, Some(code), Some(false))
        }
        Kind::Overloaded => {
            (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("server_overloaded"), None)
        }
        Kind::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("service_unavailable"), None)
        }
        Kind::Timeout => (StatusCode::GATEWAY_TIMEOUT, SERVER, Some("timeout"), None),
        Kind::ContextTooLong => {
            (StatusCode::BAD_REQUEST, INVALID, Some("context_length_exceeded"), None)
        }
        Kind::ContentBlocked => (StatusCode::BAD_REQUEST, INVALID, Some("content_filter"), None),
        Kind::ModelNotFound => (StatusCode::NOT_FOUND, INVALID, Some("model_not_found"), None),
        Kind::InvalidRequest => (refused_status(failure.status), INVALID, None, Some(false)),
        Kind::Unsupported => (StatusCode::BAD_REQUEST, INVALID, Some("unsupported"), None),
        Kind::MalformedAnswer => (StatusCode::BAD_GATEWAY, SERVER, Some("malformed_answer"), None),
        // Not a 503: what stands between takes that for a host that is down.
        Kind::HostBusy => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("host_busy"), Some(true))
        }
        Kind::Sealed => (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("sealed"), Some(false)),
        Kind::Plugin => (StatusCode::BAD_GATEWAY, SERVER, Some("plugin_failure"), Some(false)),
        Kind::Other => (StatusCode::BAD_GATEWAY, SERVER, None, None),
    };
    Shape { status, r#type, code, retry }
}

/// The vendor's status for a mistake of the caller's, where an SDK has an exception for it.
fn refused_status(vendor: Option<u16>) -> StatusCode {
    match vendor {
        Some(409) => StatusCode::CONFLICT,
        Some(413) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(415) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Some(422) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The error object, as it stands in a body and in a stream.
pub fn to_json(failure: &Failure) -> Vec<u8> {
    json(members(failure))
}

/// What a failure is in this dialect.
pub fn members(failure: &Failure) -> Error<'_> {
    let shape = shape(failure);
    Error {
        message: &failure.message,
        r#type: shape.r#type,
        param: failure.param.as_deref(),
        code: shape.code.or(failure.code.as_deref()),
    }
}

fn json(error: Error<'_>) -> Vec<u8> {
    // Strings alone always serialize.
    serde_json::to_vec(&ErrorBody { error }).unwrap_or_default()
}

/// The whole answer to a request that failed before its first byte.
pub fn response(failure: &Failure) -> Response {
    let (status, headers) = head(failure);
    (status, headers, as_json(to_json(failure))).into_response()
}

/// Status and headers of a failure, for bodies of any shape.
pub fn head(failure: &Failure) -> (StatusCode, HeaderMap) {
    let shape = shape(failure);
    (shape.status, failure_headers(failure, shape.retry))
}

/// An error of the surface itself, that no exchange made.
pub fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let r#type = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        _ => "invalid_request_error",
    };
    let error = Error { message, r#type, param: None, code: Some(code) };
    (status, as_json(json(error))).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use keyward::Fault;
    use serde_json::{Value, json};

    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        let mut failure = Failure::new(kind, Fault::Vendor, "It \"broke\".");
        failure.code = Some("vendor_code".into());
        failure
    }

    #[test]
    fn every_kind_has_the_status_and_code_that_sdks_expect() {
        use FailureKind as Kind;
        for (kind, status, code, retry) in [
            (Kind::Authentication, 401, "upstream_authentication", None),
            (Kind::Permission, 403, "vendor_code", None),
            (Kind::RateLimited, 429, "rate_limit_exceeded", None),
            (Kind::QuotaExhausted, 429, "insufficient_quota", Some("false")),
            (Kind::Overloaded, 503, "server_overloaded", None),
            (Kind::Unavailable, 503, "service_unavailable", None),
            (Kind::Timeout, 504, "timeout", None),
            (Kind::ContextTooLong, 400, "context_length_exceeded", None),
            (Kind::ContentBlocked, 400, "content_filter", None),
            (Kind::ModelNotFound, 404, "model_not_found", None),
            (Kind::InvalidRequest, 400, "vendor_code", Some("false")),
            (Kind::MalformedAnswer, 502, "malformed_answer", None),
            (Kind::Unsupported, 400, "unsupported", None),
            (Kind::HostBusy, 429, "host_busy", Some("true")),
            (Kind::Sealed, 503, "sealed", Some("false")),
            (Kind::Plugin, 502, "plugin_failure", Some("false")),
            (Kind::Other, 502, "vendor_code", None),
        ] {
            let failure = failure(kind);
            let response = response(&failure);
            assert_eq!(response.status(), status, "{kind:?}");
            let headers = response.headers();
            assert_eq!(headers["x-keyward-error"], kind.as_str());
            assert_eq!(
                headers.get("x-should-retry").map(|v| v.to_str().unwrap()),
                retry,
                "{kind:?}"
            );
            let json: Value = serde_json::from_slice(&to_json(&failure)).unwrap();
            assert_eq!(json["error"]["code"], code, "{kind:?}");
            assert_eq!(json["error"]["message"], "It \"broke\".");
        }
    }

    #[test]
    fn a_wait_is_given_in_seconds_rounded_up_and_in_milliseconds() {
        for (wait, seconds, millis) in [
            (Duration::from_millis(1), "1", "1"),
            (Duration::from_millis(2_500), "3", "2500"),
            (Duration::from_secs(7), "7", "7000"),
            (Duration::from_secs(1_000_000_000), "86400", "86400000"),
        ] {
            let mut failure = failure(FailureKind::RateLimited);
            failure.retry_after = Some(wait);
            let response = response(&failure);
            assert_eq!(response.headers()["retry-after"], seconds);
            assert_eq!(response.headers()["retry-after-ms"], millis);
        }
        let busy = response(&failure(FailureKind::HostBusy));
        assert_eq!(busy.headers()["retry-after"], "1");
        assert!(!response(&failure(FailureKind::Other)).headers().contains_key("retry-after"));
    }

    #[test]
    fn a_vendors_own_status_for_a_callers_mistake_is_kept() {
        for (vendor, status) in [(409, 409), (413, 413), (415, 415), (422, 422), (418, 400)] {
            let mut failure = failure(FailureKind::InvalidRequest);
            failure.status = Some(vendor);
            assert_eq!(response(&failure).status(), status);
        }
    }

    #[tokio::test]
    async fn the_body_has_openais_shape() {
        let failure = Failure::invalid("messages[0].role", "Invalid 'messages[0].role': missing.");
        let response = response(&failure);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({"error": {
            "message": "Invalid 'messages[0].role': missing.",
            "type": "invalid_request_error",
            "param": "messages[0].role",
            "code": null,
        }});
        assert_eq!(body, expected);
    }
}
