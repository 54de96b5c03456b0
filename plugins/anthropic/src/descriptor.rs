//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{api, api_key, api_key_credential, document, models, setting, strings},
    descriptor::{AuthScheme, OperationKind, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::settings::{DEFAULT_MAX_TOKENS, DEFAULT_VERSION};

pub fn descriptor() -> Descriptor {
    Descriptor {
        name: "anthropic".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Anthropic".to_owned(),
        summary: "Claude models through Anthropic's Messages API.".to_owned(),
        kind: ProviderKind::External,
        documents: vec![
            document(
                "Messages API",
                "https://platform.claude.com/docs/en/api/messages/create",
                "2023-06-01, read 2026-11",
            ),
            document(
                "Streaming messages",
                "https://platform.claude.com/docs/en/build-with-claude/streaming",
                "read 2026-11",
            ),
            document("Errors", "https://platform.claude.com/docs/en/api/errors", "read 2026-11"),
            document(
                "Stop reasons",
                "https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons",
                "read 2026-11",
            ),
            document(
                "Thinking in tool and multi-turn workflows",
                "https://platform.claude.com/docs/build-with-claude/thinking-tool-workflows",
                "read 2026-11",
            ),
            document(
                "Prompt caching",
                "https://platform.claude.com/docs/en/build-with-claude/prompt-caching",
                "read 2026-11",
            ),
            document(
                "Mid-conversation system messages",
                "https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages",
                "read 2026-11",
            ),
            document(
                "Citations",
                "https://platform.claude.com/docs/en/build-with-claude/citations",
                "read 2026-11",
            ),
            document(
                "Effort",
                "https://platform.claude.com/docs/en/build-with-claude/effort",
                "read 2026-11",
            ),
            document(
                "Structured outputs",
                "https://platform.claude.com/docs/en/build-with-claude/structured-outputs",
                "read 2026-11",
            ),
            document(
                "Migrating to Claude Sonnet 5.5",
                "https://platform.claude.com/docs/en/models/sonnet-5-5/migration-guide",
                "read 2026-11",
            ),
        ],
        origins: vec![api("https://api.anthropic.com/v1")],
        auth: vec![api_key(AuthScheme::Header { name: "x-api-key".to_owned() })],
        credentials: vec![api_key_credential(
            "Create one at https://platform.claude.com/settings/keys. It begins with sk-ant-.",
            "ANTHROPIC_API_KEY",
        )],
        request_headers: strings(&["anthropic-version", "anthropic-beta"]),
        response_headers: strings(&["request-id", "anthropic-ratelimit-*"]),
        settings: settings(),
        models: models(include_str!("../models.json")),
        operations: vec![OperationKind::Chat, OperationKind::ListModels, OperationKind::Probe],
        grants: Vec::new(),
    }
}

fn settings() -> Vec<Setting> {
    vec![
        Setting {
            default: Some(json!(DEFAULT_VERSION)),
            ..setting(
                "version",
                SettingType::String,
                "API version",
                "The anthropic-version header.",
            )
        },
        setting(
            "beta",
            SettingType::String,
            "Beta features",
            "The anthropic-beta header: names with commas between them, such as \
             files-api-2025-04-14 for files by their id.",
        ),
        Setting {
            default: Some(json!(DEFAULT_MAX_TOKENS)),
            ..setting(
                "max_tokens",
                SettingType::Integer,
                "Answer limit",
                "Tokens an answer may have where the caller sets no limit. Anthropic requires one.",
            )
        },
        Setting {
            default: Some(json!("summarized")),
            ..setting(
                "thinking_display",
                SettingType::Choice(strings(&["summarized", "omitted", "default"])),
                "Show thinking",
                "What comes back of the model's thinking when a caller asks for reasoning: a \
                 summary, nothing but its signature, or what the model does by itself.",
            )
        },
    ]
}
