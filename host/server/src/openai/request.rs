//! `POST /v1/chat/completions`: the body, made into a [`Chat`].
//!
//! The mapping follows OpenAI's reference and its SDKs' types. Beyond it, what other vendors' users
//! of the same protocol send has its place: `cache_control` marks, `video_url` parts, `top_k`, and
//! earlier thinking as `reasoning_content` or, with signatures, as `thinking_blocks`.
//!
//! Fields that nobody here knows go along to vendors that may: at the top level, in a message, a
//! part, a tool and a tool call. Deeper ones are left out. Fields that would steer the host or a
//! gateway behind it ([`steering`](crate::dialect::steering)) are refused, as is everything OpenAI replaced long ago.

use std::{fmt, marker::PhantomData};

use keyward::{
    Failure,
    ids::ModelName,
    operation::{
        Chat, Dialect, Field, Format, Json, Media, MediaKind, MediaSource, Message, Part, PartBody,
        Reasoning, Role, Sampling, Schema, Text, Tool, ToolAnswer, ToolCall, ToolChoice,
    },
};
use serde::{
    Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::dialect::{
    events::MAX_CHOICES,
    media,
    read::{self, Raw, RawObject, Read, Reader, Word, object},
    steering::check_steering,
};

/// A chat and what of the request concerns its answer alone.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    pub chat: Chat,
    /// End a stream with a chunk that holds the usage.
    pub include_usage: bool,
}

/// Reads the body of a chat request.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_chat(body: &[u8]) -> Result<ChatRequest, Failure> {
    read::body::<WireChat>(body)?.into_request()
}

object!(WireChat {
    "model" model: String,
    "messages" messages: Vec<Message>,
    "tools" tools: Vec<Tool>,
    "tool_choice" tool_choice: WireToolChoice,
    "parallel_tool_calls" parallel_tool_calls: bool,
    "response_format" response_format: WireFormat,
    "max_tokens" max_tokens: u32,
    "max_completion_tokens" max_completion_tokens: u32,
    "temperature" temperature: f64,
    "top_p" top_p: f64,
    "top_k" top_k: i64,
    "frequency_penalty" frequency_penalty: f64,
    "presence_penalty" presence_penalty: f64,
    "seed" seed: i64,
    "stop" stop: Stop,
    "n" n: u32,
    "logprobs" logprobs: bool,
    "top_logprobs" top_logprobs: u32,
    "reasoning_effort" reasoning_effort: Word,
    "stream" stream: bool,
    "stream_options" stream_options: WireStreamOptions,
    "functions" functions: Json,
    "function_call" function_call: Json,
});

object!(WireStreamOptions { "include_usage" include_usage: bool, });

