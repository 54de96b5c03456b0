//! Events as `chat.completion.chunk`s, as they come.
//!
//! [`ChunkWriter`] writes JSON straight into the bytes that go out: the part all chunks of an answer
//! share is kept ready, so a text delta costs one copy of that and one escaped string. All events
//! that arrived together become one body frame.
//!
//! After a valid end comes `data: [DONE]`. After a failure comes `data: {"error": …}` and *no*
//! `[DONE]`: OpenAI's SDKs raise `APIError` at the error object, and a client that doesn't know such
//! objects sees a stream without its end.

use keyward::{
    Failure,
    contract::{self, Event, MediaKind},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    answer::{self, Audio, Block, Ending, Identity, Image},
    error,
};
use crate::dialect::{
    events::{
        Counts, MAX_CALLS, MAX_CHOICES, Warnings, call_id, one_line, too_many, unknown_call,
        write_json,
    },
    stream::StreamWriter,
};

/// Answer fields that OpenAI repeats in each chunk. All others are written once.
const REPEATED: &[&str] = &["service_tier", "system_fingerprint"];

/// Writes one answer's events as chunks.
pub struct ChunkWriter {
    identity: Identity,
    include_usage: bool,
    /// Everything of a chunk up to its choices. Empty until the first chunk, and again when
    /// something in it has changed.
    prefix: Vec<u8>,
    repeated: Vec<(String, Box<RawValue>)>,
    /// Answer fields for the next chunk alone.
    once: Vec<(String, Box<RawValue>)>,
    choices: Vec<Progress>,
    counts: Counts,
    warnings: Warnings,
}

#[derive(Default)]
struct Progress {
    index: u32,
    finished: bool,
    refused: bool,
    /// Indexes of the tool calls that have begun.
    calls: Vec<u32>,
    /// Thinking that has no signature yet.
    thinking: String,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

impl<'a> Choice<'a> {
    fn new(index: u32, delta: Delta<'a>) -> Self {
        Self {
            index,
            delta,
            logprobs: None,
            finish_reason: None,
            native_finish_reason: None,
            stop_reason: None,
        }
    }
}

/// What is new. The double options are fields that the first chunk has as null.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_blocks: Option<[Block; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Call<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[&'a RawValue; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[Image; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<Audio<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl ChunkWriter {
    pub fn new(identity: Identity, include_usage: bool) -> Self {
        Self {
            identity,
            include_usage,
            prefix: Vec::new(),
            repeated: Vec::new(),
            once: Vec::new(),
            choices: Vec::with_capacity(1),
            counts: Counts::default(),
            warnings: Warnings::default(),
        }
    }

    fn write_one(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started(started) if self.choices.is_empty() => {
                self.identity.started(started.clone());
                self.prefix.clear();
            }
            Event::Thinking(delta) => {
                let at = self.begin(delta.choice, out)?;
                self.choices[at].thinking.push_str(&delta.text);
                let reasoning_content = Some(&*delta.text);
                self.delta(delta.choice, Delta { reasoning_content, ..Delta::default() }, out);
            }
            Event::ThinkingSignature(delta) => {
                let at = self.begin(delta.choice, out)?;
                let thinking = std::mem::take(&mut self.choices[at].thinking);
                let block = Block::Thinking { thinking, signature: delta.text.clone() };
                self.block(delta.choice, block, out);
            }
            Event::RedactedThinking(delta) => {
                self.begin(delta.choice, out)?;
                self.block(delta.choice, Block::RedactedThinking { data: delta.text.clone() }, out);
            }
            Event::ToolCall(start) => self.tool_call(start, out)?,
            Event::ToolArguments(piece) => {
                let progress = self.choices.iter().find(|progress| progress.index == piece.choice);
                if !progress.is_some_and(|progress| progress.calls.contains(&piece.index)) {
                    return Err(unknown_call());
                }
                let function = Function { name: None, arguments: &piece.fragment };
                let call = Call { index: piece.index, id: None, r#type: None, function };
                let tool_calls = Some([call]);
                self.delta(piece.choice, Delta { tool_calls, ..Delta::default() }, out);
            }
            Event::Citation(citation) => {
                if let Some(json) = one_line(&citation.json) {
                    self.begin(citation.choice, out)?;
                    let annotations = Some([&*json]);
                    self.delta(citation.choice, Delta { annotations, ..Delta::default() }, out);
                }
            }
            Event::Media(media) => {
                let mut delta = Delta::default();
                match media.kind {
                    MediaKind::Image => delta.images = Some([Image::new(media)]),
                    MediaKind::Audio => {
                        delta.audio = Some(Audio::new(&self.identity, &media.base64));
                    }
                    // This dialect has no place for them.
                    MediaKind::Video | MediaKind::File => return Ok(()),
                }
                self.begin(media.choice, out)?;
                self.delta(media.choice, delta, out);
            }
            Event::Usage(usage) => self.counts.add(usage),
            Event::Finish(finish) => {
                let at = self.begin(finish.choice, out)?;
                let refused = self.choices[at].refused;
                self.end_choice(at, &Ending::new(finish.clone(), refused), out);
            }
            Event::Warning(warning) => self.warnings.add(warning),
            // Attributes, texts and log probabilities are dealt with above.
            _ => {}
        }
        Ok(())
    }

