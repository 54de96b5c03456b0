//! Answers in the OpenAI shape, whole or streamed, to events.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{error, models, usage::report_usage};
use crate::{
    Failure, Output,
    contract::{FailureKind, FinishReason, Frame, MediaKind, ResponseHead, Vector},
    json,
};

/// What a vendor sends at most in one answer that has unknown members; more are left out.
const MAX_ATTRIBUTES: usize = 32;

/// Where Groq puts what OpenAI's answers have no place for.
const GROQ: &str = "x_groq";

/// Reads the answer to one request of [`super::start`]. Its methods have the names of the
/// [`crate::Adapter`] methods that call them.
#[derive(Debug)]
pub struct Decoder(Task);

#[derive(Debug)]
enum Task {
    Chat(Chat),
    Embed { expected: usize, seen: usize },
    Models,
    Probe,
}

#[derive(Debug, Default)]
struct Chat {
    started: bool,
    /// Counts came under their usual name, so that others are but a repetition.
    counted: bool,
    choices: Vec<Choice>,
    /// Unknown members already reported; streams repeat them in every chunk.
    attributes: Vec<(String, String)>,
}

/// What is known of one choice of an answer.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    finished: bool,
    /// The tool calls that have begun; their places here are the contract's indices.
    calls: Vec<Begun>,
}

/// A tool call that has begun, as the vendor tells it from others.
#[derive(Debug)]
struct Begun {
    index: u32,
    id: String,
}

impl Decoder {
    pub fn chat() -> Self {
        Self(Task::Chat(Chat::default()))
    }

    /// For so many inputs.
    pub fn embed(expected: usize) -> Self {
        Self(Task::Embed { expected, seen: 0 })
    }

    pub fn models() -> Self {
        Self(Task::Models)
    }

    pub fn probe() -> Self {
        Self(Task::Probe)
    }

    /// # Errors
    /// If the frame isn't what it should be, or is an error of the vendor's.
    pub fn frame(&mut self, frame: &Frame, out: &mut Output) -> Result<(), Failure> {
        match &mut self.0 {
            Task::Chat(_) if frame.data == "[DONE]" => Ok(()),
            Task::Chat(chat) => chat.chunk(&frame.data, out),
            Task::Embed { seen, .. } => embeddings(&frame.data, seen, out),
            Task::Models => models::report(&frame.data, out),
            Task::Probe => models::probe(&frame.data),
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
        if !head.is_success() {
            return Err(error::failure(head.status, body));
        }
        self.frame(&Frame { name: String::new(), data: body.to_owned() }, out)
    }

    /// # Errors
    /// `malformed-answer` if the answer ended too early.
    pub fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &self.0 {
            Task::Chat(chat) if chat.choices.is_empty() => {
                return Err(Failure::malformed("The vendor's answer has no choice in it."));
            }
            Task::Chat(chat) if chat.choices.iter().any(|choice| !choice.finished) => {
                return Err(Failure::malformed(
                    "The vendor's answer ended before it was finished.",
                ));
            }
            Task::Embed { expected, seen } if expected != seen => {
                return Err(Failure::malformed(format!(
                    "The vendor's answer has {seen} embeddings for {expected} inputs."
                )));
            }
            _ => {}
        }
        out.done();
        Ok(())
    }
}

impl Chat {
    fn chunk(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let chunk: Chunk<'_> = json::parse(data)?;
        if let Some(error) = chunk.error {
            return Err(error::from_error(None, error.get()));
        }
        if chunk.is_error {
            return Err(error::from_error(None, data));
        }
        let (id, model) = (chunk.id.as_deref(), chunk.model.as_deref());
        // Some begin with a chunk of their own that names neither.
        if !self.started && (!chunk.choices.is_empty() || id.is_some_and(|id| !id.is_empty())) {
            self.started = true;
            out.started(id, model);
        }
        for (name, value) in chunk.rest {
            if name == GROQ {
                self.groq(value.get(), out)?;
            }
            self.attribute(&name, value.get(), out);
        }
        for choice in chunk.choices {
            self.choice(choice, out)?;
        }
        if let Some(usage) = chunk.usage {
            self.counted |= report_usage(usage.get(), out);
        }
        Ok(())
    }

