//! Token counts as the contract has them.
//!
//! The vendor's classes are `promptTokenCount` (with `cachedContentTokenCount` in it),
//! `toolUsePromptTokenCount` (what its own tools brought, beside the prompt and billed like it),
//! `candidatesTokenCount` and, beside it, `thoughtsTokenCount`. Their sum is `totalTokenCount`.
//! Counts of one class by modality only matter where a modality costs more.

use keyward_sdk::{Unit, Usage};
use serde::Deserialize;

use crate::models::{LONG_PROMPT, Traits};

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
        if traits.long_prompts && self.prompt_token_count > Some(LONG_PROMPT) {
            let cached = cached.unwrap_or_default();
            unit("long_input_tokens", input.unwrap_or_default().saturating_sub(cached));
            unit("long_cache_tokens", cached);
            unit("long_output_tokens", output.unwrap_or_default());
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
    use crate::models::{known, traits};

    /// Cost in 10^-12 dollars, by the model's newest price: what a calculator does with the counts.
    fn cost(model: &str, usage: &Usage) -> i128 {
        /// An exact decimal in units of 10^-`digits`.
        fn exact(decimal: &str, digits: usize) -> i128 {
            let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
            format!("{whole}{fraction:0<digits$}").parse().unwrap()
        }
        let known = known();
        let price = known.iter().find(|one| one.id == model).unwrap().prices.last().unwrap();
        let class = |name: &str| exact(&price.per_million[name], 6);
        let count = |tokens: Option<u64>| i128::from(tokens.unwrap_or_default());
        let units: i128 = usage.units.iter().fold(0, |sum, unit| {
            sum + price.per_unit.get(&unit.name).map_or(0, |price| exact(price, 12))
                * unit.amount as i128
        });
        (count(usage.input) - count(usage.cache_read)) * class("input")
            + count(usage.cache_read) * class("cache-read")
            + count(usage.output) * class("output")
            + units
    }

    fn usage(model: &str, json: &str) -> Usage {
        serde_json::from_str::<UsageMetadata>(json).unwrap().usage(traits(model), 0)
    }

    #[test]
    fn nothing_is_counted_twice_and_the_cost_is_exact() {
        // 900 fresh and 100 cached of the prompt, 50 from tools, 20 answered, 30 thought.
        let usage = usage(
            "gemini-3.8-flash",
            r#"{"promptTokenCount":1000,"cachedContentTokenCount":100,"toolUsePromptTokenCount":50,
                "candidatesTokenCount":20,"thoughtsTokenCount":30,"totalTokenCount":1100}"#,
        );
        assert_eq!((usage.input, usage.output), (Some(1050), Some(50)));
        assert_eq!((usage.cache_read, usage.reasoning), (Some(100), Some(30)));
        // From 2027 on: 950 * 1.50 + 100 * 0.15 + 50 * 7.50 dollars per million.
        assert_eq!(cost("gemini-3.8-flash", &usage), 1_815_000_000);
    }

    #[test]
    fn audio_costs_what_audio_costs() {
        let usage = usage(
            "gemini-2.5-flash",
            r#"{"promptTokenCount":1000,"cachedContentTokenCount":300,"candidatesTokenCount":10,
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":400},
                    {"modality":"AUDIO","tokenCount":600}],
                "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":200},
                    {"modality":"DOCUMENT","tokenCount":100}]}"#,
        );
        // Text 300 * 0.30, audio 400 * 1.00, cached text 100 * 0.03, cached audio 200 * 0.10,
        // answer 10 * 2.50.
        assert_eq!(cost("gemini-2.5-flash", &usage), 538_000_000);
    }

    #[test]
    fn a_long_prompt_costs_more_in_every_class() {
        let json = |prompt: u64| {
            format!(
                r#"{{"promptTokenCount":{prompt},"cachedContentTokenCount":1000,
                    "candidatesTokenCount":10,"thoughtsTokenCount":5}}"#
            )
        };
        let model = "gemini-3.1-pro-preview";
        let short = usage(model, &json(200_000));
        assert_eq!(cost(model, &short), 199_000 * 2_000_000 + 1000 * 200_000 + 15 * 12_000_000);
        let long = usage(model, &json(200_001));
        assert_eq!(cost(model, &long), 199_001 * 4_000_000 + 1000 * 400_000 + 15 * 18_000_000);
    }
}
