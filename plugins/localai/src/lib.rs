//! LocalAI for Keyward: a server for many kinds of models on one's own machine.
//!
//! It speaks OpenAI's shape, which lives in the SDK. Its own are a list that says what each model
//! can do, and that it answers while its first models are still being loaded: a probe asks whether
//! it is ready, then whether the key is good.

mod descriptor;

use keyward_sdk::{
    Adapter, Chat, Context, Descriptor, Failure, FailureKind, Frame, Framing, MediaKind, Operation,
    Output, PartBody, ResponseHead, VendorRequest, export_adapter,
    openai_wire::{self, Decoder, Earlier, EmbeddingFormat, Profile},
};

export_adapter!(LocalAi);

const PROFILE: Profile = Profile {
    top_k: true,
    // A model's configuration says it, not the request.
    parallel_tool_calls: false,
    earlier: Earlier::Member { name: "reasoning", beside_calls: false },
    video: true,
    embeddings: EmbeddingFormat::Base64,
    dimensions: None,
    ..Profile::COMPATIBLE
};

const MODELS: &str = "/v1/models";

pub struct LocalAi {
    decoder: Decoder,
    asked: Asked,
}

#[derive(PartialEq)]
enum Asked {
    /// Whether the models are loaded. The list of models is next.
    Readiness,
    /// What the models can do.
    Abilities,
    /// The same from a version that doesn't know the question. Their plain list is next.
    OldVersion,
    Rest,
}

impl Adapter for LocalAi {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(mut operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
        if let Operation::Chat(chat) = &mut operation {
            check_media(chat, out)?;
        }
        let (mut request, decoder) = openai_wire::start(&operation, &PROFILE, out)?;
        let asked = match operation {
            Operation::Probe => {
                request = VendorRequest::get("/readyz").framed(Framing::Text);
                Asked::Readiness
            }
            Operation::ListModels => {
                request.path = format!("{MODELS}/capabilities");
                Asked::Abilities
            }
            _ => {
                request.path.insert_str(0, "/v1");
                Asked::Rest
            }
        };
        out.send(request);
        Ok(Self { decoder, asked })
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        match self.asked {
            Asked::Readiness => Ok(()),
            _ => self.decoder.frame(&frame, out),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        match (&self.asked, head.status) {
            (Asked::Readiness, 200..300) => return Ok(()),
            (Asked::Readiness, 503) => {
                let message = "LocalAI is still loading the models it starts with.";
                return Err(Failure::of(FailureKind::Overloaded, message));
            }
            (Asked::Abilities, 404) => {
                self.asked = Asked::OldVersion;
                return Ok(());
            }
            _ => {}
        }
        self.decoder.body(head, body, out).map_err(|mut failure| {
            failure.request_id = head.header("x-correlation-id").map(str::to_owned);
            failure
        })
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        if matches!(self.asked, Asked::Readiness | Asked::OldVersion) {
            self.asked = Asked::Rest;
            out.send(VendorRequest::get(MODELS));
            return Ok(());
        }
        self.decoder.end(out)
    }
}

/// LocalAI passes over parts it doesn't know, so they must be found here.
fn check_media(chat: &mut Chat, out: &mut Output) -> Result<(), Failure> {
    let mut detailed = false;
    for part in chat.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let PartBody::Media(media) = &mut part.body {
            if media.kind == MediaKind::File {
                return Err(Failure::unsupported("LocalAI takes images, audio and videos only."));
            }
            detailed |= media.detail.take().is_some();
        }
    }
    if detailed {
        out.dropped("messages.media.detail", "LocalAI sees images in one size.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<LocalAi>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<LocalAi>();
    }
}
