//! `POST /v1/responses`: the body, made into a [`Chat`].
//!
//! Fields that nobody here knows go along to vendors that may: at the top level, and those inside
//! `text` and `reasoning` as "text.verbosity" and "reasoning.summary", as OpenAI's adapter takes
//! them. What an answer repeats of its request, and what must not be lost on the way, is [`Asked`].

use std::borrow::Cow;

use keyward::{
    Failure, FailureKind, Fault,
    contract::Warning,
    operation::{
        Chat, Dialect, Field, Format, Json, Message, PartBody, Reasoning, Role, Sampling, Schema,
        Text, Tool, ToolChoice,
    },
};
use serde::{Deserializer, de::Error as _};

use super::input::Input;
use crate::{
    dialect::{
        read::{self, Raw, RawObject, Read, Reader, Word, object},
        steering::check_steering,
    },
    openai::request::{json, keep, missing, model},
};

/// What callers list under `include` to be given log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";
/// What they list to be given thinking that can be sent back. It always is, here.
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// Fields that refer to what a vendor has stored. An answer given without them is a wrong answer.
const STORED: &[&str] = &["previous_response_id", "conversation", "prompt"];

/// Settings every response repeats, and what it says where the request was silent.
const DEFAULTS: &[(&str, &str)] = &[
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("store", "false"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "null"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// Fields that are repeated if they were given, besides those that are read here.
const REPEATED: &[&str] = &[
    "background",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "truncation",
    "user",
];

/// A chat and what of the request concerns its answer alone.
#[derive(Clone, Debug)]
pub struct ResponsesRequest {
    pub chat: Chat,
    pub asked: Asked,
}

/// What an answer repeats of its request or is judged by.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    settings: Vec<(Cow<'static, str>, Setting)>,
    custom_tools: Vec<String>,
    /// Fields without which the answer would be another one.
    needed: Vec<&'static str>,
    /// Fields that asked for nothing but what happens anyway.
    granted: Vec<&'static str>,
    /// Some of the input is only referred to.
    refers: bool,
}

#[derive(Clone, Debug)]
enum Setting {
    Default(&'static str),
    Given(Json),
}

impl Asked {
    /// What a response repeats: names and JSON texts.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(name, setting)| match setting {
            Setting::Default(json) => (&**name, *json),
            Setting::Given(json) => (&**name, json.get()),
        })
    }

    /// True for a tool whose input is a text, not JSON.
    pub fn is_custom(&self, tool: &str) -> bool {
        self.custom_tools.iter().any(|name| name == tool)
    }

    /// True if the caller should hear of this: nobody misses what happens anyway.
    ///
    /// # Errors
    /// If what was left out is what the answer should have been built on.
    pub fn concerns(&self, warning: &Warning) -> Result<bool, Failure> {
        if warning.code != "dropped" {
            return Ok(true);
        }
        if self.refers && matches!(warning.subject.as_str(), "messages.parts" | "messages.other") {
            return Err(stateless("input"));
        }
        let Some(field) = warning.subject.strip_prefix("extra.") else { return Ok(true) };
        if let Some(field) = self.needed.iter().find(|needed| **needed == field) {
            return Err(stateless(field));
        }
        Ok(!self.granted.contains(&field))
    }

    fn repeat(&mut self, name: &str, json: Option<Json>) {
        let Some(json) = json else { return };
        match self.settings.iter_mut().find(|(known, _)| known == name) {
            Some((_, setting)) => *setting = Setting::Given(json),
            None => self.settings.push((name.to_owned().into(), Setting::Given(json))),
        }
    }

    /// Judges the fields that go along unread.
    fn weigh(&mut self, extra: &[Field]) {
        for Field { name, value } in extra {
            if let Some(name) = STORED.iter().find(|stored| *stored == name) {
                self.needed.push(name);
            }
            match (name.as_str(), value.get()) {
                ("background", "true") => self.needed.push("background"),
                ("background", _) => self.granted.push("background"),
                // Nothing is stored, which these vendors couldn't do anyway.
                ("store", "false") => self.granted.push("store"),
                ("truncation", r#""disabled""#) => self.granted.push("truncation"),
                ("service_tier", r#""auto""# | r#""default""#) => self.granted.push("service_tier"),
                _ => {}
            }
            if REPEATED.contains(&name.as_str()) {
                self.repeat(name, Some(value.clone()));
            }
        }
    }
}

fn stateless(field: &str) -> Failure {
    let message = format!(
        "'{field}' refers to what a vendor has stored, and the provider of this model doesn't \
         speak the Responses API. Send the whole conversation in 'input'."
    );
    let mut failure = Failure::new(FailureKind::Unsupported, Fault::Caller, message);
    failure.param = Some(field.to_owned());
    failure
}

/// Reads the body of a request for a response.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_response(body: &[u8]) -> Result<ResponsesRequest, Failure> {
    read::body::<WireRequest>(body)?.into_request()
}

