//! What a Claude model accepts, told from its name.
//!
//! Anthropic changes what a request may hold from one generation to the next and answers 400 to
//! what is no longer known: sampling went with 4.7, thinking budgets with 4.7, switching thinking
//! off differs from line to line in 5.x. The rules here are those of the vendor's migration guides
//! (see the descriptor for the pages and dates). A name without a version is taken for the newest
//! generation if it is a Claude and for an old one if it isn't: other vendors that speak this
//! protocol kept its first form.

/// What the request writer has to know about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// `temperature`, `top_p` and `top_k` are accepted.
    pub sampling: bool,
    pub thinking: Thinking,
    pub off: Off,
    /// `output_config.effort` is accepted.
    pub effort: bool,
    /// System text is accepted between turns.
    pub system_turns: bool,
}

/// How thinking is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// With a number of tokens only.
    Budget,
    /// With effort; a number of tokens is still accepted.
    Either,
    /// With effort only.
    Adaptive,
}

/// How thinking is kept from happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// It is off unless asked for.
    Omit,
    Disabled,
    BetweenTools,
    /// The model always thinks.
    Never,
}

pub fn traits(model: &str) -> Traits {
    let Some((line, version)) = parse(model) else {
        return if model.contains("claude") {
            Traits {
                sampling: false,
                thinking: Thinking::Adaptive,
                off: Off::Never,
                effort: true,
                system_turns: false,
            }
        } else {
            Traits {
                sampling: true,
                thinking: Thinking::Budget,
                off: Off::Omit,
                effort: false,
                system_turns: false,
            }
        };
    };
    Traits {
        sampling: version < (4, 7),
        thinking: match version {
            v if v < (4, 6) => Thinking::Budget,
            (4, 6) => Thinking::Either,
            _ => Thinking::Adaptive,
        },
        off: match (line, version) {
            (_, v) if v < (5, 0) => Off::Omit,
            ("opus" | "sonnet", v) if v < (5, 5) => Off::Disabled,
            ("sonnet", _) => Off::BetweenTools,
            ("haiku", _) => Off::Disabled,
            _ => Off::Never,
        },
        effort: version > (4, 5) || (line, version) == ("opus", (4, 5)),
        // Sonnet 5 is said to take it and said not to.
        system_turns: version >= (4, 8) && (line, version) != ("sonnet", (5, 0)),
    }
}

/// The line ("opus") and the version of `claude-opus-4-5-20251101`, of `claude-3-5-haiku-latest`
/// and of either behind a prefix, as other clouds write them.
fn parse(model: &str) -> Option<(&str, (u8, u8))> {
    let name = &model[model.find("claude-")? + "claude-".len()..];
    let mut line = "";
    let mut major = None;
    let mut minor = None;
    for word in name.split(['-', '.', '@', ':']) {
        match word.parse::<u8>() {
            Ok(number) if major.is_none() => major = Some(number),
            // Only what follows the major number at once: `claude-opus-4-20250514` is 4.0.
            Ok(number) if minor.is_none() => minor = Some(number),
            Ok(_) => break,
            Err(_) => {
                if major.is_some() && minor.is_none() {
                    minor = Some(0);
                }
                if line.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()) {
                    line = word;
                }
            }
        }
    }
    Some((line, (major?, minor.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_line_and_version() {
        for (model, expected) in [
            ("claude-opus-4-5-20251101", Some(("opus", (4, 5)))),
            ("claude-opus-4-20250514", Some(("opus", (4, 0)))),
            ("claude-3-5-haiku-latest", Some(("haiku", (3, 5)))),
            ("claude-opus-5", Some(("opus", (5, 0)))),
            ("claude-fable-5-1", Some(("fable", (5, 1)))),
            ("anthropic.claude-haiku-4-5", Some(("haiku", (4, 5)))),
            ("claude-sonnet-4-5@20250929", Some(("sonnet", (4, 5)))),
            ("claude-mythos-preview", None),
            ("MiniMax-M2", None),
        ] {
            assert_eq!(parse(model), expected, "{model}");
        }
    }

    #[test]
    fn each_generation_is_asked_in_its_own_way() {
        use Off::*;
        use Thinking::*;
        for (model, sampling, thinking, off, effort, system_turns) in [
            ("claude-sonnet-4-5", true, Budget, Omit, false, false),
            ("claude-opus-4-5", true, Budget, Omit, true, false),
            ("claude-sonnet-4-6", true, Either, Omit, true, false),
            ("claude-opus-4-8", false, Adaptive, Omit, true, true),
            ("claude-opus-5", false, Adaptive, Disabled, true, true),
            ("claude-sonnet-5", false, Adaptive, Disabled, true, false),
            ("claude-opus-5-5", false, Adaptive, Never, true, true),
            ("claude-sonnet-5-5", false, Adaptive, BetweenTools, true, true),
            ("claude-haiku-5-5", false, Adaptive, Disabled, true, true),
            ("claude-fable-5-1", false, Adaptive, Never, true, true),
            ("claude-mythos-preview", false, Adaptive, Never, true, false),
            ("MiniMax-M2", true, Budget, Omit, false, false),
        ] {
            let expected = Traits { sampling, thinking, off, effort, system_turns };
            assert_eq!(traits(model), expected, "{model}");
        }
    }
}