impl WireChat {
    fn into_request(self) -> Result<ChatRequest, Failure> {
        check_steering(&self.extra)?;
        for (given, name, instead) in [
            (self.functions.is_some(), "functions", "tools"),
            (self.function_call.is_some(), "function_call", "tool_choice"),
        ] {
            if given {
                let why = format!("'{name}' isn't supported. Use '{instead}'.");
                return Err(Failure::invalid(name, why));
            }
        }
        let model = model(self.model)?;
        let messages = self.messages.ok_or_else(|| missing("messages"))?;
        if messages.is_empty() {
            return Err(Failure::invalid("messages", "Invalid 'messages': the list is empty."));
        }
        if self.max_tokens.is_some() && self.max_completion_tokens.is_some() {
            let why = "Give either 'max_completion_tokens' or 'max_tokens', not both.";
            return Err(Failure::invalid("max_tokens", why));
        }
        let stream = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !stream {
            let why = "'stream_options' is only allowed when 'stream' is true.";
            return Err(Failure::invalid("stream_options", why));
        }
        if let Some(n) = self.n
            && !(1..=MAX_CHOICES).contains(&n)
        {
            let why = format!("Invalid 'n': expected 1 to {MAX_CHOICES}, got {n}.");
            return Err(Failure::invalid("n", why));
        }
        let logprobs = match (self.logprobs, self.top_logprobs) {
            (Some(true), top) => Some(top.unwrap_or(0)),
            (_, None) => None,
            (_, Some(_)) => {
                let why = "'top_logprobs' is only allowed when 'logprobs' is true.";
                return Err(Failure::invalid("top_logprobs", why));
            }
        };
        let mut extra = self.extra;
        // Some servers take -1 for "all"; only they know.
        let top_k = self.top_k.and_then(|k| {
            u32::try_from(k).inspect_err(|_| keep(&mut extra, "top_k", json(&k.to_string()))).ok()
        });
        let tool_choice = self.tool_choice.and_then(|choice| match choice {
            WireToolChoice::Known(choice) => Some(choice),
            WireToolChoice::Other(value) => {
                keep(&mut extra, "tool_choice", Some(value));
                None
            }
        });
        let format = match self.response_format {
            None => Format::Text,
            Some(WireFormat::Known(format)) => format,
            Some(WireFormat::Other(value)) => {
                keep(&mut extra, "response_format", Some(value));
                Format::Text
            }
        };
        let chat = Chat {
            model,
            messages,
            tools: self.tools.unwrap_or_default(),
            tool_choice,
            parallel_tool_calls: self.parallel_tool_calls,
            format,
            sampling: Sampling {
                max_output_tokens: self.max_completion_tokens.or(self.max_tokens),
                temperature: self.temperature,
                top_p: self.top_p,
                top_k,
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                seed: self.seed,
                stop: self.stop.map(|Stop(stop)| stop).unwrap_or_default(),
                choices: self.n,
                logprobs,
            },
            reasoning: self
                .reasoning_effort
                .map(|Word(effort)| Reasoning { effort: Some(effort), budget_tokens: None }),
            stream,
            dialect: Dialect::OpenAiChat,
            extra,
        };
        let include_usage =
            self.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(ChatRequest { chat, include_usage })
    }
}

/// The model's name.
///
/// # Errors
/// If there is none or it can't be one.
pub(super) fn model(name: Option<String>) -> Result<ModelName, Failure> {
    let name = name.ok_or_else(|| missing("model"))?;
    ModelName::new(&name)
        .map_err(|error| Failure::invalid("model", format!("Invalid 'model': {error}.")))
}

pub(super) fn missing(field: &str) -> Failure {
    Failure::invalid(field, format!("Missing required parameter: '{field}'."))
}

pub(super) fn keep(extra: &mut Vec<Field>, name: &str, value: Option<Json>) {
    extra.extend(value.map(|value| Field { name: name.to_owned(), value }));
}

pub(super) fn json(text: &str) -> Option<Json> {
    RawValue::from_string(text.to_owned()).ok().map(Json::from)
}

impl<'de> Read<'de> for Json {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        Raw::read(from, reader).map(|Raw(raw)| raw.to_owned().into())
    }
}

/// `stop`: one text or several.
struct Stop(Vec<String>);

impl<'de> Read<'de> for Stop {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct OneOrMore<'r>(&'r Reader);

        impl<'de> Visitor<'de> for OneOrMore<'_> {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Stop, A::Error> {
                self.0.list(list).map(Stop)
            }
        }

        from.deserialize_any(OneOrMore(reader))
    }
}

// ------------------------------------------------------------------------------------- messages

object!(WireMessage {
    "role" role: Word,
    "content" content: Content<Part>,
    "name" name: Text,
    "refusal" refusal: Text,
    "tool_calls" tool_calls: Vec<WireCall>,
    "tool_call_id" tool_call_id: Word,
    "function_call" function_call: Json,
    "reasoning_content" reasoning_content: Text,
    "thinking_blocks" thinking_blocks: Vec<WireThinking>,
});

object!(WireCall {
    "id" id: Word,
    "type" kind: Word,
    "function" function: WireCalledFunction,
    // What stream accumulators leave behind: the place in the list, which the list tells.
    "index" index: Json,
});

object!(WireCalledFunction { "name" name: Word, "arguments" arguments: String, });