object!(WireRequest {
    "model" model: String,
    "input" input: Input,
    "instructions" instructions: Text,
    "tools" tools: Kept<Vec<WireTool>>,
    "tool_choice" tool_choice: Kept<WireToolChoice>,
    "parallel_tool_calls" parallel_tool_calls: bool,
    "text" text: Kept<WireText>,
    "reasoning" reasoning: Kept<WireReasoning>,
    "max_output_tokens" max_output_tokens: u32,
    "temperature" temperature: f64,
    "top_p" top_p: f64,
    "top_logprobs" top_logprobs: u32,
    "include" include: Kept<Vec<Word>>,
    "background" background: bool,
    "stream" stream: bool,
});

object!(WireText { "format" format: WireFormat, });
object!(WireReasoning { "effort" effort: Word, });

/// A value, and its text for the answer.
struct Kept<T> {
    json: Json,
    value: T,
}

impl<'de, T: Read<'de>> Read<'de> for Kept<T> {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let value = reader.again(raw)?;
        Ok(Self { json: raw.to_owned().into(), value })
    }
}

/// Takes a value and its text apart.
fn apart<T>(kept: Option<Kept<T>>) -> (Option<Json>, Option<T>) {
    kept.map(|Kept { json, value }| (json, value)).unzip()
}

