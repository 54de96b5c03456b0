//! Cohere for Keyward: chats, embeddings, the list of models and a probe through Cohere's API v2.
//!
//! One request for a chat, one for each 96 embedding inputs, up to ten for the list of models. A
//! chat is written from borrowed parts ([`request`], [`messages`], [`tools`]) and its answer read
//! piece by piece ([`answer`], [`usage`]), so that memory and CPU grow with the number of pieces,
//! not with the length of a conversation. Prompts are never read.

mod answer;
mod catalog;
mod descriptor;
mod embed;
mod error;
mod logprobs;
mod messages;
mod models;
mod request;
mod settings;
#[cfg(test)]
mod tests;
mod tools;
mod usage;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, RateLimit, ResponseHead,
    export_adapter,
};

use crate::{answer::Answer, catalog::Catalog, embed::Batches, settings::Settings};

export_adapter!(Cohere);

pub struct Cohere {
    task: Task,
    /// The vendor's id of the request under way, for failures.
    trace: Option<String>,
}

enum Task {
    Stream(Answer),
    Whole(Answer),
    Embed(Box<Batches>),
    Models(Catalog),
    Probe(Catalog),
}

impl Adapter for Cohere {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let task = match operation {
            Operation::Chat(chat) => {
                let request = request::chat(&chat, &settings, out)?;
                out.send(request);
                let answer = Answer::new(chat.sampling.stop);
                if chat.stream { Task::Stream(answer) } else { Task::Whole(answer) }
            }
            Operation::Embed(embed) => {
                let mut batches = Batches::new(embed, &settings, out)?;
                batches.send_next(out)?;
                Task::Embed(Box::new(batches))
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
        Ok(Self { task, trace: None })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        self.trace = head.header("x-debug-trace-id").map(str::to_owned);
        for (scope, names) in RATE_LIMITS {
            if let Some(limit) = RateLimit::from_headers(head, scope, names, |_| None) {
                out.rate_limit(limit);
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        let result = match &mut self.task {
            Task::Stream(answer) => answer.event(&frame.name, &frame.data, out),
            Task::Whole(answer) => answer.whole(&frame.data, out),
            Task::Embed(batches) => batches.answer(&frame.data, out),
            Task::Models(catalog) => catalog.page(&frame.data, out),
            // Read as well, so that a web page that answers 200 is found out.
            Task::Probe(catalog) => catalog.page(&frame.data, &mut Output::default()),
        };
        result.map_err(|failure| self.traced(failure))
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        let result = match &mut self.task {
            _ if !head.is_success() => Err(error::in_body(head.status, body)),
            // Servers between may not stream.
            Task::Stream(answer) | Task::Whole(answer) => answer.whole(body, out),
            Task::Embed(_) => Err(Failure::malformed("The vendor's embeddings aren't JSON.")),
            Task::Models(_) | Task::Probe(_) => {
                Err(Failure::malformed("The vendor's list of models isn't JSON."))
            }
        };
        result.map_err(|failure| self.traced(failure))
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        let next = match &mut self.task {
            Task::Stream(answer) | Task::Whole(answer) => answer.end().map(|()| false),
            Task::Embed(batches) => batches.send_next(out),
            Task::Models(catalog) => catalog.end().map(|next| match next {
                Some(request) => {
                    out.send(request);
                    true
                }
                None => false,
            }),
            Task::Probe(catalog) => catalog.end().map(|_| false),
        };
        if !next.map_err(|failure| self.traced(failure))? {
            out.done();
        }
        Ok(())
    }
}

impl Cohere {
    fn traced(&self, mut failure: Failure) -> Failure {
        if let Some(trace) = &self.trace {
            failure.request_id = Some(trace.clone());
        }
        failure
    }
}

/// The contract's scope, and the headers for limit, remaining and reset. Only trial keys have them.
const RATE_LIMITS: [(&str, [&str; 3]); 2] = [
    ("requests", ["x-trial-endpoint-call-limit", "x-trial-endpoint-call-remaining", ""]),
    ("requests-per-month", ["x-endpoint-monthly-call-limit", "", ""]),
];
