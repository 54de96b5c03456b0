//! OpenAI's Responses: `POST /v1/responses`, whole or streamed.
//!
//! A conversation is a list of items here, in both directions:
//!
//! - [`request`] reads the body, [`input`] the items in it;
//! - [`output`] makes items of events, for [`answer`], which gives them whole, and [`stream`], which
//!   tells of every step.
//!
//! Nothing is stored here, so a response can't be asked for again; what refers to something stored
//! (`previous_response_id`, `conversation`, `prompt`, `item_reference`) goes along to vendors that
//! speak this protocol, and is an error where the vendor doesn't.
//!
//! Thinking is an item of the type `reasoning`: its text is the summary, and what its vendor signed
//! or encrypted is `encrypted_content`, to be sent back as it came ([`output::REDACTED`]).

pub mod answer;
pub mod input;
pub mod output;
pub mod request;
pub mod stream;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use keyward::gateway::Call;

use self::{answer::ResponseFolder, request::ResponsesRequest, stream::EventWriter};
use super::{OpenAi, Refused, error, identity};
use crate::{
    dialect::{
        answer::{streamed, whole},
        parse,
    },
    surface::Surface,
};

pub fn routes() -> Router<Arc<Surface>> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/{id}", get(not_stored).delete(not_stored))
        .route("/v1/responses/{id}/cancel", post(not_stored))
        .route("/v1/responses/{id}/input_items", get(not_stored))
}

async fn create(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (request, counted) = parse(received, request::parse_response).await?;
    let ResponsesRequest { chat, asked } = request;
    let stream = chat.stream;
    let id = call.id;
    let answer = surface.gateway.chat(call, chat).await?;
    let mut identity = identity(&answer);
    identity.id = format!("resp_{:032x}", id.0);
    Ok(if stream {
        streamed::<OpenAi, _>(answer, EventWriter::new(identity, asked), counted).await
    } else {
        whole::<OpenAi>(answer, ResponseFolder::new(identity, asked)).await
    })
}

async fn not_stored(Path(id): Path<String>) -> Response {
    let message = format!(
        "Response with id '{id}' not found: this gateway stores no responses. Keep what \
         POST /v1/responses answers, and ask the vendor itself for what it has stored."
    );
    error::refusal(StatusCode::NOT_FOUND, "responses_not_stored", &message)
}
