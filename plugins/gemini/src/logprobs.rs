//! Log probabilities in the form that callers of every dialect read.
//!
//! The vendor gives two lists in step: the tokens it chose, and the most likely ones at each place.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogprobsResult<'a> {
    #[serde(borrow, default)]
    chosen_candidates: Vec<Token<'a>>,
    #[serde(borrow, default)]
    top_candidates: Vec<Alternatives<'a>>,
}

#[derive(Deserialize)]
struct Alternatives<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(default)]
    log_probability: f64,
}

#[derive(Serialize)]
struct Logprobs<'a> {
    content: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    chosen: Scored<'a>,
    top_logprobs: Vec<Scored<'a>>,
}

#[derive(Serialize)]
struct Scored<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

impl LogprobsResult<'_> {
    /// As a `logprobs` event has it; none if there are no tokens.
    pub fn json(&self) -> Option<String> {
        fn scored<'a>(token: &'a Token<'_>) -> Scored<'a> {
            Scored {
                token: &token.token,
                logprob: token.log_probability,
                bytes: token.token.as_bytes(),
            }
        }
        let alternatives = self.top_candidates.iter().map(Some).chain(std::iter::repeat(None));
        let content: Vec<_> = self
            .chosen_candidates
            .iter()
            .zip(alternatives)
            .map(|(chosen, top)| Entry {
                chosen: scored(chosen),
                top_logprobs: top.into_iter().flat_map(|top| &top.candidates).map(scored).collect(),
            })
            .collect();
        if content.is_empty() {
            return None;
        }
        serde_json::to_string(&Logprobs { content }).ok()
    }
}
