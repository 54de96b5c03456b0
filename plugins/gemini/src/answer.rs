//! The vendor's answer as events: whole, or as a stream of pieces of the same shape.
//!
//! A piece holds candidates (one for each choice asked for) with the parts since the last piece,
//! counts so far, and in the last one the reason for the end. Calls come whole and unnumbered. What
//! the contract has no event for (the code that the vendor ran, its search results) goes out as
//! an attribute.

use std::borrow::Cow;

use keyward_sdk::{
    Chat, Failure, FailureKind, FinishReason, MediaKind, Output,
    json::{Str, cow_or_null, parse, raw_or_null},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error,
    logprobs::LogprobsResult,
    models::{Traits, traits},
    usage::UsageMetadata,
};

/// What has to be remembered between the pieces of a stream.
pub struct Answer {
    traits: Traits,
    /// Choices that were asked for.
    wanted: u32,
    started: bool,
    choices: Vec<Choice>,
    counted: UsageMetadata,
    searches: usize,
    /// Why the one choice can't be used, though the vendor says that it is complete.
    broken: Option<Failure>,
}

struct Choice {
    index: u32,
    calls: u32,
    finished: bool,
    /// The last search results, which some models repeat.
    grounding: String,
    /// Parts the contract has no event for, as the elements of a JSON array.
    others: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(default)]
    usage_metadata: Option<UsageMetadata>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    response_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback<'a> {
    #[serde(borrow, default)]
    block_reason: Cow<'a, str>,
    #[serde(borrow, default)]
    block_reason_message: Cow<'a, str>,
    #[serde(borrow, default)]
    safety_ratings: Vec<SafetyRating<'a>>,
}

#[derive(Deserialize)]
struct SafetyRating<'a> {
    #[serde(borrow, default)]
    category: Cow<'a, str>,
    #[serde(borrow, default)]
    probability: Cow<'a, str>,
    #[serde(default)]
    blocked: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    finish_message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    safety_ratings: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citation_metadata: Option<CitationMetadata<'a>>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    url_context_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs_result: Option<LogprobsResult<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow, default)]
    inline_data: Option<Blob<'a>>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow, default)]
    mime_type: Cow<'a, str>,
    #[serde(borrow)]
    data: Str<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CitationMetadata<'a> {
    #[serde(borrow, default, alias = "citations")]
    citation_sources: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow, default)]
    grounding_chunks: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    grounding_supports: Vec<&'a RawValue>,
    #[serde(default)]
    web_search_queries: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    #[serde(default)]
    grounding_chunk_indices: Vec<usize>,
}

impl Answer {
    pub fn new(chat: &Chat) -> Self {
        Self {
            traits: traits(&chat.model),
            wanted: chat.sampling.choices.unwrap_or(1),
            started: false,
            choices: Vec::with_capacity(1),
            counted: UsageMetadata::default(),
            searches: 0,
            broken: None,
        }
    }

    /// A whole answer that isn't framed: one object, or the pieces of a stream as an array.
    pub fn whole(&mut self, body: &str, out: &mut Output) -> Result<(), Failure> {
        if !body.trim_start().starts_with('[') {
            return self.chunk(body, out);
        }
        let chunks: Vec<&RawValue> = parse(body)?;
        chunks.into_iter().try_for_each(|chunk| self.chunk(chunk.get(), out))
    }

    /// A piece of a stream, or the whole of an answer.
    ///
    /// # Errors
    ///
    /// The vendor's own error inside the stream, a blocked prompt, or a piece that can't be read.
    pub fn chunk(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let chunk: Chunk<'_> = parse(data)?;
        if let Some(error) = chunk.error {
            return Err(error::in_stream(error.get()));
        }
        if !self.started {
            self.started = true;
            out.started(chunk.response_id.as_deref(), chunk.model_version.as_deref());
        }
        for candidate in chunk.candidates {
            self.candidate(candidate, out)?;
        }
        // Counts are cumulative, and most pieces repeat them.
        if let Some(counts) = chunk.usage_metadata.filter(|counts| *counts != self.counted) {
            out.usage(counts.usage(self.traits, self.searches));
            self.counted = counts;
        }
        match chunk.prompt_feedback {
            Some(feedback) if !feedback.block_reason.is_empty() => Err(feedback.failure()),
            _ => Ok(()),
        }
    }

