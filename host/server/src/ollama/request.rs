//! `POST /api/chat` and `POST /api/generate`: the bodies, made into a [`Chat`].
//!
//! The mapping follows Ollama's API documentation and its SDKs' types. A generation is a chat of one
//! message; what only a server with the model in its hands can do with a prompt (`raw`, `template`,
//! `suffix`, `context`) is refused, because without it the answer would be to something else.
//!
//! Fields that nobody here knows go along to vendors that may: at the top level, among the
//! `options` (as "options.min_p"), in a message and in a tool. Deeper ones are left out.
//!
//! Ollama's calls need no ids and its results name at most the tool; other vendors join the two by
//! an id. So a call without one gets one from its place, and a result without one answers the first
//! call of its tool that has no result yet.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyward::{
    Failure,
    ids::ModelName,
    operation::{
        Chat, Dialect, Field, Format, Json, Media, MediaKind, MediaSource, Message, Part, PartBody,
        Reasoning, Role, Sampling, Schema, Text, Tool, ToolAnswer, ToolCall,
    },
};
use serde::{
    Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::dialect::{
    media,
    read::{self, Key, Raw, RawObject, Read, Reader, Word, object},
    steering::check_steering,
};

/// Ollama's switch has no degrees: this is how much thinking "on" asks of vendors that have them.
const THINKING_ON: &str = "medium";

/// Where a vendor wants the schema of an answer to have a name.
const SCHEMA_NAME: &str = "answer";

/// What a body asks for.
#[derive(Clone, Debug)]
pub enum Request {
    Chat(Box<Chat>),
    /// Nothing to answer: Ollama loads the model then, or unloads it.
    Load {
        model: ModelName,
        unload: bool,
    },
}

/// Reads the body of `/api/chat`.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_chat(body: &[u8]) -> Result<Request, Failure> {
    let wire: WireChat = read::body(body)?;
    let common = Common {
        model: wire.model,
        options: wire.options,
        format: wire.format,
        think: wire.think,
        logprobs: wire.logprobs,
        top_logprobs: wire.top_logprobs,
        stream: wire.stream,
        extra: wire.extra,
    };
    let messages = messages(wire.messages.unwrap_or_default())?;
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate().map(tool);
    common.into_request(messages, tools.collect::<Result<_, _>>()?)
}

/// Reads the body of `/api/generate`.
///
/// # Errors
/// As above, and for what a chat can't express.
pub fn parse_generate(body: &[u8]) -> Result<Request, Failure> {
    let wire: WireGenerate = read::body(body)?;
    for (given, name, why) in [
        (wire.raw == Some(true), "raw", "the vendor makes the prompt of the messages itself"),
        (is_text(&wire.template), "template", "the vendor has its own template"),
        (is_text(&wire.suffix), "suffix", "text can't be filled in between two others"),
        (
            wire.context.is_some_and(|Tokens(count)| count > 0),
            "context",
            "token numbers mean nothing to another model; use /api/chat with all messages",
        ),
        (
            wire.width.or(wire.height).or(wire.steps).is_some(),
            "width",
            "images can't be made with /api/generate",
        ),
    ] {
        if given {
            return Err(Failure::invalid(name, format!("'{name}' isn't supported: {why}.")));
        }
    }
    let common = Common {
        model: wire.model,
        options: wire.options,
        format: wire.format,
        think: wire.think,
        logprobs: wire.logprobs,
        top_logprobs: wire.top_logprobs,
        stream: wire.stream,
        extra: wire.extra,
    };
    let mut messages = Vec::with_capacity(2);
    let images = images(wire.images.unwrap_or_default(), "images")?;
    let prompt = wire.prompt.filter(|prompt| !prompt.is_empty());
    if prompt.is_some() || !images.is_empty() {
        if let Some(system) = wire.system.filter(|system| !system.is_empty()) {
            messages.push(message(Role::System, vec![PartBody::Text(system).into()]));
        }
        let mut parts = images;
        parts.extend(prompt.map(|prompt| PartBody::Text(prompt).into()));
        messages.push(message(Role::User, parts));
    }
    common.into_request(messages, Vec::new())
}

