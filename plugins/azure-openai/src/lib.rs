//! Azure OpenAI for Keyward: the models of OpenAI in a resource of the operator's own.
//!
//! The wire shape is OpenAI's and lives in the SDK. What is here is Azure's: a model is reached by
//! the name of its deployment, the path depends on the version of the API, and content filters
//! have their say in answers and errors.

mod descriptor;
mod error;
mod settings;

use keyward_sdk::{
    Adapter, Context, Descriptor, Failure, Frame, Model, Operation, Output, ResponseHead,
    export_adapter,
    openai_wire::{self, Decoder},
};

use crate::settings::Settings;

export_adapter!(AzureOpenAi);

pub struct AzureOpenAi {
    decoder: Decoder,
    now_ms: u64,
}

impl Adapter for AzureOpenAi {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(
        mut operation: Operation,
        context: Context,
        out: &mut Output,
    ) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        let deployments = settings.deployments()?;
        let (model, below) = match &mut operation {
            Operation::Chat(chat) => (Some(&mut chat.model), "/chat/completions"),
            Operation::Embed(embed) => (Some(&mut embed.model), "/embeddings"),
            _ => (None, "/models"),
        };
        let path = settings.path(model, &deployments, below);
        if matches!(operation, Operation::ListModels) && !deployments.is_empty() {
            // Azure lists the models it has, not what was deployed; the operator said that.
            deployments.iter().for_each(|(name, _)| out.model(Model::new(*name)));
            out.done();
            return Ok(Self { decoder: Decoder::models(), now_ms: context.now_ms });
        }
        let (mut request, decoder) = openai_wire::start(&operation, &settings.profile(), out)?;
        request.path = path;
        out.send(request);
        Ok(Self { decoder, now_ms: context.now_ms })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        openai_wire::all_rate_limits(head, self.now_ms, out);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        self.decoder
            .frame(&frame, out)
            .map_err(|failure| error::explained(failure, None, &frame.data))
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        self.decoder
            .body(head, body, out)
            .map_err(|failure| error::explained(failure, Some(head), body))
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
        keyward_sdk::replay::check_all::<AzureOpenAi>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<AzureOpenAi>();
    }
}
