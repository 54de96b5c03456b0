//! Events folded into one answer, and what a folded and a streamed answer share.
//!
//! `/api/chat` and `/api/generate` say the same in two forms ([`Form`]); both are objects that end
//! with `done`, whole or a piece a line. Beyond Ollama's own fields a message has `thinking_blocks`
//! where the vendor signs or encrypts its thinking (callers send them back unchanged) and
//! `annotations` where it cites; the last object has `stop_sequence` where the vendor tells.
//! Answer fields that the contract doesn't know stand where the vendor had them, at the top level.
//!
//! Times are those of the host, unless the vendor is an Ollama and gives its own: up to the first
//! piece counts as evaluating the prompt, the rest as evaluating the answer. An answer that came
//! whole can't be divided, so all of it is the latter. Loading a model is nothing the host sees.

use std::{
    borrow::Cow,
    io::Write as _,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use keyward::{
    Failure,
    contract::{Annotation, Event, FinishReason, MediaKind, Warning},
    ids::RequestId,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    calls::{Call, Calls},
    line::write_json,
};
use crate::dialect::{
    Folder,
    events::{Counts, Warnings, one_line},
};

/// There is one answer to a prompt in this dialect, and nobody can ask for more.
pub const CHOICE: u32 = 0;

/// Top-level fields that are the host's to write.
const RESERVED: &[&str] = &[
    "model",
    "created_at",
    "message",
    "response",
    "thinking",
    "done",
    "done_reason",
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "eval_count",
    "logprobs",
    "stop_sequence",
    "embeddings",
    "embedding",
    "error",
];

/// In a generation what a message holds stands at the top level as well.
const RESERVED_BESIDE_RESPONSE: &[&str] =
    &["thinking_blocks", "tool_calls", "image", "images", "annotations"];

/// How an answer says what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `message: {role, content, …}`.
    Chat,
    /// `response`, and everything else beside it.
    Generate,
}

/// What all objects of an answer have in common.
pub struct Head {
    form: Form,
    /// Everything up to the time.
    prefix: Vec<u8>,
}

/// What one object of an answer adds.
#[derive(Default)]
pub struct Piece<'a> {
    pub content: &'a str,
    pub thinking: &'a str,
    pub thinking_blocks: &'a [Block],
    pub calls: &'a [Call],
    /// Base64.
    pub images: &'a [&'a str],
    pub annotations: &'a [&'a RawValue],
    pub logprobs: &'a [&'a RawValue],
}

/// Thinking to be sent back unchanged.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Thinking { thinking: String, signature: String },
    RedactedThinking { data: String },
}

impl Head {
    /// `model` is what the caller called it: clients compare.
    pub fn new(form: Form, model: &str) -> Self {
        let mut prefix = b"{\"model\":".to_vec();
        write_json(model, &mut prefix);
        prefix.extend_from_slice(b",\"created_at\":\"");
        Self { form, prefix }
    }

    /// One object, the last one with its end.
    pub fn write(&self, piece: &Piece<'_>, end: Option<&Closing>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        write_time(out);
        match self.form {
            Form::Chat => {
                out.extend_from_slice(b"\",\"message\":{\"role\":\"assistant\",\"content\":");
                self.write_piece(piece, out);
                out.push(b'}');
            }
            Form::Generate => {
                out.extend_from_slice(b"\",\"response\":");
                self.write_piece(piece, out);
            }
        }
        list("logprobs", piece.logprobs, out);
        match end {
            None => out.extend_from_slice(b",\"done\":false"),
            Some(end) => end.write(self.form, out),
        }
        out.push(b'}');
    }

    fn write_piece(&self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        write_json(piece.content, out);
        if !piece.thinking.is_empty() {
            entry("thinking", piece.thinking, out);
        }
        list("thinking_blocks", piece.thinking_blocks, out);
        list("tool_calls", piece.calls, out);
        match (self.form, piece.images) {
            // The field that this form has for it.
            (Form::Generate, [image]) => entry("image", image, out),
            (_, images) => list("images", images, out),
        }
        list("annotations", piece.annotations, out);
    }
}

