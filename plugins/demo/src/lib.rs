//! The demo adapter: answers without a network.
//!
//! It lets a new user see everything work before they own a key: streaming, tools, JSON answers,
//! embeddings, metering, failures. It doesn't read prompts, nobody granted it to: it greets, counts,
//! and makes things up in the shape that was asked for. The same request gives the same answer.

mod invent;
mod rehearse;

use keyward_sdk::{
    Adapter, Chat, Context, Descriptor, Embed, EmbedInput, Failure, FailureKind, FinishReason,
    Format, Frame, Model, Operation, Output, Part, PartBody, ResponseHead, Role, Tool, ToolChoice,
    Usage, Vector, describe,
    descriptor::{self, ProviderKind},
    export_adapter, json,
};

const CHAT_MODEL: &str = "demo";
const EMBED_MODEL: &str = "demo-embed";

/// Declines whatever it is asked. Not listed: nobody wants it but to see what happens then.
const REFUSING_MODEL: &str = "demo-refuses";

/// The host's own rule of thumb where a vendor gives no counts.
const BYTES_PER_TOKEN: usize = 4;

/// What an image or the like counts as; its length says little.
const MEDIA_TOKENS: usize = 256;

const DIMENSIONS: u32 = 256;
const MAX_DIMENSIONS: u32 = 4096;

/// More answers to one prompt than anyone looks at.
const MAX_CHOICES: u32 = 16;

/// Words in one piece of a streamed answer.
const WORDS_PER_DELTA: usize = 3;

pub struct Demo;

impl Adapter for Demo {
    fn describe() -> Descriptor {
        Descriptor {
            name: "demo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: "Demo".to_owned(),
            summary: "Answers without a network or a key, to try Keyward out.".to_owned(),
            kind: ProviderKind::Local,
            models: models(),
            operations: describe::ALL_OPERATIONS.to_vec(),
            ..Descriptor::default()
        }
    }

    fn start(operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
        match operation {
            Operation::Chat(chat) => answer(&chat, out)?,
            Operation::Embed(embed) => embed_all(&embed, out)?,
            Operation::ListModels => {
                for known in models() {
                    let mut model = Model::new(known.id);
                    model.title = known.title;
                    model.context_window = known.context_window;
                    model.capabilities = known.capabilities;
                    out.model(model);
                }
            }
            Operation::Probe => {}
            Operation::Other(other) => {
                return Err(Failure::unsupported(format!(
                    "The demo doesn't know the operation {:?}.",
                    other.kind
                )));
            }
        }
        out.done();
        Ok(Self)
    }

    fn frame(&mut self, _: Frame, _: &mut Output) -> Result<(), Failure> {
        Err(nothing_was_sent())
    }

    fn body(&mut self, _: &ResponseHead, _: &str, _: &mut Output) -> Result<(), Failure> {
        Err(nothing_was_sent())
    }

    fn end(&mut self, _: &mut Output) -> Result<(), Failure> {
        Err(nothing_was_sent())
    }
}

export_adapter!(Demo);

fn nothing_was_sent() -> Failure {
    Failure::plugin("An answer came to the demo, which asks nobody.")
}

fn models() -> Vec<descriptor::Model> {
    vec![
        describe::model(CHAT_MODEL, "Demo", 1_000_000, &["chat", "tools", "images", "json-schema"]),
        describe::model(EMBED_MODEL, "Demo embeddings", 1_000_000, &["embed"]),
    ]
}

fn check_model(asked: &str, model: &str) -> Result<(), Failure> {
    if asked == model {
        return Ok(());
    }
    let message = format!("The demo has no model {asked:?} for this. Ask for {model:?}.");
    Err(Failure::of(FailureKind::ModelNotFound, message))
}