    /// After the last piece.
    ///
    /// # Errors
    ///
    /// If the vendor didn't finish every choice, or finished its only one with nothing to use.
    pub fn end(&mut self) -> Result<(), Failure> {
        if let Some(failure) = self.broken.take() {
            return Err(failure);
        }
        if !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished) {
            return Ok(());
        }
        Err(Failure::malformed("The answer ended before the vendor said that it is complete."))
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Output) -> Result<(), Failure> {
        let index = candidate.index;
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or_else(|| {
            self.choices.push(Choice::new(index));
            self.choices.len() - 1
        });
        for part in candidate.content.into_iter().flat_map(|content| content.parts) {
            self.choices[at].part(part, out)?;
        }
        for source in candidate.citation_metadata.into_iter().flat_map(|it| it.citation_sources) {
            out.citation(index, source.get());
        }
        if let Some(grounding) = candidate.grounding_metadata {
            if self.choices[at].grounding != grounding.get() {
                self.choices[at].grounding = grounding.get().to_owned();
                self.ground(index, grounding, out)?;
            }
        }
        if let Some(urls) = candidate.url_context_metadata {
            out.attribute("urlContextMetadata", urls.get());
        }
        if let Some(json) = candidate.logprobs_result.and_then(|result| result.json()) {
            out.logprobs(index, json);
        }
        let choice = &mut self.choices[at];
        let Some(reason) = candidate.finish_reason.filter(|reason| {
            !choice.finished && !matches!(reason.as_ref(), "" | "FINISH_REASON_UNSPECIFIED")
        }) else {
            return Ok(());
        };
        choice.finished = true;
        if !choice.others.is_empty() {
            out.attribute("parts", ["[", &choice.others, "]"].concat());
        }
        let calls = choice.calls > 0;
        let reason = match reason.as_ref() {
            "STOP" if calls => FinishReason::ToolCalls,
            "STOP" => FinishReason::Stop,
            "MAX_TOKENS" => FinishReason::Length,
            blocked if is_blocked(blocked) => {
                for (name, json) in [
                    ("finishMessage", candidate.finish_message),
                    ("safetyRatings", candidate.safety_ratings),
                ] {
                    if let Some(json) = json {
                        out.attribute(name, json.get());
                    }
                }
                FinishReason::ContentFilter
            }
            other => {
                // With several choices the others may still be good.
                if self.wanted <= 1 {
                    self.broken = broken(other, candidate.finish_message);
                }
                FinishReason::Other(other.to_owned())
            }
        };
        if self.broken.is_none() {
            out.finish(index, reason);
        }
        Ok(())
    }

    /// Each support of the search results as a citation with what it refers to, and all of it as
    /// an attribute: the vendor's terms want parts of it shown.
    fn ground(&mut self, choice: u32, json: &RawValue, out: &mut Output) -> Result<(), Failure> {
        let grounding: Grounding<'_> = parse(json.get())?;
        self.searches = self.searches.max(grounding.web_search_queries.len());
        for support in grounding.grounding_supports {
            let Support { grounding_chunk_indices } = parse(support.get())?;
            let mut citation = String::with_capacity(256);
            citation.push_str("{\"groundingSupport\":");
            citation.push_str(support.get());
            citation.push_str(",\"groundingChunks\":[");
            let chunks = grounding_chunk_indices
                .into_iter()
                .filter_map(|index| grounding.grounding_chunks.get(index));
            for (n, chunk) in chunks.enumerate() {
                if n > 0 {
                    citation.push(',');
                }
                citation.push_str(chunk.get());
            }
            citation.push_str("]}");
            out.citation(choice, citation);
        }
        out.attribute("groundingMetadata", json.get());
        Ok(())
    }
}

impl Choice {
    fn new(index: u32) -> Self {
        let (grounding, others) = (String::new(), String::new());
        Self { index, calls: 0, finished: false, grounding, others }
    }

