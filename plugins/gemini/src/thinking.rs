//! What a caller's wish for reasoning becomes: a level, a budget, or nothing.
//!
//! The vendor's own endpoint for OpenAI's protocol says which effort is which budget; the same
//! figures are used here, both ways.

use keyward_sdk::{Chat, Output};
use serde::Serialize;

use crate::models::{self, Traits};

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThinkingConfig {
    /// Summaries of the thinking come back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_thoughts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<Level>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Minimal,
    Low,
    Medium,
    High,
}

impl Level {
    fn budget(self) -> u32 {
        match self {
            Self::Minimal | Self::Low => 1_024,
            Self::Medium => 8_192,
            Self::High => 24_576,
        }
    }

    fn of_budget(budget: u32) -> Self {
        match budget {
            0..=1_024 => Self::Low,
            1_025..=8_192 => Self::Medium,
            _ => Self::High,
        }
    }

    fn of_effort(effort: &str, out: &mut Output) -> Self {
        match effort {
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            other => {
                let message =
                    format!("Gemini doesn't know the effort \"{other}\": it is \"high\".");
                out.changed("reasoning.effort", message);
                Self::High
            }
        }
    }
}

/// For `generationConfig`; what had to be changed goes to `out`.
pub fn config(chat: &Chat, traits: Traits, out: &mut Output) -> Option<ThinkingConfig> {
    let reasoning = chat.reasoning.as_ref()?;
    let (effort, budget) = (reasoning.effort.as_deref(), reasoning.budget_tokens);
    if effort.is_none() && budget.is_none() {
        return None;
    }
    let off = effort == Some("none") || (effort.is_none() && budget == Some(0));
    let thoughts = |thinking_budget, thinking_level| {
        Some(ThinkingConfig { include_thoughts: true, thinking_budget, thinking_level })
    };
    match traits.thinking {
        models::Thinking::None if off => None,
        models::Thinking::None => {
            out.dropped("reasoning", format!("{} doesn't think.", chat.model));
            None
        }
        models::Thinking::Level { minimal } => {
            let lowest = if minimal { Level::Minimal } else { Level::Low };
            if off {
                let message =
                    format!("{} always thinks; it was asked to think little.", chat.model);
                out.changed("reasoning.effort", message);
                return Some(ThinkingConfig {
                    include_thoughts: false,
                    thinking_budget: None,
                    thinking_level: Some(lowest),
                });
            }
            let level = match (effort, budget) {
                (Some(effort), _) => Level::of_effort(effort, out),
                (None, budget) => Level::of_budget(budget.unwrap_or_default()),
            };
            if budget.is_some() {
                let message = format!("{} takes a level, not a number of tokens.", chat.model);
                out.changed("reasoning.budget-tokens", message);
            }
            if level == Level::Minimal && !minimal {
                let message = format!("The lowest level of {} is \"low\".", chat.model);
                out.changed("reasoning.effort", message);
            }
            thoughts(None, Some(if level == Level::Minimal { lowest } else { level }))
        }
        models::Thinking::Budget { min, max, off: can_be_off } => {
            if off {
                if !can_be_off {
                    let message =
                        format!("{} always thinks; it was asked to think little.", chat.model);
                    out.changed("reasoning.effort", message);
                }
                return Some(ThinkingConfig {
                    include_thoughts: false,
                    thinking_budget: Some(if can_be_off { 0 } else { min }),
                    thinking_level: None,
                });
            }
            let wanted = match (budget, effort) {
                (Some(budget), _) => budget,
                (None, effort) => Level::of_effort(effort.unwrap_or_default(), out).budget(),
            };
            let given = wanted.clamp(min, max);
            if given != wanted {
                let message = format!("{} thinks with {min} to {max} tokens.", chat.model);
                out.changed("reasoning.budget-tokens", message);
            }
            thoughts(Some(given), None)
        }
    }
}
