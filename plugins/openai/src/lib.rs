//! OpenAI for Keyward: chats through Responses or Chat Completions, embeddings and the model list.
//!
//! The wire shape of Chat Completions is shared with every vendor that copied it and lives in the
//! SDK. What is here is OpenAI's own: the descriptor, the Responses API ([`responses`]), the choice
//! between the two ([`api`]), and the headers that name an organization and a project.

mod api;
mod descriptor;
mod models;
mod responses;
#[cfg(test)]
mod tests;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, ResponseHead, VendorRequest,
    export_adapter,
    openai_wire::{self, Decoder, Profile},
};
use serde::Deserialize;

use crate::{api::Api, responses::Summary};

pub struct OpenAi {
    answer: Answer,
}

/// What reads the answer.
enum Answer {
    Wire(Decoder),
    Responses(responses::Answer),
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    api: Api,
    #[serde(default)]
    reasoning_summary: Summary,
    organization: Option<String>,
    project: Option<String>,
}

impl Adapter for OpenAi {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let (mut request, answer) = begin(&operation, &settings, out)?;
        for (name, value) in
            [("openai-organization", settings.organization), ("openai-project", settings.project)]
        {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request = request.header(name, value);
            }
        }
        out.send(request);
        Ok(Self { answer })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        openai_wire::rate_limits(head, out);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match &mut self.answer {
            Answer::Wire(decoder) => decoder.frame(&frame, out),
            Answer::Responses(answer) => answer.frame(&frame, out),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        match &mut self.answer {
            Answer::Wire(decoder) => decoder.body(head, body, out),
            Answer::Responses(answer) => answer.body(head, body, out),
        }
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.answer {
            Answer::Wire(decoder) => decoder.end(out),
            Answer::Responses(answer) => answer.end(out),
        }
    }
}

fn begin(
    operation: &Operation,
    settings: &Settings,
    out: &mut Output,
) -> Result<(VendorRequest, Answer), Failure> {
    if let Operation::Chat(chat) = operation {
        if settings.api.is_responses(chat) {
            let request = responses::chat(chat, settings.reasoning_summary, out)?;
            let answer = responses::Answer::new(chat.dialect == responses::DIALECT);
            return Ok((request, Answer::Responses(answer)));
        }
    }
    let (request, decoder) = openai_wire::start(operation, &Profile::OPENAI, out)?;
    Ok((request, Answer::Wire(decoder)))
}

export_adapter!(OpenAi);
