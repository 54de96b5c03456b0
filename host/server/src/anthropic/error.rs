//! Failures in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`
//! and the status from which its SDKs choose their exception.
//!
//! As in the other dialects, the vendor's class reaches the caller as if the caller spoke to the
//! vendor; `x-keyward-error` and `x-keyward-fault` tell the rest. An error is made before it is
//! known whose request it belongs to, so [`named`] puts the request's id in on the way out.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use keyward::{Failure, FailureKind, Fault, ids::RequestId};
use serde::Serialize;

use crate::dialect::answer::{as_json, failure_headers};

static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

#[derive(Serialize)]
struct ErrorBody<'a> {
    r#type: &'static str,
    error: Error<'a>,
    request_id: Option<String>,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Clone, Copy, Serialize)]
struct Details {
    error_code: &'static str,
}

/// The code at which this dialect's SDKs send the whole conversation instead of naming a thread that
/// the server is to remember.
pub const NO_THREADS: &str = "thread_unsupported_request";

fn details(failure: &Failure) -> Option<Details> {
    let told = failure.fault == Fault::Caller && failure.code.as_deref() == Some(NO_THREADS);
    told.then_some(Details { error_code: NO_THREADS })
}

/// What an error says, kept beside its body until the request's id is known.
#[derive(Clone)]
struct Said {
    r#type: &'static str,
    message: String,
    details: Option<Details>,
}

