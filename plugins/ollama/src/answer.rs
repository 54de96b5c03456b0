//! Ollama's answers as events.
//!
//! A stream and a whole answer have one form: objects with a piece of the message, the last of
//! them `done` with the counts. A call comes whole in one object, mostly without an id. An object
//! with `error` may take any object's place.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, FinishReason, MediaKind, Model, Output, Usage, Vector,
    json::{self, Members, cow_or_null, parse, raw_or_null},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error;

/// There is one answer to a prompt.
const CHOICE: u32 = 0;

/// Ollama doesn't say what it draws; it is this.
const DRAWN: &str = "image/png";

/// Members of an answer's last object that are events of the contract's. Others, how long it took
/// above all, are for callers who know what they mean.
const KNOWN: [&str; 10] = [
    "model",
    "created_at",
    "message",
    "done",
    "done_reason",
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "eval_count",
    "logprobs",
    "error",
];

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default, deserialize_with = "raw_or_null")]
    logprobs: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    done_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    /// Part of the count before, in newer versions.
    #[serde(default)]
    prompt_eval_cached_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    content: String,
    #[serde(default)]
    thinking: String,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    /// That the model drew, in base64.
    #[serde(default)]
    images: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    id: String,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// What has to be remembered between the pieces of an answer.
pub struct Answer {
    /// The model asked for, for what the user must do if it is missing.
    model: String,
    /// The caller speaks Ollama's dialect and wants what the contract doesn't know.
    native: bool,
    started: bool,
    calls: u32,
    done: bool,
}

impl Answer {
    pub fn new(model: String, native: bool) -> Self {
        Self { model, native, started: false, calls: 0, done: false }
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    /// One object of a stream, or the only one.
    ///
    /// # Errors
    ///
    /// Ollama's own error inside the answer, or an object that can't be read.
    pub fn object(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        let chunk: Chunk<'_> = parse(data)?;
        if let Some(message) = chunk.error {
            return Err(error::in_stream(&message, &self.model));
        }
        if !self.started {
            self.started = true;
            out.started(None, chunk.model.as_deref());
        }
        if let Some(message) = chunk.message {
            if !message.thinking.is_empty() {
                out.thinking(CHOICE, message.thinking);
            }
            if !message.content.is_empty() {
                out.text(CHOICE, message.content);
            }
            for Call { id, function } in message.tool_calls.into_iter().flatten() {
                out.tool_call(CHOICE, self.calls, id, function.name);
                let arguments = function.arguments.map_or("{}", RawValue::get);
                out.tool_arguments(CHOICE, self.calls, arguments);
                self.calls += 1;
            }
            for image in message.images.into_iter().flatten() {
                out.media(CHOICE, MediaKind::Image, DRAWN, image);
            }
        }
        if let Some(logprobs) = chunk.logprobs {
            // In the frame that OpenAI puts around the same entries, which callers know.
            out.logprobs(CHOICE, format!(r#"{{"content":{}}}"#, logprobs.get()));
        }
        if chunk.done {
            self.done = true;
            if self.native {
                for (name, value) in parse::<Members<'_>>(data)?.0 {
                    if !KNOWN.contains(&name.as_ref()) {
                        out.attribute(name, value.get());
                    }
                }
            }
            out.usage(Usage {
                input: chunk.prompt_eval_count,
                cache_read: chunk.prompt_eval_cached_count,
                output: chunk.eval_count,
                ..Usage::none()
            });
            out.finish(
                CHOICE,
                match chunk.done_reason.as_deref() {
                    // Ollama says "stop" for calls as well; old versions say nothing.
                    Some("stop") | None if self.calls > 0 => FinishReason::ToolCalls,
                    Some("stop") | None => FinishReason::Stop,
                    Some("length") => FinishReason::Length,
                    Some(other) => FinishReason::Other(other.to_owned()),
                },
            );
        }
        Ok(())
    }

    /// After the last object.
    ///
    /// # Errors
    ///
    /// If Ollama didn't finish: a part of an answer is never passed off as the whole.
    pub fn end(&self, out: &mut Output) -> Result<(), Failure> {
        if !self.done {
            let message = "The answer ended before Ollama said that it is complete.";
            return Err(Failure::malformed(message));
        }
        out.done();
        Ok(())
    }
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    model: Option<Cow<'a, str>>,
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

/// The answer to `inputs` texts to embed.
///
/// # Errors
///
/// If it can't be read or holds another number of embeddings.
pub fn embeddings(data: &str, inputs: usize, out: &mut Output) -> Result<(), Failure> {
    let answer: Embeddings<'_> = parse(data)?;
    let count = answer.embeddings.len();
    if count != inputs {
        let message = format!("Ollama gave {count} embeddings for {inputs} inputs.");
        return Err(Failure::malformed(message));
    }
    out.started(None, answer.model.as_deref());
    for (index, vector) in (0..).zip(answer.embeddings) {
        out.embedding(index, Vector::Floats(vector));
    }
    out.usage(Usage { input: answer.prompt_eval_count, ..Usage::none() });
    Ok(())
}

#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(borrow)]
    models: Vec<Tag<'a>>,
}

#[derive(Deserialize)]
struct Tag<'a> {
    name: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(borrow, default)]
    details: Details<'a>,
    #[serde(borrow, default)]
    capabilities: Option<Vec<Cow<'a, str>>>,
}

#[derive(Default, Deserialize)]
struct Details<'a> {
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    family: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    parameter_size: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "cow_or_null")]
    quantization_level: Option<Cow<'a, str>>,
}

/// What is worth knowing of a local model beyond the contract's fields.
#[derive(Serialize)]
struct Extra<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_size: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization_level: Option<Cow<'a, str>>,
}

/// The installed models.
///
/// # Errors
///
/// If the list can't be read.
pub fn models(data: &str, out: &mut Output) -> Result<(), Failure> {
    let tags: Tags<'_> = parse(data)?;
    for Tag { name, size, details, capabilities } in tags.models {
        let mut model = Model::new(name);
        for capability in capabilities.into_iter().flatten() {
            model.capabilities.push(
                match capability.as_ref() {
                    "completion" => "chat",
                    "embedding" => "embed",
                    "vision" => "images",
                    "thinking" => "reasoning",
                    other => other,
                }
                .to_owned(),
            );
        }
        let Details { family, parameter_size, quantization_level } = details;
        model.extra = json::text(&Extra { size, family, parameter_size, quantization_level })?;
        out.model(model);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    #[allow(dead_code, reason = "only that it is there matters")]
    version: Cow<'a, str>,
}

/// The answer to a probe.
///
/// # Errors
///
/// If this isn't an Ollama.
pub fn version(data: &str) -> Result<(), Failure> {
    parse::<Version<'_>>(data).map(|_| ())
}