    /// Groq's own member: counts where none were asked for, and why a stream ended early.
    fn groq(&mut self, json: &str, out: &mut Output) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Groq<'a> {
            #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
            usage: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
            error: Option<&'a RawValue>,
        }
        let groq: Groq<'_> = json::parse(json)?;
        if let Some(error) = groq.error {
            return Err(error::from_error(None, error.get()));
        }
        self.count(groq.usage, out);
        Ok(())
    }

    /// Counts in an unusual place.
    fn count(&mut self, usage: Option<&RawValue>, out: &mut Output) {
        if let Some(usage) = usage.filter(|_| !self.counted) {
            report_usage(usage.get(), out);
        }
    }

    fn choice(&mut self, part: ChoicePart<'_>, out: &mut Output) -> Result<(), Failure> {
        let index = part.index;
        if let Some(error) = part.error {
            return Err(error::from_error(None, error.get()));
        }
        let at =
            self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            });
        let choice = &mut self.choices[at];
        let mut audio = None;
        if let Some(delta) = part.delta {
            let text = |text: Option<Cow<'_, str>>| {
                text.filter(|text| !text.is_empty()).map(Cow::into_owned)
            };
            if let Some(thinking) = text(delta.reasoning_content).or_else(|| text(delta.reasoning))
            {
                out.thinking(index, thinking);
            }
            match delta.content {
                Content::Text(content) if content.is_empty() => {}
                Content::Text(content) => out.text(index, content),
                Content::Parts(parts) => content_parts(index, parts, out)?,
            }
            if let Some(refusal) = text(delta.refusal) {
                out.refusal(index, refusal);
            }
            let mut last = None;
            for (position, call) in delta.tool_calls.into_iter().flatten().enumerate() {
                last = Some(choice.call(position, call, last, out)?);
            }
            for annotation in delta.annotations.into_iter().flatten() {
                out.citation(index, annotation.get());
            }
            for image in delta.images.into_iter().flatten() {
                image_part(index, image.get(), out);
            }
            audio = delta.audio;
        }
        if let Some(logprobs) = part.logprobs {
            out.logprobs(index, logprobs.get());
        }
        if let Some(reason) = part.finish_reason.filter(|reason| !reason.is_empty()) {
            choice.finished = true;
            finish(index, &reason, part.stop_reason, out)?;
        }
        // An empty object says nothing new.
        let filtered = part.content_filter_results.filter(|results| results.get() != "{}");
        let own = [
            ("audio", audio),
            ("content_filter_results", filtered),
            ("content_filter_offsets", part.content_filter_offsets),
            ("native_finish_reason", part.native_finish_reason),
        ];
        for (name, value) in own {
            match value {
                Some(value) if index == 0 => self.attribute(name, value.get(), out),
                Some(value) => self.attribute(&format!("choices.{index}.{name}"), value.get(), out),
                None => {}
            }
        }
        self.count(part.usage, out);
        Ok(())
    }

    /// Reports an unknown member when it is new or has changed.
    fn attribute(&mut self, name: &str, value: &str, out: &mut Output) {
        let known = self.attributes.iter().position(|(known, _)| known == name);
        match known {
            Some(at) if self.attributes[at].1 == value => return,
            Some(at) => value.clone_into(&mut self.attributes[at].1),
            None if self.attributes.len() == MAX_ATTRIBUTES => return,
            None => self.attributes.push((name.to_owned(), value.to_owned())),
        }
        out.attribute(name, value);
    }
}

