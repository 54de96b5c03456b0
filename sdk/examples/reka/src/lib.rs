//! Reka for Keyward: `POST /v1/chat` for chats, `GET /v1/models` for the rest.
//!
//! Written by following `docs/writing-an-adapter.md` alone, from Reka's published documentation.
//! Nobody has held it against the real vendor yet.

mod chat;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, FailureKind, Frame, Model, Operation, Output,
    ResponseHead, VendorRequest, describe, describe::document, descriptor,
    descriptor::OperationKind, export_adapter, json,
};
use serde::Deserialize;

use crate::chat::Reading;

export_adapter!(RekaAdapter);

/// One operation on its way. The request is sent; this reads the answer.
pub enum RekaAdapter {
    Chat(Reading),
    Models,
    Probe,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
struct Body {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    r#type: Option<String>,
    message: String,
    param: Option<String>,
}

impl Adapter for RekaAdapter {
    fn describe() -> Descriptor {
        Descriptor {
            name: "reka".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: "Reka".to_owned(),
            summary: "Chat with Reka's models about texts and images.".to_owned(),
            kind: descriptor::ProviderKind::External,
            documents: vec![
                document("Chat", "https://docs.reka.ai/chat/overview", "read 2026-11-22"),
                document("Errors", "https://docs.reka.ai/errors", "read 2026-11-22"),
                document(
                    "Types of the Python SDK",
                    "https://github.com/reka-ai/reka-sdk-python/tree/main/src/reka/types",
                    "3.2.0, read 2026-11-22",
                ),
            ],
            origins: vec![describe::api("https://api.reka.ai")],
            auth: vec![describe::api_key(descriptor::AuthScheme::Header {
                name: "x-api-key".to_owned(),
            })],
            credentials: vec![describe::api_key_credential(
                "Made under API keys at https://platform.reka.ai.",
                "REKA_API_KEY",
            )],
            response_headers: describe::strings(&["x-request-id"]),
            models: vec![
                describe::model("reka-flash", "Reka Flash", 0, &["chat", "images"]),
                describe::model("reka-core", "Reka Core", 0, &["chat", "images"]),
            ],
            operations: vec![OperationKind::Chat, OperationKind::ListModels, OperationKind::Probe],
            ..Descriptor::default()
        }
    }

    fn start(operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
        let (request, this) = match &operation {
            Operation::Chat(chat) => (chat::request(chat, out)?, Self::Chat(Reading::default())),
            Operation::ListModels => (VendorRequest::get("/v1/models"), Self::Models),
            Operation::Probe => (VendorRequest::get("/v1/models"), Self::Probe),
            _ => return Err(Failure::unsupported("Reka only chats.")),
        };
        out.send(request);
        Ok(this)
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Chat(reading) => reading.frame(&frame.data, out)?,
            Self::Models => {
                let list: Vec<Listed> = json::parse(&frame.data)?;
                list.into_iter().for_each(|model| out.model(Model::new(model.id)));
            }
            Self::Probe => {}
        }
        Ok(())
    }

    fn body(&mut self, head: &ResponseHead, body: &str, _: &mut Output) -> Result<(), Failure> {
        let Ok(Body { error }) = json::parse(body) else {
            return Err(Failure::from_status(head.status, body));
        };
        let mut failure = Failure::from_status(head.status, &error.message);
        if error.message.contains("credits") {
            // The same status and type as for too many requests, but waiting doesn't help.
            failure = failure.with_kind(FailureKind::QuotaExhausted);
        }
        failure.type_ = error.r#type;
        failure.param = error.param;
        Err(failure)
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        if let Self::Chat(reading) = self {
            reading.end()?;
        }
        out.done();
        Ok(())
    }
}
