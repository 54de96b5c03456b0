//! Which of the vendor's two ways to chat is taken.
//!
//! The vendor recommends Responses for new projects and keeps Chat Completions. Neither does all:
//! Chat Completions alone has several choices, seeds, stop sequences, penalties and audio;
//! Responses alone takes thinking back, and functions together with an effort on newer models. By
//! default a caller's dialect decides, unless only Responses can do what is asked.

use keyward_sdk::Chat;
use serde::Deserialize;

use crate::{models, responses};

/// The setting `api`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    #[default]
    Auto,
    ChatCompletions,
    Responses,
}

impl Api {
    pub const NAME: &'static str = "api";
    pub const VALUES: [&'static str; 3] = ["auto", "chat-completions", "responses"];

    /// True if this chat goes through Responses.
    pub fn is_responses(self, chat: &Chat) -> bool {
        match self {
            Self::ChatCompletions => false,
            Self::Responses => true,
            Self::Auto => {
                chat.dialect == responses::DIALECT
                    || models::in_responses_only(&chat.model)
                    || (calls_while_reasoning(chat) && models::reasons_without_tools(&chat.model))
            }
        }
    }
}

/// Functions and an effort, which newer models refuse in Chat Completions.
fn calls_while_reasoning(chat: &Chat) -> bool {
    let effort = chat.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
    effort.is_some_and(|effort| effort != "none")
        && chat.tools.iter().any(|tool| tool.kind.is_empty())
}