object!(WireThinking {
    "type" kind: Word,
    "thinking" thinking: Text,
    "signature" signature: Text,
    "data" data: Text,
});

/// `content`, and a tool's `output` in Responses: a text or parts.
pub(in crate::openai) enum Content<P> {
    Text(Text),
    Parts(Vec<P>),
}

impl<'de, P: Read<'de>> Read<'de> for Content<P> {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct TextOrParts<'r, P>(&'r Reader, PhantomData<P>);

        impl<'de, P: Read<'de>> Visitor<'de> for TextOrParts<'_, P> {
            type Value = Content<P>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                self.0.list(list).map(Content::Parts)
            }
        }

        from.deserialize_any(TextOrParts(reader, PhantomData))
    }
}

impl<'de> Read<'de> for Message {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        WireMessage::read(from, reader)?.into_message(reader)
    }
}

impl WireMessage {
    fn into_message<E: serde::de::Error>(self, reader: &Reader) -> Result<Message, E> {
        let Some(Word(role)) = &self.role else {
            return Err(reader.reject(&["role"], "missing"));
        };
        let role = match role.as_str() {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            "function" => {
                let why = "messages of role 'function' aren't supported, use 'tool'";
                return Err(reader.reject(&["role"], why));
            }
            other => {
                let why = format!(
                    "unknown role '{other}', expected system, developer, user, assistant or tool"
                );
                return Err(reader.reject(&["role"], why));
            }
        };
        if self.function_call.is_some() {
            return Err(reader.reject(&["function_call"], "not supported, use 'tool_calls'"));
        }
        let only = |given: bool, field: &str, belongs: Role| match given && role != belongs {
            true => {
                let belongs = if belongs == Role::Tool { "tool" } else { "assistant" };
                Err(reader.reject(&[field], format_args!("only for messages of role '{belongs}'")))
            }
            false => Ok(()),
        };
        only(self.tool_calls.is_some(), "tool_calls", Role::Assistant)?;
        only(self.refusal.is_some(), "refusal", Role::Assistant)?;
        only(self.reasoning_content.is_some(), "reasoning_content", Role::Assistant)?;
        only(self.thinking_blocks.is_some(), "thinking_blocks", Role::Assistant)?;
        only(self.tool_call_id.is_some(), "tool_call_id", Role::Tool)?;

        let mut parts: Vec<Part> = Vec::new();
        let thinking = self.thinking_blocks.unwrap_or_default();
        if let (true, Some(text)) = (thinking.is_empty(), self.reasoning_content) {
            // Empty where a model didn't think but the client writes the field all the same.
            if !text.is_empty() {
                parts.push(PartBody::Thinking { text, signature: None }.into());
            }
        }
        for (at, block) in thinking.into_iter().enumerate() {
            parts.push(block.into_body(at, reader)?.into());
        }
        let has_content = self.content.is_some();
        match self.content {
            Some(Content::Text(text)) => parts.push(PartBody::Text(text).into()),
            Some(Content::Parts(content)) if parts.is_empty() => parts = content,
            Some(Content::Parts(content)) => parts.extend(content),
            None => {}
        }
        parts.extend(self.refusal.map(|text| PartBody::Refusal(text).into()));
        for (at, call) in self.tool_calls.unwrap_or_default().into_iter().enumerate() {
            parts.push(call.into_part(at, reader)?);
        }
        if parts.is_empty() || (!has_content && role != Role::Assistant) {
            return Err(reader.reject(&["content"], "expected a string or a list of parts"));
        }

        let (answers, name) = match role {
            Role::Tool => {
                let Some(Word(call_id)) = self.tool_call_id else {
                    return Err(reader.reject(&["tool_call_id"], "missing"));
                };
                let tool = self.name.as_deref().unwrap_or_default().to_owned();
                (Some(ToolAnswer { call_id, tool, is_error: false }), None)
            }
            _ => (None, self.name),
        };
        Ok(Message { role, answers, name, parts, extra: self.extra })
    }
}

