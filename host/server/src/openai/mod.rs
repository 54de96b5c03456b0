//! OpenAI's dialect, so that its SDKs work unchanged with another base URL.
//!
//! - [`request`], [`embeddings`] read what callers send, [`read`] and [`media`] help them;
//! - [`answer`] and [`stream`] write events as whole or streamed answers;
//! - [`error`] gives failures the shape from which SDKs make their exceptions;
//! - this file joins them to the gateway.
//!
//! A request's whole cost here is one parse, one copy of its content into the operation, and one
//! pass over the answer. Bodies above [`PARSE_INLINE`] are parsed off the async threads.

pub mod answer;
pub mod body;
pub mod embeddings;
pub mod error;
pub mod media;
pub mod read;
pub mod request;
pub mod stream;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use keyward::{
    Failure, FailureKind, Fault,
    gateway::{Answer, Caller, Gateway, ListedModel},
};
use serde::Serialize;

use self::{
    answer::{Folder, Identity, Warnings},
    body::{Intake, Received},
    embeddings::Vectors,
    request::ChatRequest,
    stream::ChunkWriter,
};
use crate::access::{AccessSource, Denied, Peer};

/// Bytes of a body that is parsed where it arrived: some 100 µs of work.
const PARSE_INLINE: usize = 256 * 1024;

struct Surface {
    gateway: Gateway,
    intake: Intake,
}

/// Everything under `/v1`, and `/healthz`, which alone needs no access.
pub fn router(gateway: Gateway, access: AccessSource, max_body: usize) -> Router {
    guarded(api(gateway, max_body), access)
}

/// The same for whoever may do everything anyway.
pub fn open_router(gateway: Gateway) -> Router {
    api(gateway, body::MAX_BODY).layer(axum::Extension(Caller { name: "local".into() }))
}

fn api(gateway: Gateway, max_body: usize) -> Router {
    let surface = Arc::new(Surface { gateway, intake: Intake::new(max_body) });
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .with_state(surface)
}

/// Puts access in front of an API's routes, and errors in OpenAI's shape where it has none.
fn guarded(api: Router, access: AccessSource) -> Router {
    api.method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(access, check_access))
        .route("/healthz", get(|| async { "ok" }).fallback(wrong_method))
}