fn answer(chat: &Chat, out: &mut Output) -> Result<(), Failure> {
    rehearse::failure(&chat.model, out)?;
    if chat.model != REFUSING_MODEL {
        check_model(&chat.model, CHAT_MODEL)?;
    }
    let choices = chat.sampling.choices.unwrap_or(1);
    if choices == 0 || choices > MAX_CHOICES {
        let message = format!("The demo gives 1 to {MAX_CHOICES} answers.");
        return Err(Failure::invalid("sampling.choices", message));
    }
    let input = prompt_tokens(chat);
    let reply = reply(chat, input)?;
    out.started(None, Some(&chat.model));
    out.usage(Usage { input: Some(input as u64), output: Some(0), ..Usage::none() });
    let mut output = 0;
    for choice in 0..choices {
        output += match &reply {
            Reply::Calls(calls) => call(choice, calls, out),
            Reply::Text(text) => write(choice, text, chat, out),
            Reply::Refusal(text) => refuse(choice, text, out),
        };
    }
    out.usage(Usage { input: Some(input as u64), output: Some(output as u64), ..Usage::none() });
    Ok(())
}

enum Reply<'a> {
    Calls(Vec<Call<'a>>),
    Text(String),
    Refusal(&'static str),
}

struct Call<'a> {
    tool: &'a str,
    arguments: String,
}

fn reply(chat: &Chat, input: usize) -> Result<Reply<'_>, Failure> {
    if chat.model == REFUSING_MODEL {
        return Ok(Reply::Refusal("I was asked to decline, so I do."));
    }
    let mut calls = Vec::new();
    for tool in called_tools(chat)? {
        let arguments = match tool.parameters.as_str() {
            "" => "{}".to_owned(),
            schema => invent::value_for(schema).map_err(|why| Failure::invalid("tools", why))?,
        };
        calls.push(Call { tool: &tool.name, arguments });
    }
    match calls.is_empty() {
        true => text(chat, input).map(Reply::Text),
        false => Ok(Reply::Calls(calls)),
    }
}

fn prompt_tokens(chat: &Chat) -> usize {
    let of_part = |part: &Part| match &part.body {
        PartBody::Text(text) | PartBody::RedactedThinking(text) | PartBody::Refusal(text) => {
            tokens(text.length as usize)
        }
        PartBody::Media(_) => MEDIA_TOKENS,
        PartBody::ToolCall(call) => tokens(call.arguments.length as usize),
        PartBody::Thinking(thinking) => tokens(thinking.text.length as usize),
        PartBody::Other(other) => tokens(other.value.length as usize),
    };
    let messages: usize =
        chat.messages.iter().flat_map(|message| &message.parts).map(of_part).sum();
    let tools: usize = chat.tools.iter().map(|tool| tokens(tool.parameters.len())).sum();
    messages + tools
}

fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The tools that must be called, if any must: all of them if the caller asks for several calls at
/// once, else the first. After a tool's result comes an answer, so that programs which call tools
/// in a loop come to an end.
fn called_tools(chat: &Chat) -> Result<&[Tool], Failure> {
    let has_result = chat.messages.last().is_some_and(|last| last.role == Role::Tool);
    let tools = chat.tools.as_slice();
    let called = match &chat.tool_choice {
        _ if has_result => return Ok(&[]),
        Some(ToolChoice::Required) if chat.parallel_tool_calls == Some(true) => tools,
        Some(ToolChoice::Required) => tools.get(..1).unwrap_or_default(),
        Some(ToolChoice::Tool(name)) => {
            let named = tools.iter().find(|tool| &tool.name == name);
            named.map_or(&[][..], std::slice::from_ref)
        }
        Some(ToolChoice::Auto | ToolChoice::None) | None => return Ok(&[]),
    };
    match called {
        [] => Err(Failure::invalid("tool-choice", "The tool that must be called isn't given.")),
        called => Ok(called),
    }
}

