//! Any OpenAI-compatible endpoint for Keyward: vLLM, llama.cpp, LM Studio, Groq, Mistral,
//! Together, OpenRouter, DeepSeek and the like, by settings alone.
//!
//! The adapter proposes no base URL: the operator's `endpoint` says where to send, and is the
//! grant. What differs between servers is a [`flavor`](settings::Flavor) to begin with and a
//! setting for each single difference; the wire shape itself lives in the SDK.

mod descriptor;
mod settings;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Operation, Output, ResponseHead, export_adapter,
    openai_wire::{self, Decoder},
};

use crate::settings::Settings;

export_adapter!(OpenAiCompatible);

pub struct OpenAiCompatible {
    decoder: Decoder,
    now_ms: u64,
}

impl Adapter for OpenAiCompatible {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let (mut request, decoder) = openai_wire::start(&operation, &settings.profile(), out)?;
        match operation {
            Operation::ListModels => request.path = settings.models_path()?,
            Operation::Probe => request.path = settings.probe_path()?,
            _ => {}
        }
        for (name, value) in settings.headers() {
            request = request.header(name, value);
        }
        out.send(request);
        Ok(Self { decoder, now_ms: context.now_ms })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        openai_wire::all_rate_limits(head, self.now_ms, out);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        self.decoder.frame(&frame, out)
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        self.decoder.body(head, body, out).map_err(|mut failure| {
            failure.request_id =
                head.request_id().or_else(|| head.header("x-generation-id")).map(str::to_owned);
            failure
        })
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.decoder.end(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<OpenAiCompatible>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<OpenAiCompatible>();
    }
}
