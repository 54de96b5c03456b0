//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, setting, strings},
    descriptor::{AuthScheme, Origin, ProviderKind, SettingType},
};

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "azure-openai".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Azure OpenAI".to_owned(),
        summary: "Models of OpenAI deployed in an Azure resource of your own.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document(
                "Azure OpenAI REST API reference",
                "https://learn.microsoft.com/azure/ai-services/openai/reference",
                "2024-10-21, read 2026-11-22",
            ),
            document(
                "API version lifecycle",
                "https://learn.microsoft.com/azure/ai-services/openai/api-version-lifecycle",
                "v1, read 2026-11-22",
            ),
            document(
                "Content filtering",
                "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter",
                "read 2026-11-22",
            ),
            document(
                "Models, List",
                "https://learn.microsoft.com/rest/api/azureopenai/models/list",
                "2024-10-21, read 2026-11-22",
            ),
        ],
        origins: vec![Origin { name: "api".to_owned(), base_url: None }],
        auth: vec![describe::api_key(AuthScheme::Header { name: "api-key".to_owned() })],
        credentials: vec![describe::api_key_credential(
            "Key 1 or key 2 of the resource, under Keys and Endpoint in the Azure portal. The \
             endpoint is what stands there, such as https://my-resource.openai.azure.com, \
             without a path.",
            "AZURE_OPENAI_API_KEY",
        )],
        request_headers: Vec::new(),
        response_headers: strings(&[
            "x-request-id",
            "apim-request-id",
            "x-ratelimit-*",
            "retry-after",
            "retry-after-ms",
        ]),
        settings: vec![
            setting(
                "api_version",
                SettingType::String,
                "API version",
                "A dated version such as 2024-10-21 for the API with the deployment in the path. \
                 Leave it out for the v1 API, or write preview for that one's preview.",
            ),
            setting(
                "deployments",
                SettingType::String,
                "Deployments",
                "What callers call a model, and its deployment: gpt-4o=my-gpt-4o, \
                 embed=my-embeddings. Callers can name a deployment itself without this.",
            ),
            setting(
                "max_tokens_field",
                SettingType::Choice(strings(&["max_completion_tokens", "max_tokens"])),
                "Token limit",
                "The member that limits the answer's tokens. Versions before \
                 2024-09-01-preview know max_tokens only.",
            ),
            setting(
                "stream_usage",
                SettingType::Boolean,
                "Counts in streams",
                "Whether to ask for token counts at the end of a stream, which versions before \
                 2024-09-01-preview can't give. Without counts, costs are estimates.",
            ),
        ],
        // They are what was deployed.
        models: Vec::new(),
        operations: describe::ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}