impl Choice {
    /// Reports a call, or a piece of one, and gives its place. `last` is that of the piece before
    /// it in the same list.
    fn call(
        &mut self,
        position: usize,
        call: Call<'_>,
        last: Option<usize>,
        out: &mut Output,
    ) -> Result<usize, Failure> {
        // Whole answers don't number their calls.
        let vendor_index =
            call.index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
        let id = call.id.unwrap_or_default();
        let function = call.function.or(call.custom).unwrap_or_default();
        let name = function.name.unwrap_or_default();
        // Some give every call the same number and tell them apart by id alone, or not at all:
        // then a name in the same list begins another.
        let another = |at: usize| {
            let other_id = !id.is_empty() && self.calls[at].id != id;
            !name.is_empty() && (other_id || last == Some(at))
        };
        let known = self.calls.iter().rposition(|begun| begun.index == vendor_index);
        let known = known.filter(|&at| !another(at));
        let at = known.unwrap_or(self.calls.len());
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        if known.is_none() {
            // LocalAI gives all calls of an answer one id; results couldn't be told apart by it.
            let repeated = self.calls.iter().any(|begun| begun.id == id);
            self.calls.push(Begun { index: vendor_index, id: id.clone().into_owned() });
            out.tool_call(self.index, index, if repeated { Cow::Borrowed("") } else { id }, name);
        }
        if let Some(arguments) = function.arguments {
            // JSON as a string; some give the JSON itself.
            let fragment = match arguments.get().starts_with('"') {
                true => json::parse::<json::Str<'_>>(arguments.get())?.0,
                false => Cow::Borrowed(arguments.get()),
            };
            if !fragment.is_empty() {
                out.tool_arguments(self.index, index, fragment);
            }
        }
        if let Some(input) = function.input.filter(|input| !input.is_empty()) {
            out.tool_arguments(self.index, index, input);
        }
        Ok(at)
    }
}

/// Content in parts: Mistral's way to tell thinking and references from text.
fn content_parts(choice: u32, parts: Vec<&RawValue>, out: &mut Output) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
        r#type: Option<Cow<'a, str>>,
        #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
        text: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        thinking: Option<Vec<&'a RawValue>>,
    }
    for raw in parts {
        let part: Part<'_> = json::parse(raw.get())?;
        match part.r#type.as_deref() {
            Some("thinking") => {
                for raw in part.thinking.into_iter().flatten() {
                    let part: Part<'_> = json::parse(raw.get())?;
                    if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                        out.thinking(choice, text);
                    }
                }
            }
            Some("image_url") => image_part(choice, raw.get(), out),
            Some("text") | None => {
                if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                    out.text(choice, text);
                }
            }
            Some(_) => out.citation(choice, raw.get()),
        }
    }
    Ok(())
}

/// An image the model made. One that isn't in the answer itself, but elsewhere, is a citation.
fn image_part(choice: u32, raw: &str, out: &mut Output) {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        image_url: Image<'a>,
    }
    #[derive(Deserialize)]
    struct Image<'a> {
        #[serde(borrow)]
        url: json::Str<'a>,
    }
    let part = serde_json::from_str::<Part<'_>>(raw).ok();
    let url = part.as_ref().and_then(|part| part.image_url.url.0.strip_prefix("data:"));
    match url.and_then(|url| url.split_once(";base64,")) {
        Some((media_type, base64)) => out.media(choice, MediaKind::Image, media_type, base64),
        None => out.citation(choice, raw),
    }
}

/// Reports why an answer ended. What isn't an end but a breakdown is a failure.
fn finish(
    choice: u32,
    reason: &str,
    stop_reason: Option<&RawValue>,
    out: &mut Output,
) -> Result<(), Failure> {
    let reason = match reason {
        // vLLM says which stop sequence it was, or the number of the token.
        "stop" => match stop_reason.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            Some(json::Str(sequence)) => {
                out.finish_at(choice, sequence);
                return Ok(());
            }
            None => FinishReason::Stop,
        },
        "eos" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        "error" | "network_error" => {
            return Err(Failure::of(
                FailureKind::Unavailable,
                "The vendor broke the answer off and gave no reason.",
            )
            .with_code(reason));
        }
        "insufficient_system_resource" => {
            return Err(Failure::of(
                FailureKind::Overloaded,
                "The vendor broke the answer off because its servers are too busy.",
            )
            .with_code(reason));
        }
        other => FinishReason::Other(other.to_owned()),
    };
    out.finish(choice, reason);
    Ok(())
}

