//! LightLLM for Keyward, through its OpenAI-compatible endpoint or its own `/generate`.
//!
//! The first takes and gives OpenAI's shape, which lives in the SDK. The other takes one prompt:
//! the adapter writes it by a [`template`](prompt::Template), and there are no tools. Either server
//! has one model, and says whether it is well under `/health`.

mod descriptor;
mod generate;
mod prompt;

use keyward_sdk::{
    Adapter, Chat, Context, Descriptor, Failure, FailureKind, Frame, MediaKind, Model, Operation,
    Output, PartBody, ResponseHead, VendorRequest, export_adapter,
    json::{self, Str},
    openai_wire::{
        self, Decoder, Earlier, LogProbabilities, Profile, ReasoningForm, StructuredOutput,
    },
};
use serde::Deserialize;

use crate::{generate::Generate, prompt::Template};

export_adapter!(LightLlm);

pub struct LightLlm(Reader);

enum Reader {
    Wire(Decoder),
    Generate(Generate),
    Models(Decoder),
    /// An older version, which tells its model's name only. The question is yet to be sent.
    OldModels,
    ModelName,
    Health,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    api: Api,
    template: Template,
    output_constraints: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Api {
    #[default]
    OpenAi,
    Generate,
}

/// What the OpenAI-compatible endpoint takes.
fn profile(settings: &Settings) -> Profile {
    Profile {
        names: false,
        top_k: true,
        logprobs: LogProbabilities::Unknown,
        strict: false,
        structured: match settings.output_constraints {
            true => StructuredOutput::Schema,
            false => StructuredOutput::Nothing,
        },
        reasoning: ReasoningForm::Unknown,
        earlier: Earlier::Member { name: "reasoning_content", beside_calls: false },
        ..Profile::COMPATIBLE
    }
}

impl Adapter for LightLlm {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(
        mut operation: Operation,
        context: Context,
        out: &mut Output,
    ) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        if let Operation::Chat(chat) = &mut operation {
            check_media(chat, out)?;
        }
        let (request, reader) = match (&operation, &settings.api) {
            (Operation::Probe, _) => (VendorRequest::get("/health"), Reader::Health),
            (Operation::ListModels, _) => {
                (VendorRequest::get("/v1/models"), Reader::Models(Decoder::models()))
            }
            (Operation::Chat(chat), Api::Generate) => {
                let (request, reader) =
                    generate::start(chat, settings.template, &profile(&settings), out)?;
                (request, Reader::Generate(reader))
            }
            (Operation::Chat(_), Api::OpenAi) => {
                let (mut request, decoder) =
                    openai_wire::start(&operation, &profile(&settings), out)?;
                request.path.insert_str(0, "/v1");
                (request, Reader::Wire(decoder))
            }
            _ => return Err(Failure::unsupported("LightLLM chats, and nothing else.")),
        };
        out.send(request);
        Ok(Self(reader))
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match &mut self.0 {
            Reader::Wire(decoder) | Reader::Models(decoder) => decoder.frame(&frame, out),
            Reader::Generate(generate) => generate.frame(&frame.data, out),
            Reader::ModelName => {
                #[derive(Deserialize)]
                struct Named<'a> {
                    #[serde(borrow)]
                    model_name: Str<'a>,
                }
                out.model(Model::new(json::parse::<Named<'_>>(&frame.data)?.model_name.0));
                Ok(())
            }
            Reader::Health => {
                #[derive(Deserialize)]
                struct Health<'a> {
                    #[serde(borrow, rename = "message")]
                    _message: Str<'a>,
                }
                json::parse::<Health<'_>>(&frame.data).map(|_| ())
            }
            Reader::OldModels => Ok(()),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        match (&self.0, head.status) {
            // `/generate` answers without saying that it is JSON.
            (_, 200..300) => {
                return self.frame(Frame { name: String::new(), data: body.to_owned() }, out);
            }
            (Reader::Models(_), 404) => {
                self.0 = Reader::OldModels;
                return Ok(());
            }
            (Reader::Health, 503) => {
                let message = "LightLLM says that it isn't well: its model doesn't answer.";
                return Err(Failure::of(FailureKind::Unavailable, message));
            }
            _ => {}
        }
        Err(openai_wire::failure(head.status, body))
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.0 {
            Reader::Wire(decoder) | Reader::Models(decoder) => decoder.end(out),
            Reader::Generate(generate) => generate.end(out),
            Reader::ModelName | Reader::Health => {
                out.done();
                Ok(())
            }
            Reader::OldModels => {
                self.0 = Reader::ModelName;
                out.send(VendorRequest::get("/get_model_name"));
                Ok(())
            }
        }
    }
}

/// LightLLM passes over what it doesn't know, so it must be found here.
fn check_media(chat: &mut Chat, out: &mut Output) -> Result<(), Failure> {
    let mut detailed = false;
    for part in chat.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let PartBody::Media(media) = &mut part.body {
            if media.kind != MediaKind::Image {
                return Err(Failure::unsupported("LightLLM is sent texts and images only."));
            }
            detailed |= media.detail.take().is_some();
        }
    }
    if detailed {
        out.dropped("messages.media.detail", "LightLLM sees images in one size.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<LightLlm>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<LightLlm>();
    }
}
