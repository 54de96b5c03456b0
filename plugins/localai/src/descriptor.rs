//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, strings},
    descriptor::{AuthScheme, Credential, ProviderKind},
};

const READ: &str = "read 2026-11-22";

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "localai".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "LocalAI".to_owned(),
        summary: "Models on a machine of your own, served by LocalAI.".to_owned(),
        kind: ProviderKind::Local,
        documents: vec![
            document("API Error Reference", "https://localai.io/docs/api/api-errors/", READ),
            document(
                "Runtime errors and troubleshooting",
                "https://localai.io/docs/reference/runtime-errors/",
                READ,
            ),
            document("GPT Vision", "https://localai.io/docs/features/gpt-vision/", READ),
            document(
                "What is read of a request",
                "https://github.com/mudler/LocalAI/blob/master/core/http/middleware/request.go",
                READ,
            ),
            document(
                "Requests, answers and lists of models",
                "https://github.com/mudler/LocalAI/tree/master/core/schema",
                READ,
            ),
        ],
        origins: vec![describe::api("http://127.0.0.1:8080")],
        auth: vec![describe::api_key(AuthScheme::Bearer)],
        credentials: vec![Credential {
            required: false,
            ..describe::api_key_credential(
                "One of the keys LocalAI was started with. Leave it out if it asks for none.",
                "LOCALAI_API_KEY",
            )
        }],
        request_headers: Vec::new(),
        response_headers: strings(&["x-correlation-id"]),
        settings: Vec::new(),
        // They are what was installed; the list of models tells.
        models: Vec::new(),
        operations: describe::ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}
