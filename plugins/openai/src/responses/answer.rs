//! A response as events: whole or as a stream.
//!
//! A response is a list of items: messages with their parts, calls, reasoning, and what tools of
//! the vendor's own left behind. A stream announces each item, gives its pieces, and ends with the
//! response as a whole, of which only the status and the counts are new. Kept are the numbers of
//! the items that are calls, and no text.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, FinishReason, Frame, MediaKind, Output, ResponseHead, Usage,
    json::{self, Members},
    openai_wire,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};
use serde_json::value::RawValue;

use super::error;

/// There is one answer to a prompt.
const CHOICE: u32 = 0;

/// Summaries of reasoning are paragraphs.
const BETWEEN_SUMMARIES: &str = "\n\n";

/// Members of all items that the contract knows or that only say how far the item is.
const ITEM: [&str; 3] = ["id", "type", "status"];
const MESSAGE: &[&str] = &["role", "content"];
const REASONING: &[&str] = &["summary", "content", "encrypted_content"];
const CALL: &[&str] = &["call_id", "name", "arguments", "input"];

/// What has to be remembered between the pieces of an answer.
#[derive(Default)]
pub struct Answer {
    /// The caller speaks the vendor's dialect and wants what the contract doesn't know.
    native: bool,
    started: bool,
    calls: Vec<Call>,
    over: bool,
}

struct Call {
    /// The number of its item.
    item: u64,
    has_arguments: bool,
}

impl Answer {
    pub fn new(native: bool) -> Self {
        Self { native, ..Self::default() }
    }

