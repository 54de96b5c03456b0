//! Answers on their way out: whole or streamed, with the headers all dialects share.

use std::{fmt::Write as _, time::Duration};

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
use crate::body::Counted;

/// When a caller should come back if the host is full: nobody knows better.
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
///
/// An answer keeps its request's content until its end, since an adapter may ask its vendor once more.
/// So the room for it is `counted` until then.
pub async fn streamed<D: Dialect, W: StreamWriter>(
    mut answer: Answer,
    mut writer: W,
    counted: Counted,
) -> Response {
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
    let events = futures_util::stream::unfold(Box::new((answer, counted)), |mut kept| async {
        kept.0.next().await.map(|events| (events, kept))
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

// Made once: finding out what a name is costs more than everything else here.
static PROVIDER: HeaderName = HeaderName::from_static("x-keyward-provider");
static MODEL: HeaderName = HeaderName::from_static("x-keyward-model");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-keyward-attempts");
static TRIED: HeaderName = HeaderName::from_static("x-keyward-tried");

/// Bytes of the header that lists what was tried; common servers refuse headers above 8 KiB in all.
const MAX_TRIED: usize = 2048;

/// What every answer says of itself. The overhead is the host's own time up to here: all of it for
/// a whole answer, that up to the first events for a stream.
fn headers(answer: &Answer, warnings: &Warnings) -> HeaderMap {
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

/// Who was tried and what came of it, as "openai/gpt-5=rate-limited, azure/gpt-5=answered". Of a list
/// that is too long, the end is left out and counted.
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
    let mut list = String::new();
    for (at, entry) in tried.iter().map(one).enumerate() {
        if at > 0 && list.len() + entry.len() > MAX_TRIED {
            let _ = write!(list, ", and {} more", tried.len() - at);
            break;
        }
        if at > 0 {
            list.push_str(", ");
        }
        list.push_str(&entry);
    }
    list
}

/// The attempt that ended in this failure: the last one of its kind.
fn blamed<'a>(failure: &Failure, tried: &'a [Tried]) -> Option<&'a Tried> {
    let failed = |same: bool| {
        tried.iter().rev().find(move |tried| match tried.outcome {
            TriedOutcome::Failed { kind, fault, .. } => {
                !same || (kind, fault) == (failure.kind, failure.fault)
            }
            _ => false,
        })
    };
    failed(true).or_else(|| failed(false))
}

/// What every failure says of itself in its headers: its kind, whose fault it was, what was tried, and
/// when to come back. `retry` is what SDKs are told about repeating the request, nothing where their
/// own rule (408, 409, 429 and 5xx, twice) is right.
pub fn failure_headers(failure: &Failure, retry: Option<bool>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert("x-keyward-error", HeaderValue::from_static(failure.kind.as_str()));
    headers.insert("x-keyward-fault", HeaderValue::from_static(fault(failure)));
    if let Some(retry) = retry {
        let retry = if retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
    }
    if let Some(attempts) = &failure.attempts {
        let mut put = |name: &HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if let Some(blamed) = blamed(failure, &attempts.tried) {
            put(&PROVIDER, blamed.provider.as_str());
            put(&MODEL, blamed.model.as_str());
        }
        if !attempts.tried.is_empty() {
            put(&TRIED, &tried(&attempts.tried));
        }
        headers.insert(&ATTEMPTS, attempts.made.into());
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

#[cfg(test)]
mod tests {
    use keyward::{failure::Attempts, ids::ModelName, ids::ProviderName};

    use super::*;

    fn failed(provider: &str, kind: FailureKind, fault: Fault) -> Tried {
        Tried {
            provider: ProviderName::new(provider).unwrap(),
            model: ModelName::new("m").unwrap(),
            outcome: TriedOutcome::Failed { kind, fault, message: "It broke.".into() },
            at: Duration::ZERO,
        }
    }

    fn of(kind: FailureKind, made: u32, tried: Vec<Tried>) -> HeaderMap {
        let mut failure = Failure::new(kind, Fault::Vendor, "It broke.");
        failure.attempts = Some(Box::new(Attempts { made, tried }));
        failure_headers(&failure, None)
    }

    #[test]
    fn a_failure_names_the_provider_whose_failure_it_is() {
        use FailureKind::{Authentication, Timeout, Unavailable};
        let tried = || {
            vec![
                failed("a", Unavailable, Fault::Transport),
                failed("b", Authentication, Fault::Vendor),
                failed("c", Unavailable, Fault::Vendor),
            ]
        };
        for (kind, provider) in [(Authentication, "b"), (Unavailable, "c"), (Timeout, "c")] {
            let headers = of(kind, 3, tried());
            assert_eq!(headers["x-keyward-provider"], provider, "{kind:?}");
            assert_eq!(headers["x-keyward-model"], "m");
            assert_eq!(headers["x-keyward-attempts"], "3");
            let list = "a/m=unavailable, b/m=authentication, c/m=unavailable";
            assert_eq!(headers["x-keyward-tried"], list);
        }
        let mut skipped = failed("a", Timeout, Fault::Host);
        skipped.outcome = TriedOutcome::Skipped { message: "No turn.".into() };
        let headers = of(Unavailable, 0, vec![skipped]);
        assert!(!headers.contains_key("x-keyward-provider"), "it wasn't asked");
        assert_eq!(headers["x-keyward-tried"], "a/m=skipped");
    }

    #[test]
    fn a_long_list_of_what_was_tried_is_cut_and_counted() {
        let tried = vec![failed("a", FailureKind::Timeout, Fault::Vendor); 1_000];
        let headers = of(FailureKind::Timeout, 1_000, tried);
        let list = headers["x-keyward-tried"].to_str().unwrap();
        assert!(list.len() < MAX_TRIED + 200, "{}", list.len());
        let (shown, more) = list.rsplit_once(", and ").unwrap();
        let more: usize = more.trim_end_matches(" more").parse().unwrap();
        assert_eq!(shown.split(", ").count() + more, 1_000);
    }
}
