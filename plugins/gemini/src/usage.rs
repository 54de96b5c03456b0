//! Token counts as the contract has them.
//!
//! The vendor's classes are `promptTokenCount` (with `cachedContentTokenCount` in it),
//! `toolUsePromptTokenCount` (what its own tools brought, beside the prompt and billed like it),
//! `candidatesTokenCount` and, beside it, `thoughtsTokenCount`. Their sum is `totalTokenCount`.
//! Counts of one class by modality only matter where a modality costs more.

use keyward_sdk::{Unit, Usage};
use serde::Deserialize;

use crate::models::Traits;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageMetadata {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    prompt_tokens_details: Option<Vec<ModalityCount>>,
    cache_tokens_details: Option<Vec<ModalityCount>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ModalityCount {
    modality: Modality,
    token_count: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Modality {
    Audio,
    #[default]
    #[serde(other)]
    Other,
}

impl UsageMetadata {
    /// `searches`: the queries the model sent to Google Search.
    pub fn usage(&self, traits: Traits, searches: usize) -> Usage {
        // A count of zero is left out; without the prompt's there are no counts at all.
        let sum = |counts: [Option<u64>; 2]| {
            let known = counts.iter().any(Option::is_some) || self.prompt_token_count.is_some();
            known.then(|| counts.into_iter().flatten().fold(0, u64::saturating_add))
        };
        let input = sum([self.prompt_token_count, self.tool_use_prompt_token_count]);
        let output = sum([self.candidates_token_count, self.thoughts_token_count]);
        let cached = self.cached_content_token_count;

        let mut units = Vec::new();
        let mut unit = |name: &str, amount: u64| {
            if amount > 0 {
                units.push(Unit { name: name.to_owned(), amount: amount as f64 });
            }
        };
        let cached_audio = audio(self.cache_tokens_details.as_deref());
        let prompt_audio = audio(self.prompt_tokens_details.as_deref());
        if traits.dear_audio.0 {
            unit("audio_input_tokens", prompt_audio.saturating_sub(cached_audio));
        }
        if traits.dear_audio.1 {
            unit("audio_cache_tokens", cached_audio);
        }
        unit("searches", searches as u64);
        Usage {
            input,
            cache_read: cached,
            cache_write: None,
            output,
            reasoning: self.thoughts_token_count,
            units,
        }
    }
}

fn audio(details: Option<&[ModalityCount]>) -> u64 {
    let audio = |count: &&ModalityCount| count.modality == Modality::Audio;
    let counts = details.into_iter().flatten().filter(audio);
    counts.fold(0, |sum, count| sum.saturating_add(count.token_count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::traits;

    fn usage(model: &str, json: &str) -> Usage {
        serde_json::from_str::<UsageMetadata>(json).unwrap().usage(traits(model), 0)
    }

    #[test]
    fn nothing_is_counted_twice() {
        // 900 fresh and 100 cached of the prompt, 50 from tools, 20 answered, 30 thought.
        let usage = usage(
            "gemini-3.8-flash",
            r#"{"promptTokenCount":1000,"cachedContentTokenCount":100,"toolUsePromptTokenCount":50,
                "candidatesTokenCount":20,"thoughtsTokenCount":30,"totalTokenCount":1100}"#,
        );
        assert_eq!((usage.input, usage.output), (Some(1050), Some(50)));
        assert_eq!((usage.cache_read, usage.reasoning), (Some(100), Some(30)));
    }

    #[test]
    fn audio_is_counted_apart_cached_and_not() {
        let json = r#"{"promptTokenCount":1000,"cachedContentTokenCount":300,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":400},
                {"modality":"AUDIO","tokenCount":600}],
            "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":200},
                {"modality":"DOCUMENT","tokenCount":100}]}"#;
        let units = |model| {
            let units = usage(model, json).units.into_iter();
            units.map(|unit| (unit.name, unit.amount)).collect::<Vec<_>>()
        };
        let expected = [("audio_input_tokens", 400.0), ("audio_cache_tokens", 200.0)];
        let expected = expected.map(|(name, amount)| (name.to_owned(), amount));
        assert_eq!(units("gemini-2.5-flash"), expected);
        assert_eq!(units("gemini-3.8-flash"), []);
    }
}
