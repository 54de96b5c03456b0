//! The vendor's answer as events: a message in one piece or as a stream.
//!
//! A stream is `message_start`, then each content block as `content_block_start`, deltas and
//! `content_block_stop`, then `message_delta` with the reason and the usage, then `message_stop`;
//! a `ping` may come anywhere, an `error` ends it. Blocks are numbered through, calls on their own
//! in the contract, so the only thing kept is which block is which call. What the contract has no
//! event for (server tools and what later versions bring) goes out as an attribute.

use std::{borrow::Cow, collections::BTreeMap};

use keyward_sdk::{
    Event, Failure, FinishReason, Output, Unit, Usage,
    contract::{Finish, TextDelta},
    json::{self, Members, parse},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error;

/// There is one answer to a prompt.
const CHOICE: u32 = 0;

/// Units that have a price.
const WRITTEN_FOR_AN_HOUR: &str = "cache_write_1h_tokens";
const SEARCHES: &str = "web_search_requests";

/// What has to be remembered between the pieces of a stream.
#[derive(Default)]
pub struct Answer {
    /// The caller speaks the vendor's dialect and wants what the contract doesn't know.
    native: bool,
    tokens: Tokens,
    calls: Vec<Call>,
    /// The last block was text.
    after_text: bool,
    /// A reason for the end was given.
    finished: bool,
    /// The end was.
    over: bool,
}

struct Call {
    /// The number of its content block.
    block: u64,
    has_arguments: bool,
}

/// The vendor counts cumulatively and leaves out what didn't change.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    /// Without the cached ones.
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
    server_tool_use: Option<ServerTools>,
}

/// What was written to the cache, by lifetime.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Option<u64>,
    web_fetch_requests: Option<u64>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    id: Option<String>,
    model: Option<String>,
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
    #[serde(default)]
    usage: Option<Tokens>,
    // Not flattened: that would buffer the content, which raw values don't survive.
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    stop_details: Option<StopDetails>,
}

#[derive(Default, Deserialize)]
struct Stop {
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    stop_details: Option<StopDetails>,
}

#[derive(Deserialize)]
struct StopDetails {
    #[serde(default)]
    explanation: Option<String>,
}

#[derive(Deserialize)]
struct BlockStart<'a> {
    index: u64,
    #[serde(borrow)]
    content_block: &'a RawValue,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct BlockDelta<'a> {
    index: u64,
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    partial_json: String,
    #[serde(borrow, default)]
    citation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u64,
}

#[derive(Deserialize)]
struct MessageDelta<'a> {
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(default)]
    usage: Option<Tokens>,
}

/// Members that are events of the contract's, or say nothing. Others are for callers who know
/// what they mean.
const KNOWN: [&str; 10] = [
    "id",
    "type",
    "role",
    "model",
    "content",
    "message",
    "delta",
    "index",
    "stop_reason",
    "stop_sequence",
];

/// Members of blocks that are events of the contract's.
const KNOWN_IN_BLOCKS: [&str; 9] =
    ["type", "text", "thinking", "signature", "data", "id", "name", "input", "citations"];

/// Counts as any length to the contract, but callers of the vendor's dialect tell it apart.
const WINDOW_FULL: &str = "model_context_window_exceeded";

impl Answer {
    pub fn new(native: bool) -> Self {
        Self { native, ..Self::default() }
    }

