//! OpenAI's dialect, so that its SDKs work unchanged with another base URL.
//!
//! - [`request`], [`embeddings`] read what callers send;
//! - [`answer`] and [`stream`] write events as whole or streamed answers;
//! - [`responses`] does both for the vendor's other way to chat;
//! - [`error`] gives failures the shape from which SDKs make their exceptions;
//! - this file joins them to the gateway.
//!
//! A request's whole cost here is one parse, one copy of its content into the operation, and one
//! pass over the answer.

pub mod answer;
pub mod embeddings;
pub mod error;
pub mod request;
pub mod responses;
pub mod stream;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, Uri};
use keyward::{
    Failure, FailureKind,
    gateway::{Answer, Call, ListedModel},
    operation::{Chat, Embed},
};
use serde::Serialize;

use self::{
    answer::{ChatFolder, Identity},
    embeddings::EmbeddingsFolder,
    request::ChatRequest,
    stream::ChunkWriter,
};
use crate::{
    anthropic,
    body::Received,
    dialect::{
        self, Dialect,
        answer::{as_json, streamed, whole},
        parse,
    },
    surface::Surface,
};

/// The dialect's errors.
pub struct OpenAi;

impl Dialect for OpenAi {
    fn error(failure: &Failure) -> Response {
        error::response(failure)
    }

    fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
        error::refusal(status, code, message)
    }
}

type Refused = dialect::Refused<OpenAi>;

pub fn routes() -> Router<Arc<Surface>> {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embed))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .merge(responses::routes())
}

async fn chat(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (request, counted) = parse(received, request::parse_chat).await?;
    let ChatRequest { chat, include_usage } = request;
    let stream = chat.stream;
    let answer = surface.gateway.chat(call, chat).await?;
    let identity = identity(&answer);
    Ok(if stream {
        streamed::<OpenAi, _>(answer, ChunkWriter::new(identity, include_usage), counted).await
    } else {
        whole::<OpenAi>(answer, ChatFolder::new(identity)).await
    })
}

/// A chat that isn't carried out.
///
/// # Errors
/// As for one that is.
pub async fn read_chat(received: Received) -> Result<Chat, Failure> {
    Ok(parse(received, request::parse_chat).await?.0.chat)
}

/// As [`read_chat`], for embeddings.
///
/// # Errors
/// As for those that are carried out.
pub async fn read_embed(received: Received) -> Result<Embed, Failure> {
    Ok(parse(received, embeddings::parse_embed).await?.0)
}

async fn embed(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (embed, _counted) = parse(received, embeddings::parse_embed).await?;
    let (inputs, base64) = (embed.inputs.len(), embed.base64);
    let answer = surface.gateway.embed(call, embed).await?;
    let folder = EmbeddingsFolder::new(identity(&answer), inputs, base64);
    Ok(whole::<OpenAi>(answer, folder).await)
}

fn identity(answer: &Answer) -> Identity {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Identity::new(answer.request, &answer.model, created)
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

async fn models(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Model<'a>>,
    }

    let models = surface.gateway.models().await;
    if anthropic::models::wanted(&headers) {
        return anthropic::error::named(anthropic::models::list(&models, &uri), call.id);
    }
    let list = List { object: "list", data: models.iter().map(Model::from).collect() };
    as_json(serde_json::to_vec(&list).unwrap_or_default()).into_response()
}

/// The id may hold slashes, as `provider/model` does, written as they are or percent-encoded.
async fn model(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let models = surface.gateway.models().await;
    if anthropic::models::wanted(&headers) {
        return anthropic::error::named(anthropic::models::one(&models, &id), call.id);
    }
    match models.iter().find(|model| model.id.as_str() == id) {
        Some(model) => {
            let model = serde_json::to_vec(&Model::from(model)).unwrap_or_default();
            as_json(model).into_response()
        }
        None => {
            let message = format!("The model '{id}' doesn't exist here.");
            let mut failure = Failure::invalid("model", message);
            failure.kind = FailureKind::ModelNotFound;
            error::response(&failure)
        }
    }
}
