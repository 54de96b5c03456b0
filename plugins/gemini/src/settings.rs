//! The provider's settings, as the descriptor declares them.

use serde::{Deserialize, Serialize};

/// What a threshold setting may say; `default` leaves a category to the vendor.
pub const THRESHOLDS: [&str; 6] = [
    "default",
    "off",
    "block_none",
    "block_only_high",
    "block_medium_and_above",
    "block_low_and_above",
];

/// The vendor's harm categories, with the setting for each.
pub const CATEGORIES: [(&str, Category); 4] = [
    ("safety_harassment", Category::Harassment),
    ("safety_hate_speech", Category::HateSpeech),
    ("safety_sexually_explicit", Category::SexuallyExplicit),
    ("safety_dangerous_content", Category::DangerousContent),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// For every category that has no threshold of its own.
    pub safety: Threshold,
    pub safety_harassment: Threshold,
    pub safety_hate_speech: Threshold,
    pub safety_sexually_explicit: Threshold,
    pub safety_dangerous_content: Threshold,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "snake_case", serialize = "SCREAMING_SNAKE_CASE"))]
pub enum Threshold {
    #[default]
    Default,
    Off,
    BlockNone,
    BlockOnlyHigh,
    BlockMediumAndAbove,
    BlockLowAndAbove,
}

#[derive(Clone, Copy, Serialize)]
pub enum Category {
    #[serde(rename = "HARM_CATEGORY_HARASSMENT")]
    Harassment,
    #[serde(rename = "HARM_CATEGORY_HATE_SPEECH")]
    HateSpeech,
    #[serde(rename = "HARM_CATEGORY_SEXUALLY_EXPLICIT")]
    SexuallyExplicit,
    #[serde(rename = "HARM_CATEGORY_DANGEROUS_CONTENT")]
    DangerousContent,
}

/// One element of `safetySettings`.
#[derive(Serialize)]
pub struct SafetySetting {
    category: Category,
    threshold: Threshold,
}

impl Settings {
    /// For the request; empty where the vendor's own thresholds hold.
    pub fn safety_settings(&self) -> Vec<SafetySetting> {
        let of = |category| match category {
            Category::Harassment => self.safety_harassment,
            Category::HateSpeech => self.safety_hate_speech,
            Category::SexuallyExplicit => self.safety_sexually_explicit,
            Category::DangerousContent => self.safety_dangerous_content,
        };
        CATEGORIES
            .into_iter()
            .map(|(_, category)| match of(category) {
                Threshold::Default => SafetySetting { category, threshold: self.safety },
                threshold => SafetySetting { category, threshold },
            })
            .filter(|setting| setting.threshold != Threshold::Default)
            .collect()
    }
}