impl WireThinking {
    fn into_body<E: serde::de::Error>(self, at: usize, reader: &Reader) -> Result<PartBody, E> {
        let place = format!("thinking_blocks[{at}]");
        let kind = self.kind.map(|Word(kind)| kind).unwrap_or_default();
        match (kind.as_str(), self.thinking, self.data) {
            ("thinking", Some(text), None) => {
                Ok(PartBody::Thinking { text, signature: self.signature })
            }
            ("redacted_thinking", None, Some(data)) => Ok(PartBody::RedactedThinking(data)),
            _ => Err(reader.reject(
                &[&place],
                "expected type 'thinking' with 'thinking', or 'redacted_thinking' with 'data'",
            )),
        }
    }
}

impl WireCall {
    fn into_part<E: serde::de::Error>(self, at: usize, reader: &Reader) -> Result<Part, E> {
        let place = format!("tool_calls[{at}]");
        if let Some(Word(kind)) = &self.kind
            && kind != "function"
        {
            let why = format!("calls of type '{kind}' aren't supported, only 'function'");
            return Err(reader.reject(&[&place, "type"], why));
        }
        let Some(Word(id)) = self.id else {
            return Err(reader.reject(&[&place, "id"], "missing"));
        };
        let Some(function) = self.function else {
            return Err(reader.reject(&[&place, "function"], "missing"));
        };
        let Some(Word(name)) = function.name else {
            return Err(reader.reject(&[&place, "function", "name"], "missing"));
        };
        // Models leave the text empty for a tool without parameters.
        let arguments = match function.arguments {
            Some(text) if !text.trim().is_empty() => text,
            _ => "{}".to_owned(),
        };
        let arguments = read::json_in_text(arguments)
            .map_err(|why| reader.reject(&[&place, "function", "arguments"], why))?;
        let body = PartBody::ToolCall(ToolCall { id, name, arguments });
        Ok(Part { body, cache: None, extra: self.extra })
    }
}

// ---------------------------------------------------------------------------------------- parts

object!(WirePart {
    "type" kind: Word,
    "text" text: Text,
    "refusal" refusal: Text,
    "image_url" image_url: WireUrl,
    "video_url" video_url: WireUrl,
    "input_audio" input_audio: WireAudio,
    "file" file: WireFile,
    "cache_control" cache_control: WireCache,
});

object!(WireUrl { "url" url: Text, "detail" detail: Word, });
object!(WireAudio { "data" data: Text, "format" format: Word, });
object!(WireFile { "file_id" file_id: Word, "file_data" file_data: Text, "filename" filename: Text, });
object!(
    /// The cache mark of Anthropic's protocol, which its users send in this one as well.
    WireCache { "type" kind: Word, "ttl" ttl: Word, }
);

impl WireCache {
    fn into_lifetime(self) -> String {
        self.ttl.map(|Word(ttl)| ttl).unwrap_or_default()
    }
}

impl<'de> Read<'de> for Part {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let mut part = WirePart::read(from, reader)?;
        let Some(Word(kind)) = part.kind.take() else {
            return Err(reader.reject(&["type"], "missing"));
        };
        let absent = |field: &'static str| reader.reject(&[field], "missing");
        let body = match kind.as_str() {
            "text" => PartBody::Text(part.text.take().ok_or_else(|| absent("text"))?),
            "refusal" => PartBody::Refusal(part.refusal.take().ok_or_else(|| absent("refusal"))?),
            "image_url" => {
                let url = part.image_url.take().ok_or_else(|| absent("image_url"))?;
                url.into_media(MediaKind::Image, "image_url", reader)?
            }
            "video_url" => {
                let url = part.video_url.take().ok_or_else(|| absent("video_url"))?;
                url.into_media(MediaKind::Video, "video_url", reader)?
            }
            "input_audio" => {
                let audio = part.input_audio.take().ok_or_else(|| absent("input_audio"))?;
                audio.into_media(reader)?
            }
            "file" => {
                let file = part.file.take().ok_or_else(|| absent("file"))?;
                file.into_media(reader)?
            }
            _ => {
                let value = other_part(&kind, part.text.take(), &part.extra)
                    .ok_or_else(|| D::Error::custom("not a content part"))?;
                part.extra.clear();
                PartBody::Other { kind: kind.clone(), value }
            }
        };
        for (left, field) in [
            (part.text.is_some(), "text"),
            (part.refusal.is_some(), "refusal"),
            (part.image_url.is_some(), "image_url"),
            (part.video_url.is_some(), "video_url"),
            (part.input_audio.is_some(), "input_audio"),
            (part.file.is_some(), "file"),
        ] {
            if left {
                let why = format!("doesn't belong to a part of type '{kind}'");
                return Err(reader.reject(&[field], why));
            }
        }
        let cache = part.cache_control.map(WireCache::into_lifetime);
        Ok(Self { body, cache, extra: part.extra })
    }
}

