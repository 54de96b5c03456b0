//! Operations as recordings write them, and the marks that stand for their content.
//!
//! ```json
//! {"chat": {
//!   "model": "m-1", "stream": true, "dialect": "openai-chat",
//!   "messages": [
//!     {"role": "system", "content": "Be brief."},
//!     {"role": "user", "name": "Ada", "content": ["What is this?",
//!       {"image": {"base64": "iVBORw0KGgo=", "media_type": "image/png", "detail": "low"}},
//!       {"text": "Look well.", "cache": "5m", "extra": {"x": 1}}]},
//!     {"role": "assistant", "content": [{"thinking": "Hm.", "signature": "s"},
//!       {"tool_call": {"id": "c1", "name": "f", "arguments": {"a": 1}}}]},
//!     {"role": "tool", "answers": {"call_id": "c1", "tool": "f"}, "content": "42"}],
//!   "tools": [{"name": "f", "description": "d", "parameters": {}, "strict": true}],
//!   "tool_choice": {"tool": "f"}, "parallel_tool_calls": false,
//!   "format": {"schema": {"name": "s", "schema": {}}},
//!   "sampling": {"temperature": 0.5}, "reasoning": {"effort": "low"},
//!   "extra": {"user": "u-1"}}}
//! {"embed": {"model": "e-1", "inputs": ["a", {"tokens": [1, 2]}], "encoding": "base64"}}
//! ```
//!
//! Media are `image`, `audio`, `video` or `file`, with `url`, `base64` or `file_id`. Further parts
//! are `redacted_thinking`, `refusal` and `other` (with `kind` and `value`).

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::contract::{
    self, Chat, Embed, EmbedEncoding, EmbedInput, Field, Format, Media, MediaKind, MediaSource,
    Message, Operation, OtherPart, Part, PartBody, Reasoning, Role, Sampling, Schema, Text,
    Thinking, Tool, ToolAnswer, ToolCall, ToolChoice, Value,
};