    fn text(
        &mut self,
        text: &contract::TextDelta,
        is_refusal: bool,
        logprobs: Option<&contract::Annotation>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let at = self.begin(text.choice, out)?;
        let mut delta = Delta::default();
        if is_refusal {
            self.choices[at].refused = true;
            delta.refusal = Some(Some(&text.text));
        } else {
            delta.content = Some(Some(&text.text));
        }
        let logprobs = logprobs.and_then(|piece| one_line(&piece.json));
        let choice = Choice { logprobs: logprobs.as_deref(), ..Choice::new(text.choice, delta) };
        self.chunk(Some(&choice), None, out);
        Ok(())
    }

    /// Log probabilities without a text beside them.
    fn logprobs(&mut self, piece: &contract::Annotation, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(json) = one_line(&piece.json) else { return Ok(()) };
        self.begin(piece.choice, out)?;
        let choice =
            Choice { logprobs: Some(&json), ..Choice::new(piece.choice, Delta::default()) };
        self.chunk(Some(&choice), None, out);
        Ok(())
    }

    /// The first call of a choice carries the role itself, as OpenAI's does.
    fn tool_call(
        &mut self,
        start: &contract::ToolCallStart,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (at, new) = self.progress(start.choice)?;
        let calls = &mut self.choices[at].calls;
        if calls.len() >= MAX_CALLS {
            return Err(too_many("tool calls", MAX_CALLS));
        }
        calls.push(start.index);
        let made;
        let id = if start.id.is_empty() {
            made = call_id(self.identity.request, start.choice, start.index);
            &made
        } else {
            &start.id
        };
        let function = Function { name: Some(&start.name), arguments: "" };
        let call = Call { index: start.index, id: Some(id), r#type: Some("function"), function };
        let mut delta = Delta { tool_calls: Some([call]), ..Delta::default() };
        if new {
            delta.role = Some("assistant");
            delta.content = Some(None);
            delta.refusal = Some(None);
        }
        self.delta(start.choice, delta, out);
        Ok(())
    }

    fn attribute(&mut self, name: &str, json: &str) {
        let Some(json) = answer::attribute(name, json) else { return };
        let fields = match REPEATED.contains(&name) {
            true => {
                self.prefix.clear();
                &mut self.repeated
            }
            false => &mut self.once,
        };
        fields.retain(|(known, _)| known != name);
        fields.push((name.to_owned(), json));
    }

    fn block(&mut self, choice: u32, block: Block, out: &mut Vec<u8>) {
        let thinking_blocks = Some([block]);
        self.delta(choice, Delta { thinking_blocks, ..Delta::default() }, out);
    }

    /// Where a choice stands, and whether it is new.
    fn progress(&mut self, index: u32) -> Result<(usize, bool), Failure> {
        if let Some(at) = self.choices.iter().position(|progress| progress.index == index) {
            return Ok((at, false));
        }
        if self.choices.len() >= MAX_CHOICES as usize {
            return Err(too_many("choices", MAX_CHOICES));
        }
        self.choices.push(Progress { index, ..Progress::default() });
        Ok((self.choices.len() - 1, true))
    }

    /// Where a choice stands; a new one is opened by a chunk that gives the role.
    fn begin(&mut self, index: u32, out: &mut Vec<u8>) -> Result<usize, Failure> {
        let (at, new) = self.progress(index)?;
        if new {
            let mut delta = Delta { role: Some("assistant"), ..Delta::default() };
            delta.content = Some(Some(""));
            delta.refusal = Some(None);
            self.delta(index, delta, out);
        }
        Ok(at)
    }

    fn end_choice(&mut self, at: usize, ending: &Ending, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.choices[at].finished, true) {
            return;
        }
        let choice = Choice {
            finish_reason: Some(ending.reason),
            native_finish_reason: ending.native.as_deref(),
            stop_reason: ending.stop_sequence.as_deref(),
            ..Choice::new(self.choices[at].index, Delta::default())
        };
        self.chunk(Some(&choice), None, out);
    }

