//! Ollama for Keyward: chats, embeddings, the installed models and a probe through Ollama's own
//! API, which knows more of a local model (context length, time in memory, thinking) than its
//! OpenAI-compatible one.
//!
//! For callers of Ollama's dialect unknown fields pass through, those of `options` under names such
//! as "options.min_p".
//!
//! One request for every operation. Bodies are written from borrowed parts ([`request`]) and
//! answers read object by object ([`answer`]), so that memory and CPU grow with the number of
//! objects. Prompts are never read.

mod answer;
mod descriptor;
mod error;
mod request;
mod settings;
#[cfg(test)]
mod tests;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, ResponseHead, VendorRequest,
    export_adapter,
};

use crate::{answer::Answer, settings::Settings};

export_adapter!(Ollama);

pub struct Ollama {
    task: Task,
    /// The answer was read. Chats know better themselves.
    answered: bool,
}

enum Task {
    Chat(Answer),
    Embed { model: String, inputs: usize },
    Models,
    Probe,
}

impl Adapter for Ollama {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let (task, request) = match operation {
            Operation::Chat(chat) => {
                let request = request::chat(&chat, &settings, out)?;
                let native = chat.dialect == request::DIALECT;
                (Task::Chat(Answer::new(chat.model, native)), request)
            }
            Operation::Embed(embed) => {
                let request = request::embed(&embed, &settings, out)?;
                (Task::Embed { inputs: embed.inputs.len(), model: embed.model }, request)
            }
            Operation::ListModels => (Task::Models, VendorRequest::get("/api/tags")),
            Operation::Probe => (Task::Probe, VendorRequest::get("/api/version")),
            Operation::Other(other) => {
                let message =
                    format!("This adapter doesn't know the operation \"{}\".", other.kind);
                return Err(Failure::unsupported(message));
            }
        };
        out.send(request);
        Ok(Self { task, answered: false })
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        self.read(&frame.data, out)
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        if head.is_success() {
            return self.read(body, out);
        }
        let model = match &self.task {
            Task::Chat(answer) => answer.model(),
            Task::Embed { model, .. } => model,
            Task::Models | Task::Probe => "",
        };
        Err(error::in_body(head.status, body, model))
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &self.task {
            Task::Chat(answer) => answer.end(out),
            _ if self.answered => {
                out.done();
                Ok(())
            }
            _ => Err(Failure::malformed("Ollama's answer is empty.")),
        }
    }
}

impl Ollama {
    fn read(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        self.answered = true;
        match &mut self.task {
            Task::Chat(answer) => answer.object(data, out),
            Task::Embed { inputs, .. } => answer::embeddings(data, *inputs, out),
            Task::Models => answer::models(data, out),
            Task::Probe => answer::version(data),
        }
    }
}
