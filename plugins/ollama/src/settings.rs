//! The provider's settings, as the descriptor declares them.

use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Tokens of context to load a model with; Ollama's own default is small.
    pub num_ctx: Option<u32>,
    /// How long a model stays loaded after a request.
    pub keep_alive: Option<String>,
    pub thinking_levels: Levels,
    pub long_prompts: LongPrompts,
}

/// What becomes of a prompt that doesn't fit. Ollama cuts it without a word unless told not to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongPrompts {
    #[default]
    Refuse,
    Cut,
}

impl LongPrompts {
    pub const NAME: &'static str = "long_prompts";

    /// For `truncate` and `shift`: left out, both are true.
    pub fn cut(self) -> Option<bool> {
        match self {
            Self::Refuse => Some(false),
            Self::Cut => None,
        }
    }
}

/// Whether `think` takes a level ("low") or a switch.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Levels {
    /// By the model's name.
    #[default]
    Auto,
    Always,
    Never,
}

impl Levels {
    pub const NAME: &'static str = "thinking_levels";
}

impl Settings {
    /// True if `model` takes levels.
    pub fn levels(&self, model: &str) -> bool {
        match self.thinking_levels {
            Levels::Auto => {
                model.rsplit('/').next().is_some_and(|name| name.starts_with("gpt-oss"))
            }
            Levels::Always => true,
            Levels::Never => false,
        }
    }
}
