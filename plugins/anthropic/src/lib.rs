//! Anthropic for Keyward: chats, the list of models and a probe through the Messages API, and the
//! count of a prompt's tokens.
//!
//! One request for a chat or a count, up to ten for the list of models. What a model accepts is told from its
//! name ([`models`]); a chat is written from borrowed parts ([`request`], [`thinking`], [`schema`])
//! and its answer read piece by piece ([`answer`]), so that memory and CPU grow with the number of
//! pieces, not with the length of a conversation. Prompts are never read.

mod answer;
mod beta;
mod catalog;
mod descriptor;
mod error;
mod models;
mod request;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod thinking;
mod tokens;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, RateLimit, ResponseHead,
    VendorRequest, export_adapter, time,
};

use crate::{answer::Answer, catalog::Catalog, settings::Settings};

export_adapter!(Anthropic);

pub struct Anthropic {
    task: Task,
    settings: Settings,
    /// Milliseconds since 1970 when the exchange began.
    now_ms: u64,
}

enum Task {
    Stream(Answer),
    Whole(Answer),
    Count(tokens::Count),
    Models(Catalog),
    Probe(Catalog),
}

impl Adapter for Anthropic {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let mut settings: Settings = context.settings()?;
        let (task, request) = match operation {
            Operation::Chat(mut chat) => {
                if chat.dialect == request::DIALECT {
                    beta::take(&mut chat.extra, &mut settings.beta);
                }
                let request = request::chat(&chat, &settings, out)?;
                let answer = Answer::new(chat.dialect == request::DIALECT);
                (if chat.stream { Task::Stream(answer) } else { Task::Whole(answer) }, request)
            }
            Operation::ListModels => (Task::Models(Catalog::default()), catalog::request(None)),
            Operation::Probe => (Task::Probe(Catalog::default()), catalog::probe()),
            Operation::Embed(_) => {
                return Err(Failure::unsupported("Anthropic has no embeddings."));
            }
            Operation::Other(other) if other.kind == tokens::OPERATION => {
                let body = beta::take_from_body(other.json, &mut settings.beta)?;
                (Task::Count(tokens::Count::default()), tokens::request(&body)?)
            }
            Operation::Other(other) => {
                let message =
                    format!("This adapter doesn't know the operation \"{}\".", other.kind);
                return Err(Failure::unsupported(message));
            }
        };
        let adapter = Self { task, settings, now_ms: context.now_ms };
        adapter.send(request, out);
        Ok(adapter)
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        let left = |moment: &str| Some(time::moment_ms(moment)?.saturating_sub(self.now_ms));
        for (scope, names) in RATE_LIMITS {
            if let Some(limit) = RateLimit::from_headers(head, scope, names, left) {
                out.rate_limit(limit);
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            Task::Stream(answer) => answer.event(&frame.name, &frame.data, out),
            Task::Whole(answer) => answer.message(&frame.data, out),
            Task::Count(count) => count.answer(&frame.data, out),
            Task::Models(catalog) => catalog.page(&frame.data, out),
            // Read as well, so that a web page that answers 200 is found out.
            Task::Probe(catalog) => catalog.page(&frame.data, &mut Output::default()),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            _ if !head.is_success() => Err(error::in_body(head.status, body)),
            // Some servers that speak this protocol don't stream.
            Task::Stream(answer) | Task::Whole(answer) => answer.message(body, out),
            Task::Count(_) | Task::Models(_) | Task::Probe(_) => {
                Err(Failure::malformed("The vendor's answer isn't JSON."))
            }
        }
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            Task::Stream(answer) | Task::Whole(answer) => {
                answer.end()?;
                out.done();
            }
            Task::Count(count) => {
                count.end()?;
                out.done();
            }
            Task::Models(catalog) => {
                if let Some(request) = catalog.end(out)? {
                    self.send(request, out);
                }
            }
            Task::Probe(catalog) => {
                catalog.end(&mut Output::default())?;
                out.done();
            }
        }
        Ok(())
    }
}

impl Anthropic {
    fn send(&self, request: VendorRequest, out: &mut Output) {
        let request = request.header("anthropic-version", &self.settings.version);
        out.send(match self.settings.beta.as_str() {
            "" => request,
            beta => request.header("anthropic-beta", beta),
        });
    }
}

/// The contract's scope, and the headers for limit, remaining and the moment of the reset.
const RATE_LIMITS: [(&str, [&str; 3]); 4] = [
    (
        "requests",
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
    ),
    (
        "tokens",
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
    ),
    (
        "input-tokens",
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
    ),
    (
        "output-tokens",
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    ),
];