    /// One event of a stream, or the whole response.
    ///
    /// # Errors
    /// The vendor's own error inside the answer, or an answer that can't be read.
    pub fn frame(&mut self, frame: &Frame, out: &mut Output) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, default, rename = "type", deserialize_with = "json::cow_or_null")]
            kind: Option<Cow<'a, str>>,
        }
        if !frame.name.is_empty() {
            return self.event(&frame.name, &frame.data, out);
        }
        // A proxy lost the event's name, or there are no events.
        match json::parse::<Kind<'_>>(&frame.data)?.kind {
            Some(kind) => self.event(&kind, &frame.data, out),
            None => self.whole(&frame.data, out),
        }
    }

    /// # Errors
    /// Always, unless the status is a success: an answer that came whole where a stream was asked
    /// for is read like any other.
    pub fn body(
        &mut self,
        head: &ResponseHead,
        body: &str,
        out: &mut Output,
    ) -> Result<(), Failure> {
        match head.is_success() {
            true => self.whole(body, out),
            false => Err(openai_wire::failure(head.status, body)),
        }
    }

    /// # Errors
    /// `malformed-answer` if the answer ended too early: a part is never passed off as the whole.
    pub fn end(&self, out: &mut Output) -> Result<(), Failure> {
        if !self.over {
            return Err(Failure::malformed("The vendor's answer ended before it was finished."));
        }
        out.done();
        Ok(())
    }

    fn event(&mut self, kind: &str, data: &str, out: &mut Output) -> Result<(), Failure> {
        match kind {
            "response.output_text.delta" => {
                let delta: Delta<'_> = json::parse(data)?;
                if !delta.delta.0.is_empty() {
                    out.text(CHOICE, delta.delta.0);
                }
                report_logprobs(delta.logprobs, out);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let delta: Delta<'_> = json::parse(data)?;
                self.arguments(delta.output_index, &delta.delta.0, out);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let delta: Delta<'_> = json::parse(data)?;
                if !delta.delta.0.is_empty() {
                    out.thinking(CHOICE, delta.delta.0);
                }
            }
            "response.refusal.delta" => {
                let delta: Delta<'_> = json::parse(data)?;
                if !delta.delta.0.is_empty() {
                    out.refusal(CHOICE, delta.delta.0);
                }
            }
            "response.reasoning_summary_part.added" => {
                let added: SummaryAdded = json::parse(data)?;
                if added.summary_index > 0 {
                    out.thinking(CHOICE, BETWEEN_SUMMARIES);
                }
            }
            "response.output_text.annotation.added" => {
                let added: AnnotationAdded<'_> = json::parse(data)?;
                out.citation(CHOICE, added.annotation.get());
            }
            "response.output_item.added" => {
                let event: ItemEvent<'_> = json::parse(data)?;
                self.begin(event.output_index, event.item, out)?;
            }
            "response.output_item.done" => {
                let event: ItemEvent<'_> = json::parse(data)?;
                self.complete(event.output_index, event.item, out)?;
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                let event: ResponseEvent<'_> = json::parse(data)?;
                self.start(&event.response, out);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let event: ResponseEvent<'_> = json::parse(data)?;
                self.start(&event.response, out);
                self.finish(event.response, out)?;
            }
            "error" => return Err(error::failure(data)),
            // What is said again when a piece is complete.
            "response.content_part.added"
            | "response.content_part.done"
            | "response.output_text.done"
            | "response.refusal.done"
            | "response.function_call_arguments.done"
            | "response.custom_tool_call_input.done"
            | "response.reasoning_summary_text.done"
            | "response.reasoning_summary_part.done"
            | "response.reasoning_text.done"
            | "keepalive" => {}
            // Progress of the vendor's own tools, and kinds of event that don't exist yet.
            _ if self.native => {
                json::parse::<IgnoredAny>(data)?;
                out.attribute("event", data);
            }
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let mut response: Response<'_> = json::parse(data)?;
        let Some(output) = response.output.take() else {
            // Errors come with a status as a rule, but proxies lose it.
            return Err(match response.error {
                Some(error) => error::failure(error.get()),
                None => Failure::malformed("The vendor's answer isn't a response."),
            });
        };
        self.start(&response, out);
        for (index, item) in (0..).zip(output) {
            self.whole_item(index, item, out)?;
        }
        self.finish(response, out)
    }

    fn start(&mut self, response: &Response<'_>, out: &mut Output) {
        if !self.started {
            self.started = true;
            out.started(response.id.as_deref(), response.model.as_deref());
        }
    }

    /// The end of a response: counts, and how it ended.
    fn finish(&mut self, response: Response<'_>, out: &mut Output) -> Result<(), Failure> {
        for (name, value) in response.rest {
            // What it cost more or less by, for every caller.
            if self.native || name == "service_tier" {
                out.attribute(name, value.get());
            }
        }
        if let Some(usage) = response.usage {
            report_usage(usage.get(), out);
        }
        let status = response.status.as_deref().unwrap_or("completed");
        if status == "failed" {
            return Err(error::failure(response.error.map_or("{}", RawValue::get)));
        }
        let details = response.incomplete_details;
        let reason = details.and_then(|details| details.reason);
        self.over = true;
        out.finish(
            CHOICE,
            match (status, reason.as_deref()) {
                ("completed", _) if !self.calls.is_empty() => FinishReason::ToolCalls,
                ("completed", _) => FinishReason::Stop,
                (_, Some("max_output_tokens")) => FinishReason::Length,
                (_, Some("content_filter")) => FinishReason::ContentFilter,
                (_, Some(other)) => FinishReason::Other(other.to_owned()),
                // In the background, or cancelled there.
                (other, None) => FinishReason::Other(other.to_owned()),
            },
        );
        Ok(())
    }

    /// An item that has begun; what it holds comes in pieces.
    fn begin(&mut self, index: u64, item: &RawValue, out: &mut Output) -> Result<(), Failure> {
        self.members(item, out)?;
        if let Item::Call(call) = Item::parse(item)? {
            self.call(index, &call, out);
        }
        Ok(())
    }

    /// What an item has besides what the contract knows of it (a message's phase, a call's
    /// namespace), ahead of the item, with its type.
    fn members(&self, item: &RawValue, out: &mut Output) -> Result<(), Failure> {
        if !self.native {
            return Ok(());
        }
        let members: Members<'_> = json::parse(item.get())?;
        let kind = members.0.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind.get());
        let known = match kind {
            Some(r#""message""#) => MESSAGE,
            Some(r#""reasoning""#) => REASONING,
            Some(r#""function_call""# | r#""custom_tool_call""#) => CALL,
            // Given whole.
            _ => return Ok(()),
        };
        let unknown = |(name, value): &(Cow<'_, str>, &RawValue)| {
            let known = known.contains(&name.as_ref()) || ITEM.contains(&name.as_ref());
            !known && value.get() != "null"
        };
        let mut own = members.0;
        if own.iter().any(unknown) {
            own.retain(|member| member.0 == "type" || unknown(member));
            out.attribute("item", json::text(&Object(&own))?);
        }
        Ok(())
    }

    /// An item whose pieces have come: what didn't come in pieces.
    fn complete(&mut self, index: u64, item: &RawValue, out: &mut Output) -> Result<(), Failure> {
        match Item::parse(item)? {
            Item::Message(_) => {}
            Item::Reasoning(reasoning) => sign(reasoning, out),
            other => self.rest_of(index, item, other, out),
        }
        Ok(())
    }

    fn whole_item(&mut self, index: u64, item: &RawValue, out: &mut Output) -> Result<(), Failure> {
        self.members(item, out)?;
        match Item::parse(item)? {
            Item::Message(message) => {
                for part in message.content {
                    if !part.text.0.is_empty() {
                        out.text(CHOICE, part.text.0);
                    }
                    if !part.refusal.0.is_empty() {
                        out.refusal(CHOICE, part.refusal.0);
                    }
                    for annotation in part.annotations.into_iter().flatten() {
                        out.citation(CHOICE, annotation.get());
                    }
                    report_logprobs(part.logprobs, out);
                }
            }
            Item::Reasoning(reasoning) => {
                let summary = reasoning.summary.iter().chain(reasoning.content.iter().flatten());
                let texts: Vec<&str> = summary.map(|part| part.text.0.as_ref()).collect();
                let text = texts.join(BETWEEN_SUMMARIES);
                if !text.is_empty() {
                    out.thinking(CHOICE, text);
                }
                sign(reasoning, out);
            }
            other => self.rest_of(index, item, other, out),
        }
        Ok(())
    }

    fn rest_of(&mut self, index: u64, raw: &RawValue, item: Item<'_>, out: &mut Output) {
        match item {
            Item::Call(call) => {
                self.call(index, &call, out);
                let silent = self.calls.iter().any(|it| it.item == index && !it.has_arguments);
                if silent {
                    self.arguments(index, call.arguments(), out);
                }
            }
            Item::Image(image) => {
                let format = image.output_format.map_or(Cow::Borrowed("png"), |format| format.0);
                let media_type = format!("image/{format}");
                out.media(CHOICE, MediaKind::Image, media_type, image.result.0);
            }
            Item::Other | Item::Message(_) | Item::Reasoning(_) => {
                out.attribute("output_item", raw.get());
            }
        }
    }

    /// Announces a call, unless it has been.
    fn call(&mut self, index: u64, call: &CallItem<'_>, out: &mut Output) {
        if self.calls.iter().any(|known| known.item == index) {
            return;
        }
        let number = self.calls.len() as u32;
        self.calls.push(Call { item: index, has_arguments: false });
        out.tool_call(CHOICE, number, call.call_id.0.as_ref(), call.name.0.as_ref());
    }

    fn arguments(&mut self, index: u64, fragment: &str, out: &mut Output) {
        let Some(number) = self.calls.iter().position(|call| call.item == index) else { return };
        if !fragment.is_empty() {
            self.calls[number].has_arguments = true;
            out.tool_arguments(CHOICE, number as u32, fragment);
        }
    }
}

/// The encrypted reasoning is what goes back, so it is the signature of what is shown of it.
fn sign(reasoning: ReasoningItem<'_>, out: &mut Output) {
    if let Some(encrypted) = reasoning.encrypted_content.filter(|text| !text.is_empty()) {
        out.thinking_signature(CHOICE, encrypted);
    }
}

/// In the frame that Chat Completions put around the same entries, which callers know.
fn report_logprobs(logprobs: Option<&RawValue>, out: &mut Output) {
    if let Some(logprobs) = logprobs.filter(|list| list.get() != "[]") {
        out.logprobs(CHOICE, ["{\"content\":", logprobs.get(), "}"].concat());
    }
}

/// Counts that make no sense are left out, and the host then estimates.
fn report_usage(json: &str, out: &mut Output) {
    #[derive(Deserialize)]
    struct Counts {
        input_tokens: Option<u64>,
        output_tokens: Option<u64>,
        #[serde(default)]
        input_tokens_details: Option<InputDetails>,
        #[serde(default)]
        output_tokens_details: Option<OutputDetails>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct InputDetails {
        cached_tokens: Option<u64>,
        cache_write_tokens: Option<u64>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct OutputDetails {
        reasoning_tokens: Option<u64>,
    }
    let Ok(counts) = serde_json::from_str::<Counts>(json) else { return };
    let input = counts.input_tokens_details.unwrap_or_default();
    let output = counts.output_tokens_details.unwrap_or_default();
    out.usage(Usage {
        input: counts.input_tokens,
        cache_read: input.cached_tokens,
        cache_write: input.cache_write_tokens,
        output: counts.output_tokens,
        reasoning: output.reasoning_tokens,
        units: Vec::new(),
    });
}

/// Members as an object again.
struct Object<'a>(&'a [(Cow<'a, str>, &'a RawValue)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default)]
    output_index: u64,
    #[serde(borrow)]
    delta: json::Str<'a>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SummaryAdded {
    #[serde(default)]
    summary_index: u64,
}

#[derive(Deserialize)]
struct AnnotationAdded<'a> {
    #[serde(borrow)]
    annotation: &'a RawValue,
}

#[derive(Deserialize)]
struct ItemEvent<'a> {
    #[serde(default)]
    output_index: u64,
    #[serde(borrow)]
    item: &'a RawValue,
}

