//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{ALL_OPERATIONS, api, api_key, document, models, setting, strings},
    descriptor::{AuthScheme, Credential, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::settings::{CATEGORIES, Category, THRESHOLDS};

pub fn descriptor() -> Descriptor {
    let read = "v1beta, read 2026-11-22";
    Descriptor {
        name: "gemini".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Google Gemini".to_owned(),
        summary: "Gemini models through the Gemini API, and embeddings.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document("Generating content", "https://ai.google.dev/api/generate-content", read),
            document("Embeddings", "https://ai.google.dev/api/embeddings", read),
            document("Models", "https://ai.google.dev/api/models", read),
            document("Thinking", "https://ai.google.dev/gemini-api/docs/thinking", read),
            document(
                "Thought signatures",
                "https://ai.google.dev/gemini-api/docs/thought-signatures",
                read,
            ),
            document(
                "Function calling",
                "https://ai.google.dev/gemini-api/docs/function-calling",
                read,
            ),
            document(
                "Structured outputs",
                "https://ai.google.dev/gemini-api/docs/structured-output",
                read,
            ),
            document(
                "Safety settings",
                "https://ai.google.dev/gemini-api/docs/safety-settings",
                read,
            ),
            document(
                "Troubleshooting and error codes",
                "https://ai.google.dev/gemini-api/docs/troubleshooting",
                read,
            ),
        ],
        origins: vec![api("https://generativelanguage.googleapis.com/v1beta")],
        // The vendor also takes the key in the URL, where logs and proxies see it.
        auth: vec![api_key(AuthScheme::Header { name: "x-goog-api-key".to_owned() })],
        credentials: vec![Credential {
            name: "api_key".to_owned(),
            label: "API key".to_owned(),
            help: "Create one at https://aistudio.google.com/apikey.".to_owned(),
            required: true,
            environment: strings(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
        }],
        request_headers: Vec::new(),
        response_headers: strings(&["x-request-id"]),
        settings: settings(),
        models: models(include_str!("../models.json")),
        operations: ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    let threshold = |name: &str, label: &str, help: &str| Setting {
        default: Some(json!(THRESHOLDS[0])),
        ..setting(name, SettingType::Choice(strings(&THRESHOLDS)), label, help)
    };
    let mut settings = vec![threshold(
        "safety",
        "Safety threshold",
        "From which probability of harm on Gemini blocks, in every category without a threshold \
         of its own. \"default\" leaves it to Gemini.",
    )];
    for (name, category) in CATEGORIES {
        let of = match category {
            Category::Harassment => "harassment",
            Category::HateSpeech => "hate speech",
            Category::SexuallyExplicit => "sexually explicit content",
            Category::DangerousContent => "dangerous content",
        };
        settings.push(threshold(
            name,
            &format!("Safety threshold: {of}"),
            "Takes precedence over the general threshold.",
        ));
    }
    settings
}