    /// One event of a stream.
    ///
    /// # Errors
    ///
    /// The vendor's own error inside the stream, or an event that can't be read.
    pub fn event(&mut self, name: &str, data: &str, out: &mut Output) -> Result<(), Failure> {
        let kind = match name {
            // Proxies lose the event's name; the data has it again.
            "" => parse::<Kind<'_>>(data)?.kind,
            name => Cow::Borrowed(name),
        };
        match kind.as_ref() {
            "content_block_delta" => self.delta(data, out)?,
            "content_block_start" => {
                let start: BlockStart<'_> = parse(data)?;
                self.block(start.index, start.content_block, false, out)?;
            }
            "content_block_stop" => {
                let stop: BlockStop = parse(data)?;
                self.close(stop.index, out);
            }
            "message_start" => {
                let start: MessageStart<'_> = parse(data)?;
                self.head(start.message.get(), out)?;
            }
            "message_delta" => {
                let delta: MessageDelta<'_> = parse(data)?;
                self.unknown(data, out)?;
                self.count(delta.usage, out);
                if let Some(delta) = delta.delta.map(RawValue::get) {
                    self.unknown(delta, out)?;
                    self.stop(parse(delta)?, out);
                }
            }
            "message_stop" => self.over = true,
            "error" => return Err(error::in_stream(data)),
            // Pings, and kinds of event that don't exist yet.
            _ => {}
        }
        Ok(())
    }

    /// A whole message.
    ///
    /// # Errors
    ///
    /// If it isn't one, or isn't finished.
    pub fn message(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let kind = parse::<Kind<'_>>(data)?.kind;
        match kind.as_ref() {
            "message" => self.head(data, out)?,
            "error" => return Err(error::in_stream(data)),
            _ => return Err(Failure::malformed("The answer isn't a message.")),
        }
        self.over = true;
        Ok(())
    }

    /// After the last piece.
    ///
    /// # Errors
    ///
    /// If the vendor didn't finish: a part of an answer is never passed off as the whole.
    pub fn end(&self) -> Result<(), Failure> {
        if self.over && self.finished {
            return Ok(());
        }
        Err(Failure::malformed("The answer ended before the vendor said that it is complete."))
    }

    /// A message, whole or at the beginning of a stream.
    fn head(&mut self, json: &str, out: &mut Output) -> Result<(), Failure> {
        let head: Head<'_> = parse(json)?;
        out.started(head.id.as_deref(), head.model.as_deref());
        for (index, block) in (0..).zip(head.content) {
            self.block(index, block, true, out)?;
            self.close(index, out);
        }
        self.unknown(json, out)?;
        self.count(head.usage, out);
        let Head { stop_reason, stop_sequence, stop_details, .. } = head;
        self.stop(Stop { stop_reason, stop_sequence, stop_details }, out);
        Ok(())
    }

    /// What the contract doesn't know of a message, or of the end of one: the counts as the vendor
    /// gives them, why it refused, its container.
    fn unknown(&self, json: &str, out: &mut Output) -> Result<(), Failure> {
        if !self.native {
            return Ok(());
        }
        let members: Members<'_> = parse(json)?;
        for (name, value) in members.0 {
            if value.get() != "null" && !KNOWN.contains(&name.as_ref()) {
                out.attribute(name, value.get());
            }
        }
        Ok(())
    }