impl WireRequest {
    fn into_request(self) -> Result<ResponsesRequest, Failure> {
        check_steering(&self.extra)?;
        let model = model(self.model)?;
        let stream = self.stream.unwrap_or(false);
        if self.background == Some(true) && !stream {
            let why = "'background' needs an answer that can be asked for later, and this gateway \
                       stores none. Leave it out, or set 'stream' as well.";
            return Err(Failure::invalid("background", why));
        }
        let mut asked = Asked {
            settings: DEFAULTS
                .iter()
                .map(|(name, json)| (Cow::Borrowed(*name), Setting::Default(json)))
                .collect(),
            ..Asked::default()
        };
        let mut extra = self.extra;
        // By such names what stands inside these objects goes on.
        let of_another = |field: &&Field| {
            ["text.", "reasoning."].iter().any(|object| field.name.starts_with(object))
        };
        if let Some(Field { name, .. }) = extra.iter().find(of_another) {
            let why = format!("Invalid '{name}': what belongs into an object stands inside it.");
            return Err(Failure::invalid(name.clone(), why));
        }
        keep(&mut extra, "background", self.background.and_then(|value| written(&value)));

        let (include, included) = apart(self.include);
        let included = included.unwrap_or_default();
        if included.iter().all(|Word(what)| what == LOGPROBS || what == ENCRYPTED) {
            asked.granted.push("include");
        }
        let wants_logprobs = included.iter().any(|Word(what)| what == LOGPROBS);
        keep(&mut extra, "include", include);
        asked.weigh(&extra);

        asked.repeat("instructions", self.instructions.as_deref().and_then(written));
        asked.repeat("max_output_tokens", self.max_output_tokens.as_ref().and_then(written));
        asked.repeat("parallel_tool_calls", self.parallel_tool_calls.as_ref().and_then(written));
        asked.repeat("temperature", self.temperature.as_ref().and_then(written));
        asked.repeat("top_logprobs", self.top_logprobs.as_ref().and_then(written));
        asked.repeat("top_p", self.top_p.as_ref().and_then(written));

        let (given, tools) = apart(self.tools);
        asked.repeat("tools", given);
        let tools: Vec<Tool> =
            tools.unwrap_or_default().into_iter().map(|WireTool(tool)| tool).collect();
        let custom = tools.iter().filter(|tool| tool.kind == "custom");
        asked.custom_tools = custom.map(|tool| tool.name.clone()).collect();

        let (given, tool_choice) = apart(self.tool_choice);
        asked.repeat("tool_choice", given);
        let tool_choice = match tool_choice {
            Some(WireToolChoice::Known(choice)) => Some(choice),
            Some(WireToolChoice::Other(value)) => {
                keep(&mut extra, "tool_choice", Some(value));
                None
            }
            None => None,
        };

        let (given, text) = apart(self.text);
        asked.repeat("text", given);
        let text = text.unwrap_or_default();
        inside("text", text.extra, &mut extra);
        let format = match text.format {
            None => Format::Text,
            Some(WireFormat::Known(format)) => format,
            Some(WireFormat::Other(value)) => {
                keep(&mut extra, "text.format", Some(value));
                Format::Text
            }
        };

        let (given, reasoning) = apart(self.reasoning);
        asked.repeat("reasoning", given);
        let reasoning = reasoning.unwrap_or_default();
        inside("reasoning", reasoning.extra, &mut extra);
        let reasoning = reasoning
            .effort
            .map(|Word(effort)| Reasoning { effort: Some(effort), budget_tokens: None });

        let input = match self.input {
            Some(input) => input,
            // What is stored may be all there is to answer.
            None if !asked.needed.is_empty() => Input::default(),
            None => return Err(missing("input")),
        };
        asked.refers = input.refers;
        let mut messages = input.messages;
        if let Some(text) = self.instructions {
            messages.insert(0, system(text));
            // A vendor with this protocol forgets instructions and remembers messages, so its
            // adapter must know which this is. To others it is all the same.
            keep(&mut extra, "instructions", json("true"));
            asked.granted.push("instructions");
        }
        if messages.is_empty() && asked.needed.is_empty() {
            return Err(Failure::invalid("input", "Invalid 'input': the list is empty."));
        }
        let chat = Chat {
            model,
            messages,
            tools,
            tool_choice,
            parallel_tool_calls: self.parallel_tool_calls,
            format,
            sampling: Sampling {
                max_output_tokens: self.max_output_tokens,
                temperature: self.temperature,
                top_p: self.top_p,
                // This protocol has none of these.
                top_k: None,
                frequency_penalty: None,
                presence_penalty: None,
                seed: None,
                stop: Vec::new(),
                choices: None,
                logprobs: self.top_logprobs.or(wants_logprobs.then_some(0)),
            },
            reasoning,
            stream,
            dialect: Dialect::OpenAiResponses,
            extra,
        };
        Ok(ResponsesRequest { chat, asked })
    }
}

fn system(text: Text) -> Message {
    let parts = vec![PartBody::Text(text).into()];
    Message { role: Role::System, answers: None, name: None, parts, extra: Vec::new() }
}

/// Fields inside an object, by the path under which adapters know them.
fn inside(object: &str, fields: Vec<Field>, extra: &mut Vec<Field>) {
    for Field { name, value } in fields {
        extra.push(Field { name: format!("{object}.{name}"), value });
    }
}

