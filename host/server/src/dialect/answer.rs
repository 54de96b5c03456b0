//! Answers on their way out: whole or streamed, with the headers all dialects share.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use keyward::{
    Failure, FailureKind, Fault,
    gateway::Answer,
    routing::carry::{Tried, TriedOutcome},
};

use super::{
    Dialect, Folder,
    events::Warnings,
    stream::{self, StreamWriter},
};

/// Until when a caller should come back if the host is full and doesn't know better.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The longest wait passed on. A vendor's "in 30 years" is no information; SDKs give up above two
/// minutes anyway.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Gathers an answer and sends it whole.
pub async fn whole<D: Dialect>(mut answer: Answer, mut folder: impl Folder) -> Response {
    while let Some(events) = answer.next().await {
        if let Err(failure) = events.and_then(|events| folder.add(events)) {
            return failed::<D>(&failure, &answer);
        }
    }
    let headers = headers(&answer, folder.warnings());
    match folder.finish() {
        Ok(json) => (headers, as_json(json)).into_response(),
        Err(failure) => failed::<D>(&failure, &answer),
    }
}

/// Sends an answer as it comes. The head goes out with the first events, so what fails before is an
/// HTTP error.
pub async fn streamed<D: Dialect, W: StreamWriter>(mut answer: Answer, mut writer: W) -> Response {
    let mut ready = Vec::new();
    // Without a first event there is only the end, which the body writes.
    if let Some(events) = answer.next().await
        && let Err(failure) = events.and_then(|events| writer.write(&events, &mut ready))
    {
        return failed::<D>(&failure, &answer);
    }
    let mut headers = headers(&answer, writer.warnings());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(W::CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Nginx collects answers before it sends them on, unless told so.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    // Boxed, because it moves in and out of a future with every event.
    let events = futures_util::stream::unfold(Box::new(answer), |mut answer| async {
        answer.next().await.map(|events| (events, answer))
    });
    let body = Body::new(stream::Body::new(writer, ready, events));
    (headers, body).into_response()
}

/// A failure of an exchange that had begun: the error, and who gave it after how many attempts.
fn failed<D: Dialect>(failure: &Failure, answer: &Answer) -> Response {
    let mut response = D::error(failure);
    response.headers_mut().extend(headers(answer, &Warnings::default()));
    response
}

/// What every answer says of itself. The overhead is the host's own time up to here: all of it for
/// a whole answer, that up to the first events for a stream.
fn headers(answer: &Answer, warnings: &Warnings) -> HeaderMap {
    // Made once: finding out what a name is costs more than everything else here.
    static PROVIDER: HeaderName = HeaderName::from_static("x-keyward-provider");
    static MODEL: HeaderName = HeaderName::from_static("x-keyward-model");
    static ATTEMPTS: HeaderName = HeaderName::from_static("x-keyward-attempts");
    static TRIED: HeaderName = HeaderName::from_static("x-keyward-tried");
    static OVERHEAD: HeaderName = HeaderName::from_static("x-keyward-overhead-us");
    static CACHE: HeaderName = HeaderName::from_static("x-keyward-cache");
    static WARNINGS: HeaderName = HeaderName::from_static("x-keyward-warnings");

    let mut headers = HeaderMap::with_capacity(12);
    let mut put = |name: &HeaderName, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    put(&PROVIDER, HeaderValue::from_str(answer.provider.as_str()));
    put(&MODEL, HeaderValue::from_str(answer.model.as_str()));
    put(&ATTEMPTS, Ok(answer.attempts.into()));
    if answer.tried.len() > 1 {
        put(&TRIED, HeaderValue::from_str(&tried(&answer.tried)));
    }
    if let Some(cache) = answer.cache() {
        put(&CACHE, Ok(HeaderValue::from_static(cache.as_str())));
    }
    let overhead = u64::try_from(answer.overhead().as_micros()).unwrap_or(u64::MAX);
    put(&OVERHEAD, Ok(overhead.into()));
    if let Some(warnings) = warnings.header() {
        put(&WARNINGS, Ok(warnings));
    }
    headers
}

/// Who was tried and what came of it, as "openai/gpt-5=rate-limited, azure/gpt-5=answered".
fn tried(tried: &[Tried]) -> String {
    let one = |tried: &Tried| {
        let outcome = match &tried.outcome {
            TriedOutcome::Answered => "answered",
            TriedOutcome::Overtaken => "overtaken",
            TriedOutcome::Cached => "cached",
            TriedOutcome::Failed { kind, .. } => kind.as_str(),
            TriedOutcome::Skipped { .. } => "skipped",
        };
        format!("{}/{}={outcome}", tried.provider, tried.model)
    };
    tried.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What every failure says of itself in its headers: its kind, whose fault it was, and when to come
/// back. `retry` is what SDKs are told about repeating the request, nothing where their own rule
/// (408, 409, 429 and 5xx, twice) is right.
pub fn failure_headers(failure: &Failure, retry: Option<bool>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert("x-keyward-error", HeaderValue::from_static(failure.kind.as_str()));
    headers.insert("x-keyward-fault", HeaderValue::from_static(fault(failure)));
    if let Some(retry) = retry {
        let retry = if retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
    }
    let busy = failure.kind == FailureKind::HostBusy;
    if let Some(wait) = failure.retry_after.or(busy.then_some(BUSY_RETRY)) {
        let wait = wait.min(MAX_RETRY_AFTER);
        // Seconds for everyone, milliseconds for OpenAI's and Anthropic's SDKs, which prefer them.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, seconds.into());
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        headers.insert("retry-after-ms", millis.into());
    }
    headers
}

fn fault(failure: &Failure) -> &'static str {
    match failure.fault {
        Fault::Caller => "caller",
        Fault::Plugin => "plugin",
        Fault::Vendor => "vendor",
        Fault::Transport => "transport",
        Fault::Host => "host",
    }
}

/// Bytes that are JSON already.
pub fn as_json(body: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(body))
}