async fn check_access(
    State(access): State<AccessSource>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match access().check(peer, request.uri(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => denial(denied),
    }
}

fn denial(denied: Denied) -> Response {
    let (status, code) = match denied {
        Denied::NoToken => (StatusCode::UNAUTHORIZED, "missing_api_key"),
        Denied::WrongToken => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
        Denied::NotLocal => (StatusCode::FORBIDDEN, "not_local"),
        Denied::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host"),
        Denied::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
    };
    let mut response = error::refusal(status, Some(code), &denied.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

async fn no_route(method: Method, uri: Uri) -> Response {
    let message = format!("Invalid URL ({method} {}).", uri.path());
    error::refusal(StatusCode::NOT_FOUND, Some("unknown_url"), &message)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    error::refusal(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported"), &message)
}

/// So that handlers can use `?`.
struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        error::response(&self.0)
    }
}

async fn chat(
    State(surface): State<Arc<Surface>>,
    axum::Extension(caller): axum::Extension<Caller>,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let ChatRequest { chat, include_usage } = parse(received, request::parse_chat).await?;
    let stream = chat.stream;
    let answer = surface.gateway.chat(chat, caller).await?;
    let identity = identity(&answer);
    Ok(if stream {
        stream_answer(answer, ChunkWriter::new(identity, include_usage)).await
    } else {
        fold_answer(answer, Folder::new(identity)).await
    })
}

async fn fold_answer(mut answer: Answer, mut folder: Folder) -> Response {
    while let Some(events) = answer.next().await {
        if let Err(failure) = events.and_then(|events| folder.add(events)) {
            return failed(&failure, &answer);
        }
    }
    let headers = headers(&answer, folder.warnings());
    (headers, error::as_json(folder.finish())).into_response()
}

/// The head goes out with the first events, so what fails before is an HTTP error.
async fn stream_answer(mut answer: Answer, mut writer: ChunkWriter) -> Response {
    let mut ready = Vec::new();
    // Without a first event there is only the end, which the body writes.
    if let Some(events) = answer.next().await
        && let Err(failure) = events.and_then(|events| writer.write(&events, &mut ready))
    {
        return failed(&failure, &answer);
    }
    let mut headers = headers(&answer, writer.warnings());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
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
fn failed(failure: &Failure, answer: &Answer) -> Response {
    let mut response = error::response(failure);
    response.headers_mut().extend(headers(answer, &Warnings::default()));
    response
}

async fn embed(
    State(surface): State<Arc<Surface>>,
    axum::Extension(caller): axum::Extension<Caller>,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let embed = parse(received, embeddings::parse_embed).await?;
    let (inputs, base64) = (embed.inputs.len(), embed.base64);
    let mut answer = surface.gateway.embed(embed, caller).await?;
    let mut vectors = Vectors::new(identity(&answer), inputs, base64);
    while let Some(events) = answer.next().await {
        if let Err(failure) = events.and_then(|events| vectors.add(events)) {
            return Ok(failed(&failure, &answer));
        }
    }
    let headers = headers(&answer, vectors.warnings());
    Ok(match vectors.finish() {
        Ok(json) => (headers, error::as_json(json)).into_response(),
        Err(failure) => failed(&failure, &answer),
    })
}

/// Parses a body, where it is if it is small.
async fn parse<T: Send + 'static>(
    received: Received,
    parse: fn(&[u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if received.bytes.len() <= PARSE_INLINE {
        return parse(&received.bytes);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&received.bytes)).await;
    parsed.unwrap_or_else(|error| {
        let why = format!("The request couldn't be parsed: {error}.");
        Err(Failure::new(FailureKind::Other, Fault::Host, why))
    })
}

fn identity(answer: &Answer) -> Identity {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Identity::new(answer.request, &answer.model, created)
}

/// What every successful answer says of itself. The overhead is the host's own time up to here:
/// all of it for a whole answer, that up to the first events for a stream.
fn headers(answer: &Answer, warnings: &Warnings) -> HeaderMap {
    // Made once: finding out what a name is costs more than everything else here.
    static REQUEST: HeaderName = HeaderName::from_static("x-request-id");
    static PROVIDER: HeaderName = HeaderName::from_static("x-keyward-provider");
    static MODEL: HeaderName = HeaderName::from_static("x-keyward-model");
    static ATTEMPTS: HeaderName = HeaderName::from_static("x-keyward-attempts");
    static OVERHEAD: HeaderName = HeaderName::from_static("x-keyward-overhead-us");
    static WARNINGS: HeaderName = HeaderName::from_static("x-keyward-warnings");

    let mut headers = HeaderMap::with_capacity(12);
    let mut put = |name: &HeaderName, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    put(&REQUEST, HeaderValue::from_str(&answer.request.to_string()));
    put(&PROVIDER, HeaderValue::from_str(answer.provider.as_str()));
    put(&MODEL, HeaderValue::from_str(answer.model.as_str()));
    put(&ATTEMPTS, Ok(answer.attempts.into()));
    let overhead = u64::try_from(answer.overhead().as_micros()).unwrap_or(u64::MAX);
    put(&OVERHEAD, Ok(overhead.into()));
    if let Some(warnings) = warnings.header() {
        put(&WARNINGS, Ok(warnings));
    }
    headers
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> From<&'a ListedModel> for Model<'a> {
    fn from(model: &'a ListedModel) -> Self {
        Self {
            id: model.id.as_str(),
            object: "model",
            created: model.created.unwrap_or(0),
            owned_by: model.provider.as_str(),
        }
    }
}

async fn models(State(surface): State<Arc<Surface>>) -> Response {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Model<'a>>,
    }

    let models = surface.gateway.models().await;
    let list = List { object: "list", data: models.iter().map(Model::from).collect() };
    error::as_json(serde_json::to_vec(&list).unwrap_or_default()).into_response()
}

/// The id may hold slashes, as `provider/model` does, written as they are or percent-encoded.
async fn model(State(surface): State<Arc<Surface>>, Path(id): Path<String>) -> Response {
    let models = surface.gateway.models().await;
    match models.iter().find(|model| model.id.as_str() == id) {
        Some(model) => {
            let model = serde_json::to_vec(&Model::from(model)).unwrap_or_default();
            error::as_json(model).into_response()
        }
        None => {
            let message = format!("The model '{id}' doesn't exist here.");
            let mut failure = Failure::invalid("model", message);
            failure.kind = FailureKind::ModelNotFound;
            error::response(&failure)
        }
    }
}

#[cfg(test)]
#[path = "surface_tests.rs"]
mod tests;
