//! Events folded into one `chat.completion`, and what a folded and a streamed answer share.
//!
//! Beyond OpenAI's own fields, thinking is `reasoning_content`, where clients of DeepSeek and vLLM
//! look for it, and, where the vendor signs or encrypts it, also `thinking_blocks`, which callers
//! send back unchanged in the next request. Images are `images`, as OpenRouter has them. Answer
//! fields that the contract doesn't know stand where the vendor had them, at the top level.
//!
//! An adapter is a stranger, so nothing it counts with is used as a size: choices and tool calls
//! are kept in the order they appear, up to a limit, and JSON it gives is checked before it is
//! written. Memory is that of the answer, which the host caps before it comes here.

use std::borrow::Cow;

use keyward::{
    Failure,
    contract::{self, Event, FinishReason, MediaKind, MediaOutput},
    ids::{ModelName, RequestId},
};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

use crate::dialect::{
    Folder,
    events::{
        Counts, MAX_CALLS, MAX_CHOICES, Warnings, call_id, data_url, one_line, too_many,
        unknown_call, write_json,
    },
};

/// Top-level fields that are the host's to write.
const RESERVED: &[&str] = &["id", "object", "created", "model", "choices", "usage", "error"];

/// What names an answer: every chunk of a stream has the same.
#[derive(Clone, Debug)]
pub struct Identity {
    pub request: RequestId,
    /// The vendor's, or made from the request's.
    pub id: String,
    /// As the vendor names it, or as it was asked.
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
}

impl Identity {
    pub fn new(request: RequestId, asked: &ModelName, created: u64) -> Self {
        let id = format!("chatcmpl-{:032x}", request.0);
        Self { request, id, model: asked.as_str().to_owned(), created }
    }

