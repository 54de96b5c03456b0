//! Answers in the OpenAI shape, whole or streamed, to events.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error;
use crate::{
    Failure, Output,
    contract::{FinishReason, Frame, Model, ResponseHead, Usage, Vector},
    json,
};

/// What a vendor sends at most in one answer that has unknown members; more are left out.
const MAX_ATTRIBUTES: usize = 32;

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
    choices: Vec<Choice>,
    /// Unknown members already reported; streams repeat them in every chunk.
    attributes: Vec<(String, String)>,
}

/// What is known of one choice of an answer.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    finished: bool,
    /// The vendor's indices of tool calls that have begun, by the contract's.
    calls: Vec<u32>,
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
            Task::Models => models(&frame.data, out),
            Task::Probe => probe(&frame.data),
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
        let (id, model) = (chunk.id.as_deref(), chunk.model.as_deref());
        // Some begin with a chunk of their own that names neither.
        if !self.started && (!chunk.choices.is_empty() || id.is_some_and(|id| !id.is_empty())) {
            self.started = true;
            out.started(id, model);
        }
        for (name, value) in chunk.rest {
            self.attribute(&name, value.get(), out);
        }
        for choice in chunk.choices {
            self.choice(choice, out);
        }
        if let Some(usage) = chunk.usage {
            report_usage(usage.get(), out);
        }
        Ok(())
    }

    fn choice(&mut self, part: ChoicePart<'_>, out: &mut Output) {
        let index = part.index;
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
            if let Some(content) = text(delta.content) {
                out.text(index, content);
            }
            if let Some(refusal) = text(delta.refusal) {
                out.refusal(index, refusal);
            }
            for (position, call) in delta.tool_calls.into_iter().flatten().enumerate() {
                choice.call(position, call, out);
            }
            for annotation in delta.annotations.into_iter().flatten() {
                out.citation(index, annotation.get());
            }
            audio = delta.audio;
        }
        if let Some(logprobs) = part.logprobs {
            out.logprobs(index, logprobs.get());
        }
        if let Some(reason) = part.finish_reason.filter(|reason| !reason.is_empty()) {
            choice.finished = true;
            out.finish(index, finish_reason(&reason));
        }
        if let Some(audio) = audio {
            self.attribute("audio", audio.get(), out);
        }
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
    fn call(&mut self, position: usize, call: Call<'_>, out: &mut Output) {
        // Whole answers don't number their calls.
        let vendor_index =
            call.index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
        let function = call.function.or(call.custom).unwrap_or_default();
        let known = self.calls.iter().position(|&known| known == vendor_index);
        let at = known.unwrap_or_else(|| {
            self.calls.push(vendor_index);
            self.calls.len() - 1
        });
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        if known.is_none() {
            let id = call.id.unwrap_or_default();
            out.tool_call(self.index, index, id, function.name.unwrap_or_default());
        }
        if let Some(fragment) = function.arguments.or(function.input).filter(|f| !f.is_empty()) {
            out.tool_arguments(self.index, index, fragment);
        }
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_owned()),
    }
}

/// Counts that make no sense are left out, and the host then estimates.
fn report_usage(json: &str, out: &mut Output) {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Counts {
        prompt_tokens: Option<u64>,
        completion_tokens: Option<u64>,
        prompt_tokens_details: Option<PromptDetails>,
        completion_tokens_details: Option<CompletionDetails>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct PromptDetails {
        cached_tokens: Option<u64>,
        cache_write_tokens: Option<u64>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct CompletionDetails {
        reasoning_tokens: Option<u64>,
    }
    let Ok(counts) = serde_json::from_str::<Counts>(json) else { return };
    if counts.prompt_tokens.is_none() && counts.completion_tokens.is_none() {
        return;
    }
    let prompt = counts.prompt_tokens_details.unwrap_or_default();
    let completion = counts.completion_tokens_details.unwrap_or_default();
    out.usage(Usage {
        input: counts.prompt_tokens,
        cache_read: prompt.cached_tokens,
        cache_write: prompt.cache_write_tokens,
        output: counts.completion_tokens,
        reasoning: completion.reasoning_tokens,
        units: Vec::new(),
    });
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

fn models(data: &str, out: &mut Output) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<Item<'a>>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        created: Option<u64>,
        #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
        owned_by: Option<&'a RawValue>,
        // Under these names compatible servers say how much fits.
        max_model_len: Option<u32>,
        context_window: Option<u32>,
        context_length: Option<u32>,
    }
    let list: List<'_> = json::parse(data)?;
    for item in list.data {
        let mut model = Model::new(item.id);
        model.created = item.created;
        model.context_window = item.max_model_len.or(item.context_window).or(item.context_length);
        if let Some(owner) = item.owned_by {
            model.extra = ["{\"owned_by\":", owner.get(), "}"].concat();
        }
        out.model(model);
    }
    Ok(())
}

fn probe(data: &str) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "data")]
        _data: Vec<IgnoredAny>,
    }
    json::parse::<List>(data).map(|_| ())
}

/// A chunk of a streamed answer, or a whole one.
#[derive(Default)]
struct Chunk<'a> {
    id: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    choices: Vec<ChoicePart<'a>>,
    usage: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
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
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    content: Option<Cow<'a, str>>,
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
    #[serde(borrow, deserialize_with = "json::cow_or_null")]
    arguments: Option<Cow<'a, str>>,
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
                        // `obfuscation` is random padding.
                        "object" | "created" | "obfuscation" => {
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
