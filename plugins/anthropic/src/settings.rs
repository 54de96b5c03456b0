//! The provider's settings, as the descriptor declares them.

use serde::Deserialize;

pub const DEFAULT_VERSION: &str = "2023-06-01";

/// Within what every model that is still served may answer, and enough for a long answer.
pub const DEFAULT_MAX_TOKENS: u32 = 16_000;

#[derive(Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Header `anthropic-version`.
    pub version: String,
    /// Header `anthropic-beta`, left out if empty.
    pub beta: String,
    /// The answer's limit where the caller gives none: the vendor requires one.
    pub max_tokens: u32,
    pub thinking_display: Display,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Display {
    Summarized,
    Omitted,
    /// What the model does by itself.
    #[serde(other)]
    Default,
}

impl Settings {
    /// For `thinking.display`.
    pub fn display(&self) -> Option<&'static str> {
        match self.thinking_display {
            Display::Summarized => Some("summarized"),
            Display::Omitted => Some("omitted"),
            Display::Default => None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: DEFAULT_VERSION.to_owned(),
            beta: String::new(),
            max_tokens: DEFAULT_MAX_TOKENS,
            thinking_display: Display::Summarized,
        }
    }
}