#[derive(Deserialize)]
struct ResponseEvent<'a> {
    #[serde(borrow)]
    response: Response<'a>,
}

/// An item of the output.
enum Item<'a> {
    Message(MessageItem<'a>),
    Reasoning(ReasoningItem<'a>),
    Call(CallItem<'a>),
    Image(ImageItem<'a>),
    Other,
}

impl<'a> Item<'a> {
    fn parse(raw: &'a RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, rename = "type")]
            kind: json::Str<'a>,
            /// An image that hasn't been drawn yet has no result.
            #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
            result: Option<&'a RawValue>,
        }
        let json = raw.get();
        let kind: Kind<'_> = json::parse(json)?;
        Ok(match kind.kind.0.as_ref() {
            "message" => Self::Message(json::parse(json)?),
            "reasoning" => Self::Reasoning(json::parse(json)?),
            "function_call" | "custom_tool_call" => Self::Call(json::parse(json)?),
            "image_generation_call" if kind.result.is_some() => Self::Image(json::parse(json)?),
            _ => Self::Other,
        })
    }
}

#[derive(Deserialize)]
struct MessageItem<'a> {
    #[serde(borrow, default)]
    content: Vec<ContentPart<'a>>,
}

#[derive(Deserialize)]
struct ContentPart<'a> {
    #[serde(borrow, default = "empty")]
    text: json::Str<'a>,
    #[serde(borrow, default = "empty")]
    refusal: json::Str<'a>,
    #[serde(borrow, default)]
    annotations: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ReasoningItem<'a> {
    #[serde(borrow, default)]
    summary: Vec<ReasoningText<'a>>,
    /// The reasoning itself, of models that show it.
    #[serde(borrow, default)]
    content: Option<Vec<ReasoningText<'a>>>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    encrypted_content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ReasoningText<'a> {
    #[serde(borrow, default = "empty")]
    text: json::Str<'a>,
}

#[derive(Deserialize)]
struct CallItem<'a> {
    #[serde(borrow, default = "empty")]
    call_id: json::Str<'a>,
    #[serde(borrow, default = "empty")]
    name: json::Str<'a>,
    #[serde(borrow, default)]
    arguments: Option<json::Str<'a>>,
    /// Of tools whose input is text.
    #[serde(borrow, default)]
    input: Option<json::Str<'a>>,
}