fn written(value: &(impl serde::Serialize + ?Sized)) -> Option<Json> {
    serde_json::value::to_raw_value(value).ok().map(Json::from)
}

// ---------------------------------------------------------------------------------------- tools

struct WireTool(Tool);

object!(WireToolFields {
    "type" kind: Word,
    "name" name: Word,
    "description" description: String,
    "parameters" parameters: RawObject,
    "strict" strict: bool,
});

impl<'de> Read<'de> for WireTool {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let tool = WireToolFields::read(from, reader)?;
        let kind = match tool.kind {
            Some(Word(kind)) if !kind.is_empty() => kind,
            _ => return Err(reader.reject(&["type"], "missing")),
        };
        let name = tool.name.map(|Word(name)| name).unwrap_or_default();
        if kind == "function" {
            if name.is_empty() {
                return Err(reader.reject(&["name"], "missing"));
            }
            return Ok(Self(Tool {
                name,
                description: tool.description,
                parameters: tool.parameters.map(|RawObject(text)| text).unwrap_or_default(),
                strict: tool.strict,
                kind: String::new(),
                cache: None,
                extra: tool.extra,
            }));
        }
        // What a tool of the vendor's own is made of is its vendor's business.
        let mut extra = tool.extra;
        keep(&mut extra, "description", tool.description.as_ref().and_then(written));
        keep(&mut extra, "parameters", tool.parameters.and_then(|RawObject(text)| json(&text)));
        keep(&mut extra, "strict", tool.strict.as_ref().and_then(written));
        let (description, parameters, strict, cache) = (None, String::new(), None, None);
        Ok(Self(Tool { name, description, parameters, strict, kind, cache, extra }))
    }
}

/// A choice the contract has a word for, or one to be handed on.
enum WireToolChoice {
    Known(ToolChoice),
    Other(Json),
}

object!(WireNamedTool { "type" kind: Word, "name" name: Word, });

impl<'de> Read<'de> for WireToolChoice {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        Ok(Self::Known(match raw.get() {
            r#""auto""# => ToolChoice::Auto,
            r#""none""# => ToolChoice::None,
            r#""required""# => ToolChoice::Required,
            object if object.starts_with('{') => {
                let named: WireNamedTool = reader.again(raw)?;
                match (named.kind, named.name) {
                    (Some(Word(kind)), Some(Word(name))) if kind == "function" => {
                        ToolChoice::Tool(name)
                    }
                    (Some(Word(kind)), _) if kind != "function" => {
                        return Ok(Self::Other(raw.to_owned().into()));
                    }
                    (Some(_), _) => return Err(reader.reject(&["name"], "missing")),
                    (None, _) => return Err(reader.reject(&["type"], "missing")),
                }
            }
            _ => {
                let why = "expected 'auto', 'none', 'required' or an object that names a tool";
                return Err(D::Error::custom(why));
            }
        }))
    }
}

/// A format the contract has a word for, or one to be handed on.
enum WireFormat {
    Known(Format),
    Other(Json),
}

object!(WireFormatFields {
    "type" kind: Word,
    "name" name: Word,
    "description" description: String,
    "schema" schema: RawObject,
    "strict" strict: bool,
});

impl<'de> Read<'de> for WireFormat {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let format: WireFormatFields = reader.again(raw)?;
        let Some(Word(kind)) = format.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        Ok(Self::Known(match kind.as_str() {
            "text" => Format::Text,
            "json_object" => Format::Json,
            "json_schema" => {
                let absent = |field| reader.reject(&[field], "missing");
                let Word(name) = format.name.ok_or_else(|| absent("name"))?;
                let RawObject(schema) = format.schema.ok_or_else(|| absent("schema"))?;
                let (description, strict) = (format.description, format.strict);
                Format::Schema(Schema { name, description, schema, strict })
            }
            _ => return Ok(Self::Other(raw.to_owned().into())),
        }))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
