//! Answers of the native endpoint.
//!
//! A whole answer is `{"result": ..., "success": true, "errors": []}`; a streamed one is pieces of
//! the result. What a result looks like is up to the model: `response` and `tool_calls` with
//! older ones, OpenAI's `choices` with newer ones, `data` for embeddings. Older models don't say
//! why they ended: what can be told from calls and counts is told.

use std::borrow::Cow;

use keyward_sdk::{
    Failure, FinishReason, Frame, Output, Vector,
    json::{self, Str},
    openai_wire::{Decoder, report_usage},
};
use serde::Deserialize;
use serde_json::value::RawValue;

pub struct Native {
    model: String,
    task: Task,
}

enum Task {
    Chat(Chat),
    Embed { expected: usize, seen: usize },
}

struct Chat {
    /// Reads OpenAI's shape, and does all from the first piece in it.
    wire: Decoder,
    is_wire: bool,
    started: bool,
    ended: bool,
    streamed: bool,
    calls: u32,
    /// The caller's limit of tokens, and how many there were.
    limit: Option<u32>,
    written: Option<u32>,
}

/// A whole answer, or a piece of one.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    choices: Option<&'a RawValue>,
    /// Text; a number or JSON with some models.
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function: Option<Box<Call<'a>>>,
}

impl Native {
    pub fn chat(model: &str, streamed: bool, limit: Option<u32>) -> Self {
        let task = Task::Chat(Chat {
            wire: Decoder::chat(),
            is_wire: false,
            started: false,
            ended: false,
            streamed,
            calls: 0,
            limit,
            written: None,
        });
        Self { model: model.to_owned(), task }
    }

    pub fn embed(model: &str, expected: usize) -> Self {
        Self { model: model.to_owned(), task: Task::Embed { expected, seen: 0 } }
    }

    pub fn frame(&mut self, frame: &Frame, out: &mut Output) -> Result<(), Failure> {
        if frame.data == "[DONE]" {
            if let Task::Chat(chat) = &mut self.task {
                chat.ended = true;
            }
            return Ok(());
        }
        let piece: Piece<'_> = json::parse(&frame.data)?;
        match (piece.result, &mut self.task) {
            (Some(result), Task::Chat(chat)) => {
                chat.ended = true;
                chat.piece(json::parse(result.get())?, result.get(), &self.model, out)
            }
            (None, Task::Chat(chat)) => chat.piece(piece, &frame.data, &self.model, out),
            (Some(result), Task::Embed { seen, .. }) => {
                *seen = embeddings(json::parse(result.get())?, &self.model, out)?;
                Ok(())
            }
            (None, Task::Embed { .. }) => Ok(()),
        }
    }

    pub fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.task {
            Task::Chat(chat) => chat.end(out),
            Task::Embed { expected, seen } if expected == seen => {
                out.done();
                Ok(())
            }
            Task::Embed { expected, seen } => Err(Failure::malformed(format!(
                "The vendor's answer has {seen} embeddings for {expected} inputs."
            ))),
        }
    }
}

impl Chat {
    fn piece(
        &mut self,
        piece: Piece<'_>,
        json: &str,
        model: &str,
        out: &mut Output,
    ) -> Result<(), Failure> {
        if self.is_wire || piece.choices.is_some() {
            self.is_wire = true;
            return self.wire.frame(&Frame { name: String::new(), data: json.to_owned() }, out);
        }
        if !self.streamed && piece.response.is_none() && piece.tool_calls.is_none() {
            return Err(Failure::malformed("The vendor's answer has nothing in it."));
        }
        if !self.started {
            self.started = true;
            out.started(None, Some(model));
        }
        match piece.response.map(RawValue::get) {
            Some(text) if text.starts_with('"') => {
                let Str(text) = json::parse(text)?;
                if !text.is_empty() {
                    out.text(0, text);
                }
            }
            Some(other) => out.text(0, other),
            None => {}
        }
        for call in piece.tool_calls.into_iter().flatten() {
            let (id, call) = (call.id.clone(), call.function.as_deref().unwrap_or(&call));
            let id = id.or_else(|| call.id.clone()).unwrap_or_default();
            out.tool_call(0, self.calls, id, call.name.clone().unwrap_or_default());
            match call.arguments.map(RawValue::get) {
                Some(text) if text.starts_with('"') => {
                    out.tool_arguments(0, self.calls, json::parse::<Str<'_>>(text)?.0);
                }
                Some(json) => out.tool_arguments(0, self.calls, json),
                None => out.tool_arguments(0, self.calls, "{}"),
            }
            self.calls += 1;
        }
        if let Some(usage) = piece.usage {
            #[derive(Deserialize)]
            struct Written {
                completion_tokens: Option<u32>,
            }
            report_usage(usage.get(), out);
            let counts = serde_json::from_str::<Written>(usage.get()).ok();
            self.written = counts.and_then(|counts| counts.completion_tokens);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        if self.is_wire {
            return self.wire.end(out);
        }
        if !self.started {
            return Err(Failure::malformed("The vendor's answer has nothing in it."));
        }
        if self.streamed && !self.ended {
            return Err(Failure::malformed("The vendor's answer ended before it was finished."));
        }
        let full = self.limit.is_some_and(|limit| self.written.is_some_and(|it| it >= limit));
        out.finish(
            0,
            match self.calls {
                0 if full => FinishReason::Length,
                0 => FinishReason::Stop,
                _ => FinishReason::ToolCalls,
            },
        );
        out.done();
        Ok(())
    }
}

fn embeddings(piece: Piece<'_>, model: &str, out: &mut Output) -> Result<usize, Failure> {
    out.started(None, Some(model));
    let vectors = piece.data.unwrap_or_default();
    for (index, vector) in vectors.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        out.embedding(index, Vector::Floats(json::parse(vector.get())?));
    }
    if let Some(usage) = piece.usage {
        report_usage(usage.get(), out);
    }
    Ok(vectors.len())
}