    /// Takes over what the vendor says of itself.
    pub fn started(&mut self, started: contract::Started) {
        if let Some(id) = started.id.filter(|id| !id.is_empty()) {
            self.id = id;
        }
        if let Some(model) = started.model.filter(|model| !model.is_empty()) {
            self.model = model;
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

impl Usage {
    /// Nothing if the vendor counted nothing.
    pub fn of(counts: &Counts) -> Option<Self> {
        if counts.input.is_none() && counts.output.is_none() {
            return None;
        }
        let (input, output) = (counts.input.unwrap_or(0), counts.output.unwrap_or(0));
        Some(Self {
            prompt_tokens: input,
            completion_tokens: output,
            total_tokens: input.saturating_add(output),
            prompt_tokens_details: PromptDetails {
                cached_tokens: counts.cache_read.unwrap_or(0),
                cache_write_tokens: counts.cache_write,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: counts.reasoning.unwrap_or(0),
            },
        })
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

/// Why a choice ended, in this dialect's words.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub reason: &'static str,
    /// The vendor's own word, where this dialect has none for it.
    pub native: Option<String>,
    pub stop_sequence: Option<String>,
}

impl Ending {
    /// `refused` is true if the refusal has a text of its own: then OpenAI says "stop".
    pub fn new(finish: contract::Finish, refused: bool) -> Self {
        let (reason, native) = match finish.reason {
            FinishReason::Stop => ("stop", None),
            FinishReason::Length => ("length", None),
            FinishReason::ToolCalls => ("tool_calls", None),
            FinishReason::ContentFilter => ("content_filter", None),
            FinishReason::Refusal if refused => ("stop", None),
            FinishReason::Refusal => ("content_filter", None),
            // Typed clients fail on a word they don't know.
            FinishReason::Other(word) => ("stop", Some(word)),
        };
        Self { reason, native, stop_sequence: finish.stop_sequence }
    }

    /// For a choice that ended without a reason.
    pub fn unsaid(has_calls: bool) -> Self {
        let reason = if has_calls { "tool_calls" } else { "stop" };
        Self { reason, native: None, stop_sequence: None }
    }
}

/// An answer field the contract doesn't know, if it may stand in the answer.
pub fn attribute(name: &str, json: &str) -> Option<Box<RawValue>> {
    if RESERVED.contains(&name) {
        return None;
    }
    one_line(json).map(Cow::into_owned)
}

// ------------------------------------------------------------------------------------- folding

/// Folds the events of one chat into one answer.
pub struct ChatFolder {
    identity: Identity,
    choices: Vec<Choice>,
    counts: Counts,
    attributes: Vec<(String, Box<RawValue>)>,
    warnings: Warnings,
}

#[derive(Default)]
struct Choice {
    index: u32,
    content: String,
    refusal: String,
    thinking: String,
    /// How much of `thinking` stands in `blocks` already.
    signed: usize,
    blocks: Vec<Block>,
    calls: Vec<Call>,
    annotations: Vec<Box<RawValue>>,
    logprobs: Option<Logprobs>,
    images: Vec<Image>,
    audio: Option<String>,
    ending: Option<Ending>,
}

#[derive(Default)]
struct Logprobs {
    content: Option<Vec<Box<RawValue>>>,
    refusal: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
struct LogprobsPiece<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    refusal: Option<Vec<&'a RawValue>>,
}

/// Thinking to be sent back unchanged.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Thinking { thinking: String, signature: String },
    RedactedThinking { data: String },
}

struct Call {
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

#[derive(Serialize)]
pub struct Image {
    r#type: &'static str,
    image_url: ImageUrl,
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl Image {
    pub fn new(media: &MediaOutput) -> Self {
        Self { r#type: "image_url", image_url: ImageUrl { url: data_url(media) } }
    }
}

impl ChatFolder {
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            choices: Vec::with_capacity(1),
            counts: Counts::default(),
            attributes: Vec::new(),
            warnings: Warnings::default(),
        }
    }

    fn add_one(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Started(started) => self.identity.started(started),
            Event::Text(delta) => push(&mut self.choice(delta.choice)?.content, delta.text),
            Event::Refusal(delta) => push(&mut self.choice(delta.choice)?.refusal, delta.text),
            Event::Thinking(delta) => push(&mut self.choice(delta.choice)?.thinking, delta.text),
            Event::ThinkingSignature(delta) => {
                let choice = self.choice(delta.choice)?;
                let thinking = choice.thinking[choice.signed..].to_owned();
                choice.signed = choice.thinking.len();
                choice.blocks.push(Block::Thinking { thinking, signature: delta.text });
            }
            Event::RedactedThinking(delta) => {
                let block = Block::RedactedThinking { data: delta.text };
                self.choice(delta.choice)?.blocks.push(block);
            }
            Event::ToolCall(start) => {
                let id = match start.id.is_empty() {
                    true => call_id(self.identity.request, start.choice, start.index),
                    false => start.id,
                };
                let calls = &mut self.choice(start.choice)?.calls;
                if calls.len() >= MAX_CALLS {
                    return Err(too_many("tool calls", MAX_CALLS));
                }
                let (index, name) = (start.index, start.name);
                calls.push(Call { index, id, name, arguments: String::new() });
            }
            Event::ToolArguments(piece) => {
                let calls = &mut self.choice(piece.choice)?.calls;
                let call = calls.iter_mut().rfind(|call| call.index == piece.index);
                push(&mut call.ok_or_else(unknown_call)?.arguments, piece.fragment);
            }
            Event::Citation(citation) => {
                if let Some(json) = one_line(&citation.json) {
                    self.choice(citation.choice)?.annotations.push(json.into_owned());
                }
            }
            Event::Logprobs(piece) => self.choice(piece.choice)?.add_logprobs(&piece.json),
            Event::Media(media) => match media.kind {
                MediaKind::Audio => {
                    let audio = &mut self.choice(media.choice)?.audio;
                    push(audio.get_or_insert_default(), media.base64);
                }
                MediaKind::Image => {
                    self.choice(media.choice)?.images.push(Image::new(&media));
                }
                // This dialect has no place for them.
                MediaKind::Video | MediaKind::File => {}
            },
            Event::Usage(usage) => self.counts.add(&usage),
            Event::Finish(finish) => {
                let choice = self.choice(finish.choice)?;
                if choice.ending.is_none() {
                    choice.ending = Some(Ending::new(finish, !choice.refusal.is_empty()));
                }
            }
            Event::Attribute(field) => {
                if let Some(json) = attribute(&field.name, &field.json) {
                    self.attributes.retain(|(name, _)| *name != field.name);
                    self.attributes.push((field.name, json));
                }
            }
            Event::Warning(warning) => self.warnings.add(&warning),
            Event::Embedding(_) | Event::Model(_) | Event::RateLimit(_) | Event::Other(_) => {}
        }
        Ok(())
    }

    fn choice(&mut self, index: u32) -> Result<&mut Choice, Failure> {
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None if self.choices.len() < MAX_CHOICES as usize => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
            None => return Err(too_many("choices", MAX_CHOICES)),
        };
        Ok(&mut self.choices[at])
    }
}

impl Folder for ChatFolder {
    fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            self.add_one(event)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Failure> {
        if self.choices.is_empty() {
            self.choices.push(Choice::default());
        }
        self.choices.sort_by_key(|choice| choice.index);
        let length: usize =
            self.choices.iter().map(|choice| choice.content.len() + choice.thinking.len()).sum();
        let mut out = Vec::with_capacity(1024 + length + length / 8);
        write_json(&self, &mut out);
        Ok(out)
    }
}

/// Most answers come in one piece; that piece is kept, not copied.
fn push(into: &mut String, text: String) {
    if into.is_empty() {
        *into = text;
    } else {
        into.push_str(&text);
    }
}

impl Choice {
    /// Pieces are joined list by list, as a stream's reader would.
    fn add_logprobs(&mut self, json: &str) {
        let Ok(piece) = serde_json::from_str::<LogprobsPiece<'_>>(json) else { return };
        let all = self.logprobs.get_or_insert_default();
        for (into, from) in [(&mut all.content, piece.content), (&mut all.refusal, piece.refusal)] {
            if let Some(from) = from {
                into.get_or_insert_default().extend(from.into_iter().map(ToOwned::to_owned));
            }
        }
    }
}

impl Serialize for ChatFolder {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("id", &self.identity.id)?;
        object.serialize_entry("object", "chat.completion")?;
        object.serialize_entry("created", &self.identity.created)?;
        object.serialize_entry("model", &self.identity.model)?;
        object.serialize_entry("choices", &Choices(self))?;
        if let Some(usage) = Usage::of(&self.counts) {
            object.serialize_entry("usage", &usage)?;
        }
        for (name, json) in &self.attributes {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

struct Choices<'a>(&'a ChatFolder);

impl Serialize for Choices<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(self.0.choices.len()))?;
        for choice in &self.0.choices {
            list.serialize_element(&ChoiceOut(choice, &self.0.identity))?;
        }
        list.end()
    }
}

