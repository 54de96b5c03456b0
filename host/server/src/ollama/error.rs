//! Failures in Ollama's shape: `{"error": "…"}` and a status, from which its SDKs make their
//! `ResponseError`; inside a stream the same object is a line of its own.
//!
//! There are no codes in this dialect. What kind of failure it is and whose fault it was stands in
//! the headers `x-keyward-error` and `x-keyward-fault`.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use keyward::{Failure, FailureKind, ids::ModelName};
use serde::Serialize;

use super::line::write_json;
use crate::dialect::answer::{as_json, failure_headers};

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
}

fn status(failure: &Failure) -> StatusCode {
    use FailureKind as Kind;
    match failure.kind {
        Kind::Authentication => StatusCode::UNAUTHORIZED,
        Kind::Permission => StatusCode::FORBIDDEN,
        Kind::RateLimited | Kind::QuotaExhausted | Kind::HostBusy => StatusCode::TOO_MANY_REQUESTS,
        Kind::Overloaded | Kind::Unavailable | Kind::Sealed => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::ModelNotFound => StatusCode::NOT_FOUND,
        Kind::InvalidRequest if failure.status == Some(413) => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::InvalidRequest | Kind::ContextTooLong | Kind::ContentBlocked | Kind::Unsupported => {
            StatusCode::BAD_REQUEST
        }
        Kind::MalformedAnswer | Kind::Plugin | Kind::Other => StatusCode::BAD_GATEWAY,
    }
}

/// The error object on one line, without its end.
pub fn to_json(message: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len() + 16);
    // Clients take an empty text for no error at all.
    let message = if message.is_empty() { "The request failed." } else { message };
    write_json(&Error { error: message }, &mut body);
    body
}

/// The whole answer to a request that failed before its first byte.
pub fn response(failure: &Failure) -> Response {
    let headers = failure_headers(failure, None);
    (status(failure), headers, as_json(to_json(&failure.message))).into_response()
}

/// An error of the surface itself, that no exchange made.
pub fn refusal(status: StatusCode, message: &str) -> Response {
    (status, as_json(to_json(message))).into_response()
}

/// A missing model in Ollama's own words, by which clients recognize it, and what is known beyond.
pub fn named(mut failure: Failure, asked: &ModelName) -> Failure {
    if failure.kind == FailureKind::ModelNotFound {
        failure.message = match failure.message.as_str() {
            "" => format!("model '{asked}' not found"),
            more => format!("model '{asked}' not found: {more}"),
        };
    }
    failure
}

/// What to say where no provider has a model.
pub fn no_model(asked: &ModelName) -> Failure {
    let why = "GET /api/tags lists what there is";
    let mut failure = Failure::invalid("model", why);
    failure.kind = FailureKind::ModelNotFound;
    named(failure, asked)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use keyward::Fault;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        use FailureKind as Kind;
        for (kind, status) in [
            (Kind::Authentication, 401),
            (Kind::Permission, 403),
            (Kind::RateLimited, 429),
            (Kind::QuotaExhausted, 429),
            (Kind::Overloaded, 503),
            (Kind::Unavailable, 503),
            (Kind::Timeout, 504),
            (Kind::ContextTooLong, 400),
            (Kind::ContentBlocked, 400),
            (Kind::ModelNotFound, 404),
            (Kind::InvalidRequest, 400),
            (Kind::MalformedAnswer, 502),
            (Kind::Unsupported, 400),
            (Kind::HostBusy, 429),
            (Kind::Sealed, 503),
            (Kind::Plugin, 502),
            (Kind::Other, 502),
        ] {
            let response = response(&Failure::new(kind, Fault::Vendor, "It broke."));
            assert_eq!(response.status(), status, "{kind:?}");
            assert_eq!(response.headers()["x-keyward-error"], kind.as_str());
            assert_eq!(response.headers()["x-keyward-fault"], "vendor");
        }
    }

    #[tokio::test]
    async fn the_body_is_the_message_alone() {
        let response = response(&Failure::invalid("messages", "Missing \"messages\"."));
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({"error": "Missing \"messages\"."}));
    }

    #[test]
    fn an_error_is_never_empty_because_clients_take_that_for_none() {
        let body: Value = serde_json::from_slice(&to_json("")).unwrap();
        assert_eq!(body["error"], "The request failed.");
    }

    #[test]
    fn a_missing_model_is_told_in_ollamas_words() {
        let asked = ModelName::new("llama9").unwrap();
        let failure = no_model(&asked);
        assert!(failure.message.starts_with("model 'llama9' not found"), "{failure}");
        assert_eq!(response(&failure).status(), 404);
        let other = named(Failure::invalid("model", "No."), &asked);
        assert_eq!(other.message, "No.");
    }
}
