//! Cloudflare's errors as failures: `{"errors": [{"code": 5007, "message": "..."}]}`, with the list
//! left out around a single one by some models.

use std::borrow::Cow;

use keyward_sdk::{Failure, FailureKind, Fault, openai_wire};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Free neurons are given out anew at midnight UTC.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Deserialize)]
struct Body<'a> {
    success: Option<bool>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(default)]
    code: u32,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// The failure an answer with this status and body stands for.
pub fn failure(status: u16, body: &str, now_ms: u64) -> Failure {
    let Some(one) = first(body) else { return openai_wire::failure(status, body) };
    explained(Failure::from_status(status, &one.message), &one, now_ms)
}

/// The failure that an answer says it is, though its status says success.
pub fn within(body: &str, now_ms: u64) -> Option<Failure> {
    // Streams are read piece by piece: most pieces aren't looked at twice.
    if !body.contains("\"errors\"") {
        return None;
    }
    let one = first(body)?;
    Some(explained(Failure::of(FailureKind::Unavailable, &*one.message), &one, now_ms))
}

fn first(body: &str) -> Option<One<'_>> {
    let body: Body<'_> = serde_json::from_str(body).ok()?;
    let errors = body.errors.map(RawValue::get)?;
    let one = match serde_json::from_str::<Vec<One<'_>>>(errors) {
        Ok(list) => list.into_iter().next(),
        Err(_) => serde_json::from_str(errors).ok(),
    };
    let unnamed = || One { code: 0, message: Cow::Borrowed("") };
    one.or_else(|| (body.success == Some(false)).then(unnamed))
}

fn explained(failure: Failure, one: &One<'_>, now_ms: u64) -> Failure {
    let kind = match one.code {
        5007 | 3042 => Some(FailureKind::ModelNotFound),
        3023 | 3041 | 5016 | 5018 => Some(FailureKind::Permission),
        3003 | 3039 | 5004 => Some(FailureKind::InvalidRequest),
        5006 if !one.message.contains("context") => Some(FailureKind::InvalidRequest),
        5005 | 5019 => Some(FailureKind::Unsupported),
        3006 => Some(FailureKind::ContextTooLong),
        3007 | 3008 => Some(FailureKind::Timeout),
        3036 => Some(FailureKind::QuotaExhausted),
        3040 => Some(FailureKind::Overloaded),
        // The key is wrong, or isn't one.
        1000 | 6003 | 6111 | 9109 | 10000 | 10001 => Some(FailureKind::Authentication),
        // The account in the path doesn't exist, or the endpoint is wrong.
        7000..=7003 => Some(FailureKind::Other("endpoint".to_owned())),
        _ if one.message.contains("context window") => Some(FailureKind::ContextTooLong),
        // The model didn't manage, whatever the caller asked.
        _ if one.message.contains("JSON Mode couldn't be met") => {
            Some(FailureKind::MalformedAnswer)
        }
        _ => None,
    };
    let mut failure = match kind {
        Some(kind) => failure.with_kind(kind),
        None => failure,
    };
    if failure.kind == FailureKind::Other("endpoint".to_owned()) {
        failure.fault = Fault::Host;
    }
    if failure.kind == FailureKind::QuotaExhausted {
        failure.retry_after_ms = Some(DAY_MS - now_ms % DAY_MS);
    }
    match one.code {
        0 => failure,
        code => failure.with_code(code.to_string()),
    }
}