object!(WireChat {
    "model" model: String,
    "messages" messages: Vec<WireMessage>,
    "tools" tools: Vec<WireTool>,
    "format" format: WireFormat,
    "options" options: WireOptions,
    "think" think: Think,
    "logprobs" logprobs: bool,
    "top_logprobs" top_logprobs: u32,
    "stream" stream: bool,
});

object!(WireGenerate {
    "model" model: String,
    "prompt" prompt: Text,
    "suffix" suffix: Text,
    "system" system: Text,
    "template" template: Text,
    "context" context: Tokens,
    "raw" raw: bool,
    "images" images: Vec<Text>,
    "format" format: WireFormat,
    "options" options: WireOptions,
    "think" think: Think,
    "logprobs" logprobs: bool,
    "top_logprobs" top_logprobs: u32,
    "stream" stream: bool,
    "width" width: u32,
    "height" height: u32,
    "steps" steps: u32,
});

object!(
    /// Those the contract has a place for.
    WireOptions {
        "temperature" temperature: f64,
        "top_p" top_p: f64,
        "top_k" top_k: Whole,
        "seed" seed: Whole,
        "num_predict" num_predict: Whole,
        "stop" stop: Vec<String>,
        "frequency_penalty" frequency_penalty: f64,
        "presence_penalty" presence_penalty: f64,
    }
);

/// What both requests have.
struct Common {
    model: Option<String>,
    options: Option<WireOptions>,
    format: Option<WireFormat>,
    think: Option<Think>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    stream: Option<bool>,
    extra: Vec<Field>,
}

impl Common {
    fn into_request(self, messages: Vec<Message>, tools: Vec<Tool>) -> Result<Request, Failure> {
        let mut extra = self.extra;
        let options = self.options.unwrap_or_default();
        check_steering(&extra)?;
        check_steering(&options.extra)?;
        let model = model(self.model)?;
        if messages.is_empty() {
            let unload = extra.iter().any(|field| field.name == "keep_alive" && is_zero(field));
            return Ok(Request::Load { model, unload });
        }
        // Only Ollama knows what numbers below these mean ("no limit", "fill the context").
        let mut number = |name: &str, number: Option<Whole>, least: i64| {
            let Whole(number) = number?;
            let fits = u32::try_from(number).ok().filter(|_| number >= least);
            if fits.is_none() {
                extra.extend(json(number.to_string()).map(|value| option(name, value)));
            }
            fits
        };
        let max_output_tokens = number("num_predict", options.num_predict, 1);
        let top_k = number("top_k", options.top_k, 0);
        extra.extend(options.extra.into_iter().map(|field| option(&field.name, field.value)));
        let logprobs = match (self.logprobs, self.top_logprobs) {
            (Some(true), top) => Some(top.unwrap_or(0)),
            (_, None | Some(0)) => None,
            (_, Some(_)) => {
                let why = "'top_logprobs' is only allowed when 'logprobs' is true.";
                return Err(Failure::invalid("top_logprobs", why));
            }
        };
        Ok(Request::Chat(Box::new(Chat {
            model,
            messages,
            tools,
            tool_choice: None,
            parallel_tool_calls: None,
            format: self.format.map_or(Format::Text, |WireFormat(format)| format),
            sampling: Sampling {
                max_output_tokens,
                temperature: options.temperature,
                top_p: options.top_p,
                top_k,
                frequency_penalty: options.frequency_penalty,
                presence_penalty: options.presence_penalty,
                seed: options.seed.map(|Whole(seed)| seed),
                stop: options.stop.unwrap_or_default(),
                choices: None,
                logprobs,
            },
            reasoning: self
                .think
                .map(|Think(effort)| Reasoning { effort: Some(effort), budget_tokens: None }),
            // In this dialect streaming is what happens unless told otherwise.
            stream: self.stream.unwrap_or(true),
            dialect: Dialect::Ollama,
            extra,
        })))
    }
}