struct ChoiceOut<'a>(&'a Choice, &'a Identity);

impl Serialize for ChoiceOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(choice, identity) = self;
        let unsaid = Ending::unsaid(!choice.calls.is_empty());
        let ending = choice.ending.as_ref().unwrap_or(&unsaid);
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("index", &choice.index)?;
        object.serialize_entry("message", &MessageOut(choice, identity))?;
        object.serialize_entry("logprobs", &choice.logprobs.as_ref().map(LogprobsOut))?;
        object.serialize_entry("finish_reason", ending.reason)?;
        if let Some(native) = &ending.native {
            object.serialize_entry("native_finish_reason", native)?;
        }
        if let Some(stop) = &ending.stop_sequence {
            object.serialize_entry("stop_reason", stop)?;
        }
        object.end()
    }
}

struct LogprobsOut<'a>(&'a Logprobs);

impl Serialize for LogprobsOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(2))?;
        object.serialize_entry("content", &self.0.content)?;
        object.serialize_entry("refusal", &self.0.refusal)?;
        object.end()
    }
}

struct MessageOut<'a>(&'a Choice, &'a Identity);

impl Serialize for MessageOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(choice, identity) = self;
        let said_otherwise =
            !choice.calls.is_empty() || !choice.refusal.is_empty() || choice.audio.is_some();
        let content = (!choice.content.is_empty() || !said_otherwise).then_some(&choice.content);
        let refusal = (!choice.refusal.is_empty()).then_some(&choice.refusal);
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("role", "assistant")?;
        object.serialize_entry("content", &content)?;
        object.serialize_entry("refusal", &refusal)?;
        if !choice.thinking.is_empty() {
            object.serialize_entry("reasoning_content", &choice.thinking)?;
        }
        if !choice.blocks.is_empty() {
            object.serialize_entry("thinking_blocks", &choice.blocks)?;
        }
        if !choice.calls.is_empty() {
            let calls: Vec<CallOut<'_>> = choice.calls.iter().map(CallOut::from).collect();
            object.serialize_entry("tool_calls", &calls)?;
        }
        object.serialize_entry("annotations", &choice.annotations)?;
        if !choice.images.is_empty() {
            object.serialize_entry("images", &choice.images)?;
        }
        if let Some(data) = &choice.audio {
            object.serialize_entry("audio", &Audio::new(identity, data))?;
        }
        object.end()
    }
}

#[derive(Serialize)]
struct CallOut<'a> {
    id: &'a str,
    r#type: &'static str,
    function: FunctionOut<'a>,
}

#[derive(Serialize)]
struct FunctionOut<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a Call> for CallOut<'a> {
    fn from(call: &'a Call) -> Self {
        // Clients parse the text without looking; a tool without parameters has an empty object.
        let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
        let function = FunctionOut { name: &call.name, arguments };
        Self { id: &call.id, r#type: "function", function }
    }
}

/// Speech. The transcript stands in the content, where it came as text.
#[derive(Serialize)]
pub struct Audio<'a> {
    id: String,
    data: &'a str,
    expires_at: u64,
    transcript: &'static str,
}

impl<'a> Audio<'a> {
    pub fn new(identity: &Identity, data: &'a str) -> Self {
        let id = format!("audio_{:032x}", identity.request.0);
        Self { id, data, expires_at: identity.created, transcript: "" }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(in crate::openai) mod tests;
