//! The Responses API: `POST /responses`.
//!
//! A conversation is a list of items here: messages, calls, their outputs and the model's
//! reasoning, each for itself ([`input`]); the rest of the request is in [`request`]. Answers are
//! items too, whole or event by event ([`answer`]), and fail in ways of their own ([`error`]).
//!
//! For callers that speak this dialect unknown fields pass through: of the request by their names,
//! those inside `text` and `reasoning` as "text.verbosity" and "reasoning.summary"; items and parts
//! that the contract doesn't know as parts of kind "other", written as they are. Instructions are the
//! first message, and a field "instructions" says so. In answers, the attribute "item" has the
//! unknown fields of the item that follows, "output_item" an unknown item, "event" an unknown event.
//!
//! Nothing is stored at the vendor unless a caller of this dialect says so. Reasoning comes
//! encrypted instead and goes back as it came.

mod answer;
mod error;
mod input;
mod request;

use serde::Deserialize;

pub use answer::Answer;
pub use request::chat;

/// The dialect whose unknown fields this API takes.
pub const DIALECT: &str = "openai-responses";

/// The setting `reasoning_summary`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Summary {
    #[default]
    None,
    Auto,
    Concise,
    Detailed,
}

impl Summary {
    pub const NAME: &'static str = "reasoning_summary";
    pub const VALUES: [&'static str; 4] = ["none", "auto", "concise", "detailed"];

    /// For `reasoning.summary`.
    fn wish(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Auto => Some("auto"),
            Self::Concise => Some("concise"),
            Self::Detailed => Some("detailed"),
        }
    }
}
