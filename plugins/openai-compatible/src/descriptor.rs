//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{self, document, setting, strings},
    descriptor::{AuthScheme, Credential, Origin, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::settings::Flavor;

const READ: &str = "read 2026-11-22";

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "openai-compatible".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "OpenAI-compatible".to_owned(),
        summary: "Any server that speaks OpenAI's Chat Completions: vLLM, llama.cpp, LM Studio, \
                  Groq, Mistral, Together, OpenRouter, DeepSeek and others."
            .to_owned(),
        // A server on a machine of one's own is made local by `kind: local` at the provider.
        kind: ProviderKind::External,
        documents: vec![
            document(
                "OpenAI, Chat Completions",
                "https://platform.openai.com/docs/api-reference/chat",
                "v1, read 2026-11-22",
            ),
            document(
                "vLLM, OpenAI-compatible server",
                "https://docs.vllm.ai/en/v0.10.2/serving/openai_compatible_server.html",
                "v0.10.2, read 2026-11-22",
            ),
            document(
                "llama.cpp, server",
                "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
                READ,
            ),
            document(
                "LM Studio, OpenAI compatibility",
                "https://lmstudio.ai/docs/developer/openai-compat",
                READ,
            ),
            document("Groq, OpenAI compatibility", "https://console.groq.com/docs/openai", READ),
            document("Mistral, API", "https://docs.mistral.ai/api", READ),
            document(
                "Together, chat completions",
                "https://docs.together.ai/reference/chat-completions-1",
                READ,
            ),
            document(
                "OpenRouter, errors and streaming",
                "https://openrouter.ai/docs/api/reference/errors-and-debugging",
                READ,
            ),
            document(
                "DeepSeek, thinking mode",
                "https://api-docs.deepseek.com/guides/thinking_mode",
                READ,
            ),
            document(
                "DeepSeek, error codes",
                "https://api-docs.deepseek.com/quick_start/error_codes",
                READ,
            ),
        ],
        origins: vec![Origin { name: "api".to_owned(), base_url: None }],
        auth: vec![describe::api_key(AuthScheme::Bearer)],
        credentials: vec![Credential {
            name: "api_key".to_owned(),
            label: "API key".to_owned(),
            help: "The vendor's key, or the one your own server was started with. Leave it out if \
                   the server asks for none."
                .to_owned(),
            required: false,
            environment: Vec::new(),
        }],
        request_headers: strings(&["http-referer", "x-title"]),
        response_headers: strings(&[
            "x-request-id",
            "request-id",
            "x-generation-id",
            "x-ratelimit-*",
            "x-tokenlimit-*",
        ]),
        settings: settings(),
        // They differ from server to server; the list of models tells.
        models: Vec::new(),
        operations: describe::ALL_OPERATIONS.to_vec(),
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    let choice = |name, values: &[&str], label, help| {
        setting(name, SettingType::Choice(strings(values)), label, help)
    };
    let switch = |name, label, help| setting(name, SettingType::Boolean, label, help);
    let text = |name, label, help| setting(name, SettingType::String, label, help);
    vec![
        Setting {
            default: Some(json!("generic")),
            ..choice(
                "flavor",
                &Flavor::NAMES,
                "Kind of server",
                "Presets for all settings below, from the vendor's documentation. \"openai\" is \
                 OpenAI's own API under another address, also Azure's v1 API.",
            )
        },
        choice(
            "max_tokens_field",
            &["max_tokens", "max_completion_tokens"],
            "Token limit",
            "The member that limits the answer's tokens.",
        ),
        choice("seed_field", &["seed", "random_seed", "none"], "Seed", "The member for the seed."),
        switch(
            "developer_role",
            "Role developer",
            "Whether the server knows the role developer; it is sent as system otherwise.",
        ),
        switch("participant_names", "Names of participants", "Whether messages may have a name."),
        switch(
            "stream_usage",
            "Counts in streams",
            "Whether to ask for token counts at the end of a stream (stream_options). Without \
             counts, costs are estimates.",
        ),
        switch("top_k", "top_k", "Whether the server knows top_k."),
        switch("multiple_choices", "Several answers", "Whether the server knows n."),
        choice(
            "logprobs",
            &["switch", "count", "none"],
            "Log probabilities",
            "Whether they are asked for by logprobs: true, by a count, or not at all.",
        ),
        switch(
            "parallel_tool_calls",
            "Parallel tool calls",
            "Whether the server knows the switch parallel_tool_calls.",
        ),
        switch("strict_schemas", "Strict schemas", "Whether tools and schemas may say strict."),
        choice(
            "structured_output",
            &["json-schema", "json-schema-only", "json-object", "none"],
            "Structured output",
            "The forms of response_format the server knows. What it doesn't know is asked for in \
             the system text.",
        ),
        choice(
            "reasoning",
            &["effort", "object", "none"],
            "Reasoning",
            "Whether thinking is steered by reasoning_effort, by an object reasoning, or not.",
        ),
        choice(
            "thinking_field",
            &["reasoning_content", "reasoning", "parts", "none"],
            "Earlier thinking",
            "How the model's earlier thinking is sent back to it.",
        ),
        switch("video", "Videos", "Whether messages may have parts video_url."),
        switch("cache_marks", "Prompt-cache marks", "Whether parts may have cache_control marks."),
        choice(
            "embedding_format",
            &["base64", "floats", "unsaid"],
            "Encoding of embeddings",
            "What to ask for as encoding_format. Base64 is the cheapest where the server knows it.",
        ),
        text(
            "models_path",
            "Model list",
            "Path of the model list below the endpoint, /models unless given.",
        ),
        text(
            "probe_path",
            "Probe",
            "Path that shows whether endpoint and key work, the model list's unless given.",
        ),
        text(
            "site_url",
            "Your site",
            "Sent as HTTP-Referer; OpenRouter and others tell applications apart by it.",
        ),
        text("site_name", "Your application", "Sent as X-Title, for the same purpose."),
    ]
}
