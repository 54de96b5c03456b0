//! Events of a streamed response, as they come.
//!
//! The protocol tells every step of every item and says all of it again when it is complete. Each
//! event has a number, and the name of its type twice, as server-sent events and as JSON. The part
//! that all deltas of one text share is kept ready, so a text delta costs one copy of that and one
//! escaped string.
//!
//! The last event of a valid stream holds the whole response; there is no `[DONE]`. After a failure
//! comes `error` and nothing else, with the error's members where the reference has them and once
//! more under `error`, where OpenAI's SDKs look for it to raise `APIError`.

use std::io::Write as _;

use keyward::{Failure, contract::Event};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    answer::{Head, Response},
    output::{Body, Call, Item, Output, Paragraph, Part, Step, VendorsEvent, What, is_output},
    request::Asked,
};
use crate::{
    dialect::{
        events::{Warnings, one_line, write_json},
        stream::StreamWriter,
    },
    openai::{answer::Identity, error},
};

/// Kinds of event that only this file may write, by the beginnings of their names: an adapter that
/// could write them could end an answer or put words into it.
const OWN_EVENTS: &[&str] = &[
    "response.created",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.queued",
    "response.cancelled",
    "response.output_item.",
    "response.content_part.",
    "response.output_text.",
    "response.refusal.",
    "response.function_call_arguments.",
    "response.custom_tool_call_input.",
    "response.reasoning_",
];

/// Writes one answer's events in this protocol.
pub struct EventWriter {
    head: Head,
    output: Output,
    pen: Pen,
    begun: bool,
}

impl EventWriter {
    pub fn new(identity: Identity, asked: Asked) -> Self {
        let output = Output::new(identity.request, asked.clone());
        Self { head: Head::new(identity, asked), output, pen: Pen::default(), begun: false }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let head = &self.head;
            let response = Response { head, status: "in_progress", reason: None, output: &[] };
            self.pen.event(kind, &Lifecycle { response }, out);
        }
    }

    /// An event of the vendor's own, which this protocol has a place for. It keeps its members, but
    /// the numbers and places in it are those of this stream.
    fn vendors_event(&mut self, json: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(json) = one_line(json) else { return Ok(()) };
        let Ok(mut members) = serde_json::from_str::<VendorsEvent<'_>>(json.get()) else {
            return Ok(());
        };
        let text = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        };
        let Some(kind) = text(members.remove("type")) else { return Ok(()) };
        let plain = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let own = OWN_EVENTS.iter().any(|own| kind.starts_with(own));
        if own || !plain || !kind.starts_with("response.") {
            return Ok(());
        }
        members.remove("sequence_number");
        members.remove("output_index");
        members.remove("error");
        let place;
        if let Some(id) = text(members.get("item_id").copied()) {
            let Self { output, pen, .. } = self;
            let at = output.announced(&id, item_kind(&kind), &mut |step| pen.step(&step, out))?;
            place = RawValue::from_string(at.to_string());
            if let Ok(place) = &place {
                members.insert("output_index".into(), place);
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        self.pen.event(&kind, &members, out);
        Ok(())
    }
}

/// The type of the item that an event is about: "web_search_call" of
/// "response.web_search_call.searching".
fn item_kind(event: &str) -> &str {
    let kind = event.strip_prefix("response.").unwrap_or(event);
    kind.split_once('.').map_or(kind, |(kind, _)| kind)
}

impl StreamWriter for EventWriter {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const KEEP_ALIVE: &'static [u8] = b": keep-alive\n\n";

    fn warnings(&self) -> &Warnings {
        &self.head.warnings
    }

