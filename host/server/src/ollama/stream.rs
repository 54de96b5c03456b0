//! Events as lines, as they come: each a JSON object, the last one `done`.
//!
//! A text delta costs one copy of what all lines share, the time and one escaped string. All events
//! that arrived together become one body frame.
//!
//! After a failure comes a line `{"error": …}` and *no* `done`: Ollama's SDKs raise at the first,
//! and whoever doesn't know it misses the second. While the vendor is silent a space is sent now and
//! then. It stands before the next object, where JSON allows it; an empty line would be an object
//! that can't be read.

use std::{borrow::Cow, time::Instant};

use keyward::{
    Failure,
    contract::{self, Event, MediaKind},
    ids::RequestId,
};
use serde_json::value::RawValue;

use super::{
    answer::{self, Block, CHOICE, Clock, Closing, Head, Piece},
    calls::{Call, Calls},
    error,
};
use crate::dialect::{
    events::{Warnings, one_line},
    stream::StreamWriter,
};

/// Writes one answer's events as lines.
pub struct LineWriter {
    head: Head,
    calls: Calls,
    /// Thinking that has no signature yet.
    thinking: String,
    closing: Closing,
}

impl LineWriter {
    pub fn new(head: Head, request: RequestId, clock: Clock) -> Self {
        Self {
            head,
            calls: Calls::new(request),
            thinking: String::new(),
            closing: Closing::new(clock),
        }
    }

    fn line(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        self.closing.clock.first.get_or_insert_with(Instant::now);
        self.head.write(piece, None, out);
        out.push(b'\n');
    }

    /// A call a line, as Ollama does.
    fn give(&mut self, calls: &[Call], out: &mut Vec<u8>) {
        for call in calls {
            self.line(&Piece { calls: std::slice::from_ref(call), ..Piece::default() }, out);
        }
    }

    fn block(&mut self, block: Block, out: &mut Vec<u8>) {
        self.line(&Piece { thinking_blocks: &[block], ..Piece::default() }, out);
    }

    fn text(&mut self, content: &str, logprobs: Option<&contract::Annotation>, out: &mut Vec<u8>) {
        let logprobs = logprobs.map(answer::logprobs).unwrap_or_default();
        let logprobs: Vec<&RawValue> = logprobs.iter().map(|json| &**json).collect();
        self.line(&Piece { content, logprobs: &logprobs, ..Piece::default() }, out);
    }

    fn write_one(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Thinking(delta) if delta.choice == CHOICE => {
                self.thinking.push_str(&delta.text);
                self.line(&Piece { thinking: &delta.text, ..Piece::default() }, out);
            }
            Event::ThinkingSignature(delta) if delta.choice == CHOICE => {
                let thinking = std::mem::take(&mut self.thinking);
                self.block(Block::Thinking { thinking, signature: delta.text.clone() }, out);
            }
            Event::RedactedThinking(delta) if delta.choice == CHOICE => {
                self.block(Block::RedactedThinking { data: delta.text.clone() }, out);
            }
            Event::ToolCall(start) if start.choice == CHOICE => self.calls.begin(start)?,
            Event::ToolArguments(piece) if piece.choice == CHOICE => {
                self.calls.add(piece)?;
                let ready = self.calls.ready()?;
                self.give(&ready, out);
            }
            Event::Citation(citation) if citation.choice == CHOICE => {
                if let Some(json) = one_line(&citation.json).map(Cow::into_owned) {
                    self.line(&Piece { annotations: &[&json], ..Piece::default() }, out);
                }
            }
            Event::Media(media) if media.kind == MediaKind::Image => {
                self.line(&Piece { images: &[&media.base64], ..Piece::default() }, out);
            }
            Event::Finish(finish) if finish.choice == CHOICE => {
                let rest = self.calls.rest()?;
                self.give(&rest, out);
            }
            _ => {}
        }
        Ok(())
    }
}

impl StreamWriter for LineWriter {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const KEEP_ALIVE: &'static [u8] = b" ";

    fn warnings(&self) -> &Warnings {
        &self.closing.warnings
    }

    fn write(&mut self, events: &[Event], out: &mut Vec<u8>) -> Result<(), Failure> {
        // Log probabilities belong on the line of their text: the one just before or after.
        let mut held: Option<&contract::Annotation> = None;
        let mut events = events.iter().peekable();
        while let Some(event) = events.next() {
            self.closing.add(event);
            match event {
                Event::Text(delta) | Event::Refusal(delta) if delta.choice == CHOICE => {
                    let mut logprobs = held.take();
                    if logprobs.is_none()
                        && let Some(Event::Logprobs(next)) = events.peek()
                        && next.choice == CHOICE
                    {
                        logprobs = Some(next);
                        events.next();
                    }
                    self.text(&delta.text, logprobs, out);
                }
                Event::Logprobs(piece) if piece.choice == CHOICE => {
                    if let Some(earlier) = held.replace(piece) {
                        self.text("", Some(earlier), out);
                    }
                }
                other => self.write_one(other, out)?,
            }
        }
        if held.is_some() {
            self.text("", held, out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self.calls.rest() {
            Ok(rest) => self.give(&rest, out),
            Err(failure) => return self.fail(&failure, out),
        }
        self.head.write(&Piece::default(), Some(&self.closing), out);
        out.push(b'\n');
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(&error::to_json(&failure.message));
        out.push(b'\n');
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
