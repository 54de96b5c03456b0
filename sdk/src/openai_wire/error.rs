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
/// (vLLM, Mistral), `{"detail": ...}` (frameworks in front of compatible servers) and text.
pub fn failure(status: u16, body: &str) -> Failure {
    if let Some(first) = first_of_list(body) {
        return failure(status, first);
    }
    let Ok(parsed) = serde_json::from_str::<Body<'_>>(body) else {
        let kind = match status {
            // No server of this shape says so of a model: there is nothing under this path.
            404 => FailureKind::Other("endpoint".to_owned()),
            _ => kind(Some(status), "", "", body),
        };
        return endpoints_fault(Failure::from_status(status, body).with_kind(kind));
    };
    match parsed {
        Body { error: Some(error), .. } => from_error(Some(status), error.get()),
        Body { detail: Some(detail), .. } => {
            let (message, param) = text_of(detail.get());
            let mut failure = Failure::from_status(status, &message).with_kind(kind(
                Some(status),
                "",
                "",
                &message,
            ));
            failure.param = param;
            endpoints_fault(failure)
        }
        _ => from_error(Some(status), body),
    }
}

/// Google's servers put errors into a list of one.
fn first_of_list(body: &str) -> Option<&str> {
    let list: Vec<&RawValue> = serde_json::from_str(body).ok()?;
    list.first().map(|first| first.get())
}

/// The failure that an answer says it is, though its status says success.
pub(super) fn within(body: &str) -> Option<Failure> {
    if !body.trim_start().starts_with('{') {
        return None;
    }
    match serde_json::from_str(body) {
        Ok(Body { error: Some(error), .. }) => Some(from_error(None, error.get())),
        Ok(Body { object: Some(object), .. }) if object.get() == "\"error\"" => {
            Some(from_error(None, body))
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    object: Option<&'a RawValue>,
}

/// What OpenRouter adds when it passes on the error of the vendor behind it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow, deserialize_with = "json::raw_or_null")]
    raw: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "json::raw_or_null")]
    flagged_input: Option<&'a RawValue>,
}

/// The words in a message or a `detail`, and the field it is about.
///
/// Besides a string, which may hold JSON again, they can be FastAPI's list of what is wrong where,
/// `[{"loc": ["body", "n"], "msg": "..."}]`, an object around either, or whatever else: then it is
/// shown as it is.
fn text_of(json: &str) -> (String, Option<String>) {
    /// Objects around words, and strings that hold JSON again. Deeper ones are shown as they are.
    const DEPTH: u8 = 4;
    text_within(json, DEPTH)
}

fn text_within(json: &str, depth: u8) -> (String, Option<String>) {
    #[derive(Deserialize)]
    struct Wrong<'a> {
        #[serde(default)]
        loc: Vec<serde_json::Value>,
        #[serde(borrow)]
        msg: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Around<'a> {
        #[serde(borrow, alias = "error", alias = "message")]
        detail: &'a RawValue,
    }
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return match text.starts_with('{') && depth > 0 {
            true => text_within(&text, depth - 1),
            false => (text, None),
        };
    }
    if let Ok(wrongs) = serde_json::from_str::<Vec<Wrong<'_>>>(json)
        && !wrongs.is_empty()
    {
        let places = wrongs.iter().map(|wrong| {
            let steps = wrong.loc.iter().filter(|step| *step != "body");
            let steps = steps.map(|step| step.as_str().map_or(step.to_string(), str::to_owned));
            steps.collect::<Vec<_>>().join(".")
        });
        let places: Vec<String> = places.collect();
        let texts = wrongs.iter().zip(&places).map(|(wrong, place)| match place.is_empty() {
            true => wrong.msg.clone().into_owned(),
            false => format!("{place}: {}", wrong.msg),
        });
        let text = texts.collect::<Vec<_>>().join("; ");
        return (text, places.into_iter().find(|place| !place.is_empty()));
    }
    match serde_json::from_str::<Around<'_>>(json) {
        Ok(around) if depth > 0 => text_within(around.detail.get(), depth - 1),
        _ => (json.to_owned(), None),
    }
}