pub(super) fn parse(text: &str) -> Result<Operation, serde_json::Error> {
    let written: Written = serde_json::from_str(text)?;
    Ok(match written {
        Written::Chat(chat) => Operation::Chat(chat.into()),
        Written::Embed(embed) => Operation::Embed(embed.into()),
        Written::ListModels => Operation::ListModels,
        Written::Probe => Operation::Probe,
        Written::Other { kind, json } => {
            Operation::Other(contract::Other { kind, json: json.to_string() })
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Written {
    Chat(Box<WrittenChat>),
    Embed(WrittenEmbed),
    ListModels,
    Probe,
    Other { kind: String, json: Json },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChat {
    model: String,
    messages: Vec<WrittenMessage>,
    #[serde(default)]
    tools: Vec<WrittenTool>,
    tool_choice: Option<WrittenToolChoice>,
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    format: WrittenFormat,
    #[serde(default)]
    sampling: WrittenSampling,
    reasoning: Option<WrittenReasoning>,
    #[serde(default)]
    stream: bool,
    #[serde(default = "openai_chat")]
    dialect: String,
    #[serde(default)]
    extra: Map<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMessage {
    role: WrittenRole,
    answers: Option<WrittenToolAnswer>,
    name: Option<String>,
    #[serde(default)]
    content: WrittenContent,
    #[serde(default)]
    extra: Map<String, Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToolAnswer {
    call_id: String,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    is_error: bool,
}

/// A text alone, or a list of texts and parts.
#[derive(Default, Deserialize)]
#[serde(try_from = "Json")]
struct WrittenContent(Vec<Part>);

impl TryFrom<Json> for WrittenContent {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let parts = match json {
            Json::Array(parts) => parts,
            json => vec![json],
        };
        parts.into_iter().map(part).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPart {
    text: Option<String>,
    image: Option<WrittenMedia>,
    audio: Option<WrittenMedia>,
    video: Option<WrittenMedia>,
    file: Option<WrittenMedia>,
    tool_call: Option<WrittenToolCall>,
    thinking: Option<String>,
    signature: Option<String>,
    redacted_thinking: Option<String>,
    refusal: Option<String>,
    other: Option<WrittenOther>,
    cache: Option<String>,
    #[serde(default)]
    extra: Map<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMedia {
    #[serde(default)]
    media_type: String,
    url: Option<String>,
    base64: Option<String>,
    file_id: Option<String>,
    name: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToolCall {
    id: String,
    name: String,
    arguments: Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOther {
    kind: String,
    value: Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTool {
    name: String,
    description: Option<String>,
    parameters: Option<Json>,
    strict: Option<bool>,
    #[serde(default)]
    kind: String,
    cache: Option<String>,
    #[serde(default)]
    extra: Map<String, Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenToolChoice {
    Auto,
    None,
    Required,
    Tool(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenFormat {
    #[default]
    Text,
    Json,
    Schema(WrittenSchema),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSchema {
    #[serde(default)]
    name: String,
    description: Option<String>,
    schema: Json,
    strict: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSampling {
    max_output_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<i64>,
    #[serde(default)]
    stop: Vec<String>,
    choices: Option<u32>,
    logprobs: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReasoning {
    effort: Option<String>,
    budget_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEmbed {
    model: String,
    inputs: Vec<WrittenInput>,
    dimensions: Option<u32>,
    #[serde(default)]
    encoding: WrittenEncoding,
    purpose: Option<String>,
    #[serde(default = "openai_chat")]
    dialect: String,
    #[serde(default)]
    extra: Map<String, Json>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenInput {
    Text(String),
    Tokens { tokens: Json },
    Other { other: WrittenOther },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenEncoding {
    #[default]
    Floats,
    Base64,
}

fn openai_chat() -> String {
    "openai-chat".to_owned()
}

fn value(json: &Json) -> Value {
    let json = json.to_string();
    Value {
        text: json.clone(),
        length: u32::try_from(json.len()).unwrap_or(u32::MAX),
        json,
        held: false,
    }
}

fn fields(members: &Map<String, Json>) -> Vec<Field> {
    members.iter().map(|(name, json)| Field { name: name.clone(), value: value(json) }).collect()
}

impl From<Box<WrittenChat>> for Chat {
    fn from(chat: Box<WrittenChat>) -> Self {
        let chat = *chat;
        Self {
            model: chat.model,
            messages: chat.messages.into_iter().map(Message::from).collect(),
            tools: chat.tools.into_iter().map(Tool::from).collect(),
            tool_choice: chat.tool_choice.map(|choice| match choice {
                WrittenToolChoice::Auto => ToolChoice::Auto,
                WrittenToolChoice::None => ToolChoice::None,
                WrittenToolChoice::Required => ToolChoice::Required,
                WrittenToolChoice::Tool(name) => ToolChoice::Tool(name),
            }),
            parallel_tool_calls: chat.parallel_tool_calls,
            format: match chat.format {
                WrittenFormat::Text => Format::Text,
                WrittenFormat::Json => Format::Json,
                WrittenFormat::Schema(schema) => Format::Schema(Schema {
                    name: schema.name,
                    description: schema.description,
                    schema: schema.schema.to_string(),
                    strict: schema.strict,
                }),
            },
            sampling: Sampling {
                max_output_tokens: chat.sampling.max_output_tokens,
                temperature: chat.sampling.temperature,
                top_p: chat.sampling.top_p,
                top_k: chat.sampling.top_k,
                frequency_penalty: chat.sampling.frequency_penalty,
                presence_penalty: chat.sampling.presence_penalty,
                seed: chat.sampling.seed,
                stop: chat.sampling.stop,
                choices: chat.sampling.choices,
                logprobs: chat.sampling.logprobs,
            },
            reasoning: chat.reasoning.map(|reasoning| Reasoning {
                effort: reasoning.effort,
                budget_tokens: reasoning.budget_tokens,
            }),
            stream: chat.stream,
            dialect: chat.dialect,
            extra: fields(&chat.extra),
        }
    }
}

impl From<WrittenMessage> for Message {
    fn from(message: WrittenMessage) -> Self {
        Self {
            role: match message.role {
                WrittenRole::System => Role::System,
                WrittenRole::Developer => Role::Developer,
                WrittenRole::User => Role::User,
                WrittenRole::Assistant => Role::Assistant,
                WrittenRole::Tool => Role::Tool,
            },
            answers: message.answers.map(|answers| ToolAnswer {
                call_id: answers.call_id,
                tool: answers.tool,
                is_error: answers.is_error,
            }),
            name: message.name.map(Text::plain),
            parts: message.content.0,
            extra: fields(&message.extra),
        }
    }
}

fn part(json: Json) -> Result<Part, String> {
    let written: WrittenPart = match json {
        Json::String(text) => return Ok(PartBody::Text(Text::plain(text)).into()),
        json => serde_json::from_value(json).map_err(|error| error.to_string())?,
    };
    let media = |kind, media: WrittenMedia| -> Result<PartBody, String> {
        let source = match (media.url, media.base64, media.file_id) {
            (Some(url), None, None) => MediaSource::Url(Text::plain(url)),
            (None, Some(base64), None) => MediaSource::Base64(Text::plain(base64)),
            (None, None, Some(id)) => MediaSource::FileId(id),
            _ => return Err("media have one of url, base64, file_id".to_owned()),
        };
        Ok(PartBody::Media(Media {
            kind,
            media_type: media.media_type,
            source,
            name: media.name.map(Text::plain),
            detail: media.detail,
        }))
    };
    let mut bodies = Vec::new();
    if let Some(text) = written.text {
        bodies.push(PartBody::Text(Text::plain(text)));
    }
    for (kind, written) in [
        (MediaKind::Image, written.image),
        (MediaKind::Audio, written.audio),
        (MediaKind::Video, written.video),
        (MediaKind::File, written.file),
    ] {
        bodies.extend(written.map(|written| media(kind, written)).transpose()?);
    }
    if let Some(call) = written.tool_call {
        let arguments = value(&call.arguments);
        bodies.push(PartBody::ToolCall(ToolCall { id: call.id, name: call.name, arguments }));
    }
    if let Some(text) = written.thinking {
        let signature = written.signature.map(Text::plain);
        bodies.push(PartBody::Thinking(Thinking { text: Text::plain(text), signature }));
    }
    if let Some(data) = written.redacted_thinking {
        bodies.push(PartBody::RedactedThinking(Text::plain(data)));
    }
    if let Some(text) = written.refusal {
        bodies.push(PartBody::Refusal(Text::plain(text)));
    }
    if let Some(other) = written.other {
        let value = value(&other.value);
        bodies.push(PartBody::Other(OtherPart { kind: other.kind, value }));
    }
    match (bodies.pop(), bodies.is_empty()) {
        (Some(body), true) => {
            Ok(Part { body, cache: written.cache, extra: fields(&written.extra) })
        }
        _ => Err("a part has one of text, image, audio, video, file, tool_call, thinking, \
                  redacted_thinking, refusal, other"
            .to_owned()),
    }
}

impl From<PartBody> for Part {
    fn from(body: PartBody) -> Self {
        Self { body, cache: None, extra: Vec::new() }
    }
}

impl From<WrittenTool> for Tool {
    fn from(tool: WrittenTool) -> Self {
        Self {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters.map(|json| json.to_string()).unwrap_or_default(),
            strict: tool.strict,
            kind: tool.kind,
            cache: tool.cache,
            extra: fields(&tool.extra),
        }
    }
}

impl From<WrittenEmbed> for Embed {
    fn from(embed: WrittenEmbed) -> Self {
        let input = |input| match input {
            WrittenInput::Text(text) => EmbedInput::Text(Text::plain(text)),
            WrittenInput::Tokens { tokens } => EmbedInput::Tokens(value(&tokens)),
            WrittenInput::Other { other } => {
                EmbedInput::Other(OtherPart { kind: other.kind, value: value(&other.value) })
            }
        };
        Self {
            model: embed.model,
            inputs: embed.inputs.into_iter().map(input).collect(),
            dimensions: embed.dimensions,
            encoding: match embed.encoding {
                WrittenEncoding::Floats => EmbedEncoding::Floats,
                WrittenEncoding::Base64 => EmbedEncoding::Base64,
            },
            purpose: embed.purpose,
            dialect: embed.dialect,
            extra: fields(&embed.extra),
        }
    }
}

/// Which content stands behind which mark.
#[derive(Debug, Default)]
pub struct Marks {
    texts: Vec<(String, String)>,
    values: Vec<(String, String)>,
}

/// Puts a mark in the place of all content, as the host does.
pub fn hold(operation: &Operation) -> (Operation, Marks) {
    let (mut operation, mut marks) = (operation.clone(), Marks::default());
    match &mut operation {
        Operation::Chat(chat) => {
            marks.hold_fields(&mut chat.extra);
            for message in &mut chat.messages {
                message.name.iter_mut().for_each(|name| marks.hold_text(name));
                marks.hold_fields(&mut message.extra);
                for part in &mut message.parts {
                    marks.hold_part(part);
                }
            }
            for tool in &mut chat.tools {
                marks.hold_fields(&mut tool.extra);
            }
        }
        Operation::Embed(embed) => {
            marks.hold_fields(&mut embed.extra);
            for input in &mut embed.inputs {
                match input {
                    EmbedInput::Text(text) => marks.hold_text(text),
                    EmbedInput::Tokens(value) => marks.hold_value(value),
                    EmbedInput::Other(other) => marks.hold_value(&mut other.value),
                }
            }
        }
        Operation::ListModels | Operation::Probe | Operation::Other(_) => {}
    }
    (operation, marks)
}

impl Marks {
    fn next(&self) -> String {
        // No mark is a prefix of another: the number ends at a letter.
        format!("kwMARK{}z", self.texts.len() + self.values.len())
    }

    fn hold_text(&mut self, text: &mut Text) {
        let mark = self.next();
        self.texts.push((mark.clone(), std::mem::replace(&mut text.value, mark)));
        text.held = true;
    }

    fn hold_value(&mut self, value: &mut Value) {
        let mark = self.next();
        let json = std::mem::replace(&mut value.json, format!("\"{mark}\""));
        self.values.push((mark, json));
        let mark = self.next();
        self.texts.push((mark.clone(), std::mem::replace(&mut value.text, mark)));
        value.held = true;
    }

    fn hold_fields(&mut self, fields: &mut [Field]) {
        fields.iter_mut().for_each(|field| self.hold_value(&mut field.value));
    }

    fn hold_part(&mut self, part: &mut Part) {
        self.hold_fields(&mut part.extra);
        match &mut part.body {
            PartBody::Text(text) | PartBody::RedactedThinking(text) | PartBody::Refusal(text) => {
                self.hold_text(text);
            }
            PartBody::Media(media) => {
                media.name.iter_mut().for_each(|name| self.hold_text(name));
                match &mut media.source {
                    MediaSource::Base64(text) | MediaSource::Url(text) => self.hold_text(text),
                    MediaSource::FileId(_) => {}
                }
            }
            PartBody::ToolCall(call) => self.hold_value(&mut call.arguments),
            PartBody::Thinking(thinking) => {
                self.hold_text(&mut thinking.text);
                thinking.signature.iter_mut().for_each(|signature| self.hold_text(signature));
            }
            PartBody::Other(other) => self.hold_value(&mut other.value),
        }
    }

    /// Puts the content back, escaped for JSON if `json`.
    ///
    /// # Errors
    /// If a mark occurs twice, or one of a value's JSON form isn't a whole JSON string.
    pub fn fill(&self, body: &str, json: bool) -> Result<String, String> {
        let mut body = body.to_owned();
        for (mark, content) in &self.values {
            let quoted = format!("\"{mark}\"");
            match body.matches(mark.as_str()).count() {
                0 => {}
                1 if body.contains(&quoted) => body = body.replacen(&quoted, content, 1),
                1 => return Err("a value's JSON form stands inside a string".to_owned()),
                _ => return Err("a value is used twice".to_owned()),
            }
        }
        for (mark, content) in &self.texts {
            match body.matches(mark.as_str()).count() {
                0 => {}
                1 if json => {
                    let quoted = Json::from(content.as_str()).to_string();
                    body = body.replacen(mark, &quoted[1..quoted.len() - 1], 1);
                }
                1 => body = body.replacen(mark, content, 1),
                _ => return Err(format!("content is used twice: {content:?}")),
            }
        }
        Ok(body)
    }

    /// True if one of the marks occurs in a text where none may.
    pub fn found_in(&self, text: &str) -> bool {
        self.texts.iter().chain(&self.values).any(|(mark, _)| text.contains(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_in_the_place_of_its_mark() {
        let operation = parse(
            r#"{"chat": {"model": "m", "messages": [
                {"role": "user", "content": "say \"hi\""},
                {"role": "assistant", "content": [
                    {"tool_call": {"id": "1", "name": "f", "arguments": {"a": "b"}}}]}]}}"#,
        )
        .unwrap();
        let (held, marks) = hold(&operation);
        let Operation::Chat(chat) = held else { panic!() };
        let PartBody::Text(text) = &chat.messages[0].parts[0].body else { panic!() };
        let PartBody::ToolCall(call) = &chat.messages[1].parts[0].body else { panic!() };
        assert!(text.held && !text.value.contains("hi") && text.length == 8);
        let filled = |body: String| marks.fill(&body, true);
        assert_eq!(filled(format!("[\"{}\"]", text.value)).unwrap(), r#"["say \"hi\""]"#);
        assert_eq!(filled(call.arguments.json.clone()).unwrap(), r#"{"a":"b"}"#);
        assert_eq!(filled(format!("\"{}\"", call.arguments.text)).unwrap(), r#""{\"a\":\"b\"}""#);
        assert!(filled(format!("{0} {0}", text.value)).is_err());
        assert!(filled(format!("\"x{}", &call.arguments.json[1..])).is_err());
    }

    #[test]
    fn a_wrong_part_says_what_a_part_may_be() {
        let error = parse(
            r#"{"chat": {"model": "m", "messages": [{"role": "user",
            "content": [{"txt": "a"}]}]}}"#,
        );
        assert!(error.unwrap_err().to_string().contains("txt"));
    }
}
