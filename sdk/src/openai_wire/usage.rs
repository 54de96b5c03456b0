//! Token counts, under all the names that vendors of this shape have for them.

use serde::Deserialize;

use crate::{
    Output,
    contract::{Unit, Usage},
};

/// Reports the counts of a `usage` object. Those that make no sense are left out, and the host then
/// estimates. True if there was something to report.
pub fn report_usage(json: &str, out: &mut Output) -> bool {
    let Ok(counts) = serde_json::from_str::<Counts>(json) else { return false };
    // Every prompt has tokens: servers that don't count say zero.
    let (input, output) = match (counts.prompt_tokens, counts.completion_tokens) {
        (None | Some(0), None | Some(0)) => (None, None),
        counts => counts,
    };
    let prompt = counts.prompt_tokens_details.unwrap_or_default();
    let completion = counts.completion_tokens_details.unwrap_or_default();
    // Tokens of other media are billed at prices of their own; they are within the totals.
    let units = [
        ("prompt_audio_tokens", prompt.audio_tokens.map(count)),
        ("prompt_image_tokens", prompt.image_tokens.map(count)),
        ("completion_audio_tokens", completion.audio_tokens.map(count)),
        ("completion_image_tokens", completion.image_tokens.map(count)),
        ("prompt_audio_seconds", counts.prompt_audio_seconds),
        ("cost", counts.cost),
        ("neurons", counts.neurons),
    ];
    let units: Vec<Unit> = units
        .into_iter()
        .filter_map(|(name, amount)| {
            let amount = amount.filter(|amount| *amount > 0.0)?;
            Some(Unit { name: name.to_owned(), amount })
        })
        .collect();
    if input.is_none() && output.is_none() && units.is_empty() {
        return false;
    }
    out.usage(Usage {
        input,
        cache_read: prompt
            .cached_tokens
            .or(counts.prompt_cache_hit_tokens)
            .or(counts.num_cached_tokens)
            .or(counts.cached_tokens),
        cache_write: prompt.cache_write_tokens,
        output,
        reasoning: completion.reasoning_tokens.or(counts.reasoning_tokens),
        units,
    });
    true
}

/// Exact up to 2^53, which no count reaches.
fn count(tokens: u64) -> f64 {
    tokens as f64
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's.
    prompt_cache_hit_tokens: Option<u64>,
    /// Mistral's.
    num_cached_tokens: Option<u64>,
    prompt_audio_seconds: Option<f64>,
    /// Together's and Moonshot's.
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    /// OpenRouter's, in its credits.
    cost: Option<f64>,
    /// Cloudflare's.
    neurons: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}