/// A failure from an error object, or a string in its place. Without a status in streams that had
/// begun well.
pub(super) fn from_error(status: Option<u16>, error: &str) -> Failure {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Error<'a> {
        #[serde(borrow, deserialize_with = "json::raw_or_null")]
        message: Option<&'a RawValue>,
        #[serde(borrow, deserialize_with = "json::cow_or_null")]
        r#type: Option<Cow<'a, str>>,
        #[serde(borrow, deserialize_with = "json::cow_or_null")]
        param: Option<Cow<'a, str>>,
        /// A string with OpenAI, a number with some.
        #[serde(borrow, deserialize_with = "json::raw_or_null")]
        code: Option<&'a RawValue>,
        #[serde(borrow, deserialize_with = "json::raw_or_null")]
        metadata: Option<&'a RawValue>,
    }
    let known = serde_json::from_str::<Error<'_>>(error);
    let (mut message, place) = match &known {
        Ok(error) => error.message.map(|message| text_of(message.get())).unwrap_or_default(),
        Err(_) => (serde_json::from_str(error).unwrap_or_default(), None),
    };
    let error = known.unwrap_or_default();
    let vendor_type = error.r#type.as_deref().unwrap_or_default();
    let code = error.code.map(|code| code.get().trim_matches('"')).unwrap_or_default();
    let metadata: Metadata<'_> = error
        .metadata
        .and_then(|metadata| serde_json::from_str(metadata.get()).ok())
        .unwrap_or_default();
    if let Some(raw) = metadata.raw {
        let raw = text_of(raw.get()).0;
        message = if message.is_empty() { raw } else { format!("{message}: {raw}") };
    }
    // In a stream some give the status they would have answered with as the code.
    let status_of_code = code.parse().ok().filter(|code| (400..600).contains(code));
    let meant = status.or(status_of_code);
    let kind = match metadata.flagged_input {
        Some(_) => FailureKind::ContentBlocked,
        None => kind(meant, code, vendor_type, &message),
    };
    let mut failure = match meant {
        Some(status) => Failure::from_status(status, &message).with_kind(kind),
        None if message.is_empty() => {
            Failure::of(kind, "The vendor ended the answer with an error and gave no reason.")
        }
        None => Failure::of(kind, message),
    };
    let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    failure.code = owned(code);
    failure.type_ = owned(vendor_type);
    failure.param = error.param.as_deref().and_then(owned).or(place);
    endpoints_fault(failure)
}

/// A wrong endpoint is the operator's mistake, whatever the caller asked.
fn endpoints_fault(mut failure: Failure) -> Failure {
    if failure.kind == FailureKind::Other("endpoint".to_owned()) {
        failure.fault = Fault::Host;
    }
    failure
}

/// The vendor's own code says most, then its type, then the status; messages only where servers
/// give nothing else.
fn kind(status: Option<u16>, code: &str, vendor_type: &str, message: &str) -> FailureKind {
    if status == Some(413) {
        // Groq calls a prompt that no waiting makes fit a matter of rates.
        return FailureKind::ContextTooLong;
    }
    for name in [code, vendor_type] {
        let kind = match name {
            "invalid_api_key" | "account_deactivated" | "authentication_error" => {
                FailureKind::Authentication
            }
            "unsupported_country_region_territory"
            | "permission_error"
            | "permission_denied"
            | "model_terms_required" => FailureKind::Permission,
            "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active" => {
                FailureKind::QuotaExhausted
            }
            "rate_limit_exceeded" | "rate_limit_error" | "rate_limited" => FailureKind::RateLimited,
            "context_length_exceeded" | "exceed_context_size_error" => FailureKind::ContextTooLong,
            "model_not_found"
            | "model_not_available"
            | "model_decommissioned"
            | "invalid_model" => FailureKind::ModelNotFound,
            "content_filter"
            | "content_policy_violation"
            | "moderation_blocked"
            | "invalid_prompt" => FailureKind::ContentBlocked,
            "engine_overloaded"
            | "overloaded_error"
            | "server_overloaded"
            | "service_tier_capacity_exceeded" => FailureKind::Overloaded,
            // The model, not the caller, wrote what doesn't parse.
            "tool_use_failed" | "json_validate_failed" => FailureKind::MalformedAnswer,
            "not_supported_error" => FailureKind::Unsupported,
            UNKNOWN_URL => FailureKind::Other("endpoint".to_owned()),
            // A type that goes with many statuses says less than they do.
            "server_error" if status.is_none() => FailureKind::Unavailable,
            "invalid_request_error" if status.is_none() => FailureKind::InvalidRequest,
            _ => continue,
        };
        return kind;
    }
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let Some(status) = status else {
        return match says(&WRONG_PATH) {
            true => FailureKind::Other("endpoint".to_owned()),
            false => FailureKind::Unavailable,
        };
    };
    match status {
        // The last two are LightLLM's and LocalAI's for whatever goes wrong while a prompt is read.
        400 | 422 | 417 | 500 if says(&TOO_LONG) => FailureKind::ContextTooLong,
        // llama-cpp-python's for a field that FastAPI doesn't let through.
        500 if says(&WRONG_FIELDS) && message.starts_with(|c: char| c.is_ascii_digit()) => {
            FailureKind::InvalidRequest
        }
        400 if says(&["Model Not Exist"]) => FailureKind::ModelNotFound,
        400 if says(&["Content Exists Risk"]) => FailureKind::ContentBlocked,
        404 if WRONG_PATH.contains(&message) => FailureKind::Other("endpoint".to_owned()),
        // Groq's, for a tier without room.
        498 | 503 => FailureKind::Overloaded,
        _ => Failure::from_status(status, "").kind.clone(),
    }
}

