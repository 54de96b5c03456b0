//! `/generate` and `/generate_stream`.

use std::borrow::Cow;

use keyward_sdk::{
    Chat, Failure, FinishReason, Format, Framing, Output, Usage, VendorRequest,
    json::{self, Str},
    openai_wire::{self, Profile, StructuredOutput},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::prompt::{self, Image, Template};

/// Reads an answer.
pub struct Generate {
    streamed: bool,
    logprobs: bool,
    started: bool,
    finished: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    inputs: String,
    parameters: Parameters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multimodal_params: Option<Multimodal<'a>>,
}

#[derive(Serialize)]
struct Multimodal<'a> {
    images: Vec<Image<'a>>,
}

#[derive(Serialize, Default)]
struct Parameters<'a> {
    /// Without it LightLLM passes over the next three.
    #[serde(skip_serializing_if = "Option::is_none")]
    do_sample: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_new_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    /// The same number twice, as LightLLM wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_of: Option<u32>,
    /// A schema, as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_grammar: Option<&'static str>,
    /// False where the template writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    add_special_tokens: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_details: Option<bool>,
}

/// The request for a chat, and what reads its answer. Of the `profile` counts whether the server
/// holds answers to schemas.
///
/// # Errors
/// `unsupported` for tools and what [`prompt::write`] can't write.
pub fn start(
    chat: &Chat,
    template: Template,
    profile: &Profile,
    out: &mut Output,
) -> Result<(VendorRequest, Generate), Failure> {
    if !chat.tools.is_empty() {
        return Err(prompt::no_tools());
    }
    let instruction = openai_wire::format_instruction(&chat.format, profile, out);
    let prompt = prompt::write(chat, template, instruction.as_deref(), out)?;
    warn(chat, out);
    let sampling = &chat.sampling;
    let several = sampling.choices.filter(|&choices| choices > 1);
    // Several answers aren't streamed; the events are the same.
    let streamed = chat.stream && several.is_none();
    let logprobs = sampling.logprobs.is_some();
    let samples =
        sampling.temperature.is_some() || sampling.top_p.is_some() || sampling.top_k.is_some();
    let mut parameters = Parameters {
        do_sample: samples.then_some(true),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        seed: sampling.seed,
        max_new_tokens: sampling.max_output_tokens,
        stop_sequences: sampling.stop.iter().map(String::as_str).collect(),
        n: several,
        best_of: several,
        add_special_tokens: template.end_of_turn().map(|_| false),
        return_details: (logprobs && !streamed).then_some(true),
        ..Parameters::default()
    };
    parameters.stop_sequences.extend(template.end_of_turn());
    if profile.structured == StructuredOutput::Schema {
        match &chat.format {
            Format::Text => {}
            Format::Json => parameters.guided_grammar = Some("json"),
            Format::Schema(schema) => {
                parameters.guided_json = Some(&schema.schema);
                if schema.description.is_some() {
                    out.dropped("format.description", "LightLLM takes the schema alone.");
                }
            }
        }
    }
    let images = Some(prompt.images).filter(|images| !images.is_empty());
    let body = Body {
        inputs: prompt.inputs,
        parameters,
        multimodal_params: images.map(|images| Multimodal { images }),
    };
    let request = match streamed {
        true => VendorRequest::post("/generate_stream", &body)?.framed(Framing::Sse),
        false => VendorRequest::post("/generate", &body)?,
    };
    Ok((request, Generate { streamed, logprobs, started: false, finished: false }))
}

/// Warns of wishes that `/generate` has no place for.
fn warn(chat: &Chat, out: &mut Output) {
    let reasoning = chat.reasoning.as_ref();
    let found = [
        ("reasoning.effort", reasoning.is_some_and(|it| it.effort.is_some())),
        ("reasoning.budget-tokens", reasoning.is_some_and(|it| it.budget_tokens.is_some())),
        ("sampling.logprobs", chat.sampling.logprobs.is_some_and(|others| others > 0)),
    ];
    let messages = [
        "The model's thinking isn't steered.",
        "The model's thinking has no budget.",
        "Log probabilities are those of the chosen tokens only.",
    ];
    for ((subject, found), message) in found.into_iter().zip(messages) {
        if found {
            out.dropped(subject, message);
        }
    }
    out.dropped_fields(&chat.extra, "LightLLM's /generate has other fields.");
}

