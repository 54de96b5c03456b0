//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{ALL_OPERATIONS, api, api_key, api_key_credential, document, setting, strings},
    descriptor::{AuthScheme, Credential, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::settings::{Levels, LongPrompts};

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "ollama".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Ollama".to_owned(),
        summary: "Models that run on your own machine, through Ollama's API.".to_owned(),
        kind: ProviderKind::Local,
        documents: vec![
            document("Chat", "https://docs.ollama.com/api/chat", "read 2026-11"),
            document("API description", "https://docs.ollama.com/openapi.yaml", "read 2026-11"),
            document("Embeddings", "https://docs.ollama.com/api/embed", "read 2026-11"),
            document("List models", "https://docs.ollama.com/api/tags", "read 2026-11"),
            document("Errors", "https://docs.ollama.com/api/errors", "read 2026-11"),
            document("Thinking", "https://docs.ollama.com/capabilities/thinking", "read 2026-11"),
        ],
        origins: vec![api("http://127.0.0.1:11434")],
        auth: vec![api_key(AuthScheme::Bearer)],
        credentials: vec![Credential {
            required: false,
            ..api_key_credential(
                "Not needed for an Ollama of your own. For one behind a proxy that asks for a \
                 token, or for ollama.com (keys at https://ollama.com/settings/keys).",
                "OLLAMA_API_KEY",
            )
        }],
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        settings: settings(),
        // What is installed differs from machine to machine; the list of models tells.
        models: Vec::new(),
        operations: ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    vec![
        setting(
            "num_ctx",
            SettingType::Integer,
            "Context length",
            "Tokens of prompt and answer together that a model is loaded with. Without it Ollama \
             decides.",
        ),
        Setting {
            default: Some(json!("refuse")),
            ..setting(
                LongPrompts::NAME,
                SettingType::Choice(strings(&["refuse", "cut"])),
                "Prompts that don't fit",
                "Whether a prompt longer than the context is an error, or loses what is in its \
                 front without a word, as is Ollama's default.",
            )
        },
        setting(
            "keep_alive",
            SettingType::String,
            "Keep loaded",
            "How long a model stays in memory after a request: \"10m\", \"24h\", 0 for not at \
             all, -1 for always. Ollama's default is five minutes.",
        ),
        Setting {
            default: Some(json!("auto")),
            ..setting(
                Levels::NAME,
                SettingType::Choice(strings(&["auto", "always", "never"])),
                "Thinking levels",
                "Whether models take a level of thinking (\"low\") or only on and off. \"auto\" \
                 gives levels to gpt-oss models.",
            )
        },
    ]
}
