//! All dialects behind one door.
//!
//! Every request first gets an id, which its answer carries whatever becomes of it, and must then
//! pass [`access`](crate::access). Errors of the surface itself have the shape of the dialect whose
//! path was asked.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use keyward::{
    Failure,
    cache::CacheControl,
    gateway::{Call, Caller, Gateway},
    ids::RequestId,
};

use crate::{
    access::{AccessSource, Denied, Peer},
    anthropic::{self, Anthropic},
    body::{Intake, MAX_BODY},
    dialect::Dialect,
    ollama::{self, Ollama},
    openai::{self, OpenAi},
    operator,
};

/// What the handlers of all dialects share.
pub struct Surface {
    pub gateway: Gateway,
    pub intake: Intake,
}

/// Every dialect, and `/healthz`, which alone needs no access.
pub fn router(gateway: Gateway, access: AccessSource, max_body: usize) -> Router {
    let operators = operator::guarded(gateway.clone(), max_body);
    guarded(dialects(gateway, max_body).merge(operators), access)
}

/// The same for whoever may do everything anyway.
pub fn open_router(gateway: Gateway) -> Router {
    dialects(gateway, MAX_BODY).layer(middleware::from_fn(let_in))
}

fn dialects(gateway: Gateway, max_body: usize) -> Router {
    let surface = Arc::new(Surface { gateway, intake: Intake::new(max_body) });
    Router::new()
        .merge(openai::routes())
        .merge(anthropic::routes())
        .merge(ollama::routes())
        .with_state(surface)
}

/// Puts access in front of routes, and errors where there are none.
fn guarded(routes: Router, access: AccessSource) -> Router {
    routes
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(access, check_access))
        .route("/healthz", get(|| async { "ok" }).fallback(wrong_method))
}

async fn check_access(
    State(access): State<AccessSource>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match access().check(peer, request.uri(), request.headers()) {
        Ok(caller) => admit(caller, request, next).await,
        Err(denied) => denial(denied, request.uri()),
    }
}

async fn let_in(request: Request, next: Next) -> Response {
    admit(local(), request, next).await
}

fn local() -> Caller {
    Caller { name: "local".into(), operator: true }
}

/// A call by whoever may do everything.
///
/// # Errors
/// If the system gives no random number.
pub fn local_call(headers: &HeaderMap) -> Result<Call, Failure> {
    let (sensitive, cache) = (is_marked(headers), cache_control(headers));
    Ok(Call { id: RequestId::random()?, caller: local(), sensitive, cache })
}

/// Lets a request in under an id of its own.
async fn admit(caller: Caller, mut request: Request, next: Next) -> Response {
    static REQUEST: HeaderName = HeaderName::from_static("x-request-id");
    let id = match RequestId::random() {
        Ok(id) => id,
        Err(failure) => return error(request.uri(), &failure),
    };
    let (sensitive, cache) = (is_marked(request.headers()), cache_control(request.headers()));
    request.extensions_mut().insert(Call { id, caller, sensitive, cache });
    let dialect = dialect_of(request.uri());
    let mut response = next.run(request).await;
    if dialect == Spoken::Anthropic {
        response = anthropic::error::named(response, id);
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(&REQUEST, id);
    }
    response
}

/// Whether the caller says that the request is sensitive. A value that says neither yes nor no counts
/// as yes: it was meant to say something.
fn is_marked(headers: &HeaderMap) -> bool {
    headers.get_all("x-keyward-sensitive").iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !["false", "0", "no"].iter().any(|no| value.eq_ignore_ascii_case(no.as_bytes()))
    })
}

/// What the caller says about kept answers: with `no-cache` it isn't answered with one, and with
/// `no-store` its answer isn't kept either.
fn cache_control(headers: &HeaderMap) -> CacheControl {
    let said = |directive: &str| {
        let values = headers.get_all(header::CACHE_CONTROL).iter();
        let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(directive.as_bytes()))
    };
    let keep = !said("no-store");
    CacheControl { look: keep && !said("no-cache"), keep }
}

fn denial(denied: Denied, uri: &Uri) -> Response {
    let (status, code) = match denied {
        Denied::NoToken => (StatusCode::UNAUTHORIZED, "missing_api_key"),
        Denied::WrongToken => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
        Denied::NotLocal => (StatusCode::FORBIDDEN, "not_local"),
        Denied::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host"),
        Denied::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
    };
    let mut response = refusal(uri, status, code, &denied.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

async fn no_route(method: Method, uri: Uri) -> Response {
    let message = format!("Invalid URL ({method} {}).", uri.path());
    refusal(&uri, StatusCode::NOT_FOUND, "unknown_url", &message)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    refusal(&uri, StatusCode::METHOD_NOT_ALLOWED, "method_not_supported", &message)
}

/// Whose errors a path's callers expect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    OpenAi,
    Anthropic,
    Ollama,
}

fn dialect_of(uri: &Uri) -> Spoken {
    let path = uri.path();
    match path.strip_prefix(anthropic::PATH) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Spoken::Anthropic,
        _ if ollama::owns(path) => Spoken::Ollama,
        _ => Spoken::OpenAi,
    }
}

/// An error in the shape of the dialect that has this path. The request's body isn't read, so its
/// connection ends here, and says so: a client would send its next request into it otherwise.
fn refusal(uri: &Uri, status: StatusCode, code: &str, message: &str) -> Response {
    let mut response = match dialect_of(uri) {
        Spoken::OpenAi => OpenAi::refusal(status, code, message),
        Spoken::Anthropic => Anthropic::refusal(status, code, message),
        Spoken::Ollama => Ollama::refusal(status, code, message),
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn error(uri: &Uri, failure: &Failure) -> Response {
    match dialect_of(uri) {
        Spoken::OpenAi => OpenAi::error(failure),
        Spoken::Anthropic => Anthropic::error(failure),
        Spoken::Ollama => Ollama::error(failure),
    }
}

#[cfg(test)]
#[path = "surface_tests.rs"]
mod tests;
