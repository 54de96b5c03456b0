//! What a model takes, told from its name.
//!
//! The vendor's list says little of what a model accepts, and an exchange has no time to ask. Names
//! do: `gemini-<version>-<line>`, with an alias such as `gemini-flash-latest` for the newest. A name
//! that can't be read is treated as an older model: it is asked for nothing special.

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
    /// Audio costs more than text, uncached and cached: it is counted apart, for the prices in
    /// `models.json`.
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
    fn audio_is_counted_apart_where_it_has_a_price_of_its_own() {
        for model in crate::descriptor::descriptor().models {
            let apart = traits(&model.id).dear_audio;
            for price in &model.prices {
                let priced = |unit: &str| price.amounts.parts.contains_key(unit);
                let priced = (priced("audio_input_tokens"), priced("audio_cache_tokens"));
                assert_eq!(apart, priced, "{}", model.id);
            }
        }
    }
}