/// A part of an unknown type, put together again as it came.
pub(super) fn other_part(kind: &str, text: Option<Text>, fields: &[Field]) -> Option<Json> {
    use serde::ser::{SerializeMap as _, Serializer as _};

    let mut out = Vec::new();
    let mut json = serde_json::Serializer::new(&mut out);
    let mut object = json.serialize_map(None).ok()?;
    object.serialize_entry("type", kind).ok()?;
    if let Some(text) = text {
        object.serialize_entry("text", &*text).ok()?;
    }
    for field in fields {
        object.serialize_entry(&field.name, &*field.value).ok()?;
    }
    object.end().ok()?;
    json_text(out)
}

fn json_text(bytes: Vec<u8>) -> Option<Json> {
    String::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text).ok()).map(Json::from)
}

impl WireUrl {
    fn into_media<E: serde::de::Error>(
        self,
        kind: MediaKind,
        field: &str,
        reader: &Reader,
    ) -> Result<PartBody, E> {
        let Some(url) = self.url else { return Err(reader.reject(&[field, "url"], "missing")) };
        let (media_type, source) =
            media::from_url(&url).map_err(|why| reader.reject(&[field, "url"], why))?;
        let expected = if kind == MediaKind::Video { "video/" } else { "image/" };
        if !media_type.is_empty() && !media_type.starts_with(expected) {
            let why =
                format!("expected a media type of the kind '{expected}…', got '{media_type}'");
            return Err(reader.reject(&[field, "url"], why));
        }
        let detail = self.detail.map(|Word(detail)| detail);
        Ok(PartBody::Media(Media { kind, media_type, source, name: None, detail }))
    }
}

impl WireAudio {
    fn into_media<E: serde::de::Error>(self, reader: &Reader) -> Result<PartBody, E> {
        let (Some(data), Some(Word(format))) = (self.data, self.format) else {
            return Err(reader.reject(&["input_audio"], "expected 'data' and 'format'"));
        };
        audio(data, &format).map_err(|(field, why)| reader.reject(&["input_audio", field], why))
    }
}

/// Speech in base64.
///
/// # Errors
/// The field that is wrong, and why.
pub(super) fn audio(data: Text, format: &str) -> Result<PartBody, (&'static str, String)> {
    media::check_base64(&data).map_err(|why| ("data", why))?;
    let media_type = match format {
        "mp3" => "audio/mpeg".to_owned(),
        other => format!("audio/{other}"),
    };
    media::check_media_type(&media_type)
        .map_err(|_| ("format", "expected 'wav' or 'mp3'".to_owned()))?;
    let (kind, source) = (MediaKind::Audio, MediaSource::Base64(data));
    Ok(PartBody::Media(Media { kind, media_type, source, name: None, detail: None }))
}

