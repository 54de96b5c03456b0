//! What operators see and do while it runs: why a request went where, how providers fare, and what
//! happens right now.
//!
//! Reached by operators' tokens on the listening address, and by whoever may open the control
//! socket; no other caller sees what others ask for. Nothing here shows a prompt, an answer or a key.
//!
//! Bounds: an event stream that is read too slowly skips what it missed and says how much; there are
//! at most [`MAX_WATCHERS`], and they end as soon as the host is to stop.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::Stream;
use keyward::{
    Failure, FailureKind, Fault,
    catalog::{Provider, ProviderState},
    gateway::{Call, Gateway},
    health::{Report, Standing},
    ids::{ProviderName, RequestId},
    routing::{RouteState, gate::GateStatus, journal::Notice},
};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::{body::Intake, openai, serve::Closing};

/// Event streams open at once: an operator's page, and some programs.
const MAX_WATCHERS: usize = 32;

/// How often a quiet event stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Operator {
    gateway: Gateway,
    intake: Intake,
}

/// The operators' routes, for whoever may do everything.
pub fn routes(gateway: Gateway, max_body: usize) -> Router {
    let operator = Arc::new(Operator { gateway, intake: Intake::new(max_body) });
    Router::new()
        .route("/events", get(events))
        .route("/operator/v1/routes", get(list_routes))
        .route("/operator/v1/routes/explain", post(explain))
        .route("/operator/v1/routes/explain/{request}", get(explain_one))
        .route("/operator/v1/providers", get(providers))
        .route("/operator/v1/providers/{name}/{verb}", post(steer))
        .route("/operator/v1/counters", get(counters))
        .with_state(operator)
}

/// The same, for callers whose token says that they operate the host.
pub fn guarded(gateway: Gateway, max_body: usize) -> Router {
    routes(gateway, max_body).layer(middleware::from_fn(operators_only))
}

async fn operators_only(
    Extension(call): Extension<Call>,
    request: Request,
    next: Next,
) -> Response {
    if call.caller.operator {
        return next.run(request).await;
    }
    let message = "This is for operators: give the token `operator: true` under `server.tokens`.";
    let failure = Failure::new(FailureKind::Permission, Fault::Caller, message);
    Refused(failure).into_response()
}

/// A failure on its way to an operator: with the status and headers that callers get for it.
struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, headers) = openai::error::head(&self.0);
        let body = json!({"error": {"kind": self.0.kind.as_str(), "message": self.0.message}});
        (status, headers, Json(body)).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

/// Everything that happens from now on, as server-sent events.
async fn events(
    State(operator): State<Arc<Operator>>,
    closing: Option<Extension<Closing>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    static WATCHERS: LazyLock<Arc<Semaphore>> =
        LazyLock::new(|| Arc::new(Semaphore::new(MAX_WATCHERS)));
    let place = Arc::clone(&WATCHERS).try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_WATCHERS} event streams are open, the most at once");
        Failure::new(FailureKind::HostBusy, Fault::Host, message)
    })?;
    let watched = operator.gateway.journal().watch();
    // Who serves without end says nothing of it.
    let closing = closing.map(|Extension(closing)| closing).unwrap_or_default();
    let stream =
        futures_util::stream::unfold(Watching { watched, closing, _place: place }, next_event);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Watching {
    watched: broadcast::Receiver<Notice>,
    closing: Closing,
    _place: OwnedSemaphorePermit,
}

async fn next_event(mut watching: Watching) -> Option<(Result<Event, Infallible>, Watching)> {
    let next = tokio::select! {
        biased;
        () = watching.closing.wait() => return None,
        next = watching.watched.recv() => next,
    };
    let event = match next {
        Ok(notice) => {
            let name = match notice {
                Notice::Request(_) => "request",
                Notice::Health(_) => "health",
                Notice::Continued(_) => "continued",
            };
            // Names and numbers: it always has a JSON form.
            let data = serde_json::to_string(&notice).unwrap_or_default();
            Event::default().event(name).data(data)
        }
        Err(broadcast::error::RecvError::Lagged(missed)) => {
            Event::default().event("missed").data(json!({ "missed": missed }).to_string())
        }
        Err(broadcast::error::RecvError::Closed) => return None,
    };
    Some((Ok(event), watching))
}

