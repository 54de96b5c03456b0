//! Ollama's dialect, so that its SDKs and what is built on them work unchanged with another host.
//!
//! - [`request`], [`embed`] read what callers send;
//! - [`answer`], [`stream`] and [`calls`] write events as whole or streamed answers, [`line`] a line
//!   at a time;
//! - [`models`] knows models by the names that clients have for them;
//! - [`error`] gives failures the shape from which SDKs make their exception;
//! - this file joins them to the gateway.
//!
//! What changes the models of a server (pulling, creating, deleting) a gateway can't do, and says so.

pub mod answer;
pub mod calls;
pub mod embed;
pub mod error;
pub mod line;
pub mod models;
pub mod request;
pub mod stream;

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use keyward::{
    Failure, contract::Warning, gateway::Call, ids::ModelName, operation::Chat, operation::Embed,
};
use serde_json::json;

use self::{
    answer::{AnswerFolder, Clock, Closing, Form, Head, Piece},
    embed::{EmbedFolder, Shape},
    request::Request,
    stream::LineWriter,
};
use crate::{
    body::Counted,
    dialect::{
        self, Dialect,
        answer::{as_json, streamed, whole},
        events::Warnings,
        parse,
    },
    surface::Surface,
};

/// The version of Ollama whose API this is, for clients that ask before they talk. Some insist on one:
/// VS Code's Copilot and Raycast on 0.6.4, Continue on 0.6.5, others on 0.14.2. From 0.32 on clients
/// expect capabilities in `/api/tags`, which has none here.
const API_VERSION: &str = "0.21.0";

/// The dialect's errors.
pub struct Ollama;

impl Dialect for Ollama {
    fn error(failure: &Failure) -> Response {
        error::response(failure)
    }

    fn refusal(status: StatusCode, _code: &str, message: &str) -> Response {
        error::refusal(status, message)
    }
}

type Refused = dialect::Refused<Ollama>;

/// True for the paths of this dialect alone, whether or not there is something.
pub fn owns(path: &str) -> bool {
    path.starts_with("/api/")
}

pub fn routes() -> Router<Arc<Surface>> {
    Router::new()
        // By this clients see that a server is there.
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/api/embed", post(embed_all))
        .route("/api/embeddings", post(embed_one))
        .route("/api/tags", get(tags))
        .route("/api/show", post(show))
        .route("/api/ps", get(running))
        .route("/api/version", get(version))
        .route("/api/pull", any(cannot))
        .route("/api/push", any(cannot))
        .route("/api/create", any(cannot))
        .route("/api/copy", any(cannot))
        .route("/api/delete", any(cannot))
        .route("/api/blobs/{digest}", any(cannot))
}

async fn chat(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let began = Instant::now();
    let received = surface.intake.receive(body).await?;
    let request = parse(received, request::parse_chat).await?;
    Ok(answer(&surface, call, request, Form::Chat, began).await?)
}

async fn generate(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let began = Instant::now();
    let received = surface.intake.receive(body).await?;
    let request = parse(received, request::parse_generate).await?;
    Ok(answer(&surface, call, request, Form::Generate, began).await?)
}

async fn answer(
    surface: &Surface,
    call: Call,
    (request, counted): (Request, Counted),
    form: Form,
    began: Instant,
) -> Result<Response, Failure> {
    let chat = match request {
        Request::Chat(chat) => *chat,
        Request::Load { model, unload } => {
            models::check(&surface.gateway, &model).await?;
            return Ok(loaded(&model, unload, form, began));
        }
    };
    let (asked, stream, clock) = (chat.model.clone(), chat.stream, Clock::since(began));
    let model = models::resolve(&surface.gateway, asked.clone()).await;
    let chat = Chat { model, ..chat };
    let id = call.id;
    let answer = surface.gateway.chat(call, chat).await;
    let answer = answer.map_err(|failure| error::named(failure, &asked))?;
    let head = Head::new(form, asked.as_str());
    Ok(if stream {
        streamed::<Ollama, _>(answer, LineWriter::new(head, id, clock), counted).await
    } else {
        whole::<Ollama>(answer, AnswerFolder::new(head, id, clock)).await
    })
}

/// The answer to a request without a prompt. Nothing is loaded here, which a header tells.
fn loaded(model: &ModelName, unload: bool, form: Form, began: Instant) -> Response {
    static WARNINGS: HeaderName = HeaderName::from_static("x-keyward-warnings");
    let reason = if unload { "unload" } else { "load" };
    let mut warnings = Warnings::default();
    let (code, subject) = ("dropped".to_owned(), reason.to_owned());
    warnings.add(&Warning { code, subject, message: String::new() });
    let mut body = Vec::new();
    let closing = Closing::for_reason(reason, Clock::since(began));
    Head::new(form, model.as_str()).write(&Piece::default(), Some(&closing), &mut body);
    // Clients that expect a stream read lines.
    body.push(b'\n');
    let header: Option<HeaderValue> = warnings.header();
    let mut response = as_json(body).into_response();
    response.headers_mut().extend(header.map(|header| (WARNINGS.clone(), header)));
    response
}

async fn embed_all(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let began = Instant::now();
    let received = surface.intake.receive(body).await?;
    let (embed, _counted) = parse(received, embed::parse_embed).await?;
    let shape = Shape::All { model: embed.model.as_str().to_owned() };
    Ok(vectors(&surface, call, embed, shape, began).await?)
}

async fn embed_one(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let began = Instant::now();
    let received = surface.intake.receive(body).await?;
    let (embed, _counted) = parse(received, embed::parse_embeddings).await?;
    Ok(vectors(&surface, call, embed, Shape::One, began).await?)
}

async fn vectors(
    surface: &Surface,
    call: Call,
    embed: Embed,
    shape: Shape,
    began: Instant,
) -> Result<Response, Failure> {
    let (asked, inputs) = (embed.model.clone(), embed.inputs.len());
    let model = models::resolve(&surface.gateway, asked.clone()).await;
    let answer = surface.gateway.embed(call, Embed { model, ..embed }).await;
    let answer = answer.map_err(|failure| error::named(failure, &asked))?;
    let folder = EmbedFolder::new(shape, inputs, Clock::since(began));
    Ok(whole::<Ollama>(answer, folder).await)
}

async fn tags(State(surface): State<Arc<Surface>>) -> Response {
    models::tags(&surface.gateway).await
}

async fn show(State(surface): State<Arc<Surface>>, body: Body) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (model, _) = parse(received, models::parse_show).await?;
    Ok(models::show(&surface.gateway, &model).await?)
}

/// What is loaded, which is nothing here.
async fn running() -> Response {
    as_json(br#"{"models":[]}"#.to_vec()).into_response()
}

async fn version() -> Response {
    let version = json!({"version": API_VERSION, "keyward": env!("CARGO_PKG_VERSION")});
    as_json(version.to_string().into_bytes()).into_response()
}

async fn cannot(
    State(surface): State<Arc<Surface>>,
    method: Method,
    uri: Uri,
    body: Body,
) -> Result<Response, Refused> {
    // A client that is still sending wouldn't see the answer.
    surface.intake.receive(body).await?;
    let message = format!(
        "Keyward can't do {method} {}: it is a gateway and holds no models. Which models there are \
         is its operator's choice (providers.yaml); GET /api/tags lists them.",
        uri.path()
    );
    Ok(error::refusal(StatusCode::NOT_IMPLEMENTED, &message))
}