    /// The start of a block in a stream, or the `whole` of it.
    fn block(
        &mut self,
        index: u64,
        json: &RawValue,
        whole: bool,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let block: Block<'_> = parse(json.get())?;
        let after_text = std::mem::replace(&mut self.after_text, block.kind == "text");
        if self.native {
            fields(&block.kind, json.get(), out)?;
        }
        match block.kind.as_ref() {
            "text" => {
                if self.native && after_text {
                    // Events alone don't tell where one text ends and the next begins.
                    out.attribute("content_block", r#"{"type":"text","text":""}"#);
                }
                push(out, Event::Text, block.text);
                for citation in block.citations.into_iter().flatten() {
                    out.citation(CHOICE, citation.get());
                }
            }
            "thinking" => {
                push(out, Event::Thinking, block.thinking);
                push(out, Event::ThinkingSignature, block.signature);
            }
            "redacted_thinking" => push(out, Event::RedactedThinking, block.data),
            "tool_use" => {
                let call = self.calls.len() as u32;
                self.calls.push(Call { block: index, has_arguments: false });
                out.tool_call(CHOICE, call, block.id, block.name);
                // In a stream this is a place holder, unless the vendor doesn't stream arguments.
                let input = block.input.map(RawValue::get).unwrap_or_default();
                if whole || !matches!(input, "" | "{}") {
                    self.arguments(index, input.to_owned(), out);
                }
            }
            _ => out.attribute("content_block", json.get()),
        }
        Ok(())
    }

    fn delta(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let BlockDelta { index, delta } = parse(data)?;
        match (delta.kind.as_ref(), delta.citation) {
            ("text_delta", _) => push(out, Event::Text, delta.text),
            ("thinking_delta", _) => push(out, Event::Thinking, delta.thinking),
            ("signature_delta", _) => push(out, Event::ThinkingSignature, delta.signature),
            ("input_json_delta", _) if self.call(index).is_some() => {
                self.arguments(index, delta.partial_json, out);
            }
            ("citations_delta", Some(citation)) => out.citation(CHOICE, citation.get()),
            _ => out.attribute("content_block_delta", data),
        }
        Ok(())
    }

    /// The call that a block is. Server tools are called as well, but not by the caller.
    fn call(&self, block: u64) -> Option<usize> {
        self.calls.iter().rposition(|call| call.block == block)
    }

    fn arguments(&mut self, block: u64, fragment: String, out: &mut Output) {
        if let Some(index) = self.call(block).filter(|_| !fragment.is_empty()) {
            self.calls[index].has_arguments = true;
            out.tool_arguments(CHOICE, index as u32, fragment);
        }
    }

    /// A call without parameters streams no arguments at all; callers expect an object.
    fn close(&mut self, block: u64, out: &mut Output) {
        if self.call(block).is_some_and(|index| !self.calls[index].has_arguments) {
            self.arguments(block, "{}".to_owned(), out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Output) {
        let Some(reason) = stop.stop_reason else { return };
        self.finished = true;
        if self.native && reason == WINDOW_FULL {
            out.attribute("stop_reason", format!("\"{reason}\""));
        }
        if let Some(explanation) = stop.stop_details.and_then(|details| details.explanation) {
            push(out, Event::Refusal, explanation);
        }
        let reason = match reason.as_str() {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "max_tokens" | WINDOW_FULL => FinishReason::Length,
            "tool_use" => FinishReason::ToolCalls,
            "refusal" => FinishReason::Refusal,
            _ => FinishReason::Other(reason),
        };
        out.event(Event::Finish(Finish {
            choice: CHOICE,
            reason,
            stop_sequence: stop.stop_sequence,
        }));
    }

    fn count(&mut self, usage: Option<Tokens>, out: &mut Output) {
        let Some(new) = usage else { return };
        let old = self.tokens;
        let tokens = Tokens {
            input_tokens: new.input_tokens.or(old.input_tokens),
            cache_creation_input_tokens: new
                .cache_creation_input_tokens
                .or(old.cache_creation_input_tokens),
            cache_read_input_tokens: new.cache_read_input_tokens.or(old.cache_read_input_tokens),
            cache_creation: new.cache_creation.or(old.cache_creation),
            output_tokens: new.output_tokens.or(old.output_tokens),
            output_tokens_details: new.output_tokens_details.or(old.output_tokens_details),
            server_tool_use: new.server_tool_use.or(old.server_tool_use),
        };
        self.tokens = tokens;
        let (read, written) = (tokens.cache_read_input_tokens, tokens.cache_creation_input_tokens);
        let used = tokens.server_tool_use.unwrap_or_default();
        let longer = tokens.cache_creation.and_then(|written| written.ephemeral_1h_input_tokens);
        let mut units = Vec::new();
        for (name, count) in [
            // Part of those written, with a price of its own in `models.json`.
            (WRITTEN_FOR_AN_HOUR, longer),
            (SEARCHES, used.web_search_requests),
            ("web_fetch_requests", used.web_fetch_requests),
        ] {
            if let Some(count) = count.filter(|&count| count > 0) {
                units.push(Unit { name: name.to_owned(), amount: count as f64 });
            }
        }
        out.usage(Usage {
            input: tokens.input_tokens.map(|fresh| {
                fresh
                    .saturating_add(read.unwrap_or_default())
                    .saturating_add(written.unwrap_or_default())
            }),
            cache_read: read,
            cache_write: written,
            output: tokens.output_tokens,
            reasoning: tokens.output_tokens_details.and_then(|details| details.thinking_tokens),
            units,
        });
    }
}

/// What the contract doesn't know of the block that comes next, if it knows the block.
fn fields(kind: &str, json: &str, out: &mut Output) -> Result<(), Failure> {
    if !matches!(kind, "text" | "thinking" | "redacted_thinking" | "tool_use") {
        return Ok(());
    }
    let members: Members<'_> = parse(json)?;
    let unknown: BTreeMap<_, _> = members
        .0
        .into_iter()
        .filter(|(name, value)| value.get() != "null" && !KNOWN_IN_BLOCKS.contains(&name.as_ref()))
        .collect();
    if !unknown.is_empty() {
        out.attribute("content_block_fields", json::text(&unknown)?);
    }
    Ok(())
}

/// Writes a piece of text, unless there is none in it.
fn push(out: &mut Output, event: fn(TextDelta) -> Event, text: String) {
    if !text.is_empty() {
        out.event(event(TextDelta { choice: CHOICE, text }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_sdk::contract;

    fn finish(reason: &str) -> FinishReason {
        let mut out = Output::default();
        let data = format!(
            r#"{{"type":"message","id":"m","model":"x","content":[],"stop_reason":"{reason}"}}"#
        );
        Answer::default().message(&data, &mut out).unwrap();
        match out.into_outputs().pop() {
            Some(contract::Output::Event(Event::Finish(finish))) => finish.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reasons_are_the_contracts_where_it_has_one() {
        assert_eq!(finish("end_turn"), FinishReason::Stop);
        assert_eq!(finish("stop_sequence"), FinishReason::Stop);
        assert_eq!(finish("max_tokens"), FinishReason::Length);
        assert_eq!(finish("model_context_window_exceeded"), FinishReason::Length);
        assert_eq!(finish("tool_use"), FinishReason::ToolCalls);
        assert_eq!(finish("refusal"), FinishReason::Refusal);
        assert_eq!(finish("pause_turn"), FinishReason::Other("pause_turn".to_owned()));
    }

    #[test]
    fn nothing_is_counted_twice() {
        let message = r#"{"type":"message","id":"m","content":[],"stop_reason":"end_turn","usage":{
            "input_tokens":1000,"cache_read_input_tokens":2000,"cache_creation_input_tokens":500,
            "cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":300},
            "output_tokens":40,"output_tokens_details":{"thinking_tokens":30},
            "server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}}"#;
        let mut out = Output::default();
        Answer::default().message(message, &mut out).unwrap();
        let usage = out.into_outputs().into_iter().find_map(|output| match output {
            contract::Output::Event(Event::Usage(usage)) => Some(usage),
            _ => None,
        });
        let usage = usage.unwrap();
        assert_eq!((usage.input, usage.output), (Some(3500), Some(40)));
        assert_eq!((usage.cache_read, usage.cache_write), (Some(2000), Some(500)));
        assert_eq!(usage.reasoning, Some(30));
        let units: Vec<_> = usage.units.iter().map(|unit| (&*unit.name, unit.amount)).collect();
        let expected = [(WRITTEN_FOR_AN_HOUR, 300.0), (SEARCHES, 2.0), ("web_fetch_requests", 1.0)];
        assert_eq!(units, expected);
    }

    #[test]
    fn a_message_cut_anywhere_is_malformed_and_nothing_worse() {
        let whole = r#"{"type":"message","id":"m","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":[1,"é"]}}],"stop_reason":"tool_use","usage":{"input_tokens":18446744073709551615,"cache_read_input_tokens":9,"output_tokens":2}}"#;
        assert!(Answer::default().message(whole, &mut Output::default()).is_ok());
        for end in (0..whole.len()).filter(|&end| whole.is_char_boundary(end)) {
            let answer = Answer::default().message(&whole[..end], &mut Output::default());
            assert!(answer.is_err(), "{end}");
        }
    }
}
