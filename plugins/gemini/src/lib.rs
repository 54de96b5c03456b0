//! Google Gemini for Keyward: chats, embeddings, the list of models and a probe through the Gemini
//! API (`generativelanguage.googleapis.com`, v1beta).
//!
//! One request for a chat, one for each hundred embedding inputs, up to ten for the list of models.
//! What a model accepts is told from its name ([`models`]); a chat is written from borrowed parts
//! ([`request`], [`contents`], [`tools`], [`thinking`]) and its answer read piece by piece
//! ([`answer`], [`usage`]), so that memory and CPU grow with the number of pieces, not with the
//! length of a conversation. Prompts are never read.

mod answer;
mod catalog;
mod contents;
mod descriptor;
mod embed;
mod error;
mod logprobs;
mod models;
mod request;
mod settings;
#[cfg(test)]
mod tests;
mod thinking;
mod tools;
mod usage;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, ResponseHead, export_adapter,
};

use crate::{answer::Answer, catalog::Catalog, embed::Batches, settings::Settings};

export_adapter!(Gemini);

pub struct Gemini {
    task: Task,
}

enum Task {
    Chat(Answer),
    Embed(Batches),
    Models(Catalog),
    Probe(Catalog),
}

impl Adapter for Gemini {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let task = match operation {
            Operation::Chat(chat) => {
                let request = request::chat(&chat, &settings, out)?;
                out.send(request);
                Task::Chat(Answer::new(&chat))
            }
            Operation::Embed(embed) => {
                let mut batches = Batches::new(embed, out)?;
                batches.send_next(out)?;
                Task::Embed(batches)
            }
            Operation::ListModels => {
                out.send(catalog::request(None));
                Task::Models(Catalog::default())
            }
            Operation::Probe => {
                out.send(catalog::probe());
                Task::Probe(Catalog::default())
            }
            Operation::Other(other) => {
                let message =
                    format!("This adapter doesn't know the operation \"{}\".", other.kind);
                return Err(Failure::unsupported(message));
            }
        };
        Ok(Self { task })
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            Task::Chat(answer) => answer.chunk(&frame.data, out),
            Task::Embed(batches) => batches.answer(&frame.data, out),
            Task::Models(catalog) => catalog.page(&frame.data, out),
            // Read as well, so that a web page that answers 200 is found out.
            Task::Probe(catalog) => catalog.page(&frame.data, &mut Output::default()),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            _ if !head.is_success() => Err(error::in_body(head.status, body)),
            // Servers between may answer a stream with the JSON array it is without `alt=sse`.
            Task::Chat(answer) => answer.whole(body, out),
            Task::Embed(_) => Err(Failure::malformed("The vendor's embeddings aren't JSON.")),
            Task::Models(_) | Task::Probe(_) => {
                Err(Failure::malformed("The vendor's list of models isn't JSON."))
            }
        }
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            Task::Chat(answer) => answer.end()?,
            Task::Embed(batches) => {
                if batches.send_next(out)? {
                    return Ok(());
                }
            }
            Task::Models(catalog) => {
                if let Some(request) = catalog.end()? {
                    out.send(request);
                    return Ok(());
                }
            }
            Task::Probe(catalog) => {
                catalog.end()?;
            }
        }
        out.done();
        Ok(())
    }
}