/// A whole answer. Where there is one text, what is said of it stands alone.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    generated_text: Vec<Str<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    count_output_tokens: Option<&'a RawValue>,
    prompt_tokens: Option<u64>,
    #[serde(borrow, default, deserialize_with = "json::raw_or_null")]
    tokens: Option<&'a RawValue>,
}

/// A token of a streamed one.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow)]
    token: &'a RawValue,
    finished: bool,
    #[serde(borrow, default, deserialize_with = "json::cow_or_null")]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    text: Str<'a>,
    count_output_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}

impl Generate {
    /// # Errors
    /// `malformed-answer`.
    pub fn frame(&mut self, data: &str, out: &mut Output) -> Result<(), Failure> {
        // A whole answer may come where a stream was asked for.
        match self.streamed && data.contains("\"token\"") {
            true => self.piece(json::parse(data)?, out),
            false => self.whole(&json::parse(data)?, out),
        }
    }

    /// # Errors
    /// `malformed-answer` if it ended too early.
    pub fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match (self.started, self.finished) {
            (false, _) => Err(Failure::malformed("The vendor's answer has nothing in it.")),
            (_, false) => {
                Err(Failure::malformed("The vendor's answer ended before it was finished."))
            }
            (true, true) => {
                out.done();
                Ok(())
            }
        }
    }

    fn start(&mut self, out: &mut Output) {
        if !self.started {
            self.started = true;
            out.started(None, None);
        }
    }

    fn piece(&mut self, piece: Piece<'_>, out: &mut Output) -> Result<(), Failure> {
        let token: Token<'_> = json::parse(piece.token.get())?;
        self.start(out);
        if !token.text.0.is_empty() {
            out.text(0, token.text.0);
        }
        if self.logprobs {
            out.logprobs(0, piece.token.get());
        }
        if piece.finished {
            self.finished = true;
            out.finish(0, finish(piece.finish_reason.as_deref()));
            out.usage(usage(token.prompt_tokens, token.count_output_tokens));
        }
        Ok(())
    }

    fn whole(&mut self, whole: &Whole<'_>, out: &mut Output) -> Result<(), Failure> {
        let texts = &whole.generated_text;
        let reasons: Vec<Option<Str<'_>>> = each(whole.finish_reason, texts.len())?;
        let counts: Vec<u64> = each(whole.count_output_tokens, texts.len())?;
        let tokens: Vec<&RawValue> = match self.logprobs {
            true => each(whole.tokens, texts.len())?,
            false => Vec::new(),
        };
        self.start(out);
        self.finished = !texts.is_empty();
        for (choice, text) in (0..).zip(texts) {
            if !text.0.is_empty() {
                out.text(choice, &*text.0);
            }
            let place = choice as usize;
            if let Some(tokens) = tokens.get(place) {
                out.logprobs(choice, tokens.get());
            }
            let reason = reasons.get(place).and_then(Option::as_ref);
            out.finish(choice, finish(reason.map(|reason| &*reason.0)));
        }
        let written = Some(counts.iter().sum()).filter(|_| !counts.is_empty());
        out.usage(usage(whole.prompt_tokens, written));
        Ok(())
    }
}

/// What is said of each of so many texts.
fn each<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    texts: usize,
) -> Result<Vec<T>, Failure> {
    match raw {
        Some(raw) if texts == 1 => Ok(vec![json::parse(raw.get())?]),
        Some(raw) => json::parse(raw.get()),
        None => Ok(Vec::new()),
    }
}

fn finish(reason: Option<&str>) -> FinishReason {
    match reason {
        Some("stop") | None => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some(other) => FinishReason::Other(other.to_owned()),
    }
}

fn usage(input: Option<u64>, output: Option<u64>) -> Usage {
    Usage { input: input.filter(|&input| input > 0), output, ..Usage::none() }
}