    fn write(&mut self, events: &[Event], out: &mut Vec<u8>) -> Result<(), Failure> {
        for event in events {
            // The answer's name is told once and holds from then on.
            if !(self.begun && matches!(event, Event::Started(_))) {
                self.head.add(event)?;
            }
        }
        let has_output = events.iter().any(is_output);
        if has_output || events.iter().any(|event| matches!(event, Event::Started(_))) {
            self.begin(out);
        }
        if !has_output {
            return Ok(());
        }
        let is_vendors =
            |event: &Event| matches!(event, Event::Attribute(field) if field.name == "event");
        for events in events.chunk_by(|a, b| !is_vendors(a) && !is_vendors(b)) {
            if let [Event::Attribute(field)] = events
                && is_vendors(&events[0])
            {
                self.vendors_event(&field.json, out)?;
                continue;
            }
            let Self { output, pen, .. } = self;
            output.add(events, &mut |step| pen.step(&step, out))?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let Self { head, output, pen, .. } = self;
        output.finish(&mut |step| pen.step(&step, out));
        let ending = output.ending();
        let response = Response {
            head,
            status: &ending.status,
            reason: ending.reason.as_deref(),
            output: &output.items,
        };
        let kind = match &*ending.status {
            "completed" => "response.completed",
            _ => "response.incomplete",
        };
        pen.event(kind, &Lifecycle { response }, out);
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        let error = error::members(failure);
        let (code, message, param) = (error.code, error.message, error.param);
        self.pen.event("error", &Failed { code, message, param, error }, out);
    }
}

#[derive(Serialize)]
struct Lifecycle<'a> {
    response: Response<'a>,
}

#[derive(Serialize)]
struct Failed<'a> {
    code: Option<&'a str>,
    message: &'a str,
    param: Option<&'a str>,
    error: error::Error<'a>,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: &'a Item,
}

#[derive(Serialize)]
struct OfPart<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    part: &'a Part,
}

#[derive(Serialize)]
struct OfSummary<'a> {
    item_id: &'a str,
    output_index: usize,
    summary_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Paragraph<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct OfText<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    text: &'a str,
    logprobs: &'a [Box<RawValue>],
}

#[derive(Serialize)]
struct OfRefusal<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    refusal: &'a str,
}

#[derive(Serialize)]
struct OfAnnotation<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    annotation_index: usize,
    annotation: &'a RawValue,
}

#[derive(Serialize)]
struct OfCall<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
}

/// Writes events and numbers them.
#[derive(Default)]
struct Pen {
    written: u64,
    /// What all deltas of one text share.
    prefix: Vec<u8>,
    /// These deltas are a refusal's, which has no log probabilities.
    is_refusal: bool,
}

