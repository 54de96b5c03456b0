//! `POST /v1/messages/count_tokens`.
//!
//! A vendor that speaks this dialect counts exactly; it gets the caller's own fields, which its
//! adapter sees as marks only. For all others the host estimates and says so in
//! `x-keyward-warnings`. Either way the count is free and leaves no usage.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue};
use keyward::gateway::Call;
use serde::Serialize;

use super::{Refused, beta, request};
use crate::{
    dialect::{answer::as_json, events::Warnings, parse},
    surface::Surface,
};

#[derive(Serialize)]
struct TokensCount {
    input_tokens: u64,
}

pub async fn count(
    State(surface): State<Arc<Surface>>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let received = surface.intake.receive(body).await?;
    let (request, _counted) = parse(received, request::parse_count).await?;
    let request::CountRequest { chat, mut fields } = request;
    // What isn't a trial's name can't change the count.
    fields.extend(beta::fields(&headers, &mut Warnings::default()));
    let counted = surface.gateway.count_tokens(&call, chat, fields).await?;
    let mut headers = HeaderMap::with_capacity(4);
    for (name, value) in [
        ("x-keyward-provider", counted.provider.as_str()),
        ("x-keyward-model", counted.model.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if counted.estimated {
        let warning = HeaderValue::from_static("estimated input_tokens");
        headers.insert("x-keyward-warnings", warning);
    }
    let body = serde_json::to_vec(&TokensCount { input_tokens: counted.tokens });
    Ok((headers, as_json(body.unwrap_or_default())).into_response())
}
