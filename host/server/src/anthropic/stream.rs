//! Events as Anthropic streams them: `message_start`, each content block from its
//! `content_block_start` to its `content_block_stop`, `message_delta`, `message_stop`.
//!
//! Clients of this dialect expect one block at a time, while other vendors' tool calls may come
//! interleaved. So blocks stand in a row: the first one is open and goes out as it comes, what
//! belongs to later ones waits. A call's turn is over when its arguments are a complete JSON value,
//! that of any other block when the next one begins. Waiting bytes are part of an answer whose
//! length the host caps.
//!
//! The end is written when the vendor's events are over, because other vendors count tokens after
//! they have told why they stopped. After a failure comes `event: error` and no `message_stop`.

use std::collections::VecDeque;

use keyward::{
    Failure,
    contract::{self, Event},
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::{
    answer::{
        self, BlockFields, CHOICE, Ending, Identity, MAX_BLOCKS, OwnBlock, Usage, attribute,
        block_fields, own_block, own_delta,
    },
    error,
};
use crate::dialect::{
    events::{Warnings, call_id, one_line, too_many, unknown_call, write_json},
    stream::StreamWriter,
};

/// Answer fields that stand beside `delta` in `message_delta`; all others stand in it.
const BESIDE_DELTA: &[&str] = &["context_management"];

/// Writes one answer's events in this dialect.
pub struct EventWriter {
    identity: Identity,
    /// `message_start` is out.
    started: bool,
    /// Those that aren't closed; the first one is open.
    blocks: VecDeque<Block>,
    /// Blocks that have begun so far.
    begun: usize,
    /// Indexes of the calls among them.
    calls: Vec<u32>,
    usage: Usage,
    ending: Ending,
    attributes: Vec<(String, Box<RawValue>)>,
    /// Of the block that begins next.
    fields: BlockFields,
    warnings: Warnings,
}

struct Block {
    /// Its place in the message.
    index: usize,
    kind: Kind,
    /// What waits until it is open.
    waiting: Vec<u8>,
}

enum Kind {
    Text,
    Thinking {
        signed: bool,
    },
    Call {
        index: u32,
        arguments: Completeness,
    },
    /// Encrypted thinking, which comes whole.
    Redacted,
    /// Of the vendor's own.
    Other,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Start<'a> {
    Text { text: &'static str },
    Thinking { thinking: &'static str, signature: &'static str },
    RedactedThinking { data: &'a str },
    ToolUse { id: &'a str, name: &'a str, input: Empty },
}

#[derive(Serialize)]
struct StartWith<'a, S: Serialize + ?Sized> {
    #[serde(flatten)]
    start: &'a S,
    #[serde(flatten)]
    fields: BlockFields,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: &'a RawValue },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

impl EventWriter {
    pub fn new(identity: Identity, warnings: Warnings) -> Self {
        Self {
            identity,
            started: false,
            blocks: VecDeque::with_capacity(1),
            begun: 0,
            calls: Vec::new(),
            usage: Usage::default(),
            ending: Ending::default(),
            attributes: Vec::new(),
            fields: BlockFields::new(),
            warnings,
        }
    }

    fn write_one(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match event {
            Event::Started(started) if !self.started => self.identity.started(started.clone()),
            Event::Text(delta) if delta.choice == CHOICE => {
                self.text(out)?;
                self.delta(&Delta::Text { text: &delta.text }, out);
            }
            Event::Citation(citation) if citation.choice == CHOICE => {
                if let Some(json) = one_line(&citation.json) {
                    self.text(out)?;
                    self.delta(&Delta::Citations { citation: &json }, out);
                }
            }
            Event::Refusal(delta) if delta.choice == CHOICE => self.ending.refuse(&delta.text),
            Event::Thinking(delta) if delta.choice == CHOICE => {
                self.thinking(false, out)?;
                self.delta(&Delta::Thinking { thinking: &delta.text }, out);
            }
            // An empty one signs nothing.
            Event::ThinkingSignature(delta) if delta.choice == CHOICE && !delta.text.is_empty() => {
                self.thinking(true, out)?;
                self.delta(&Delta::Signature { signature: &delta.text }, out);
            }
            Event::RedactedThinking(delta) if delta.choice == CHOICE => {
                let start = Start::RedactedThinking { data: &delta.text };
                self.begin(Kind::Redacted, &start, out)?;
            }
            Event::ToolCall(start) if start.choice == CHOICE => self.call(start, out)?,
            Event::ToolArguments(piece) if piece.choice == CHOICE => self.arguments(piece, out)?,
            Event::Usage(usage) => self.usage.add(usage),
            Event::Finish(finish) if finish.choice == CHOICE => {
                self.ending.finish(finish.clone());
            }
            Event::Attribute(field) => self.attribute(field, out)?,
            Event::Media(_) => super::request::dropped(&mut self.warnings, "answer.media"),
            Event::Warning(warning) => self.warnings.add(warning),
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, field: &contract::Attribute, out: &mut Vec<u8>) -> Result<(), Failure> {
        match field.name.as_str() {
            "usage" => self.usage.add_own(&field.json),
            "content_block_fields" => self.fields = block_fields(&field.json),
            "content_block" => match own_block(&field.json)? {
                OwnBlock::Text => self.begin(Kind::Text, &Start::Text { text: "" }, out)?,
                OwnBlock::Other(json) => {
                    self.fields.clear();
                    self.begin(Kind::Other, &json, out)?;
                }
            },
            "content_block_delta" => match (self.blocks.back(), own_delta(&field.json)) {
                (Some(Block { kind: Kind::Other, .. }), Some(delta)) => self.delta(&delta, out),
                _ => super::request::dropped(&mut self.warnings, "answer.content-block-delta"),
            },
            name => {
                if !self.ending.attribute(name, &field.json)
                    && let Some(json) = attribute(name, &field.json)
                {
                    self.attributes.retain(|(known, _)| known != name);
                    self.attributes.push((field.name.clone(), json));
                }
            }
        }
        Ok(())
    }

    /// Makes the last block one of text.
    fn text(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.blocks.back() {
            Some(Block { kind: Kind::Text, .. }) => Ok(()),
            _ => self.begin(Kind::Text, &Start::Text { text: "" }, out),
        }
    }

    /// Makes the last block one of thinking that isn't signed yet.
    fn thinking(&mut self, signs: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(Block { kind: Kind::Thinking { signed: signed @ false }, .. }) =
            self.blocks.back_mut()
        {
            *signed = signs;
            return Ok(());
        }
        let start = Start::Thinking { thinking: "", signature: "" };
        self.begin(Kind::Thinking { signed: signs }, &start, out)
    }

    fn call(&mut self, start: &contract::ToolCallStart, out: &mut Vec<u8>) -> Result<(), Failure> {
        let made;
        let id = if start.id.is_empty() {
            made = call_id(self.identity.request, start.choice, start.index);
            &made
        } else {
            &start.id
        };
        self.ending.call();
        self.calls.push(start.index);
        let kind = Kind::Call { index: start.index, arguments: Completeness::default() };
        self.begin(kind, &Start::ToolUse { id, name: &start.name, input: Empty {} }, out)
    }

    fn arguments(
        &mut self,
        piece: &contract::ToolArguments,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let found =
            self.blocks.iter_mut().enumerate().rev().find_map(|(at, block)| {
                match &mut block.kind {
                    Kind::Call { index, arguments } if *index == piece.index => {
                        Some((at, arguments))
                    }
                    _ => None,
                }
            });
        let Some((at, arguments)) = found else {
            return match self.calls.contains(&piece.index) {
                // Its value was complete, or the block would be there.
                true if piece.fragment.trim().is_empty() => Ok(()),
                true => Err(Failure::plugin(
                    "the adapter gave arguments for a tool call that was complete",
                )),
                false => Err(unknown_call()),
            };
        };
        arguments.add(&piece.fragment);
        let delta = Delta::InputJson { partial_json: &piece.fragment };
        self.delta_at(at, &delta, out);
        if at == 0 {
            self.settle(out);
        }
        Ok(())
    }

    /// Puts a block at the end of the row.
    fn begin(
        &mut self,
        kind: Kind,
        start: &(impl Serialize + ?Sized),
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if self.begun >= MAX_BLOCKS {
            return Err(too_many("content blocks", MAX_BLOCKS));
        }
        self.start_message(out);
        let index = self.begun;
        self.begun += 1;
        self.blocks.push_back(Block { index, kind, waiting: Vec::new() });
        let at = self.blocks.len() - 1;
        let sink = if at == 0 { &mut *out } else { &mut self.blocks[at].waiting };
        sink.extend_from_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        write_json(&index, sink);
        sink.extend_from_slice(b",\"content_block\":");
        if self.fields.is_empty() {
            write_json(start, sink);
        } else {
            let fields = std::mem::take(&mut self.fields);
            write_json(&StartWith { start, fields }, sink);
        }
        sink.extend_from_slice(b"}\n\n");
        self.settle(out);
        Ok(())
    }

    /// Closes the open block and opens the next as long as there is one and the open one's turn
    /// is over.
    fn settle(&mut self, out: &mut Vec<u8>) {
        while self.blocks.len() > 1 {
            if let Kind::Call { arguments, .. } = &self.blocks[0].kind
                && !arguments.is_complete()
            {
                return;
            }
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.pop_front() else { return };
        out.extend_from_slice(
            b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
        );
        write_json(&block.index, out);
        out.extend_from_slice(b"}\n\n");
        if let Some(next) = self.blocks.front_mut() {
            out.append(&mut next.waiting);
        }
    }

    /// Goes on with the last block.
    fn delta(&mut self, delta: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
        self.delta_at(self.blocks.len().saturating_sub(1), delta, out);
    }

    fn delta_at(&mut self, at: usize, delta: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
        let Some(block) = self.blocks.get_mut(at) else { return };
        let index = block.index;
        let sink = if at == 0 { out } else { &mut block.waiting };
        sink.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        write_json(&index, sink);
        sink.extend_from_slice(b",\"delta\":");
        write_json(delta, sink);
        sink.extend_from_slice(b"}\n\n");
    }

    fn start_message(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let attributes = std::mem::take(&mut self.attributes);
        let message = Message { writer: self, attributes: &attributes };
        out.extend_from_slice(
            b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":",
        );
        write_json(&message, out);
        out.extend_from_slice(b"}\n\n");
    }
}

impl StreamWriter for EventWriter {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const KEEP_ALIVE: &'static [u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

    fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    fn write(&mut self, events: &[Event], out: &mut Vec<u8>) -> Result<(), Failure> {
        events.iter().try_for_each(|event| self.write_one(event, out))
    }

    /// The valid end: every block is closed, then come reason and usage.
    fn finish(&mut self, out: &mut Vec<u8>) {
        self.start_message(out);
        while !self.blocks.is_empty() {
            self.close(out);
        }
        out.extend_from_slice(b"event: message_delta\ndata: ");
        write_json(&MessageDelta(self), out);
        out.extend_from_slice(b"\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error::to_json(failure, self.identity.request));
        out.extend_from_slice(b"\n\n");
    }
}

/// The message as it begins: without content.
struct Message<'a> {
    writer: &'a EventWriter,
    attributes: &'a [(String, Box<RawValue>)],
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let answer::Identity { id, model, .. } = &self.writer.identity;
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("id", id)?;
        object.serialize_entry("type", "message")?;
        object.serialize_entry("role", "assistant")?;
        object.serialize_entry("model", model)?;
        object.serialize_entry("content", &[(); 0])?;
        object.serialize_entry("stop_reason", &())?;
        object.serialize_entry("stop_sequence", &())?;
        object.serialize_entry("usage", &self.writer.usage)?;
        for (name, json) in self.attributes {
            object.serialize_entry(name, json)?;
        }
        object.end()
    }
}

/// What has changed of the message at its end.
struct MessageDelta<'a>(&'a EventWriter);

impl Serialize for MessageDelta<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        struct Inside<'a>(&'a EventWriter);

        impl Serialize for Inside<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut object = to.serialize_map(None)?;
                self.0.ending.write(&mut object)?;
                for (name, json) in &self.0.attributes {
                    if !BESIDE_DELTA.contains(&name.as_str()) {
                        object.serialize_entry(name, json)?;
                    }
                }
                object.end()
            }
        }

        let mut object = to.serialize_map(None)?;
        object.serialize_entry("type", "message_delta")?;
        object.serialize_entry("delta", &Inside(self.0))?;
        object.serialize_entry("usage", &self.0.usage)?;
        for (name, json) in &self.0.attributes {
            if BESIDE_DELTA.contains(&name.as_str()) {
                object.serialize_entry(name, json)?;
            }
        }
        object.end()
    }
}

/// Knows when the pieces of a JSON object or array are all there.
#[derive(Default)]
struct Completeness {
    depth: u32,
    in_string: bool,
    escaped: bool,
    complete: bool,
}

impl Completeness {
    fn add(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.complete
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
