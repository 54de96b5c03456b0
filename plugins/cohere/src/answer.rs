//! The vendor's answer as events: a message in one piece or as a stream.
//!
//! A stream is `message-start`, then thinking and text as `content-start`, `-delta`, `-end`, or a
//! tool plan as `tool-plan-delta` and each call as `tool-call-start`, `-delta`, `-end`; citations
//! come in between as `citation-start` and `-end`; `message-end` has the reason and the usage. A
//! tool plan is the model's thinking before its calls, and comes out as such.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, FinishReason, Output,
    json::{cow_or_null, parse, raw_or_null},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error,
    logprobs::{self, Piece},
    usage::Counts,
};

/// There is one answer to a prompt.
const CHOICE: u32 = 0;

/// What has to be remembered between the pieces of a stream.
pub struct Answer {
    /// The caller's stop sequences.
    stop: Vec<String>,
    calls: Vec<Call>,
    over: bool,
}

struct Call {
    /// The vendor's number for it.
    index: u32,
    has_arguments: bool,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "cow_or_null")]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    id: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(borrow, default)]
    logprobs: Option<Piece<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    message: DeltaMessage<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeltaMessage<'a> {
    #[serde(borrow)]
    content: Option<Item<'a>>,
    #[serde(borrow, deserialize_with = "cow_or_null")]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<ToolCall<'a>>,
    #[serde(borrow, deserialize_with = "raw_or_null")]
    citations: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, deserialize_with = "cow_or_null")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "cow_or_null")]
    thinking: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToolCall<'a> {
    #[serde(borrow, deserialize_with = "cow_or_null")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow, deserialize_with = "cow_or_null")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "cow_or_null")]
    arguments: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct MessageEnd<'a> {
    #[serde(borrow, default)]
    delta: Ending<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ending<'a> {
    #[serde(borrow, deserialize_with = "cow_or_null")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "cow_or_null")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<Counts<'a>>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    message: WholeMessage<'a>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<Counts<'a>>,
    #[serde(borrow, default)]
    logprobs: Option<Vec<Piece<'a>>>,
}

#[derive(Deserialize)]
struct WholeMessage<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<Item<'a>>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow, default)]
    citations: Option<Vec<&'a RawValue>>,
}

impl Answer {
    pub fn new(stop: Vec<String>) -> Self {
        Self { stop, calls: Vec::new(), over: false }
    }

    /// One event of a stream.
    ///
    /// # Errors
    ///
    /// If the answer ends with an error, or the event can't be read.
    pub fn event(&mut self, name: &str, data: &str, out: &mut Output) -> Result<(), Failure> {
        let kind = match name {
            // Proxies lose the event's name; the data has it again.
            "" => parse::<Kind<'_>>(data)?.kind.unwrap_or_default(),
            name => Cow::Borrowed(name),
        };
        match kind.as_ref() {
            "content-delta" | "content-start" | "tool-plan-delta" | "tool-call-start"
            | "tool-call-delta" | "citation-start" => {
                self.delta(parse(data)?, out);
            }
            "tool-call-end" => {
                let event: Index = parse(data)?;
                self.close(event.index, out);
            }
            "message-start" => {
                let start: Start = parse(data)?;
                out.started(start.id.as_deref(), None);
            }
            "message-end" => {
                let end: MessageEnd<'_> = parse(data)?;
                return self.finish(end.delta, out);
            }
            // The ends of content and citations, and kinds of event that don't exist yet.
            _ => {}
        }
        Ok(())
    }

    /// A whole message.
    ///
    /// # Errors
    ///
    /// If it isn't one, or ends with an error.
    pub fn whole(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let whole: Whole<'_> = parse(data)?;
        out.started(whole.id.as_deref(), None);
        let WholeMessage { content, tool_plan, tool_calls, citations } = whole.message;
        thinking(tool_plan, out);
        for item in content.into_iter().flatten() {
            say(item, out);
        }
        for (index, call) in (0..).zip(tool_calls.into_iter().flatten()) {
            self.call(index, call, out);
            self.close(index, out);
        }
        for citation in citations.into_iter().flatten() {
            out.citation(CHOICE, citation.get());
        }
        if let Some(json) = whole.logprobs.and_then(|pieces| logprobs::json(&pieces)) {
            out.logprobs(CHOICE, json);
        }
        let Whole { finish_reason, usage, .. } = whole;
        self.finish(Ending { finish_reason, error: None, usage }, out)
    }