    fn delta(&mut self, index: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        self.chunk(Some(&Choice::new(index, delta)), None, out);
    }

    /// One event of the stream.
    fn chunk(
        &mut self,
        choice: Option<&Choice<'_>>,
        usage: Option<&answer::Usage>,
        out: &mut Vec<u8>,
    ) {
        if self.prefix.is_empty() {
            self.write_prefix();
        }
        out.extend_from_slice(&self.prefix);
        for (name, json) in self.once.drain(..) {
            write_field(&name, &json, out);
        }
        out.extend_from_slice(b"\"choices\":[");
        if let Some(choice) = choice {
            write_json(choice, out);
        }
        out.push(b']');
        if let Some(usage) = usage {
            out.extend_from_slice(b",\"usage\":");
            write_json(usage, out);
        } else if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn write_prefix(&mut self) {
        let prefix = &mut self.prefix;
        prefix.extend_from_slice(b"data: {\"id\":");
        write_json(&self.identity.id, prefix);
        prefix.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        write_json(&self.identity.created, prefix);
        prefix.extend_from_slice(b",\"model\":");
        write_json(&self.identity.model, prefix);
        prefix.push(b',');
        for (name, json) in &self.repeated {
            write_field(name, json, prefix);
        }
    }
}

impl StreamWriter for ChunkWriter {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const KEEP_ALIVE: &'static [u8] = b": keep-alive\n\n";

    fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    fn write(&mut self, events: &[Event], out: &mut Vec<u8>) -> Result<(), Failure> {
        // These stand in the chunks that they arrived with, wherever the adapter put them.
        for event in events {
            if let Event::Attribute(field) = event {
                self.attribute(&field.name, &field.json);
            }
        }
        // Log probabilities belong into the chunk of their text: the one just before or after.
        let mut held: Option<&contract::Annotation> = None;
        let mut events = events.iter().peekable();
        while let Some(event) = events.next() {
            match event {
                Event::Text(delta) | Event::Refusal(delta) => {
                    let is_refusal = matches!(event, Event::Refusal(_));
                    let mut logprobs = held.take_if(|held| held.choice == delta.choice);
                    if logprobs.is_none()
                        && let Some(Event::Logprobs(next)) = events.peek()
                        && next.choice == delta.choice
                    {
                        logprobs = Some(next);
                        events.next();
                    }
                    self.text(delta, is_refusal, logprobs, out)?;
                }
                Event::Logprobs(piece) => {
                    if let Some(earlier) = held.replace(piece) {
                        self.logprobs(earlier, out)?;
                    }
                }
                other => self.write_one(other, out)?,
            }
        }
        held.map_or(Ok(()), |held| self.logprobs(held, out))
    }

    /// The valid end: every choice has ended, the usage if it was asked for, `[DONE]`.
    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.choices.is_empty() {
            // There is room for the first choice.
            let _ = self.begin(0, out);
        }
        for at in 0..self.choices.len() {
            let ending = Ending::unsaid(!self.choices[at].calls.is_empty());
            self.end_choice(at, &ending, out);
        }
        if let (true, Some(usage)) = (self.include_usage, answer::Usage::of(&self.counts)) {
            self.chunk(None, Some(&usage), out);
        }
        if !self.once.is_empty() || self.prefix.is_empty() {
            // Fields that came behind the last chunk. Many clients take no chunk without a choice.
            self.delta(self.choices[0].index, Delta::default(), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&error::to_json(failure));
        out.extend_from_slice(b"\n\n");
    }
}

fn write_field(name: &str, json: &RawValue, out: &mut Vec<u8>) {
    write_json(&name, out);
    out.push(b':');
    out.extend_from_slice(json.get().as_bytes());
    out.push(b',');
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
