//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, setting, strings},
    descriptor::{AuthScheme, Credential, OperationKind, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::prompt::Template;

const READ: &str = "read 2026-11-22";

pub fn descriptor() -> Descriptor {
    let page = |title: &str, name: &str| {
        let url = format!("https://lightllm-en.readthedocs.io/en/latest/tutorial/{name}.html");
        document(title, &url, READ)
    };
    Descriptor {
        name: "lightllm".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "LightLLM".to_owned(),
        summary: "A model on machines of your own, served by LightLLM.".to_owned(),
        kind: ProviderKind::Local,
        documents: vec![
            page("API Call Details", "api_param"),
            page("OpenAI API Usage Examples", "openai"),
            page("Multimodal Request Guide", "multimodal_request"),
            page("Function Calling", "function_calling"),
            document(
                "Llama 3, prompt format",
                "https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/",
                READ,
            ),
        ],
        origins: vec![describe::api("http://127.0.0.1:8080")],
        auth: vec![describe::api_key(AuthScheme::Bearer)],
        credentials: vec![Credential {
            name: "api_key".to_owned(),
            label: "API key".to_owned(),
            help: "LightLLM has no keys of its own: the one of a proxy before it, if there is one."
                .to_owned(),
            required: false,
            environment: Vec::new(),
        }],
        request_headers: Vec::new(),
        response_headers: strings(&["x-request-id"]),
        settings: vec![
            Setting {
                default: Some(json!("openai")),
                ..setting(
                    "api",
                    SettingType::Choice(strings(&["openai", "generate"])),
                    "Endpoint",
                    "The OpenAI-compatible endpoint, or LightLLM's own /generate, which has no \
                     tools.",
                )
            },
            Setting {
                default: Some(json!("chatml")),
                ..setting(
                    "template",
                    SettingType::Choice(strings(&Template::NAMES)),
                    "Prompt template",
                    "How a conversation is written for /generate: as the model was taught it. \
                     \"plain\" writes texts and nothing else.",
                )
            },
            Setting {
                default: Some(json!(false)),
                ..setting(
                    "output_constraints",
                    SettingType::Boolean,
                    "Output constraints",
                    "Whether the server was started with --output_constraint_mode, so that it \
                     holds answers to JSON and schemas. The model is told of them otherwise.",
                )
            },
        ],
        // The one it was started with; the list of models tells.
        models: Vec::new(),
        operations: vec![OperationKind::Chat, OperationKind::ListModels, OperationKind::Probe],
        grants: Vec::new(),
    }
}