/// The model's name.
///
/// # Errors
/// If there is none or it can't be one.
pub fn model(name: Option<String>) -> Result<ModelName, Failure> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| missing("model"))?;
    ModelName::new(&name)
        .map_err(|error| Failure::invalid("model", format!("Invalid 'model': {error}.")))
}

pub fn missing(field: &str) -> Failure {
    Failure::invalid(field, format!("Missing required parameter: '{field}'."))
}

/// An option, by the name under which the adapter takes it.
pub fn option(name: &str, value: Json) -> Field {
    Field { name: format!("options.{name}"), value }
}

fn is_text(text: &Option<Text>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

/// 0, "0", "0s" and the like: the model isn't to be kept.
fn is_zero(field: &Field) -> bool {
    let text = field.value.get().trim_matches('"').trim_end_matches(char::is_alphabetic);
    text.parse() == Ok(0.0)
}

fn json(text: String) -> Option<Json> {
    RawValue::from_string(text).ok().map(Json::from)
}

fn invalid(path: &str, why: impl fmt::Display) -> Failure {
    Failure::invalid(path, format!("Invalid '{path}': {why}."))
}

/// A whole number. Some clients write `8.0`; Ollama takes what is before the point.
struct Whole(i64);

impl<'de> Read<'de> for Whole {
    fn read<D: Deserializer<'de>>(from: D, _: &Reader) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Whole, E> {
                i64::try_from(number).map(Whole).map_err(|_| E::custom("the number is too large"))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Whole, E> {
                // Beyond this not every whole number is a float.
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if number.abs() > EXACT {
                    return Err(E::custom("the number is too large"));
                }
                Ok(Whole(number.trunc() as i64))
            }
        }

        from.deserialize_any(Number)
    }
}

/// `think`: a switch or a level, as an effort.
struct Think(String);

impl<'de> Read<'de> for Think {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        Ok(Self(match raw.get() {
            "true" => THINKING_ON.to_owned(),
            "false" => "none".to_owned(),
            text if text.starts_with('"') => {
                let Word(level) = reader.again(raw)?;
                level
            }
            _ => return Err(D::Error::custom("expected true, false or a level such as \"low\"")),
        }))
    }
}

/// `format`: nothing, "json" or a schema.
struct WireFormat(Format);

impl<'de> Read<'de> for WireFormat {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        Ok(Self(match raw.get() {
            r#""""# => Format::Text,
            r#""json""# => Format::Json,
            schema if schema.starts_with('{') => Format::Schema(Schema {
                name: SCHEMA_NAME.to_owned(),
                description: None,
                schema: schema.to_owned(),
                strict: None,
            }),
            _ => return Err(D::Error::custom("expected \"json\" or a JSON schema")),
        }))
    }
}

/// How many tokens there are, whatever they are.
struct Tokens(usize);

impl<'de> Read<'de> for Tokens {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        Vec::<Whole>::read(from, reader).map(|tokens| Self(tokens.len()))
    }
}

/// An object of which nothing is known.
#[derive(Default)]
pub struct Unknown(pub Vec<Field>);

impl<'de> Read<'de> for Unknown {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct Fields<'r>(&'r Reader);

        impl<'de> Visitor<'de> for Fields<'_> {
            type Value = Unknown;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unknown, A::Error> {
                let mut fields = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    self.0.unknown(&mut map, &key, &mut fields)?;
                }
                Ok(Unknown(fields))
            }
        }

        from.deserialize_map(Fields(reader))
    }
}

// ------------------------------------------------------------------------------------- messages