impl Pen {
    fn step(&mut self, step: &Step<'_>, out: &mut Vec<u8>) {
        let (item, output_index, item_id) = (step.item, step.at, step.item.id.as_str());
        let summary = |part, delta, text| OfSummary {
            item_id,
            output_index,
            summary_index: 0,
            part,
            delta,
            text,
        };
        match (&step.what, &item.body) {
            (What::Added, _) => {
                self.event("response.output_item.added", &OfItem { output_index, item }, out);
            }
            (What::PartAdded(part), Body::Message(parts)) => {
                let content_index = *part;
                self.begin_part(
                    item_id,
                    output_index,
                    content_index,
                    parts[content_index].is_refusal,
                );
                let part = &parts[content_index];
                let of = OfPart { item_id, output_index, content_index, part };
                self.event("response.content_part.added", &of, out);
            }
            (What::Text { delta, logprobs, .. }, _) => self.text(delta, logprobs, out),
            (What::Annotation { part, number, json }, _) => {
                let of = OfAnnotation {
                    item_id,
                    output_index,
                    content_index: *part,
                    annotation_index: *number,
                    annotation: json,
                };
                self.event("response.output_text.annotation.added", &of, out);
            }
            (What::PartDone(part), Body::Message(parts)) => {
                let content_index = *part;
                let part = &parts[content_index];
                let text = part.text.as_str();
                if part.is_refusal {
                    let of = OfRefusal { item_id, output_index, content_index, refusal: text };
                    self.event("response.refusal.done", &of, out);
                } else {
                    let logprobs = part.logprobs.as_slice();
                    let of = OfText { item_id, output_index, content_index, text, logprobs };
                    self.event("response.output_text.done", &of, out);
                }
                let of = OfPart { item_id, output_index, content_index, part };
                self.event("response.content_part.done", &of, out);
            }
            (What::SummaryAdded, _) => {
                let of = summary(Some(Paragraph::new("")), None, None);
                self.event("response.reasoning_summary_part.added", &of, out);
            }
            (What::Summary(delta), _) => {
                let of = summary(None, Some(delta), None);
                self.event("response.reasoning_summary_text.delta", &of, out);
            }
            (What::Arguments(delta), Body::Call(call)) => {
                let kind = match call.custom {
                    true => "response.custom_tool_call_input.delta",
                    false => "response.function_call_arguments.delta",
                };
                let of = OfCall {
                    item_id,
                    output_index,
                    delta: Some(delta),
                    name: None,
                    arguments: None,
                    input: None,
                };
                self.event(kind, &of, out);
            }
            (What::Done, body) => {
                match body {
                    Body::Call(call) => self.call_done(call, item_id, output_index, out),
                    Body::Reasoning { summary: text, .. } if !text.is_empty() => {
                        let of = summary(None, None, Some(text));
                        self.event("response.reasoning_summary_text.done", &of, out);
                        let of = summary(Some(Paragraph::new(text)), None, None);
                        self.event("response.reasoning_summary_part.done", &of, out);
                    }
                    _ => {}
                }
                self.event("response.output_item.done", &OfItem { output_index, item }, out);
            }
            // Parts are of messages, arguments of calls.
            (What::PartAdded(_) | What::PartDone(_) | What::Arguments(_), _) => {}
        }
    }

    fn call_done(&mut self, call: &Call, item_id: &str, output_index: usize, out: &mut Vec<u8>) {
        let whole = call.whole();
        let of = OfCall {
            item_id,
            output_index,
            delta: None,
            name: (!call.custom).then_some(&call.name),
            arguments: (!call.custom).then_some(whole),
            input: call.custom.then_some(whole),
        };
        let kind = match call.custom {
            true => "response.custom_tool_call_input.done",
            false => "response.function_call_arguments.done",
        };
        self.event(kind, &of, out);
    }

    fn begin_part(&mut self, item_id: &str, at: usize, part: usize, is_refusal: bool) {
        let kind = match is_refusal {
            true => "response.refusal.delta",
            false => "response.output_text.delta",
        };
        let prefix = &mut self.prefix;
        prefix.clear();
        prefix.extend_from_slice(
            format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"item_id\":").as_bytes(),
        );
        write_json(item_id, prefix);
        prefix.extend_from_slice(
            format!(",\"output_index\":{at},\"content_index\":{part}").as_bytes(),
        );
        if !is_refusal {
            prefix.extend_from_slice(b",\"logprobs\":");
        }
        self.is_refusal = is_refusal;
    }

    /// A delta of the part that was begun last.
    fn text(&mut self, delta: &str, logprobs: &[Box<RawValue>], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        if !self.is_refusal {
            write_json(logprobs, out);
        }
        self.number(out);
        out.extend_from_slice(b",\"delta\":");
        write_json(delta, out);
        out.extend_from_slice(b"}\n\n");
    }

    /// One event. `members` is an object with at least one member.
    fn event(&mut self, kind: &str, members: &impl Serialize, out: &mut Vec<u8>) {
        for piece in ["event: ", kind, "\ndata: {\"type\":\"", kind, "\""] {
            out.extend_from_slice(piece.as_bytes());
        }
        self.number(out);
        let at = out.len();
        write_json(members, out);
        // The members go on where the number ends.
        if let Some(brace) = out.get_mut(at) {
            *brace = b',';
        }
        out.extend_from_slice(b"\n\n");
    }

    fn number(&mut self, out: &mut Vec<u8>) {
        // Writing into memory can't fail.
        let _ = write!(out, ",\"sequence_number\":{}", self.written);
        self.written += 1;
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
