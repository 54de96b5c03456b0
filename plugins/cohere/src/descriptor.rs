//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{ALL_OPERATIONS, api, api_key, document, models, setting, strings},
    descriptor::{AuthScheme, Credential, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::settings::{CITATIONS, DEFAULT_PURPOSE, SAFETY_MODES, TRUNCATE};

pub fn descriptor() -> Descriptor {
    let read = "v2, read 2026-11-22";
    Descriptor {
        name: "cohere".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Cohere".to_owned(),
        summary: "Command models through Cohere's API v2, and embeddings.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document("Chat API (v2)", "https://docs.cohere.com/reference/chat", read),
            document("Streaming", "https://docs.cohere.com/v2/docs/streaming", "read 2026-11-22"),
            document(
                "Streaming for tool use",
                "https://docs.cohere.com/v2/docs/tool-use-streaming",
                "read 2026-11-22",
            ),
            document(
                "Structured outputs",
                "https://docs.cohere.com/v2/docs/structured-outputs",
                "read 2026-11-22",
            ),
            document("Embed API (v2)", "https://docs.cohere.com/reference/embed", read),
            document(
                "List models",
                "https://docs.cohere.com/reference/list-models",
                "v1, read 2026-11-22",
            ),
            document("Errors", "https://docs.cohere.com/v2/reference/errors", "read 2026-11-22"),
        ],
        origins: vec![api("https://api.cohere.com")],
        auth: vec![api_key(AuthScheme::Bearer)],
        credentials: vec![Credential {
            name: "api_key".to_owned(),
            label: "API key".to_owned(),
            help: "Create one at https://dashboard.cohere.com/api-keys. Trial keys are limited to \
                   some requests a minute and a thousand a month."
                .to_owned(),
            required: true,
            environment: strings(&["CO_API_KEY", "COHERE_API_KEY"]),
        }],
        request_headers: Vec::new(),
        response_headers: strings(&[
            "x-debug-trace-id",
            "x-trial-endpoint-call-*",
            "x-endpoint-monthly-call-limit",
        ]),
        settings: settings(),
        models: models(include_str!("../models.json")),
        operations: ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    let choice = |name: &str, choices: &[&str], label: &str, help: &str| Setting {
        default: Some(json!(choices[0])),
        ..setting(name, SettingType::Choice(strings(choices)), label, help)
    };
    vec![
        choice(
            "safety_mode",
            &SAFETY_MODES,
            "Safety mode",
            "The safety instruction Cohere puts before the prompt. Cohere takes none together \
             with tools, and newer models can't do without.",
        ),
        choice(
            "citations",
            &CITATIONS,
            "Citations",
            "How citations of tool results are made: fast, accurate, or not at all.",
        ),
        Setting {
            default: Some(json!(DEFAULT_PURPOSE)),
            ..setting(
                "embed_purpose",
                SettingType::Choice(strings(&[
                    "document",
                    "query",
                    "classification",
                    "clustering",
                ])),
                "Purpose of embeddings",
                "Used where a caller doesn't say what embeddings are for: Cohere requires it.",
            )
        },
        choice(
            "embed_truncate",
            &TRUNCATE,
            "Cut long embedding inputs",
            "Where an input that is too long is cut. \"none\" makes it an error.",
        ),
    ]
}