/// How servers say that a prompt doesn't fit.
const TOO_LONG: [&str; 7] = [
    "maximum context length",
    "context window",
    "context size",
    "context length",
    "too large for model",
    "prompt token len",
    "token total len",
];

/// What follows their number where FastAPI's own words about wrong fields are passed on as text.
const WRONG_FIELDS: [&str; 2] = [" validation error:\n", " validation errors:\n"];

/// How servers say that there is nothing under a path: FastAPI, llama.cpp, LM Studio, LocalAI.
const WRONG_PATH: [&str; 4] =
    ["Not Found", "File Not Found", "Unexpected endpoint or method", "Resource not found"];

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
                500,
                error("2 validation errors:\\n  {'type': 'x'}", "internal_server_error", "null"),
                FailureKind::InvalidRequest,
            ),
            (500, error("no validation error:\\n", "server_error", "null"), FailureKind::Unavailable),
            (
                400,
                "{\"object\": \"error\", \"message\": \"This model's maximum context length is \
                   8\", \"type\": \"BadRequestError\", \"code\": 400}"
                    .into(),
                FailureKind::ContextTooLong,
            ),
            (422, "{\"detail\": \"no\"}".into(), FailureKind::InvalidRequest),
            (401, "{\"detail\": \"Unauthorized\"}".into(), FailureKind::Authentication),
            (400, format!("[{}]", error("m", "", "\"content_filter\"")), FailureKind::ContentBlocked),
            (404, "{\"detail\": \"Not Found\"}".into(), FailureKind::Other("endpoint".into())),
            (404, "404 page not found".into(), FailureKind::Other("endpoint".into())),
            (
                400,
                "{\"object\": \"error\", \"message\": \"Invalid model: x\", \"type\": \"invalid_model\", \
                 \"param\": null, \"code\": \"1500\"}"
                    .into(),
                FailureKind::ModelNotFound,
            ),
            (413, error("m", "tokens", "\"rate_limit_exceeded\""), FailureKind::ContextTooLong),
            (400, error("m", invalid, "\"tool_use_failed\""), FailureKind::MalformedAnswer),
            (400, error("Model Not Exist", invalid, "null"), FailureKind::ModelNotFound),
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
    fn a_list_of_what_is_wrong_names_the_places() {
        let list = r#"[{"type": "missing", "loc": ["body", "messages", 0, "role"],
            "msg": "Field required", "input": {}}, {"loc": ["body"], "msg": "No."}]"#;
        for body in [
            format!(r#"{{"detail": {list}}}"#),
            format!(
                r#"{{"object": "error", "message": {{"detail": {list}}}, "type": "invalid_request_error"}}"#
            ),
        ] {
            let failure = failure(422, &body);
            assert_eq!(failure.message, "messages.0.role: Field required; No.", "{body}");
            assert_eq!(failure.param.as_deref(), Some("messages.0.role"), "{body}");
            assert_eq!(failure.kind, FailureKind::InvalidRequest, "{body}");
        }
    }

    #[test]
    fn an_error_passed_on_keeps_the_first_vendors_words() {
        let passed_on = failure(
            429,
            r#"{"error": {"message": "Provider returned error", "code": 429,
                "metadata": {"raw": "m is rate-limited upstream.", "provider_name": "B"}}}"#,
        );
        assert_eq!(passed_on.message, "Provider returned error: m is rate-limited upstream.");
        assert_eq!(passed_on.kind, FailureKind::RateLimited);
        let json_again = failure(
            502,
            r#"{"error": {"message": "Provider returned error", "code": 502,
                "metadata": {"raw": "{\"error\":{\"message\":\"Out of memory.\"}}"}}}"#,
        );
        assert_eq!(json_again.message, "Provider returned error: Out of memory.");
        let flagged = failure(
            403,
            r#"{"error": {"message": "Flagged.", "code": 403,
                "metadata": {"reasons": ["violence"], "flagged_input": "..."}}}"#,
        );
        assert_eq!(flagged.kind, FailureKind::ContentBlocked);
    }

    #[test]
    fn a_success_that_says_it_is_an_error_is_one() {
        for body in [
            r#"{"error": "Unexpected endpoint or method. (GET /models)"}"#,
            r#"{"object": "error", "message": "no", "code": 500}"#,
        ] {
            assert!(within(body).is_some(), "{body}");
        }
        assert!(within(r#"{"object": "list", "data": [], "error": null}"#).is_none());
        let wrong = within(r#"{"error": "Unexpected endpoint or method. (GET /models)"}"#).unwrap();
        assert_eq!(
            (wrong.kind.clone(), wrong.fault),
            (FailureKind::Other("endpoint".into()), Fault::Host)
        );
    }

    #[test]
    fn an_error_within_a_stream_may_carry_a_status_as_its_code() {
        let failure = from_error(None, r#"{"message": "busy", "code": 429}"#);
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert_eq!(from_error(None, "\"broken\"").message, "broken");
        assert_eq!(from_error(None, "{}").kind, FailureKind::Unavailable);
    }
}