/// The time as Ollama gives it.
fn write_time(out: &mut Vec<u8>) {
    let written = write!(out, "{:.9}", Timestamp::now());
    debug_assert!(written.is_ok());
}

fn entry(name: &str, value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    out.push(b',');
    write_json(name, out);
    out.push(b':');
    write_json(value, out);
}

fn list(name: &str, values: &[impl Serialize], out: &mut Vec<u8>) {
    if !values.is_empty() {
        entry(name, values, out);
    }
}

/// When what happened.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub began: Instant,
    /// The first piece of a stream.
    pub first: Option<Instant>,
}

impl Clock {
    pub fn since(began: Instant) -> Self {
        Self { began, first: None }
    }
}

/// What stands in an answer's last object, gathered while it comes.
pub struct Closing {
    reason: Option<Cow<'static, str>>,
    stop_sequence: Option<String>,
    counts: Counts,
    attributes: Vec<(String, Box<RawValue>)>,
    pub warnings: Warnings,
    pub clock: Clock,
}

impl Closing {
    pub fn new(clock: Clock) -> Self {
        Self {
            reason: None,
            stop_sequence: None,
            counts: Counts::default(),
            attributes: Vec::new(),
            warnings: Warnings::default(),
            clock,
        }
    }

    /// Of an answer that ends before it begins.
    pub fn for_reason(reason: &'static str, clock: Clock) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(clock) }
    }

    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Usage(usage) => self.counts.add(usage),
            Event::Finish(finish) if finish.choice == CHOICE && self.reason.is_none() => {
                self.reason = Some(reason(&finish.reason));
                self.stop_sequence.clone_from(&finish.stop_sequence);
            }
            Event::Attribute(field) if !RESERVED.contains(&field.name.as_str()) => {
                if let Some(json) = one_line(&field.json) {
                    self.attributes.retain(|(name, _)| *name != field.name);
                    self.attributes.push((field.name.clone(), json.into_owned()));
                }
            }
            Event::Warning(warning) => self.warnings.add(warning),
            // Ollama has nowhere to put them.
            Event::Media(media) if media.kind != MediaKind::Image => {
                self.warnings.add(&Warning {
                    code: "dropped".into(),
                    subject: "media".into(),
                    message: String::new(),
                });
            }
            _ => {}
        }
    }

    fn write(&self, form: Form, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"done\":true");
        entry("done_reason", self.reason.as_deref().unwrap_or("stop"), out);
        if let Some(stop) = &self.stop_sequence {
            entry("stop_sequence", stop, out);
        }
        self.write_totals(if form == Form::Generate { RESERVED_BESIDE_RESPONSE } else { &[] }, out);
        let Clock { began, first } = self.clock;
        let first = first.unwrap_or(began);
        self.duration("prompt_eval_duration", first - began, out);
        count("eval_count", self.counts.output, out);
        self.duration("eval_duration", first.elapsed(), out);
    }

    /// What embeddings have as well: the total, the tokens read, and what else the vendor told, but
    /// for fields that are `taken`.
    pub fn write_totals(&self, taken: &[&str], out: &mut Vec<u8>) {
        self.duration("total_duration", self.clock.began.elapsed(), out);
        self.duration("load_duration", Duration::ZERO, out);
        count("prompt_eval_count", self.counts.input, out);
        count("prompt_eval_cached_count", self.counts.cache_read, out);
        let free = |(name, _): &&(String, _)| !taken.contains(&name.as_str());
        for (name, json) in self.attributes.iter().filter(free) {
            entry(name, json, out);
        }
    }

    /// The host's, where the vendor gives none.
    fn duration(&self, name: &str, time: Duration, out: &mut Vec<u8>) {
        if !self.attributes.iter().any(|(given, _)| given == name) {
            entry(name, &u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), out);
        }
    }
}

fn count(name: &str, count: Option<u64>, out: &mut Vec<u8>) {
    if let Some(count) = count {
        entry(name, &count, out);
    }
}

