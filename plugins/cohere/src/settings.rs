//! The provider's settings, as the descriptor declares them.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(default)]
pub struct Settings {
    pub safety_mode: SafetyMode,
    pub citations: Citations,
    /// For embeddings whose purpose the caller doesn't say: the vendor requires one.
    pub embed_purpose: String,
    pub embed_truncate: Truncate,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            safety_mode: SafetyMode::Default,
            citations: Citations::Default,
            embed_purpose: DEFAULT_PURPOSE.to_owned(),
            embed_truncate: Truncate::None,
        }
    }
}

pub const DEFAULT_PURPOSE: &str = "document";

pub const SAFETY_MODES: [&str; 4] = ["default", "contextual", "strict", "off"];

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "lowercase", serialize = "UPPERCASE"))]
pub enum SafetyMode {
    /// What the vendor does by itself.
    Default,
    Contextual,
    Strict,
    Off,
}

pub const CITATIONS: [&str; 4] = ["default", "fast", "accurate", "off"];

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "lowercase", serialize = "UPPERCASE"))]
pub enum Citations {
    Default,
    Fast,
    Accurate,
    Off,
}

pub const TRUNCATE: [&str; 3] = ["none", "start", "end"];

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "lowercase", serialize = "UPPERCASE"))]
pub enum Truncate {
    None,
    Start,
    End,
}
