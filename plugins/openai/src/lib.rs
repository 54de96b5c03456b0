//! OpenAI for Keyward: Chat Completions, embeddings and the model list.
//!
//! The wire shape is shared with every vendor that copied it and lives in the SDK. What is here is
//! OpenAI's own: the descriptor, and the headers that name an organization and a project.

mod models;

use keyward_sdk::{
    Adapter, Chat, Context, Descriptor, Failure, Frame, Message, Operation, Output, ResponseHead,
    describe,
    descriptor::{AuthScheme, ProviderKind, SettingType},
    export_adapter,
    openai_wire::{self, Decoder, Profile},
};
use serde::Deserialize;

pub struct OpenAi {
    decoder: Decoder,
}

#[derive(Deserialize)]
struct Settings {
    organization: Option<String>,
    project: Option<String>,
}

impl Adapter for OpenAi {
    fn describe() -> Descriptor {
        Descriptor {
            name: "openai".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: "OpenAI".to_owned(),
            summary: "GPT models by Chat Completions, and embeddings.".to_owned(),
            kind: ProviderKind::External,
            documents: vec![
                describe::document(
                    "Chat Completions API reference",
                    "https://platform.openai.com/docs/api-reference/chat",
                    "v1, read 2026-11-22",
                ),
                describe::document(
                    "Error codes",
                    "https://developers.openai.com/docs/guides/error-codes",
                    "read 2026-11-22",
                ),
            ],
            origins: vec![describe::api("https://api.openai.com/v1")],
            auth: vec![describe::api_key(AuthScheme::Bearer)],
            credentials: vec![describe::api_key_credential(
                "Create one at https://platform.openai.com/api-keys.",
                "OPENAI_API_KEY",
            )],
            request_headers: describe::strings(&["openai-organization", "openai-project"]),
            response_headers: describe::strings(&[
                "x-request-id",
                "x-ratelimit-*",
                "openai-processing-ms",
            ]),
            settings: vec![
                describe::setting(
                    "organization",
                    SettingType::String,
                    "Organization",
                    "The id of the organization to bill (org-...), for keys that belong to several.",
                ),
                describe::setting(
                    "project",
                    SettingType::String,
                    "Project",
                    "The id of the project to bill (proj_...).",
                ),
            ],
            models: models::known(),
            operations: describe::ALL_OPERATIONS.to_vec(),
            grants: Vec::new(),
        }
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        if let Operation::Chat(chat) = &operation {
            warn_of_losses(chat, out);
        }
        let (mut request, decoder) = openai_wire::start(&operation, &Profile::OPENAI, out)?;
        for (name, value) in
            [("openai-organization", settings.organization), ("openai-project", settings.project)]
        {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request = request.header(name, value);
            }
        }
        out.send(request);
        Ok(Self { decoder })
    }

    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        openai_wire::rate_limits(head, out);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        self.decoder.frame(&frame, out)
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        self.decoder.body(head, body, out)
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.decoder.end(out)
    }
}

/// Warns of what the wire shape has no place for and leaves out without a word.
fn warn_of_losses(chat: &Chat, out: &mut Output) {
    if chat.tools.iter().any(|tool| tool.cache.is_some()) {
        out.dropped("tools.cache", "OpenAI caches prompts by itself.");
    }
    if chat.dialect != openai_wire::DIALECT && chat.tools.iter().any(|tool| !tool.extra.is_empty())
    {
        out.dropped("tools.extra", "OpenAI doesn't speak the caller's dialect.");
    }
    let failed = |message: &Message| message.answers.as_ref().is_some_and(|it| it.is_error);
    if chat.messages.iter().any(failed) {
        let message = "OpenAI's models see a failed tool's text only.";
        out.dropped("messages.answers.is-error", message);
    }
}

export_adapter!(OpenAi);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<OpenAi>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<OpenAi>();
    }
}
