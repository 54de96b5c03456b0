//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, setting, strings},
    descriptor::{AuthScheme, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::{api::Api, responses::Summary};

pub fn descriptor() -> Descriptor {
    let read = "read 2026-11-22";
    Descriptor {
        name: "openai".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "OpenAI".to_owned(),
        summary: "GPT models by Responses or Chat Completions, and embeddings.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document(
                "Chat Completions API reference",
                "https://platform.openai.com/docs/api-reference/chat",
                "v1, read 2026-11-22",
            ),
            document(
                "Responses API reference",
                "https://developers.openai.com/api/reference/resources/responses",
                "v1, read 2026-11-22",
            ),
            document(
                "Streaming events of the Responses API",
                "https://developers.openai.com/api/reference/resources/responses/streaming-events",
                read,
            ),
            document(
                "Migrate to the Responses API",
                "https://developers.openai.com/api/docs/guides/migrate-to-responses",
                read,
            ),
            document(
                "Prompt caching",
                "https://developers.openai.com/api/docs/guides/prompt-caching",
                read,
            ),
            document("Error codes", "https://developers.openai.com/docs/guides/error-codes", read),
        ],
        origins: vec![describe::api("https://api.openai.com/v1")],
        auth: vec![describe::api_key(AuthScheme::Bearer)],
        credentials: vec![describe::api_key_credential(
            "Create one at https://platform.openai.com/api-keys.",
            "OPENAI_API_KEY",
        )],
        request_headers: strings(&["openai-organization", "openai-project"]),
        response_headers: strings(&["x-request-id", "x-ratelimit-*", "openai-processing-ms"]),
        settings: settings(),
        models: describe::models(include_str!("../models.json")),
        operations: describe::ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    vec![
        Setting {
            default: Some(json!(Api::VALUES[0])),
            ..setting(
                Api::NAME,
                SettingType::Choice(strings(&Api::VALUES)),
                "API",
                "The API that chats go through. OpenAI recommends Responses for new projects; \
                 Chat Completions alone has several choices, seeds, stop sequences and audio. \
                 \"auto\" takes Responses for callers that speak it, for models that have nothing \
                 else, and for tools with an effort on GPT-5.4 and newer, which Chat Completions \
                 refuses.",
            )
        },
        Setting {
            default: Some(json!(Summary::VALUES[0])),
            ..setting(
                Summary::NAME,
                SettingType::Choice(strings(&Summary::VALUES)),
                "Show thinking",
                "The summary of the model's reasoning that Responses are asked for. Some models \
                 give one to verified organizations only, and refuse the request of others.",
            )
        },
        setting(
            "organization",
            SettingType::String,
            "Organization",
            "The id of the organization to bill (org-...), for keys that belong to several.",
        ),
        setting(
            "project",
            SettingType::String,
            "Project",
            "The id of the project to bill (proj_...).",
        ),
    ]
}