/// Ollama says "stop" and "length", "stop" for tool calls as well. Its clients take any word.
fn reason(reason: &FinishReason) -> Cow<'static, str> {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => "stop".into(),
        FinishReason::Length => "length".into(),
        FinishReason::ContentFilter => "content_filter".into(),
        FinishReason::Refusal => "refusal".into(),
        FinishReason::Other(word) => word.clone().into(),
    }
}

/// Log probabilities in the contract's frame, which is OpenAI's.
#[derive(Deserialize)]
struct LogprobsPiece<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    refusal: Option<Vec<&'a RawValue>>,
}

/// One entry a token; nothing if they can't be read.
pub fn logprobs(piece: &Annotation) -> Vec<Box<RawValue>> {
    let Ok(LogprobsPiece { content, refusal }) = serde_json::from_str(&piece.json) else {
        return Vec::new();
    };
    let tokens = content.into_iter().chain(refusal).flatten();
    tokens.filter_map(|token| one_line(token.get()).map(Cow::into_owned)).collect()
}

/// Folds the events of one answer into one object.
pub struct AnswerFolder {
    head: Head,
    content: String,
    thinking: String,
    /// How much of `thinking` stands in `blocks` already.
    signed: usize,
    blocks: Vec<Block>,
    calls: Calls,
    images: Vec<String>,
    annotations: Vec<Box<RawValue>>,
    logprobs: Vec<Box<RawValue>>,
    closing: Closing,
}

impl AnswerFolder {
    pub fn new(head: Head, request: RequestId, clock: Clock) -> Self {
        Self {
            head,
            content: String::new(),
            thinking: String::new(),
            signed: 0,
            blocks: Vec::new(),
            calls: Calls::new(request),
            images: Vec::new(),
            annotations: Vec::new(),
            logprobs: Vec::new(),
            closing: Closing::new(clock),
        }
    }
}

impl Folder for AnswerFolder {
    fn warnings(&self) -> &Warnings {
        &self.closing.warnings
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            self.closing.add(&event);
            match event {
                Event::Text(delta) | Event::Refusal(delta) if delta.choice == CHOICE => {
                    push(&mut self.content, delta.text);
                }
                Event::Thinking(delta) if delta.choice == CHOICE => {
                    push(&mut self.thinking, delta.text);
                }
                Event::ThinkingSignature(delta) if delta.choice == CHOICE => {
                    let thinking = self.thinking[self.signed..].to_owned();
                    self.signed = self.thinking.len();
                    self.blocks.push(Block::Thinking { thinking, signature: delta.text });
                }
                Event::RedactedThinking(delta) if delta.choice == CHOICE => {
                    self.blocks.push(Block::RedactedThinking { data: delta.text });
                }
                Event::ToolCall(start) if start.choice == CHOICE => self.calls.begin(&start)?,
                Event::ToolArguments(piece) if piece.choice == CHOICE => self.calls.add(&piece)?,
                Event::Citation(citation) if citation.choice == CHOICE => {
                    self.annotations.extend(one_line(&citation.json).map(Cow::into_owned));
                }
                Event::Logprobs(piece) if piece.choice == CHOICE => {
                    self.logprobs.extend(logprobs(&piece));
                }
                Event::Media(media) if media.kind == MediaKind::Image => {
                    self.images.push(media.base64);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Failure> {
        let calls = self.calls.rest()?;
        let images: Vec<&str> = self.images.iter().map(String::as_str).collect();
        let annotations: Vec<&RawValue> = self.annotations.iter().map(|json| &**json).collect();
        let logprobs: Vec<&RawValue> = self.logprobs.iter().map(|json| &**json).collect();
        let piece = Piece {
            content: &self.content,
            thinking: &self.thinking,
            thinking_blocks: &self.blocks,
            calls: &calls,
            images: &images,
            annotations: &annotations,
            logprobs: &logprobs,
        };
        let length = self.content.len() + self.thinking.len();
        let mut out = Vec::with_capacity(1024 + length + length / 8);
        self.head.write(&piece, Some(&self.closing), &mut out);
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

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(in crate::ollama) mod tests;
