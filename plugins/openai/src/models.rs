//! Models worth naming, with their prices, and what a model's name tells of it. Any other model of
//! the account can be used as well: the list proposes, it doesn't restrict.
//!
//! Prices are the standard tier's, for prompts of up to 272,000 tokens where a model has a higher
//! price beyond. Models whose present price isn't certain carry none.

use keyward_sdk::{
    describe,
    descriptor::{Model, Price},
};

const PRICING: &str = "https://developers.openai.com/api/docs/pricing";
const LUNA: &str = "https://developers.openai.com/api/docs/models/gpt-5.6-luna";
const TERRA: &str = "https://developers.openai.com/api/docs/models/gpt-5.6-terra";

const REASONING: [&str; 5] = ["chat", "tools", "images", "json-schema", "reasoning"];
const PLAIN: [&str; 4] = ["chat", "tools", "images", "json-schema"];

pub fn known() -> Vec<Model> {
    vec![
        // Sold at a reduced price "until at least 2026-11-21": unknown after.
        chat("gpt-5.6-sol", "GPT-5.6 Sol", 1_050_000, 128_000, &REASONING, vec![]),
        chat(
            "gpt-5.6-terra",
            "GPT-5.6 Terra",
            1_050_000,
            128_000,
            &REASONING,
            vec![
                price("2026-07-09", TERRA, ["2.50", "0.25", "3.125", "15.00"]),
                price("2026-07-30", TERRA, ["2.00", "0.20", "2.50", "12.00"]),
            ],
        ),
        chat(
            "gpt-5.6-luna",
            "GPT-5.6 Luna",
            1_050_000,
            128_000,
            &REASONING,
            vec![
                price("2026-07-09", LUNA, ["1.00", "0.10", "1.25", "6.00"]),
                price("2026-07-30", LUNA, ["0.20", "0.02", "0.25", "1.20"]),
            ],
        ),
        chat(
            "gpt-5.4-mini",
            "GPT-5.4 mini",
            400_000,
            128_000,
            &REASONING,
            vec![price_without_writes("2026-05-04", ["0.75", "0.075", "4.50"])],
        ),
        chat(
            "gpt-4.1-mini",
            "GPT-4.1 mini",
            1_047_576,
            32_768,
            &PLAIN,
            vec![price_without_writes("2025-04-14", ["0.40", "0.10", "1.60"])],
        ),
        chat(
            "gpt-4o-mini",
            "GPT-4o mini",
            128_000,
            16_384,
            &PLAIN,
            vec![price_without_writes("2024-10-01", ["0.15", "0.075", "0.60"])],
        ),
        embed("text-embedding-3-small", "Text embedding 3 small", "0.02"),
        embed("text-embedding-3-large", "Text embedding 3 large", "0.13"),
    ]
}

/// True for models that Chat Completions doesn't serve.
pub fn in_responses_only(model: &str) -> bool {
    let of_gpt_or_o = model.starts_with("gpt-") || model.starts_with('o');
    let has = |word: &str| model.split('-').any(|part| part == word);
    of_gpt_or_o && (has("pro") || has("codex"))
        || model.contains("deep-research")
        || model.starts_with("computer-use")
}

/// True for models that take functions and an effort together through Responses only.
pub fn reasons_without_tools(model: &str) -> bool {
    gpt_version(model).is_some_and(|version| version >= (5, 4))
}

/// True for models that reason. Others refuse to be asked for what they reasoned.
pub fn reasons(model: &str) -> bool {
    let of_o =
        model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let of_gpt = gpt_version(model).is_some_and(|version| version >= (5, 0));
    of_o || of_gpt && !model.contains("-chat")
}

/// True for models that take prompt-cache marks.
pub fn takes_cache_marks(model: &str) -> bool {
    gpt_version(model).is_some_and(|version| version >= (5, 6))
}

/// (5, 4) of `gpt-5.4-mini`.
fn gpt_version(model: &str) -> Option<(u8, u8)> {
    let version = model.strip_prefix("gpt-")?.split('-').next()?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn chat(
    id: &str,
    title: &str,
    window: u32,
    output: u32,
    capabilities: &[&str],
    prices: Vec<Price>,
) -> Model {
    let mut model = describe::model(id, title, window, capabilities);
    model.max_output_tokens = Some(output);
    model.prices = prices;
    model
}

fn embed(id: &str, title: &str, input: &str) -> Model {
    let mut model = describe::model(id, title, 8_191, &["embed"]);
    model.prices = vec![describe::dollars("2024-01-25", PRICING, &[("input", input)])];
    model
}

fn price(from: &str, source: &str, [input, read, write, output]: [&str; 4]) -> Price {
    let classes =
        [("input", input), ("cache-read", read), ("cache-write", write), ("output", output)];
    describe::dollars(from, source, &classes)
}

/// For models whose cache writes cost what other input costs.
fn price_without_writes(from: &str, [input, read, output]: [&str; 3]) -> Price {
    let classes = [("input", input), ("cache-read", read), ("output", output)];
    describe::dollars(from, PRICING, &classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_which_api_serves_the_model_and_what_it_takes() {
        for (model, responses_only, no_tools, marks, reasoning) in [
            ("gpt-4o-mini", false, false, false, false),
            ("gpt-4.1", false, false, false, false),
            ("gpt-5", false, false, false, true),
            ("gpt-5.4-mini-2026-03-17", false, true, false, true),
            ("gpt-5.6-terra", false, true, true, true),
            ("gpt-5-pro", true, false, false, true),
            ("gpt-5.6-pro", true, true, true, true),
            ("gpt-5.1-codex-max", true, false, false, true),
            ("o3-pro-2025-06-10", true, false, false, true),
            ("o4-mini-deep-research", true, false, false, true),
            ("computer-use-preview", true, false, false, false),
            ("ft:gpt-4o-mini:acme::x", false, false, false, false),
            ("gpt-5.2-chat-latest", false, false, false, false),
            ("qwen-pro", false, false, false, false),
        ] {
            assert_eq!(in_responses_only(model), responses_only, "{model}");
            assert_eq!(reasons_without_tools(model), no_tools, "{model}");
            assert_eq!(takes_cache_marks(model), marks, "{model}");
            assert_eq!(reasons(model), reasoning, "{model}");
        }
    }
}
