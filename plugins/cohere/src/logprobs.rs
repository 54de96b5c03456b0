//! Log probabilities in the form that callers of every dialect read.
//!
//! The vendor gives them for pieces of text, which are one token each but for characters that take
//! several: such a piece has the probability of all its tokens together.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Piece<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(default)]
    logprobs: Vec<f64>,
}

#[derive(Serialize)]
struct Logprobs<'a> {
    content: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
    top_logprobs: [(); 0],
}

/// As a `logprobs` event has them; none if there are no pieces.
pub fn json(pieces: &[Piece<'_>]) -> Option<String> {
    let content: Vec<_> = pieces
        .iter()
        .filter(|piece| !piece.logprobs.is_empty())
        .map(|piece| Entry {
            token: &piece.text,
            logprob: piece.logprobs.iter().sum(),
            bytes: piece.text.as_bytes(),
            top_logprobs: [],
        })
        .collect();
    if content.is_empty() {
        return None;
    }
    serde_json::to_string(&Logprobs { content }).ok()
}