/// The routes that are configured, and whether each is in force.
async fn list_routes(State(operator): State<Arc<Operator>>) -> Json<Value> {
    let snapshot = operator.gateway.snapshot();
    let routes: Vec<Value> = snapshot
        .roster
        .routes()
        .iter()
        .map(|(name, state)| match state {
            RouteState::Open(route) => json!({
                "name": name.as_str(),
                "sensitive": route.sensitive,
                "candidates": route.candidates.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
            RouteState::Refused(reason) => json!({"name": name.as_str(), "problem": reason}),
        })
        .collect();
    Json(json!({ "routes": routes }))
}

#[derive(serde::Deserialize)]
struct Wanted {
    /// As if it was marked so.
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    operation: Hypothetical,
}

/// What the body is, by the name that explanations of real requests give it.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Hypothetical {
    #[default]
    Chat,
    Embed,
}

/// Where a request would go: its body is a chat as for `/v1/chat/completions`, or with
/// `operation=embed` one as for `/v1/embeddings`. Nothing is sent.
async fn explain(
    State(operator): State<Arc<Operator>>,
    call: Option<Extension<Call>>,
    Query(wanted): Query<Wanted>,
    headers: http::HeaderMap,
    body: Body,
) -> Answer {
    let received = operator.intake.receive(body).await?;
    let mut call = match call {
        Some(Extension(call)) => call,
        None => crate::surface::local_call(&headers)?,
    };
    call.sensitive |= wanted.sensitive;
    let gateway = &operator.gateway;
    let decision = match wanted.operation {
        Hypothetical::Chat => gateway.explain(&call, openai::read_chat(received).await?).await?,
        Hypothetical::Embed => {
            gateway.explain_embed(&call, openai::read_embed(received).await?).await?
        }
    };
    let mut shown = serde_json::to_value(&decision).unwrap_or_default();
    // Who comes first is decided without the gates: whoever has no room is found out on the way.
    let (snapshot, now) = (gateway.snapshot(), Instant::now());
    let candidates = shown["candidates"].as_array_mut().into_iter().flatten();
    for (shown, candidate) in candidates.zip(&decision.candidates) {
        let state = snapshot.providers.get(&candidate.provider);
        if let (Some(shown), Some(provider)) =
            (shown.as_object_mut(), state.and_then(ProviderState::ready))
        {
            shown.extend(in_use(provider, now));
        }
    }
    if let (Some(shown), Some(failure)) = (shown.as_object_mut(), decision.failure()) {
        shown.insert("failure".into(), failure.to_string().into());
    }
    Ok(Json(shown))
}

/// What became of one of the latest requests.
async fn explain_one(State(operator): State<Arc<Operator>>, Path(request): Path<String>) -> Answer {
    let id: RequestId = request.parse().map_err(|_| {
        Failure::invalid(
            "request",
            "A request's id is 'kw-' and 32 hex digits, as x-request-id says.",
        )
    })?;
    let routed = operator.gateway.journal().find(id).ok_or_else(|| {
        let message = "Not among the latest requests. `keyward usage --rows` shows older ones.";
        Failure::new(FailureKind::ModelNotFound, Fault::Caller, message)
    })?;
    Ok(Json(serde_json::to_value(&*routed).unwrap_or_default()))
}

/// How every provider fares, with its limits and what of them is in use.
async fn providers(State(operator): State<Arc<Operator>>) -> Json<Value> {
    let snapshot = operator.gateway.snapshot();
    let now = Instant::now();
    let reports = operator.gateway.health().report(now);
    let providers: Vec<Value> = snapshot
        .providers
        .iter()
        .map(|(name, state)| {
            let health: Vec<Value> = reports
                .iter()
                .filter(|report| report.provider == *name)
                .map(|report| health(report, now))
                .collect();
            match state {
                ProviderState::Ready(provider) => {
                    let mut shown = in_use(provider, now);
                    shown.insert("name".into(), name.as_str().into());
                    shown.insert("kind".into(), json!(provider.kind));
                    shown.insert("models".into(), provider.models().len().into());
                    shown.insert("problem".into(), provider.missing_key().into());
                    shown.insert("health".into(), health.into());
                    Value::Object(shown)
                }
                ProviderState::Unavailable { reason, .. } => {
                    json!({"name": name.as_str(), "problem": reason})
                }
            }
        })
        .collect();
    Json(json!({ "providers": providers }))
}

/// A provider's limits, and what of them is in use.
fn in_use(provider: &Provider, now: Instant) -> Map<String, Value> {
    let GateStatus { limits, open, waiting, requests_left, tokens_left, .. } =
        provider.gate().status(now);
    let limits = json!({
        "concurrency": limits.concurrency,
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "queue": limits.queue,
        "wait_ms": millis(limits.wait),
    });
    let fields = [
        ("open", open.into()),
        ("waiting", waiting.into()),
        ("requests_left", requests_left.into()),
        ("tokens_left", tokens_left.into()),
        ("limits", limits),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn health(report: &Report, now: Instant) -> Value {
    let (standing, until, why) = match &report.standing {
        Standing::Healthy => ("healthy", None, None),
        Standing::Probation => ("probation", None, None),
        Standing::Down { until, why } => ("down", Some(*until), Some(why.to_string())),
        Standing::Disabled { by } => ("disabled", None, Some(format!("by {by}"))),
    };
    json!({
        "model": report.model.as_ref().map(|model| model.as_str()),
        "standing": standing,
        "why": why,
        "for_ms": until.map(|until| millis(until.saturating_duration_since(now))),
        "forced_by": report.forced_by,
        "failures_in_a_row": report.streak,
        "latency_ms": report.latency.map(millis),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Takes a provider out, puts it back, or has it asked whatever its health says.
async fn steer(
    State(operator): State<Arc<Operator>>,
    call: Option<Extension<Call>>,
    Path((name, verb)): Path<(String, String)>,
) -> Answer {
    let snapshot = operator.gateway.snapshot();
    let known = snapshot.providers.get_key_value(name.as_str());
    let (name, _): (&ProviderName, _) = known.ok_or_else(|| {
        let message = format!("There is no provider '{name}' in the configuration.");
        Failure::new(FailureKind::ModelNotFound, Fault::Caller, message)
    })?;
    operator.gateway.steer(name, verb.parse()?, &actor(call)).await?;
    Ok(Json(json!({"provider": name.as_str(), "done": verb})))
}

/// Who changes things, for the audit log.
fn actor(call: Option<Extension<Call>>) -> Arc<str> {
    call.map_or_else(|| "local".into(), |Extension(call)| call.caller.name)
}

async fn counters(State(operator): State<Arc<Operator>>) -> Json<Value> {
    Json(serde_json::to_value(operator.gateway.journal().counters()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_status_that_callers_get_for_it() {
        use FailureKind as Kind;
        for (kind, fault, status) in [
            (Kind::ModelNotFound, Fault::Caller, 404),
            (Kind::Permission, Fault::Caller, 403),
            (Kind::InvalidRequest, Fault::Caller, 400),
            (Kind::HostBusy, Fault::Host, 429),
            // As where the disk fails.
            (Kind::Other, Fault::Host, 502),
        ] {
            let failure = Failure::new(kind, fault, "It broke.");
            let response = Refused(failure).into_response();
            assert_eq!(response.status(), status, "{kind:?}");
            assert_eq!(response.headers()["x-keyward-error"], kind.as_str());
            assert_eq!(response.headers().contains_key("retry-after"), kind == Kind::HostBusy);
        }
    }
}
