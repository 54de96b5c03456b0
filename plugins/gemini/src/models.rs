//! What a model takes, told from its name, and the models worth naming with their prices.
//!
//! The vendor's list says little of what a model accepts, and an exchange has no time to ask. Names
//! do: `gemini-<version>-<line>`, with an alias such as `gemini-flash-latest` for the newest. A name
//! that can't be read is treated as an older model: it is asked for nothing special.

use keyward_sdk::{
    describe,
    descriptor::{Model, Price},
};

/// What a model is asked for differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    pub thinking: Thinking,
    /// Signs its function calls, and refuses a conversation in which a signature is missing.
    pub signs_calls: bool,
    /// Takes temperature, top-p, top-k and the penalties.
    pub sampling: bool,
    /// Takes a JSON format together with functions.
    pub json_with_tools: bool,
    /// Takes images and files inside a function's response.
    pub media_in_responses: bool,
    /// Prompts beyond [`LONG_PROMPT`] cost more.
    pub long_prompts: bool,
    /// Audio costs more than text, uncached and cached.
    pub dear_audio: (bool, bool),
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Not at all: it has none, or takes no wish.
    None,
    /// By a number of tokens in these bounds; `off` if it takes 0.
    Budget { min: u32, max: u32, off: bool },
    /// By a level; `minimal` if it takes that one, else "low" is the lowest.
    Level { minimal: bool },
}

/// Prompt tokens above which the models of the Pro line have their second price.
pub const LONG_PROMPT: u64 = 200_000;