    fn part(&mut self, json: &RawValue, out: &mut Output) -> Result<(), Failure> {
        let part: Part<'_> = parse(json.get())?;
        let index = self.index;
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        // Before the part it came with, but after thinking, whose signature it then is.
        let (before, after) = if part.thought { (None, signature) } else { (signature, None) };
        if let Some(signature) = before {
            out.thinking_signature(index, signature);
        }
        if let Some(text) = part.text {
            match part.thought {
                _ if text.is_empty() => {}
                true => out.thinking(index, text),
                false => out.text(index, text),
            }
        } else if let Some(call) = part.function_call {
            let number = self.calls;
            self.calls += 1;
            out.tool_call(index, number, call.id.unwrap_or_default(), call.name);
            out.tool_arguments(index, number, call.args.map_or("{}", RawValue::get));
        } else if let Some(blob) = part.inline_data {
            let kind = match blob.mime_type.split('/').next() {
                Some("image") => MediaKind::Image,
                Some("audio") => MediaKind::Audio,
                Some("video") => MediaKind::Video,
                _ => MediaKind::File,
            };
            // A sketch of a thinking model isn't the answer.
            if !part.thought {
                out.media(index, kind, blob.mime_type, blob.data.0);
            }
        } else {
            if !self.others.is_empty() {
                self.others.push(',');
            }
            self.others.push_str(json.get());
        }
        if let Some(signature) = after {
            out.thinking_signature(index, signature);
        }
        Ok(())
    }
}

impl PromptFeedback<'_> {
    fn failure(&self) -> Failure {
        let mut message = match self.block_reason_message.as_ref() {
            "" => format!("Gemini blocked the prompt ({}).", self.block_reason),
            said => said.to_owned(),
        };
        let harmful = |rating: &&SafetyRating<'_>| rating.blocked || rating.probability == "HIGH";
        for rating in self.safety_ratings.iter().filter(harmful) {
            message.push_str(&format!(" {}: {}.", rating.category, rating.probability));
        }
        Failure::of(FailureKind::ContentBlocked, message).with_code(self.block_reason.as_ref())
    }
}

/// Reasons that stand for a filter's work.
fn is_blocked(reason: &str) -> bool {
    matches!(
        reason,
        "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
    )
}

/// The failure that a reason without any answer stands for.
fn broken(reason: &str, message: Option<&RawValue>) -> Option<Failure> {
    let kind = match reason {
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE" => FailureKind::MalformedAnswer,
        "MISSING_THOUGHT_SIGNATURE" => FailureKind::InvalidRequest,
        _ => return None,
    };
    let said = message.and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    let message = match said {
        Some(said) if !said.is_empty() => said,
        _ => format!("The model's answer can't be used ({reason})."),
    };
    Some(Failure::of(kind, message).with_code(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &str = r#"{"candidates":[{"content":{"parts":[{"text":"a\u00e9","thought":true,"thoughtSignature":"c2ln"},{"functionCall":{"id":"c","name":"f","args":{"a":[1,"é"]}}},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"executableCode":{}}],"role":"model"},"finishReason":"STOP","index":4294967295,"citationMetadata":{"citationSources":[{}]},"groundingMetadata":{"groundingChunks":[{}],"groundingSupports":[{"groundingChunkIndices":[0,18446744073709551615]}],"webSearchQueries":["q"]},"logprobsResult":{"chosenCandidates":[{"token":"a","logProbability":-1e300}]}}],"promptFeedback":{"blockReason":"","safetyRatings":[]},"usageMetadata":{"promptTokenCount":18446744073709551615,"toolUsePromptTokenCount":9,"candidatesTokenCount":2,"thoughtsTokenCount":18446744073709551615},"modelVersion":"m","responseId":"r","error":null}"#;

    fn answer() -> Answer {
        Answer {
            traits: traits("gemini-3.1-pro-preview"),
            wanted: 1,
            started: false,
            choices: Vec::new(),
            counted: UsageMetadata::default(),
            searches: 0,
            broken: None,
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_malformed_and_nothing_worse() {
        let mut whole = answer();
        whole.chunk(CHUNK, &mut Output::default()).unwrap();
        whole.end().unwrap();
        for cut in (0..CHUNK.len()).filter(|&cut| CHUNK.is_char_boundary(cut)) {
            let (mut answer, mut out) = (answer(), Output::default());
            let failure = answer.whole(&CHUNK[..cut], &mut out).unwrap_err();
            assert_eq!(failure.kind, FailureKind::MalformedAnswer, "{cut}");
        }
    }

    #[test]
    fn a_damaged_answer_never_panics() {
        for at in 0..CHUNK.len() {
            for byte in *b"0\"{}[],x" {
                let mut bytes = CHUNK.as_bytes().to_vec();
                bytes[at] = byte;
                let text = String::from_utf8_lossy(&bytes);
                let (mut answer, mut out) = (answer(), Output::default());
                let _ = answer.whole(&text, &mut out);
                let _ = answer.end();
                assert!(!error::in_body(400, &text).message.is_empty());
            }
        }
    }
}