impl CallItem<'_> {
    fn arguments(&self) -> &str {
        self.arguments.as_ref().or(self.input.as_ref()).map_or("", |text| &text.0)
    }
}

#[derive(Deserialize)]
struct ImageItem<'a> {
    #[serde(borrow)]
    result: json::Str<'a>,
    #[serde(borrow, default)]
    output_format: Option<json::Str<'a>>,
}

fn empty() -> json::Str<'static> {
    json::Str(Cow::Borrowed(""))
}

/// A response, whole or at the beginning or end of a stream.
#[derive(Default)]
struct Response<'a> {
    id: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    error: Option<&'a RawValue>,
    incomplete_details: Option<Incomplete<'a>>,
    output: Option<Vec<&'a RawValue>>,
    usage: Option<&'a RawValue>,
    /// Members the contract has no place for.
    rest: Vec<(Cow<'a, str>, &'a RawValue)>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    reason: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Response<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |raw: &'de RawValue| {
            Ok(read::<Option<json::Str<'de>>, D::Error>(raw)?.map(|text| text.0))
        };
        let mut response = Self::default();
        for (name, raw) in Members::deserialize(deserializer)?.0 {
            match name.as_ref() {
                "id" => response.id = text(raw)?,
                "model" => response.model = text(raw)?,
                "status" => response.status = text(raw)?,
                "output" => response.output = read(raw)?,
                "incomplete_details" => response.incomplete_details = read(raw)?,
                "error" => response.error = present(raw),
                "usage" => response.usage = present(raw),
                "object" | "created_at" => {}
                _ => response.rest.extend(present(raw).map(|raw| (name, raw))),
            }
        }
        Ok(response)
    }
}