    /// After the last piece.
    ///
    /// # Errors
    ///
    /// If the vendor didn't finish: a part of an answer is never passed off as the whole.
    pub fn end(&self) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        Err(Failure::malformed("The answer ended before the vendor said that it is complete."))
    }

    fn delta(&mut self, event: Event<'_>, out: &mut Output) {
        let DeltaMessage { content, tool_plan, tool_calls, citations } = event.delta.message;
        thinking(tool_plan, out);
        if let Some(item) = content {
            say(item, out);
        }
        if let Some(call) = tool_calls {
            self.call(event.index, call, out);
        }
        if let Some(citation) = citations {
            out.citation(CHOICE, citation.get());
        }
        if let Some(json) = event.logprobs.and_then(|piece| logprobs::json(&[piece])) {
            out.logprobs(CHOICE, json);
        }
    }

    /// The start of a call or a further piece of its arguments, by the vendor's number for it.
    fn call(&mut self, index: u32, call: ToolCall<'_>, out: &mut Output) {
        let known = self.calls.iter().position(|known| known.index == index);
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call { index, has_arguments: false });
            let id = call.id.unwrap_or_default();
            let number = self.calls.len() - 1;
            out.tool_call(CHOICE, number as u32, id, call.function.name.unwrap_or_default());
            number
        });
        let fragment = call.function.arguments.filter(|fragment| !fragment.is_empty());
        if let Some(fragment) = fragment {
            self.calls[at].has_arguments = true;
            out.tool_arguments(CHOICE, at as u32, fragment);
        }
    }

    /// A call without parameters may come without arguments; callers expect an object.
    fn close(&mut self, index: u32, out: &mut Output) {
        let at = self.calls.iter().position(|call| call.index == index && !call.has_arguments);
        if let Some(at) = at {
            self.calls[at].has_arguments = true;
            out.tool_arguments(CHOICE, at as u32, "{}");
        }
    }

    fn finish(&mut self, ending: Ending<'_>, out: &mut Output) -> Result<(), Failure> {
        if let Some(counts) = ending.usage {
            counts.report(out);
        }
        let Some(reason) = ending.finish_reason else { return Ok(()) };
        self.over = true;
        match reason.as_ref() {
            "COMPLETE" => out.finish(CHOICE, FinishReason::Stop),
            // Which of several it was isn't said.
            "STOP_SEQUENCE" => match self.stop.as_slice() {
                [stop] => out.finish_at(CHOICE, stop.as_str()),
                _ => out.finish(CHOICE, FinishReason::Stop),
            },
            "MAX_TOKENS" | "ERROR_LIMIT" => out.finish(CHOICE, FinishReason::Length),
            "TOOL_CALL" => out.finish(CHOICE, FinishReason::ToolCalls),
            "TOXIC" | "ERROR_TOXIC" => out.finish(CHOICE, FinishReason::ContentFilter),
            "ERROR" | "TIMEOUT" => {
                return Err(error::in_answer(&reason, &ending.error.unwrap_or_default()));
            }
            other => out.finish(CHOICE, FinishReason::Other(other.to_owned())),
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    index: u32,
}

fn thinking(text: Option<Cow<'_, str>>, out: &mut Output) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        out.thinking(CHOICE, text);
    }
}

fn say(item: Item<'_>, out: &mut Output) {
    thinking(item.thinking, out);
    if let Some(text) = item.text.filter(|text| !text.is_empty()) {
        out.text(CHOICE, text);
    }
}

#[cfg(test)]
mod tests {
    use keyward_sdk::FailureKind;

    use super::*;

    const WHOLE: &str = r#"{"id":"a","finish_reason":"TOOL_CALL","message":{"role":"assistant","tool_plan":"a\u00e9","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}],"content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"é"}],"citations":[{"start":0}]},"usage":{"billed_units":{"input_tokens":1e300,"output_tokens":-1},"tokens":{"input_tokens":7},"cached_tokens":1.5},"logprobs":[{"text":"a","token_ids":[1],"logprobs":[-0.5]}]}"#;
    const END: &str = r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":5}}}}"#;
    const CALL: &str = r#"{"type":"tool-call-start","index":4294967295,"delta":{"message":{"tool_calls":{"id":"c","type":"function","function":{"name":"f","arguments":"{"}}}}}"#;

    #[test]
    fn an_answer_cut_anywhere_is_malformed_and_nothing_worse() {
        let mut whole = Answer::new(Vec::new());
        whole.whole(WHOLE, &mut Output::default()).unwrap();
        whole.end().unwrap();
        for cut in (0..WHOLE.len()).filter(|&cut| WHOLE.is_char_boundary(cut)) {
            let mut answer = Answer::new(Vec::new());
            let failure = answer.whole(&WHOLE[..cut], &mut Output::default()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::MalformedAnswer, "{cut}");
        }
    }

    #[test]
    fn a_damaged_answer_never_panics() {
        for text in [WHOLE, END, CALL] {
            for at in 0..text.len() {
                for byte in *b"0\"{}[],x" {
                    let mut bytes = text.as_bytes().to_vec();
                    bytes[at] = byte;
                    let text = String::from_utf8_lossy(&bytes);
                    let mut answer = Answer::new(Vec::new());
                    let _ = answer.whole(&text, &mut Output::default());
                    let _ = answer.event("", &text, &mut Output::default());
                    let _ = answer.event("tool-call-end", &text, &mut Output::default());
                    assert!(!error::in_body(400, &text).message.is_empty());
                }
            }
        }
    }
}