fn call(choice: u32, calls: &[Call<'_>], out: &mut Output) -> usize {
    let mut bytes = 0;
    for (index, Call { tool, arguments }) in (0..).zip(calls) {
        out.tool_call(choice, index, "", *tool);
        // In two pieces, as vendors stream them.
        let middle = (0..=arguments.len() / 2).rev().find(|&at| arguments.is_char_boundary(at));
        let (first, second) = arguments.split_at(middle.unwrap_or(0));
        for piece in [first, second] {
            if !piece.is_empty() {
                out.tool_arguments(choice, index, piece);
            }
        }
        bytes += tool.len() + arguments.len();
    }
    out.finish(choice, FinishReason::ToolCalls);
    tokens(bytes)
}

fn refuse(choice: u32, text: &str, out: &mut Output) -> usize {
    out.refusal(choice, text);
    out.finish(choice, FinishReason::Refusal);
    tokens(text.len())
}

fn text(chat: &Chat, input: usize) -> Result<String, Failure> {
    match &chat.format {
        Format::Schema(schema) => {
            invent::value_for(&schema.schema).map_err(|why| Failure::invalid("format.schema", why))
        }
        Format::Json => {
            #[derive(serde::Serialize)]
            struct Greeting {
                message: &'static str,
                prompt_tokens: usize,
            }
            json::text(&Greeting { message: "Hello from the demo.", prompt_tokens: input })
        }
        Format::Text => {
            let (messages, plural) = match chat.messages.len() {
                1 => (1, ""),
                many => (many, "s"),
            };
            Ok(format!(
                "Hello! I am Keyward's demo. I run in a sandbox without a network, and the host \
                 keeps your prompt to itself, so I can't read it. I do see its size: {messages} \
                 message{plural}, about {input} tokens. Add a provider with a key, or a local \
                 one, and it answers in my place."
            ))
        }
    }
}

/// Writes a text in pieces, within the caller's limits, and says how it ended.
fn write(choice: u32, text: &str, chat: &Chat, out: &mut Output) -> usize {
    let stop = chat.sampling.stop.iter().filter(|stop| !stop.is_empty());
    let stopped = stop.filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min();
    let text = stopped.map_or(text, |(at, _)| &text[..at]);
    let limit = chat.sampling.max_output_tokens.map_or(usize::MAX, |limit| limit as usize);
    let bytes = limit.saturating_mul(BYTES_PER_TOKEN);
    let end = (0..=text.len().min(bytes)).rev().find(|&at| text.is_char_boundary(at));
    let written = &text[..end.unwrap_or(0)];
    let mut rest = written;
    while !rest.is_empty() {
        let spaces = rest.match_indices(' ').map(|(at, _)| at + 1);
        let (piece, after) =
            rest.split_at(spaces.take(WORDS_PER_DELTA).last().unwrap_or(rest.len()));
        // The last words come together, without a piece for each.
        let short = !after.contains(' ');
        out.text(choice, if short { rest } else { piece });
        rest = if short { "" } else { after };
    }
    match stopped {
        _ if written.len() < text.len() => out.finish(choice, FinishReason::Length),
        Some((_, stop)) => out.finish_at(choice, stop.as_str()),
        None => out.finish(choice, FinishReason::Stop),
    }
    tokens(written.len())
}

fn embed_all(embed: &Embed, out: &mut Output) -> Result<(), Failure> {
    check_model(&embed.model, EMBED_MODEL)?;
    let dimensions = embed.dimensions.unwrap_or(DIMENSIONS);
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        let message = format!("The demo embeds in 1 to {MAX_DIMENSIONS} dimensions.");
        return Err(Failure::invalid("dimensions", message));
    }
    out.started(None, Some(EMBED_MODEL));
    let mut input = 0;
    for (index, one) in (0..).zip(&embed.inputs) {
        let length = match one {
            EmbedInput::Text(text) => text.length,
            EmbedInput::Tokens(value) => value.length,
            EmbedInput::Other(_) => {
                return Err(Failure::unsupported("The demo embeds text and tokens only."));
            }
        };
        input += tokens(length as usize);
        out.embedding(index, Vector::Floats(vector(length, dimensions)));
    }
    out.usage(Usage { input: Some(input as u64), ..Usage::none() });
    Ok(())
}

/// A vector of length 1 that depends on the input's length alone: all that is known of it.
fn vector(length: u32, dimensions: u32) -> Vec<f32> {
    // SplitMix64: small, and well spread for neighbouring seeds.
    let mut state = u64::from(length);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 24 bits are what a float holds exactly.
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let vector: Vec<f32> = (0..dimensions).map(|_| next()).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.into_iter().map(|x| x / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<Demo>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<Demo>();
    }

    #[test]
    fn vectors_have_length_one_and_differ_by_the_inputs_length() {
        let (one, other) = (vector(10, 256), vector(11, 256));
        assert_eq!(one, vector(10, 256));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((dot(&one, &one) - 1.0).abs() < 1e-5);
        assert!(dot(&one, &other).abs() < 0.5);
    }
}
