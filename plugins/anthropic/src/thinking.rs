//! What a caller's wish for reasoning becomes: effort, a budget, or thinking kept off.
//!
//! Thinking counts towards the answer's limit, and excludes other things on some models; so the
//! limit is settled here too, and the request writer asks the plan what it excludes.

use keyward_sdk::{Chat, Output};
use serde::Serialize;

use crate::{
    models::{Off, Thinking as Form, Traits},
    request::DIALECT,
    settings::Settings,
};

/// The vendor's smallest thinking budget, in tokens.
const MIN_BUDGET: u32 = 1024;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    Enabled {
        budget_tokens: u32,
    },
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Disabled,
    BetweenTools,
}

pub struct Plan<'a> {
    pub thinking: Option<Thinking>,
    /// For `output_config`.
    pub effort: Option<&'a str>,
    /// Tokens of thinking and answer together.
    pub max_tokens: u32,
}

impl<'a> Plan<'a> {
    /// `forced`: the model must call a tool, before which it can't think by a budget.
    pub fn new(
        chat: &'a Chat,
        settings: &Settings,
        traits: Traits,
        forced: bool,
        out: &mut Output,
    ) -> Self {
        let limit = chat.sampling.max_output_tokens;
        let nothing =
            Self { thinking: None, effort: None, max_tokens: limit.unwrap_or(settings.max_tokens) };
        let Some(reasoning) = &chat.reasoning else { return nothing };
        let effort = reasoning.effort.as_deref();
        let budget = reasoning.budget_tokens;
        if chat.dialect == DIALECT {
            // In the vendor's own dialect thinking that the operation can't say comes as the caller
            // wrote it, and an effort is a wish of its own that turns nothing on.
            let own = chat.extra.iter().any(|field| field.name == "thinking");
            if own || (budget.is_none() && effort != Some("none")) {
                return Self { effort: effort.filter(|&effort| effort != "none"), ..nothing };
            }
        }
        if effort == Some("none") || budget == Some(0) {
            return match traits.off {
                Off::Omit => nothing,
                Off::Disabled => Self { thinking: Some(Thinking::Disabled), ..nothing },
                Off::BetweenTools => Self { thinking: Some(Thinking::BetweenTools), ..nothing },
                Off::Never => {
                    let message =
                        format!("{} always thinks; it was asked to think little.", chat.model);
                    out.changed("reasoning.effort", message);
                    Self { effort: Some("low"), ..nothing }
                }
            };
        }
        let asked = match (effort, budget) {
            (None, None) => return nothing,
            (effort, _) => effort.filter(|_| traits.effort).map(|effort| level(effort, out)),
        };
        let by_budget = match traits.thinking {
            Form::Budget => true,
            Form::Either => budget.is_some(),
            Form::Adaptive => false,
        };
        if by_budget && forced {
            let message = "Anthropic's models don't think by a budget before a forced call.";
            out.dropped("reasoning", message);
            return Self { effort: asked, ..nothing };
        }
        if by_budget {
            let wanted = budget.unwrap_or_else(|| budget_of(effort.unwrap_or_default()));
            if budget.is_some() && wanted < MIN_BUDGET {
                let message = format!("Thinking takes at least {MIN_BUDGET} tokens.");
                out.changed("reasoning.budget-tokens", message);
            }
            let plan = within(wanted.max(MIN_BUDGET), budget.is_some(), limit, settings, out);
            return match plan {
                Some((budget_tokens, max_tokens)) => {
                    let thinking = Some(Thinking::Enabled { budget_tokens });
                    Self { thinking, effort: asked, max_tokens }
                }
                None => Self { effort: asked, ..nothing },
            };
        }
        if budget.is_some() {
            let message = format!("{} takes an effort, not a number of tokens.", chat.model);
            out.changed("reasoning.budget-tokens", message);
        }
        Self {
            thinking: Some(Thinking::Adaptive { display: settings.display() }),
            effort: asked.or_else(|| budget.map(effort_of)),
            ..nothing
        }
    }

    /// Thinking was asked for, so that the model takes no sampling.
    pub fn thinks(&self) -> bool {
        matches!(self.thinking, Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. }))
    }
}

/// Budget and limit that fit one another, or none if the caller's limit leaves no room.
fn within(
    wanted: u32,
    explicit: bool,
    limit: Option<u32>,
    settings: &Settings,
    out: &mut Output,
) -> Option<(u32, u32)> {
    let Some(limit) = limit else {
        // The default is for the answer alone.
        return Some((wanted, wanted.saturating_add(settings.max_tokens)));
    };
    if wanted < limit {
        return Some((wanted, limit));
    }
    if limit <= MIN_BUDGET {
        let message =
            format!("Thinking takes at least {MIN_BUDGET} tokens, the answer may have {limit}.");
        out.dropped("reasoning", message);
        return None;
    }
    // A number is kept as far as it goes; an effort leaves half of the limit to the answer.
    let room = if explicit { limit - 1 } else { (limit / 2).max(MIN_BUDGET) };
    out.changed(
        "reasoning",
        format!("Thinking was limited to {room} tokens by the answer's limit."),
    );
    Some((room, limit))
}

fn level<'a>(effort: &'a str, out: &mut Output) -> &'a str {
    if effort != "minimal" {
        return effort;
    }
    out.changed("reasoning.effort", "Anthropic's lowest effort is \"low\".");
    "low"
}

/// Tokens for models that take nothing else.
fn budget_of(effort: &str) -> u32 {
    match effort {
        "minimal" => MIN_BUDGET,
        "low" => 4 * 1024,
        "medium" => 8 * 1024,
        _ => 16 * 1024,
    }
}

fn effort_of(budget: u32) -> &'static str {
    match budget {
        0..=4096 => "low",
        4097..=16384 => "medium",
        _ => "high",
    }
}
