//! The vendor's errors as failures.
//!
//! `{"id":…,"message":…}` with a status. The status decides; where one stands for several things
//! (400 and 429 do), the vendor's words do.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, Fault, json};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    message: Option<Cow<'a, str>>,
}

/// The failure an answer with this status and body stands for.
pub fn in_body(status: u16, body: &str) -> Failure {
    let parsed = serde_json::from_str::<Body<'_>>(body);
    let known = parsed.is_ok();
    let Body { id, message } = parsed.unwrap_or_default();
    let message = message.as_deref().unwrap_or(if known { "" } else { body });
    let mut failure = Failure::from_status(status, message).with_kind(kind(status, message));
    if status == 404 && !known {
        // Not the API's own answer: the endpoint was configured wrongly.
        failure.kind = FailureKind::Other("endpoint".to_owned());
        failure.fault = Fault::Host;
    }
    failure.request_id = id.map(Cow::into_owned);
    failure
}

/// The failure that ended an answer, in the vendor's words if there are any.
pub fn in_answer(reason: &str, message: &str) -> Failure {
    let kind = match reason {
        "TIMEOUT" => FailureKind::Timeout,
        _ if message.starts_with("too many tokens") => FailureKind::ContextTooLong,
        _ => FailureKind::Unavailable,
    };
    let message = match message {
        "" => "The vendor ended the answer with an error and gave no reason.",
        said => said,
    };
    Failure::of(kind, message).with_code(reason)
}

fn kind(status: u16, message: &str) -> FailureKind {
    let says = |words: &str| message.contains(words);
    match status {
        400 | 413 | 422 if message.starts_with("too many tokens") => FailureKind::ContextTooLong,
        // Of the model or the endpoint: another provider's may do it.
        400 if says(" not supported ") => FailureKind::Unsupported,
        429 if says("/ month") || says("per month") => FailureKind::QuotaExhausted,
        // A listed word in the prompt or the answer.
        498 => FailureKind::ContentBlocked,
        // "Request cancelled", also by the vendor.
        499 => FailureKind::Unavailable,
        501 => FailureKind::Unsupported,
        503 => FailureKind::Overloaded,
        _ => Failure::from_status(status, "").kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_error_has_its_kind() {
        use FailureKind::*;
        for (status, message, kind, fault) in [
            (
                400,
                "invalid request: message must be at least 1 token long",
                InvalidRequest,
                Fault::Caller,
            ),
            (
                400,
                "too many tokens: total number of tokens in the prompt cannot exceed 4081",
                ContextTooLong,
                Fault::Caller,
            ),
            (
                400,
                "invalid request: RAG is not supported for this model.",
                Unsupported,
                Fault::Caller,
            ),
            (401, "invalid api token", Authentication, Fault::Host),
            (402, "Please add or update your payment method", QuotaExhausted, Fault::Host),
            (403, "forbidden", Permission, Fault::Host),
            (404, "model 'x' not found", ModelNotFound, Fault::Caller),
            (422, "invalid type: parameter model", InvalidRequest, Fault::Caller),
            (429, "limited to 40 API calls / minute", RateLimited, Fault::Host),
            (429, "limited to 1000 API calls / month", QuotaExhausted, Fault::Host),
            (498, "blocked", ContentBlocked, Fault::Caller),
            (499, "request cancelled", Unavailable, Fault::Vendor),
            (500, "internal server error", Unavailable, Fault::Vendor),
            (501, "not implemented", Unsupported, Fault::Caller),
            (503, "service unavailable", Overloaded, Fault::Vendor),
            (504, "timeout", Timeout, Fault::Vendor),
        ] {
            let failure = in_body(status, &format!(r#"{{"id":"e1","message":"{message}"}}"#));
            assert_eq!((&failure.kind, failure.fault), (&kind, fault), "{status} {message}");
            assert_eq!(failure.request_id.as_deref(), Some("e1"));
            assert_eq!(failure.message, message);
        }
    }

    #[test]
    fn what_isnt_the_vendors_is_told_by_its_status() {
        let page = in_body(404, "<html>no such page</html>");
        assert_eq!(page.kind, FailureKind::Other("endpoint".to_owned()));
        assert_eq!(page.fault, Fault::Host);
        assert_eq!(in_body(502, "").kind, FailureKind::Unavailable);
        assert_eq!(in_body(429, "slow down").message, "slow down");
    }
}