object!(WireMessage {
    "role" role: Word,
    "content" content: Text,
    "thinking" thinking: Text,
    "thinking_blocks" thinking_blocks: Vec<WireThinking>,
    "images" images: Vec<Text>,
    "tool_calls" tool_calls: Vec<WireCall>,
    "tool_name" tool_name: Word,
    "tool_call_id" tool_call_id: Word,
});

object!(WireThinking {
    "type" kind: Word,
    "thinking" thinking: Text,
    "signature" signature: Text,
    "data" data: Text,
});

object!(WireCall { "id" id: Word, "function" function: WireCalledFunction, });

object!(WireCalledFunction { "name" name: Word, "arguments" arguments: RawObject, });

/// A call that has no result yet.
struct Unanswered {
    id: String,
    tool: String,
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, answers: None, name: None, parts, extra: Vec::new() }
}

fn messages(wire: Vec<WireMessage>) -> Result<Vec<Message>, Failure> {
    let mut unanswered = Vec::new();
    let convert = |(at, wire): (usize, WireMessage)| wire.into_message(at, &mut unanswered);
    wire.into_iter().enumerate().map(convert).collect()
}

impl WireMessage {
    fn into_message(self, at: usize, unanswered: &mut Vec<Unanswered>) -> Result<Message, Failure> {
        let path = format!("messages[{at}]");
        let role = match self.role.as_ref().map(|Word(role)| role.as_str()) {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool") => Role::Tool,
            Some(other) => {
                let why =
                    format!("expected 'system', 'user', 'assistant' or 'tool', got '{other}'");
                return Err(invalid(&format!("{path}.role"), why));
            }
            None => return Err(invalid(&format!("{path}.role"), "missing")),
        };
        let mut parts = Vec::new();
        let blocks = self.thinking_blocks.unwrap_or_default();
        if blocks.is_empty() {
            let thinking = self.thinking.filter(|thinking| !thinking.is_empty());
            parts.extend(thinking.map(|text| PartBody::Thinking { text, signature: None }.into()));
        }
        for (index, block) in blocks.into_iter().enumerate() {
            parts.push(block.into_body(&format!("{path}.thinking_blocks[{index}]"))?.into());
        }
        parts.extend(images(self.images.unwrap_or_default(), &format!("{path}.images"))?);
        let content = self.content.filter(|content| !content.is_empty());
        parts.extend(content.map(|content| PartBody::Text(content).into()));

        let calls = self.tool_calls.unwrap_or_default();
        if !calls.is_empty() || role == Role::Assistant {
            unanswered.clear();
        }
        for (index, call) in calls.into_iter().enumerate() {
            let made = format!("call_{at}_{index}");
            let part = call.into_part(made, &format!("{path}.tool_calls[{index}]"), unanswered)?;
            parts.push(part);
        }
        if parts.is_empty() {
            parts.push(PartBody::Text("".into()).into());
        }

        let tool = self.tool_name.map(|Word(name)| name).unwrap_or_default();
        let id = self.tool_call_id.map(|Word(id)| id).filter(|id| !id.is_empty());
        let answers =
            (role == Role::Tool).then(|| answered(id, tool, format!("call_{at}"), unanswered));
        Ok(Message { role, answers, name: None, parts, extra: self.extra })
    }
}

/// Which call a result belongs to. `made` is for one that answers none.
fn answered(
    id: Option<String>,
    tool: String,
    made: String,
    unanswered: &mut Vec<Unanswered>,
) -> ToolAnswer {
    let mut calls = unanswered.iter();
    let found = match &id {
        Some(id) => calls.position(|call| call.id == *id),
        None => calls.position(|call| tool.is_empty() || call.tool == tool),
    };
    let call = found.map(|at| unanswered.remove(at));
    let (found_id, found_tool) = call.map(|call| (call.id, call.tool)).unzip();
    ToolAnswer {
        call_id: id.or(found_id).unwrap_or(made),
        tool: if tool.is_empty() { found_tool.unwrap_or_default() } else { tool },
        is_error: false,
    }
}