/// How one class of failure looks in this dialect.
struct Shape {
    status: StatusCode,
    r#type: &'static str,
    /// What SDKs are told about repeating the request; nothing where their own rule is right.
    retry: Option<bool>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "api_error";

/// Anthropic's own status for a vendor that is too busy.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

fn shape(failure: &Failure) -> Shape {
    use FailureKind as Kind;

    let (status, r#type, retry) = match failure.kind {
        Kind::Authentication => (StatusCode::UNAUTHORIZED, "authentication_error", None),
        Kind::Permission => (StatusCode::FORBIDDEN, "permission_error", None),
        Kind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", None),
        Kind::QuotaExhausted => (StatusCode::PAYMENT_REQUIRED, "billing_error", Some(false)),
        Kind::Overloaded => (overloaded(), "overloaded_error", None),
        Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, SERVER, None),
        Kind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error", None),
        Kind::ModelNotFound => (StatusCode::NOT_FOUND, "not_found_error", None),
        Kind::ContextTooLong if failure.status != Some(413) => {
            (StatusCode::BAD_REQUEST, INVALID, None)
        }
        Kind::InvalidRequest | Kind::ContextTooLong => {
            let (status, r#type) = refused(failure.status);
            (status, r#type, Some(false))
        }
        Kind::ContentBlocked | Kind::Unsupported => (StatusCode::BAD_REQUEST, INVALID, None),
        Kind::MalformedAnswer | Kind::Other => (StatusCode::BAD_GATEWAY, SERVER, None),
        // A 529 would say that the vendor is overloaded, at which clients change models.
        Kind::HostBusy => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some(true)),
        Kind::Sealed => (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some(false)),
        Kind::Plugin => (StatusCode::BAD_GATEWAY, SERVER, Some(false)),
    };
    Shape { status, r#type, retry }
}

/// The vendor's status for a mistake of the caller's, where an SDK has an exception for it.
fn refused(vendor: Option<u16>) -> (StatusCode, &'static str) {
    match vendor {
        Some(409) => (StatusCode::CONFLICT, "conflict_error"),
        Some(413) => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
        Some(422) => (StatusCode::UNPROCESSABLE_ENTITY, INVALID),
        _ => (StatusCode::BAD_REQUEST, INVALID),
    }
}

/// The error as it stands in a stream.
pub fn to_json(failure: &Failure, request: RequestId) -> Vec<u8> {
    said(failure, &shape(failure)).to_json(Some(request))
}

fn said(failure: &Failure, shape: &Shape) -> Said {
    let (message, details) = (failure.message.clone(), details(failure));
    Said { r#type: shape.r#type, message, details }
}
/// The whole answer to a request that failed before its first byte.
pub fn response(failure: &Failure) -> Response {
    let shape = shape(failure);
    let mut response = said(failure, &shape).into_response(shape.status, None);
    response.headers_mut().extend(failure_headers(failure, shape.retry));
    response
}

/// An error of the surface itself, that no exchange made.
pub fn refusal(status: StatusCode, message: &str) -> Response {
    let r#type = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        _ => INVALID,
    };
    Said { r#type, message: message.to_owned(), details: None }.into_response(status, None)
}

/// The answer with its request's id: in the header that this dialect's SDKs read, and in the body
/// of an error.
pub fn named(mut response: Response, id: RequestId) -> Response {
    if let Some(said) = response.extensions_mut().remove::<Said>() {
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        response = said.into_response(status, Some(id));
        response.headers_mut().extend(headers);
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(&REQUEST_ID, id);
    }
    response
}

impl Said {
    fn to_json(&self, id: Option<RequestId>) -> Vec<u8> {
        let Self { r#type, message, details } = self;
        let error = Error { r#type, message, details: *details };
        let request_id = id.map(|id| id.to_string());
        // Strings alone always serialize.
        serde_json::to_vec(&ErrorBody { r#type: "error", error, request_id }).unwrap_or_default()
    }

    fn into_response(self, status: StatusCode, id: Option<RequestId>) -> Response {
        let mut response = (status, as_json(self.to_json(id))).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure::new(kind, Fault::Vendor, "It \"broke\".")
    }

    async fn body(response: Response) -> Value {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn every_kind_has_the_status_and_type_that_sdks_expect() {
        use FailureKind as Kind;
        for (kind, status, r#type, retry) in [
            (Kind::Authentication, 401, "authentication_error", None),
            (Kind::Permission, 403, "permission_error", None),
            (Kind::RateLimited, 429, "rate_limit_error", None),
            (Kind::QuotaExhausted, 402, "billing_error", Some("false")),
            (Kind::Overloaded, 529, "overloaded_error", None),
            (Kind::Unavailable, 503, "api_error", None),
            (Kind::Timeout, 504, "timeout_error", None),
            (Kind::ContextTooLong, 400, "invalid_request_error", None),
            (Kind::ContentBlocked, 400, "invalid_request_error", None),
            (Kind::ModelNotFound, 404, "not_found_error", None),
            (Kind::InvalidRequest, 400, "invalid_request_error", Some("false")),
            (Kind::MalformedAnswer, 502, "api_error", None),
            (Kind::Unsupported, 400, "invalid_request_error", None),
            (Kind::HostBusy, 429, "rate_limit_error", Some("true")),
            (Kind::Sealed, 503, "api_error", Some("false")),
            (Kind::Plugin, 502, "api_error", Some("false")),
            (Kind::Other, 502, "api_error", None),
        ] {
            let response = response(&failure(kind));
            assert_eq!(response.status(), status, "{kind:?}");
            assert_eq!(response.headers()["x-keyward-error"], kind.as_str());
            let told = response.headers().get("x-should-retry").map(|v| v.to_str().unwrap());
            assert_eq!(told, retry, "{kind:?}");
            let expected = json!({
                "type": "error",
                "error": { "type": r#type, "message": "It \"broke\"." },
                "request_id": null,
            });
            assert_eq!(body(response).await, expected, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_told_so() {
        for kind in [FailureKind::InvalidRequest, FailureKind::ContextTooLong] {
            let mut failure = failure(kind);
            failure.status = Some(413);
            let response = response(&failure);
            assert_eq!(response.status(), 413);
            assert_eq!(body(response).await["error"]["type"], "request_too_large");
        }
    }

    #[tokio::test]
    async fn an_error_carries_its_requests_id_in_header_and_body() {
        let id = RequestId(7);
        let response = named(response(&failure(FailureKind::RateLimited)), id);
        assert_eq!(response.headers()["request-id"], id.to_string());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-keyward-error"], "rate-limited");
        assert_eq!(body(response).await["request_id"], id.to_string());
    }
}