impl WireFile {
    fn into_media<E: serde::de::Error>(self, reader: &Reader) -> Result<PartBody, E> {
        let (media_type, source) = match (self.file_id, self.file_data) {
            (Some(Word(id)), None) if !id.is_empty() => (String::new(), MediaSource::FileId(id)),
            (None, Some(data)) => media::from_data_url(&data)
                .map_err(|why| reader.reject(&["file", "file_data"], why))?,
            _ => return Err(reader.reject(&["file"], "expected either 'file_id' or 'file_data'")),
        };
        let (kind, name) = (MediaKind::File, self.filename);
        Ok(PartBody::Media(Media { kind, media_type, source, name, detail: None }))
    }
}

// ---------------------------------------------------------------------------------------- tools

object!(WireTool {
    "type" kind: Word,
    "function" function: WireFunction,
    "cache_control" cache_control: WireCache,
});

object!(WireFunction {
    "name" name: Word,
    "description" description: String,
    "parameters" parameters: RawObject,
    "strict" strict: bool,
});

impl<'de> Read<'de> for Tool {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let tool = WireTool::read(from, reader)?;
        let Some(Word(kind)) = tool.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        let cache = tool.cache_control.map(WireCache::into_lifetime);
        if kind != "function" {
            if kind.is_empty() {
                return Err(reader.reject(&["type"], "empty"));
            }
            if tool.function.is_some() {
                let why = format!("doesn't belong to a tool of type '{kind}'");
                return Err(reader.reject(&["function"], why));
            }
            let (name, parameters) = (String::new(), String::new());
            let (description, strict, extra) = (None, None, tool.extra);
            return Ok(Self { name, description, parameters, strict, kind, cache, extra });
        }
        let Some(function) = tool.function else {
            return Err(reader.reject(&["function"], "missing"));
        };
        let name = match function.name {
            Some(Word(name)) if !name.is_empty() => name,
            _ => return Err(reader.reject(&["function", "name"], "missing")),
        };
        Ok(Self {
            name,
            description: function.description,
            parameters: function.parameters.map(|RawObject(text)| text).unwrap_or_default(),
            strict: function.strict,
            kind: String::new(),
            cache,
            extra: tool.extra,
        })
    }
}

/// A choice the contract has a word for, or one to be handed on.
enum WireToolChoice {
    Known(ToolChoice),
    Other(Json),
}

object!(WireNamedTool { "type" kind: Word, "function" function: WireNamedFunction, });
object!(WireNamedFunction { "name" name: Word, });

impl<'de> Read<'de> for WireToolChoice {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        Ok(Self::Known(match raw.get() {
            r#""auto""# => ToolChoice::Auto,
            r#""none""# => ToolChoice::None,
            r#""required""# => ToolChoice::Required,
            object if object.starts_with('{') => {
                let named: WireNamedTool = reader.again(raw)?;
                match (named.kind, named.function.and_then(|function| function.name)) {
                    (Some(Word(kind)), Some(Word(name))) if kind == "function" => {
                        ToolChoice::Tool(name)
                    }
                    (Some(Word(kind)), _) if kind != "function" => {
                        return Ok(Self::Other(raw.to_owned().into()));
                    }
                    _ => return Err(reader.reject(&["function", "name"], "missing")),
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

object!(WireFormatObject { "type" kind: Word, "json_schema" json_schema: WireSchema, });

object!(WireSchema {
    "name" name: Word,
    "description" description: String,
    "schema" schema: RawObject,
    "strict" strict: bool,
});

impl<'de> Read<'de> for WireFormat {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let format: WireFormatObject = reader.again(raw)?;
        let Some(Word(kind)) = format.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        Ok(Self::Known(match kind.as_str() {
            "text" => Format::Text,
            "json_object" => Format::Json,
            "json_schema" => {
                let absent = |field| reader.reject(&["json_schema", field], "missing");
                let schema = format.json_schema.unwrap_or_default();
                let Word(name) = schema.name.ok_or_else(|| absent("name"))?;
                let RawObject(text) = schema.schema.ok_or_else(|| absent("schema"))?;
                let (description, strict) = (schema.description, schema.strict);
                Format::Schema(Schema { name, description, schema: text, strict })
            }
            _ => return Ok(Self::Other(raw.to_owned().into())),
        }))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
