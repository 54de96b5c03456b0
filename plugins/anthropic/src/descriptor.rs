//! What the adapter says about itself.

use keyward_sdk::{
    Descriptor,
    describe::{api, api_key, api_key_credential, document, dollars, model, setting, strings},
    descriptor::{AuthScheme, Model, OperationKind, Price, ProviderKind, Setting, SettingType},
};
use serde_json::json;

use crate::{
    answer::{SEARCHES, WRITTEN_FOR_AN_HOUR},
    settings::{DEFAULT_MAX_TOKENS, DEFAULT_VERSION},
};

const PRICES: &str = "https://platform.claude.com/docs/en/about-claude/pricing";

/// Dollars for a search: 10 for a thousand.
const PER_SEARCH: &str = "0.01";

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
        models: models(),
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

/// The models of the vendor's current line-up; others are served too. Prices are those of the
/// vendor's price list on the day given. `cache-write` is for the lifetime of five minutes. What is
/// written for an hour is counted once more, as the unit `cache_write_1h_tokens`, whose price is
/// the difference: an hour costs twice the input's price. Claude Haiku 5.5 has none here: its price depends on the
/// prompt's length, which a price list by token can't say.
fn models() -> Vec<Model> {
    const ALL: [&str; 6] = ["chat", "tools", "images", "pdf", "json-schema", "reasoning"];
    const MILLION: u32 = 1_000_000;
    let claude = |id, title, window, output, prices| Model {
        max_output_tokens: Some(output),
        prices,
        ..model(id, title, window, &ALL)
    };
    let price = |from, input, read, [write, hour]: [&'static str; 2], output| {
        let classes =
            [("input", input), ("cache-read", read), ("cache-write", write), ("output", output)];
        let units = [(WRITTEN_FOR_AN_HOUR, hour), (SEARCHES, PER_SEARCH)];
        let units = units.map(|(unit, price): (&str, &str)| (unit.to_owned(), price.to_owned()));
        Price { per_unit: units.into(), ..dollars(from, PRICES, &classes) }
    };
    vec![
        claude(
            "claude-fable-5-1",
            "Claude Fable 5.1",
            MILLION,
            128_000,
            vec![price("2026-10-10", "10", "0.25", ["12.50", "0.0000075"], "50")],
        ),
        claude(
            "claude-opus-5-5",
            "Claude Opus 5.5",
            MILLION,
            128_000,
            vec![price("2026-09-23", "4", "0.20", ["5", "0.000003"], "20")],
        ),
        claude(
            "claude-sonnet-5-5",
            "Claude Sonnet 5.5",
            MILLION,
            128_000,
            vec![
                price("2026-09-28", "2", "0.20", ["2.50", "0.0000015"], "10"),
                price("2026-10-07", "2", "0.10", ["2.50", "0.0000015"], "10"),
            ],
        ),
        claude("claude-haiku-5-5", "Claude Haiku 5.5", MILLION, 128_000, Vec::new()),
        claude(
            "claude-opus-5",
            "Claude Opus 5",
            MILLION,
            128_000,
            vec![price("2026-07-24", "5", "0.50", ["6.25", "0.00000375"], "25")],
        ),
        claude(
            "claude-sonnet-5",
            "Claude Sonnet 5",
            MILLION,
            128_000,
            vec![price("2026-09-28", "2", "0.20", ["2.50", "0.0000015"], "10")],
        ),
        claude(
            "claude-haiku-4-5",
            "Claude Haiku 4.5",
            200_000,
            64_000,
            vec![price("2026-09-28", "1", "0.10", ["1.25", "0.00000075"], "5")],
        ),
    ]
}