/// The model's name without the collection it is in.
pub fn short_name(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// True for models that take the task in the text, not beside it.
pub fn wants_task_in_text(model: &str) -> bool {
    short_name(model).starts_with("gemini-embedding-2")
}

pub fn traits(model: &str) -> Traits {
    let Some((version, line)) = parse(short_name(model)) else {
        return Traits {
            thinking: Thinking::None,
            signs_calls: false,
            sampling: true,
            json_with_tools: false,
            media_in_responses: false,
            long_prompts: false,
            dear_audio: (false, false),
        };
    };
    let third = version >= (3, 0);
    let flash = line.starts_with("flash");
    let lite = line.starts_with("flash-lite");
    let image = line.contains("image");
    Traits {
        thinking: match version {
            _ if line.contains("tts") => Thinking::None,
            (2, 5) if image => Thinking::None,
            (2, 5) if lite => Thinking::Budget { min: 512, max: 24_576, off: true },
            (2, 5) if flash => Thinking::Budget { min: 1, max: 24_576, off: true },
            (2, 5) => Thinking::Budget { min: 128, max: 32_768, off: false },
            _ if third => Thinking::Level { minimal: flash && (lite || version <= (3, 6)) },
            _ => Thinking::None,
        },
        signs_calls: third,
        // Gemini 3.6 Flash was the first to ignore the former and to refuse the latter.
        sampling: version < (3, 6),
        json_with_tools: third,
        media_in_responses: third,
        long_prompts: line.starts_with("pro") && version >= (2, 5) && !image,
        dear_audio: match (version, line) {
            ((2, 5), "flash") => (true, true),
            ((2, 5), "flash-lite") | ((3, 1), "flash-lite") | ((3, 0), "flash-preview") => {
                (true, false)
            }
            _ => (false, false),
        },
    }
}

/// True for models of which the list of models says less than is known: they read images, call
/// functions and write JSON.
pub fn is_general(model: &str) -> bool {
    let special = |line: &str| line.contains("tts") || line.contains("image");
    parse(short_name(model)).is_some_and(|(version, line)| version >= (2, 0) && !special(line))
}

/// Version and line of `gemini-3.1-pro-preview` ((3, 1), "pro-preview") and of
/// `gemini-flash-latest` (the highest version, "flash-latest").
fn parse(name: &str) -> Option<((u8, u8), &str)> {
    let name = name.strip_prefix("gemini-")?;
    if name.ends_with("-latest") && (name.starts_with("flash") || name.starts_with("pro")) {
        return Some(((u8::MAX, 0), name));
    }
    let (version, line) = name.split_once('-')?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some(((major.parse().ok()?, minor.parse().ok()?), line))
}

const PRICES: &str = "https://ai.google.dev/gemini-api/docs/pricing";

/// The day the price list was read, for prices whose first day it doesn't say.
const READ: &str = "2026-10-07";

const CHAT: [&str; 8] =
    ["chat", "tools", "images", "audio", "video", "pdf", "json-schema", "reasoning"];

/// The vendor's current line-up; others are served too. Prices are the standard tier's.
///
/// `input`, `cache-read` and `output` are the prices for text in prompts of up to [`LONG_PROMPT`]
/// tokens. What costs more is counted once more as a unit, whose price is the difference:
/// `audio_input_tokens` and `audio_cache_tokens` for audio, `long_input_tokens`,
/// `long_cache_tokens` and `long_output_tokens` for longer prompts. The hourly price of explicit
/// caches and the price of searches beyond the free ones aren't known to an exchange.
pub fn known() -> Vec<Model> {
    vec![
        chat(
            "gemini-3.8-flash",
            "Gemini 3.8 Flash",
            vec![
                price("2026-09-02", ["0.75", "0.075", "3.75"]),
                price("2027-01-01", ["1.50", "0.15", "7.50"]),
            ],
        ),
        chat(
            "gemini-3.1-pro-preview",
            "Gemini 3.1 Pro Preview",
            vec![beyond(
                price("2026-02-19", ["2.00", "0.20", "12.00"]),
                &[
                    ("long_input_tokens", "0.000002"),
                    ("long_cache_tokens", "0.0000002"),
                    ("long_output_tokens", "0.000006"),
                ],
            )],
        ),
        // The list gives no price for what is read from its cache.
        chat(
            "gemini-3.5-flash-lite",
            "Gemini 3.5 Flash-Lite",
            vec![describe::dollars(READ, PRICES, &[("input", "0.30"), ("output", "2.50")])],
        ),
        chat(
            "gemini-3.1-flash-lite",
            "Gemini 3.1 Flash-Lite",
            vec![beyond(
                price("2026-05-07", ["0.25", "0.025", "1.50"]),
                &[("audio_input_tokens", "0.00000025")],
            )],
        ),
        chat(
            "gemini-3-flash-preview",
            "Gemini 3 Flash Preview",
            vec![beyond(
                price("2025-12-17", ["0.50", "0.05", "3.00"]),
                &[("audio_input_tokens", "0.0000005")],
            )],
        ),
        // Its price isn't certain since other models' requests are passed on to it.
        chat("gemini-3.6-flash", "Gemini 3.6 Flash", Vec::new()),
        chat(
            "gemini-2.5-pro",
            "Gemini 2.5 Pro",
            vec![beyond(
                price(READ, ["1.25", "0.125", "10.00"]),
                &[
                    ("long_input_tokens", "0.00000125"),
                    ("long_cache_tokens", "0.000000125"),
                    ("long_output_tokens", "0.000005"),
                ],
            )],
        ),
        chat(
            "gemini-2.5-flash",
            "Gemini 2.5 Flash",
            vec![beyond(
                price(READ, ["0.30", "0.03", "2.50"]),
                &[("audio_input_tokens", "0.0000007"), ("audio_cache_tokens", "0.00000007")],
            )],
        ),
        chat(
            "gemini-2.5-flash-lite",
            "Gemini 2.5 Flash-Lite",
            vec![beyond(
                price(READ, ["0.10", "0.01", "0.40"]),
                &[("audio_input_tokens", "0.0000002")],
            )],
        ),
        embedding("gemini-embedding-2", "Gemini Embedding 2", 8_192, "0.20"),
        embedding("gemini-embedding-001", "Gemini Embedding", 2_048, "0.15"),
    ]
}

fn chat(id: &str, title: &str, prices: Vec<Price>) -> Model {
    Model {
        max_output_tokens: Some(65_536),
        prices,
        ..describe::model(id, title, 1_048_576, &CHAT)
    }
}

fn embedding(id: &str, title: &str, window: u32, input: &str) -> Model {
    Model {
        prices: vec![describe::dollars(READ, PRICES, &[("input", input)])],
        ..describe::model(id, title, window, &["embed"])
    }
}

fn price(from: &str, [input, read, output]: [&str; 3]) -> Price {
    let classes = [("input", input), ("cache-read", read), ("output", output)];
    describe::dollars(from, PRICES, &classes)
}

fn beyond(price: Price, per_unit: &[(&str, &str)]) -> Price {
    let per_unit = per_unit.iter().map(|&(unit, amount)| (unit.to_owned(), amount.to_owned()));
    Price { per_unit: per_unit.collect(), ..price }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_version_and_line() {
        for (model, expected) in [
            ("gemini-3.1-pro-preview", Some(((3, 1), "pro-preview"))),
            ("gemini-3-flash-preview", Some(((3, 0), "flash-preview"))),
            ("gemini-2.5-flash-lite", Some(((2, 5), "flash-lite"))),
            ("gemini-flash-latest", Some(((255, 0), "flash-latest"))),
            ("gemini-embedding-2", None),
            ("gemma-4-31b-it", None),
            ("gemini-pro", None),
            ("", None),
        ] {
            assert_eq!(parse(model), expected, "{model}");
        }
    }

    #[test]
    fn each_generation_thinks_in_its_own_way() {
        use Thinking::*;
        for (model, thinking, signs_calls, sampling) in [
            ("gemini-2.0-flash", None, false, true),
            ("models/gemini-2.5-pro", Budget { min: 128, max: 32_768, off: false }, false, true),
            ("gemini-2.5-flash", Budget { min: 1, max: 24_576, off: true }, false, true),
            ("gemini-2.5-flash-lite", Budget { min: 512, max: 24_576, off: true }, false, true),
            ("gemini-2.5-flash-image", None, false, true),
            ("gemini-3-flash-preview", Level { minimal: true }, true, true),
            ("gemini-3.1-pro-preview", Level { minimal: false }, true, true),
            ("gemini-3.5-flash-lite", Level { minimal: true }, true, true),
            ("gemini-3.6-flash", Level { minimal: true }, true, false),
            ("gemini-3.8-flash", Level { minimal: false }, true, false),
            ("gemini-flash-latest", Level { minimal: false }, true, false),
            ("gemma-4-31b-it", None, false, true),
        ] {
            let traits = traits(model);
            assert_eq!(
                (traits.thinking, traits.signs_calls, traits.sampling),
                (thinking, signs_calls, sampling),
                "{model}"
            );
        }
    }

    #[test]
    fn what_is_counted_as_a_unit_has_a_price() {
        for model in known() {
            let traits = traits(&model.id);
            for price in &model.prices {
                let priced = |unit: &str| price.per_unit.contains_key(unit);
                assert_eq!(traits.long_prompts, priced("long_input_tokens"), "{}", model.id);
                assert_eq!(traits.long_prompts, priced("long_output_tokens"), "{}", model.id);
                assert_eq!(traits.dear_audio.0, priced("audio_input_tokens"), "{}", model.id);
                assert_eq!(traits.dear_audio.1, priced("audio_cache_tokens"), "{}", model.id);
            }
        }
    }
}