fn read<'de, T: Deserialize<'de>, E: serde::de::Error>(raw: &'de RawValue) -> Result<T, E> {
    serde_json::from_str(raw.get()).map_err(E::custom)
}

fn present(raw: &RawValue) -> Option<&RawValue> {
    (raw.get() != "null").then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"id":"r","model":"m","status":"completed","incomplete_details":null,"error":null,"x":[1],"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"é"}],"encrypted_content":"e"},{"type":"message","content":[{"type":"output_text","text":"a","annotations":[{}],"logprobs":[{}]}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"image_generation_call","result":"AA=="}],"usage":{"input_tokens":1,"input_tokens_details":{"cached_tokens":0},"output_tokens":2}}"#;

    #[test]
    fn a_response_cut_anywhere_is_malformed_and_nothing_worse() {
        let read = |data: &str| Answer::new(true).whole(data, &mut Output::default());
        assert!(read(WHOLE).is_ok());
        for end in (0..WHOLE.len()).filter(|&end| WHOLE.is_char_boundary(end)) {
            assert!(read(&WHOLE[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn arguments_of_a_call_that_was_never_announced_are_nobodys() {
        let (mut answer, mut out) = (Answer::new(false), Output::default());
        let data = r#"{"output_index":7,"delta":"{}"}"#;
        let event = "response.function_call_arguments.delta";
        answer.event(event, data, &mut out).unwrap();
        assert!(out.into_outputs().is_empty());
    }
}