fn embeddings(data: &str, seen: &mut usize, out: &mut Output) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow, default)]
        data: Option<Vec<Item<'a>>>,
        #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
        model: Option<Cow<'a, str>>,
        #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
        usage: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        index: Option<u32>,
        #[serde(borrow)]
        embedding: &'a RawValue,
    }
    let list: List<'_> = json::parse(data)?;
    if let Some(error) = list.error {
        return Err(error::from_error(None, error.get()));
    }
    out.started(None, list.model.as_deref());
    for (position, item) in list.data.into_iter().flatten().enumerate() {
        let index = item.index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
        let raw = item.embedding.get();
        let vector = match raw.starts_with('"') {
            true => Vector::Base64(json::parse::<String>(raw)?),
            false => Vector::Floats(json::parse(raw)?),
        };
        out.embedding(index, vector);
        *seen += 1;
    }
    if let Some(usage) = list.usage {
        report_usage(usage.get(), out);
    }
    Ok(())
}

/// A chunk of a streamed answer, or a whole one.
#[derive(Default)]
struct Chunk<'a> {
    id: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    choices: Vec<ChoicePart<'a>>,
    usage: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// The chunk itself is an error: its `object` says so.
    is_error: bool,
    /// Members the contract has no place for.
    rest: Vec<(Cow<'a, str>, &'a RawValue)>,
}

#[derive(Deserialize)]
struct ChoicePart<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default, alias = "message")]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    logprobs: Option<&'a RawValue>,
    // Not OpenAI's own: vLLM's, Azure's two, OpenRouter's two and Moonshot's.
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    content_filter_results: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    content_filter_offsets: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    native_finish_reason: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    refusal: Option<Cow<'a, str>>,
    // Not OpenAI's own: the two names under which compatible vendors show thinking.
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    annotations: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    audio: Option<&'a RawValue>,
    /// OpenRouter's, for images the model made.
    #[serde(borrow, default)]
    images: Option<Vec<&'a RawValue>>,
}

/// Text, or with some vendors a list of parts.
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<&'a RawValue>),
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Text(Cow::Borrowed(""))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Content<'de>, E> {
                Ok(Content::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
struct Call<'a> {
    index: Option<u32>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    /// A tool whose input is text, not JSON.
    #[serde(borrow, default)]
    custom: Option<Function<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "json::raw_or_null")]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    input: Option<Cow<'a, str>>,
}

