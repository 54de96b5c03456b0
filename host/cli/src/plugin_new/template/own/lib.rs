//! {{title}} for Keyward: `POST /generate` for chats, `GET /models` for the rest.
//!
//! That vendor is made up. Put what yours documents in its place: here what it is and which
//! request each operation takes, in `chat.rs` what goes into a chat and comes out of it, in
//! `recordings/` how it answers.

mod chat;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Model, Operation, Output, ResponseHead,
    VendorRequest, describe, descriptor, descriptor::OperationKind, export_adapter, json,
};
use serde::Deserialize;

export_adapter!({{Type}});

/// One operation on its way. The request is sent; this reads the answer.
pub enum {{Type}} {
    Chat { ended: bool },
    Models,
    Probe,
}

#[derive(Deserialize)]
struct Models {
    models: Vec<String>,
}

#[derive(Deserialize)]
struct Error {
    error: String,
}

impl Adapter for {{Type}} {
    fn describe() -> Descriptor {
        Descriptor {
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: "{{title}}".to_owned(),
            summary: "Chat with the models of {{title}}.".to_owned(),
            kind: descriptor::ProviderKind::{{kind}},
            // What this was written from, as
            // describe::document("API reference", "https://...", "read 2026-01-31").
            documents: Vec::new(),
            origins: vec![describe::api("{{endpoint}}")],
            {{auth}}
            response_headers: describe::strings(&["x-request-id"]),
            models: vec![describe::model("example-1", "Example", 8192, &["chat"])],
            operations: vec![OperationKind::Chat, OperationKind::ListModels, OperationKind::Probe],
            ..Descriptor::default()
        }
    }

    fn start(operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
        let (request, this) = match &operation {
            Operation::Chat(chat) => (chat::request(chat, out)?, Self::Chat { ended: false }),
            Operation::ListModels => (VendorRequest::get("/models"), Self::Models),
            Operation::Probe => (VendorRequest::get("/models"), Self::Probe),
            _ => return Err(Failure::unsupported("{{title}} only chats.")),
        };
        out.send(request);
        Ok(this)
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Chat { ended } => *ended |= chat::answer(&frame.data, out)?,
            Self::Models => {
                let list: Models = json::parse(&frame.data)?;
                list.models.into_iter().for_each(|id| out.model(Model::new(id)));
            }
            Self::Probe => {}
        }
        Ok(())
    }

    /// What isn't an answer: an error, whose status says most of what it means.
    fn body(&mut self, head: &ResponseHead, body: &str, _: &mut Output) -> Result<(), Failure> {
        let words = json::parse(body).map_or(body.to_owned(), |Error { error }| error);
        Err(Failure::from_status(head.status, &words))
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        if matches!(self, Self::Chat { ended: false }) {
            return Err(Failure::malformed("The answer ended before it was complete."));
        }
        out.done();
        Ok(())
    }
}
