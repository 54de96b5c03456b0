//! What a model takes, told from its name, and the models worth naming with their prices.

use keyward_sdk::{
    describe,
    descriptor::{Model, Price},
};

/// True for models known not to think. Later ones are assumed to: they say so if they don't.
pub fn never_thinks(model: &str) -> bool {
    const FAMILIES: [&str; 5] =
        ["command-r", "command-a-03-2025", "command-a-vision", "command-a-translate", "c4ai-aya"];
    matches!(model, "command" | "command-light" | "command-nightly")
        || FAMILIES.iter().any(|family| model.starts_with(family))
}

const PRICES: &str = "https://cohere.com/pricing";

const CHAT: [&str; 3] = ["chat", "tools", "json-schema"];
const SEES: [&str; 3] = ["chat", "images", "json-schema"];
const THINKS: [&str; 4] = ["chat", "tools", "json-schema", "reasoning"];

/// The vendor's line-up; others are served too. Prices are for production keys and for what the
/// vendor bills, which is less than it processes. Models it has no price per token for have none.
/// Tokens of embedded images have a price of their own: their unit is `image_tokens`.
pub fn known() -> Vec<Model> {
    vec![
        chat("command-a-plus-05-2026", "Command A+", 0, 0, &THINKS, None),
        chat(
            "command-a-03-2025",
            "Command A",
            256_000,
            8_000,
            &CHAT,
            Some(("2025-03-13", "2.50", "10.00")),
        ),
        chat("command-a-reasoning-08-2025", "Command A Reasoning", 256_000, 32_000, &THINKS, None),
        chat("command-a-vision-07-2025", "Command A Vision", 128_000, 8_000, &SEES, None),
        chat(
            "command-r-plus-08-2024",
            "Command R+",
            128_000,
            4_000,
            &CHAT,
            Some(("2024-08-30", "2.50", "10.00")),
        ),
        chat(
            "command-r-08-2024",
            "Command R",
            128_000,
            4_000,
            &CHAT,
            Some(("2024-08-30", "0.15", "0.60")),
        ),
        chat(
            "command-r7b-12-2024",
            "Command R7B",
            128_000,
            4_000,
            &CHAT,
            Some(("2024-12-13", "0.0375", "0.15")),
        ),
        Model {
            prices: vec![Price {
                per_unit: [("image_tokens".to_owned(), "0.00000047".to_owned())].into(),
                ..describe::dollars("2025-04-15", PRICES, &[("input", "0.12")])
            }],
            ..describe::model("embed-v4.0", "Embed 4", 128_000, &["embed", "images"])
        },
        describe::model("embed-multilingual-v3.0", "Embed 3 Multilingual", 512, &["embed"]),
        describe::model("embed-english-v3.0", "Embed 3 English", 512, &["embed"]),
    ]
}

/// With limits of 0 where they aren't known, and the price's first day, input and output.
fn chat(
    id: &str,
    title: &str,
    window: u32,
    output: u32,
    capabilities: &[&str],
    price: Option<(&str, &str, &str)>,
) -> Model {
    let price = price.map(|(from, input, output)| {
        describe::dollars(from, PRICES, &[("input", input), ("output", output)])
    });
    Model {
        max_output_tokens: Some(output).filter(|&limit| limit > 0),
        prices: price.into_iter().collect(),
        ..describe::model(id, title, window, capabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_models_are_known_not_to_think() {
        for (model, never) in [
            ("command-r7b-12-2024", true),
            ("command-r-plus-08-2024", true),
            ("command-a-03-2025", true),
            ("command-a-vision-07-2025", true),
            ("command-a-reasoning-08-2025", false),
            ("command-a-plus-05-2026", false),
            ("north-mini-code-06-2026", false),
        ] {
            assert_eq!(never_thinks(model), never, "{model}");
        }
    }
}