impl WireThinking {
    fn into_body(self, path: &str) -> Result<PartBody, Failure> {
        let kind = self.kind.map(|Word(kind)| kind).unwrap_or_default();
        match (kind.as_str(), self.thinking, self.data) {
            ("thinking", Some(text), None) => {
                Ok(PartBody::Thinking { text, signature: self.signature })
            }
            ("redacted_thinking", None, Some(data)) => Ok(PartBody::RedactedThinking(data)),
            _ => Err(invalid(
                path,
                "expected type 'thinking' with 'thinking', or 'redacted_thinking' with 'data'",
            )),
        }
    }
}

impl WireCall {
    fn into_part(
        self,
        made: String,
        path: &str,
        unanswered: &mut Vec<Unanswered>,
    ) -> Result<Part, Failure> {
        let function =
            self.function.ok_or_else(|| invalid(&format!("{path}.function"), "missing"))?;
        let Some(Word(name)) = function.name else {
            return Err(invalid(&format!("{path}.function.name"), "missing"));
        };
        let arguments = function.arguments.map_or_else(|| "{}".to_owned(), |RawObject(text)| text);
        let arguments = json(arguments)
            .ok_or_else(|| invalid(&format!("{path}.function.arguments"), "not valid JSON"))?;
        let id = self.id.map(|Word(id)| id).filter(|id| !id.is_empty()).unwrap_or(made);
        unanswered.push(Unanswered { id: id.clone(), tool: name.clone() });
        let body = PartBody::ToolCall(ToolCall { id, name, arguments });
        Ok(Part { body, cache: None, extra: self.extra })
    }
}

/// Images come without their type, so that is told from their first bytes.
fn images(images: Vec<Text>, path: &str) -> Result<Vec<Part>, Failure> {
    let part = |(at, data): (usize, Text)| {
        media::check_base64(&data).map_err(|why| invalid(&format!("{path}[{at}]"), why))?;
        let body = PartBody::Media(Media {
            kind: MediaKind::Image,
            media_type: image_type(&data).to_owned(),
            source: MediaSource::Base64(data),
            name: None,
            detail: None,
        });
        Ok(body.into())
    };
    images.into_iter().enumerate().map(part).collect()
}

/// Empty if it is none of the usual ones: perhaps the vendor knows it.
fn image_type(base64: &str) -> &'static str {
    /// Characters that hold all that is looked at: a whole number of groups.
    const HEAD: usize = 16;
    let head = base64.get(..HEAD).and_then(|head| STANDARD.decode(head).ok()).unwrap_or_default();
    match head.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'B', b'M', ..] => "image/bmp",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "image/tiff",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f', ..] => "image/avif",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', b'i', ..] => "image/heic",
        _ => "",
    }
}

// ---------------------------------------------------------------------------------------- tools

object!(WireTool { "type" kind: Word, "function" function: WireFunction, });

object!(WireFunction {
    "name" name: Word,
    "description" description: String,
    "parameters" parameters: RawObject,
    "strict" strict: bool,
});

fn tool((at, wire): (usize, WireTool)) -> Result<Tool, Failure> {
    // Ollama knows functions only and doesn't look at the type.
    let kind = wire.kind.map(|Word(kind)| kind).filter(|kind| kind != "function");
    let function = wire.function.unwrap_or_default();
    let name = function.name.map(|Word(name)| name).unwrap_or_default();
    if name.is_empty() && kind.is_none() {
        return Err(invalid(&format!("tools[{at}].function.name"), "missing"));
    }
    Ok(Tool {
        name,
        description: function.description,
        parameters: function.parameters.map(|RawObject(text)| text).unwrap_or_default(),
        strict: function.strict,
        kind: kind.unwrap_or_default(),
        cache: None,
        extra: wire.extra,
    })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