// By hand, because serde's `flatten` would buffer every chunk to find its unknown members.
impl<'de> Deserialize<'de> for Chunk<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Chunk<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an answer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Chunk<'de>, A::Error> {
                let mut chunk = Chunk::default();
                while let Some(json::Str(name)) = map.next_key()? {
                    match &*name {
                        "id" => chunk.id = map.next_value::<Option<json::Str<'_>>>()?.map(|s| s.0),
                        "model" => {
                            chunk.model = map.next_value::<Option<json::Str<'_>>>()?.map(|s| s.0);
                        }
                        "choices" => {
                            chunk.choices = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "usage" => chunk.usage = present(map.next_value()?),
                        "error" => chunk.error = present(map.next_value()?),
                        "object" => {
                            let object = map.next_value::<Option<json::Str<'_>>>()?;
                            chunk.is_error = object.is_some_and(|object| object.0 == "error");
                        }
                        // `obfuscation` is random padding.
                        "created" | "obfuscation" => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        _ => {
                            if let Some(value) = present(map.next_value()?) {
                                chunk.rest.push((name, value));
                            }
                        }
                    }
                }
                Ok(chunk)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

fn present(raw: &RawValue) -> Option<&RawValue> {
    (raw.get() != "null").then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{Event, Output as Contract},
        replay::{event_json, fold},
    };
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    fn decode(frames: &[&str]) -> (Json, Result<(), Failure>) {
        let (mut decoder, mut out) = (Decoder::chat(), Output::default());
        let frame = |data: &&str| Frame { name: String::new(), data: (*data).to_owned() };
        let result = frames
            .iter()
            .try_for_each(|data| decoder.frame(&frame(data), &mut out))
            .and_then(|()| decoder.end(&mut out));
        let events: Vec<Event> = out
            .into_outputs()
            .into_iter()
            .filter_map(|output| match output {
                Contract::Event(event) => Some(event),
                _ => None,
            })
            .collect();
        (fold(events).iter().map(event_json).collect(), result)
    }

    #[test]
    fn an_unknown_member_that_every_chunk_repeats_is_reported_once() {
        let chunk = r#"{"id":"a","x_tier":"fast","obfuscation":"r","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        let last = r#"{"id":"a","x_tier":"slow","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let (events, result) = decode(&[chunk, chunk, last, "[DONE]"]);
        assert!(result.is_ok());
        assert_eq!(
            events,
            json!([
                {"started": {"id": "a"}}, {"attribute": {"x_tier": "fast"}}, {"text": "xx"},
                {"attribute": {"x_tier": "slow"}}, {"finish": "stop"}
            ])
        );
    }

    #[test]
    fn calls_that_share_a_number_are_told_apart_by_their_ids() {
        let call = |id: &str| {
            format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"id":"{id}","function":{{"name":"f","arguments":"{{}}"}}}}]}}}}]}}"#
            )
        };
        let again = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"arguments":" "}}]},"finish_reason":"tool_calls"}]}"#;
        let (events, result) = decode(&[&call("a"), &call("b"), again]);
        assert!(result.is_ok());
        assert_eq!(
            events,
            json!([
                {"started": {}},
                {"tool-call": {"id": "a", "name": "f"}}, {"tool-arguments": "{}"},
                {"tool-call": {"id": "b", "name": "f"}, "index": 1},
                {"tool-arguments": "{} ", "index": 1},
                {"finish": "tool-calls"}
            ])
        );
    }

    #[test]
    fn content_in_parts_is_text_thinking_images_and_references() {
        let chunk = r#"{"choices":[{"delta":{"content":[
            {"type":"thinking","thinking":[{"type":"text","text":"hm"}]},
            {"type":"text","text":"a\u00e9"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
            {"type":"image_url","image_url":{"url":"https://x.test/a.png"}},
            {"type":"reference","reference_ids":[1]}]},"finish_reason":"eos"}]}"#;
        let (events, result) = decode(&[chunk]);
        assert!(result.is_ok());
        assert_eq!(
            events,
            json!([
                {"started": {}}, {"thinking": "hm"}, {"text": "aé"},
                {"media": {"kind": "image", "media_type": "image/png", "base64": "AAAA"}},
                {"citation": {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}},
                {"citation": {"type": "reference", "reference_ids": [1]}},
                {"finish": "stop"}
            ])
        );
    }

    #[test]
    fn an_end_that_is_a_breakdown_fails_and_keeps_what_came_before() {
        for (reason, kind) in [
            ("error", FailureKind::Unavailable),
            ("insufficient_system_resource", FailureKind::Overloaded),
        ] {
            let chunk = format!(
                r#"{{"choices":[{{"delta":{{"content":"a"}},"finish_reason":"{reason}"}}]}}"#
            );
            let (events, result) = decode(&[&chunk]);
            assert_eq!(result.unwrap_err().kind, kind);
            assert_eq!(events, json!([{"started": {}}, {"text": "a"}]));
        }
    }

    #[test]
    fn counts_in_two_places_are_reported_once() {
        let both = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop","usage":{"prompt_tokens":1}}],
            "x_groq":{"id":"r","usage":{"prompt_tokens":1}},"usage":{"prompt_tokens":1}}"#;
        let (events, _) =
            decode(&[r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":2}}"#, both]);
        let usages = events.as_array().unwrap().iter().filter(|e| e.get("usage").is_some());
        assert_eq!(usages.count(), 2, "{events}");
    }

    #[test]
    fn usage_that_makes_no_sense_is_left_out() {
        let answer = |usage: &str| {
            format!(
                r#"{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
            )
        };
        for usage in [r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":1e30}"#, "[]", "7", "null"] {
            let (events, result) = decode(&[&answer(usage)]);
            assert!(result.is_ok(), "{usage}");
            assert_eq!(events.as_array().map(Vec::len), Some(3), "{usage}: {events}");
        }
    }

    #[test]
    fn several_choices_and_their_calls_are_kept_apart() {
        let call = |choice: u32, index: u32, function: &str| {
            format!(
                r#"{{"choices":[{{"index":{choice},"delta":{{"tool_calls":[{{"index":{index},{function}}}]}}}}]}}"#
            )
        };
        let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"},{"index":1,"delta":{},"finish_reason":"tool_calls"}]}"#;
        let (events, result) = decode(&[
            &call(0, 1, r#""id":"a","function":{"name":"f","arguments":""}"#),
            &call(1, 0, r#""id":"b","function":{"name":"g","arguments":"{"}"#),
            &call(0, 1, r#""function":{"arguments":"{}"}"#),
            &call(1, 0, r#""function":{"arguments":"}"}"#),
            finish,
        ]);
        assert!(result.is_ok());
        assert_eq!(
            events,
            json!([
                {"started": {}},
                {"tool-call": {"id": "a", "name": "f"}},
                {"tool-call": {"id": "b", "name": "g"}, "choice": 1},
                {"tool-arguments": "{", "choice": 1},
                {"tool-arguments": "{}"},
                {"tool-arguments": "}", "choice": 1},
                {"finish": "tool-calls"},
                {"finish": "tool-calls", "choice": 1}
            ])
        );
    }

    #[test]
    fn thinking_of_compatible_vendors_comes_once_under_either_name() {
        let chunk = r#"{"choices":[{"delta":{"reasoning_content":"hm","reasoning":"hm","content":"a"},"finish_reason":"stop"}]}"#;
        let (events, _) = decode(&[chunk]);
        assert_eq!(
            events,
            json!([{"started": {}}, {"thinking": "hm"}, {"text": "a"}, {"finish": "stop"}])
        );
    }

    const CHUNK: &str = r#"{"id":"a","model":"m","x":[1,{"y":null}],"choices":[{"index":0,"delta":{"content":"a\\u00e9","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}],"annotations":[{}]},"logprobs":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":0}},"error":null}"#;

    proptest! {
        #[test]
        fn a_damaged_answer_never_panics(
            cut in 0..CHUNK.len(),
            damage in proptest::collection::vec((0..CHUNK.len(), any::<u8>()), 0..4),
            task in 0..4,
        ) {
            let mut bytes = CHUNK.as_bytes().to_vec();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            let part = String::from_utf8_lossy(&bytes[..cut]).into_owned();
            let (mut decoder, mut out) = (
                match task {
                    0 => Decoder::chat(),
                    1 => Decoder::embed(1),
                    2 => Decoder::models(),
                    _ => Decoder::probe(),
                },
                Output::default(),
            );
            for data in [whole.clone(), part.clone()] {
                let _ = decoder.frame(&Frame { name: String::new(), data }, &mut out);
            }
            let _ = decoder.end(&mut out);
            for body in [whole, part] {
                prop_assert!(!error::failure(400, &body).message.is_empty());
            }
        }
    }
}
