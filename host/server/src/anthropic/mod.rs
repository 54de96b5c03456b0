//! Anthropic's dialect, so that its SDKs work unchanged with another base URL.
//!
//! - [`request`] reads what callers send, [`beta`] which of the vendor's trials they take part in;
//! - [`answer`] and [`stream`] write events as whole or streamed messages;
//! - [`tokens`] counts a prompt's tokens, [`models`] lists models;
//! - [`error`] gives failures the shape from which SDKs make their exceptions;
//! - this file joins them to the gateway.

pub mod answer;
mod beta;
pub mod error;
pub mod models;
pub mod request;
pub mod stream;
pub mod tokens;

use std::sync::Arc;

use axum::{Extension, Router, body::Body, extract::State, response::Response, routing::post};
use http::{HeaderMap, StatusCode};
use keyward::{Failure, gateway::Call};

use self::{
    answer::{Identity, MessageFolder},
    request::MessagesRequest,
    stream::EventWriter,
};
use crate::{
    dialect::{
        self, Dialect,
        answer::{streamed, whole},
        parse,
    },
    surface::Surface,
};

/// The dialect's errors.
pub struct Anthropic;

impl Dialect for Anthropic {
    fn error(failure: &Failure) -> Response {
        error::response(failure)
    }

    fn refusal(status: StatusCode, _code: &str, message: &str) -> Response {
        error::refusal(status, message)
    }
}

type Refused = dialect::Refused<Anthropic>;

/// What every path of this dialect alone begins with.
pub const PATH: &str = "/v1/messages";

pub fn routes() -> Router<Arc<Surface>> {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(tokens::count))
}

async fn messages(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (request, counted) = parse(received, request::parse_messages).await?;
    let MessagesRequest { mut chat, mut warnings } = request;
    chat.extra.extend(beta::fields(&headers, &mut warnings));
    let stream = chat.stream;
    let answer = surface.gateway.chat(call, chat).await?;
    let identity = Identity::new(answer.request, &answer.model);
    Ok(if stream {
        streamed::<Anthropic, _>(answer, EventWriter::new(identity, warnings), counted).await
    } else {
        whole::<Anthropic>(answer, MessageFolder::new(identity, warnings)).await
    })
}
