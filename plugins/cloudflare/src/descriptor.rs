//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, setting, strings},
    descriptor::{AuthScheme, ProviderKind, Setting, SettingType},
};
use serde_json::json;

const READ: &str = "read 2026-11-22";

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "cloudflare".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Cloudflare Workers AI".to_owned(),
        summary: "Open models on Cloudflare's network.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document(
                "OpenAI compatible endpoints",
                "https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/",
                READ,
            ),
            document(
                "REST API, run a model",
                "https://developers.cloudflare.com/api/resources/ai/methods/run/",
                READ,
            ),
            document(
                "JSON Mode",
                "https://developers.cloudflare.com/workers-ai/features/json-mode/",
                READ,
            ),
            document(
                "Errors",
                "https://developers.cloudflare.com/workers-ai/platform/errors/",
                READ,
            ),
            document(
                "Pricing",
                "https://developers.cloudflare.com/workers-ai/platform/pricing/",
                READ,
            ),
        ],
        origins: vec![describe::api("https://api.cloudflare.com/client/v4")],
        auth: vec![describe::api_key(AuthScheme::Bearer)],
        credentials: vec![describe::api_key_credential(
            "An API token with the permission Workers AI, from \
             https://dash.cloudflare.com/profile/api-tokens.",
            "CLOUDFLARE_API_TOKEN",
        )],
        request_headers: Vec::new(),
        response_headers: strings(&["cf-ray", "cf-ai-req-id", "cf-ai-neurons"]),
        settings: vec![
            Setting {
                required: true,
                ..setting(
                    "account_id",
                    SettingType::String,
                    "Account ID",
                    "32 letters and digits, under Workers & Pages in Cloudflare's dashboard.",
                )
            },
            Setting {
                default: Some(json!("openai")),
                ..setting(
                    "api",
                    SettingType::Choice(strings(&["openai", "native"])),
                    "Endpoint",
                    "The OpenAI-compatible endpoint (/ai/v1), or the native one (/ai/run).",
                )
            },
        ],
        models: describe::models(include_str!("../models.json")),
        operations: describe::ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}
