//! `POST /v1/messages`: the body, made into a [`Chat`].
//!
//! The mapping follows Anthropic's reference and its SDK's types. A turn of the caller's becomes
//! one message for each tool's result in it and one for what stands between them, because results
//! are messages of their own in an operation. Blocks that the contract has no word for (server
//! tools, search results, documents that are text) go along whole, as [`PartBody::Other`].
//!
//! Fields that nobody here knows go along to vendors that may: at the top level, in a message, a
//! block and a tool. Where a field's meaning is known but not all of it can be said in the
//! operation, it is given in both ways: its meaning typed, the field as it came in `extra`.
//!
//! A block's fields are read straight into their types if its `type` comes first, as SDKs write
//! it; fields before it are looked at twice.

use std::{borrow::Cow, fmt, marker::PhantomData};

use keyward::{
    Failure, contract,
    ids::ModelName,
    operation::{
        Chat, Dialect, Field, Format, Json, Media, MediaKind, MediaSource, Message, Part, PartBody,
        Reasoning, Role, Sampling, Schema, Text, Tool, ToolAnswer, ToolCall, ToolChoice,
    },
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
    ser::SerializeMap as _,
};
use serde_json::value::RawValue;

use super::error::NO_THREADS;
use crate::dialect::{
    events::{Warnings, write_json},
    media,
    read::{self, Key, MAX_UNKNOWN, Raw, RawObject, Read, Reader, Word, object},
    steering::check_steering,
};

/// Stands where other vendors want a schema to have a name; this dialect has none.
const SCHEMA_NAME: &str = "answer";

/// A chat, and what of the request could not be kept.
#[derive(Clone, Debug)]
pub struct MessagesRequest {
    pub chat: Chat,
    pub warnings: Warnings,
}

/// A prompt whose tokens are to be counted.
#[derive(Clone, Debug)]
pub struct CountRequest {
    pub chat: Chat,
    /// The body as it came, field by field, without the model.
    pub fields: Vec<Field>,
}

/// Reads the body of a request for a message.
///
/// # Errors
/// The caller's mistake, with the path of the field as `param`.
pub fn parse_messages(body: &[u8]) -> Result<MessagesRequest, Failure> {
    let request = read::body::<WireRequest>(body)?.into_request()?;
    if request.chat.sampling.max_output_tokens.is_none() {
        return Err(missing("max_tokens"));
    }
    Ok(request)
}

/// Reads the body of a request for a count.
///
/// # Errors
/// As [`parse_messages`].
pub fn parse_count(body: &[u8]) -> Result<CountRequest, Failure> {
    let MessagesRequest { chat, .. } = read::body::<WireRequest>(body)?.into_request()?;
    let mut fields = read::body::<AnyFields>(body)?.extra;
    fields.retain(|field| field.name != "model");
    Ok(CountRequest { chat, fields })
}

object!(AnyFields {});

object!(WireRequest {
    "model" model: String,
    "max_tokens" max_tokens: u32,
    "messages" messages: Vec<Turn>,
    "system" system: Content,
    "tools" tools: Vec<ToolEntry>,
    "tool_choice" tool_choice: WireToolChoice,
    "thinking" thinking: Thinking,
    "output_config" output_config: OutputConfig,
    "output_format" output_format: OutputFormat,
    "temperature" temperature: f64,
    "top_p" top_p: f64,
    "top_k" top_k: u32,
    "stop_sequences" stop_sequences: Vec<String>,
    "stream" stream: bool,
    "thread" thread: Json,
});

impl WireRequest {
    fn into_request(self) -> Result<MessagesRequest, Failure> {
        let mut extra = self.extra;
        check_steering(&extra)?;
        if self.thread.is_some() {
            // The next request may go to another vendor, and the host remembers no conversations.
            let why = "'thread' isn't supported: send the whole conversation in 'messages'.";
            let mut failure = Failure::invalid("thread", why);
            failure.code = Some(NO_THREADS.to_owned());
            return Err(failure);
        }
        let name = self.model.ok_or_else(|| missing("model"))?;
        let model = ModelName::new(&name)
            .map_err(|error| Failure::invalid("model", format!("Invalid 'model': {error}.")))?;
        let turns = self.messages.ok_or_else(|| missing("messages"))?;
        if turns.is_empty() {
            let why = "Invalid 'messages': at least one message is required.";
            return Err(Failure::invalid("messages", why));
        }
        let mut warnings = Warnings::default();
        let mut messages = Vec::with_capacity(turns.len() + 1);
        if let Some(system) = self.system {
            let parts = system.into_parts("system")?;
            let (answers, name, extra) = (None, None, Vec::new());
            messages.push(Message { role: Role::System, answers, name, parts, extra });
        }
        for turn in turns {
            if turn.homeless {
                dropped(&mut warnings, "messages.extra");
            }
            messages.extend(turn.messages);
        }

        let (tool_choice, parallel_tool_calls) = match self.tool_choice {
            None => (None, None),
            Some(WireToolChoice::Known(choice, alone)) => (Some(choice), alone.map(|it| !it)),
            Some(WireToolChoice::Other(value)) => {
                keep(&mut extra, "tool_choice", value);
                (None, None)
            }
        };

        let mut config = self.output_config.unwrap_or_default();
        let mut effort = config.effort.take();
        let mut budget_tokens = None;
        if let Some(thinking) = self.thinking {
            match thinking.kind.as_str() {
                "enabled" => budget_tokens = thinking.budget_tokens,
                "disabled" if thinking.exact => {
                    // One word of the operation for two fields here.
                    config.exact &= effort.is_none();
                    if effort.is_some() {
                        keep(&mut extra, "thinking", thinking.raw.clone());
                    }
                    effort = Some("none".to_owned());
                }
                _ => {}
            }
            if !thinking.exact {
                keep(&mut extra, "thinking", thinking.raw);
            }
        }
        let format = match (config.format.take(), self.output_format) {
            (Some(_), Some(_)) => {
                let why = "Give either 'output_config.format' or 'output_format', not both.";
                return Err(Failure::invalid("output_format", why));
            }
            (Some(OutputFormat::Schema(schema)), None)
            | (None, Some(OutputFormat::Schema(schema))) => schema_format(schema),
            (None, Some(OutputFormat::Other(value))) => {
                keep(&mut extra, "output_format", value);
                Format::Text
            }
            (Some(OutputFormat::Other(_)) | None, None) => Format::Text,
        };
        if let (false, Some(raw)) = (config.exact, config.raw) {
            keep(&mut extra, "output_config", raw);
        }

        let chat = Chat {
            model,
            messages,
            tools: self.tools.unwrap_or_default().into_iter().map(|ToolEntry(tool)| tool).collect(),
            tool_choice,
            parallel_tool_calls,
            format,
            sampling: Sampling {
                max_output_tokens: self.max_tokens,
                temperature: self.temperature,
                top_p: self.top_p,
                top_k: self.top_k,
                frequency_penalty: None,
                presence_penalty: None,
                seed: None,
                stop: self.stop_sequences.unwrap_or_default(),
                choices: None,
                logprobs: None,
            },
            reasoning: (effort.is_some() || budget_tokens.is_some())
                .then_some(Reasoning { effort, budget_tokens }),
            stream: self.stream.unwrap_or(false),
            dialect: Dialect::AnthropicMessages,
            extra,
        };
        Ok(MessagesRequest { chat, warnings })
    }
}

fn missing(field: &str) -> Failure {
    Failure::invalid(field, format!("Invalid '{field}': the field is required."))
}

fn keep(extra: &mut Vec<Field>, name: &str, value: Json) {
    extra.push(Field { name: name.to_owned(), value });
}

/// Notes something of the request that has no place in the operation.
pub fn dropped(warnings: &mut Warnings, subject: &str) {
    let message = String::new();
    warnings.add(&contract::Warning {
        code: "dropped".into(),
        subject: subject.to_owned(),
        message,
    });
}

fn schema_format(schema: String) -> Format {
    let (name, description) = (SCHEMA_NAME.to_owned(), None);
    // This dialect has no schemas that are but a hint.
    Format::Schema(Schema { name, description, schema, strict: Some(true) })
}

// ------------------------------------------------------------------------------------- messages

object!(WireTurn { "role" role: Word, "content" content: Content, });

/// One entry of `messages`.
struct Turn {
    messages: Vec<Message>,
    /// The entry had fields of its own that none of its messages can take.
    homeless: bool,
}

impl<'de> Read<'de> for Turn {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let turn = WireTurn::read(from, reader)?;
        let Some(Word(role)) = turn.role else { return Err(reader.reject(&["role"], "missing")) };
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => {
                let why = format!("unknown role '{other}', expected user, assistant or system");
                return Err(reader.reject(&["role"], why));
            }
        };
        let blocks = match turn.content {
            Some(Content::Text(text)) => vec![Block::Part(PartBody::Text(text).into())],
            Some(Content::Blocks(blocks)) => blocks,
            None => {
                let why = "expected a string or a list of content blocks";
                return Err(reader.reject(&["content"], why));
            }
        };
        let mut messages: Vec<Message> = Vec::with_capacity(1);
        // Where the entry's own fields go: to its first message that isn't a tool's result.
        let mut own = None;
        for (at, block) in blocks.into_iter().enumerate() {
            match block {
                Block::Result(result) if role == Role::User => messages.push(result),
                Block::Result(_) => {
                    let place = format!("content[{at}]");
                    let why = "tool results belong into messages of role 'user'";
                    return Err(reader.reject(&[&place, "type"], why));
                }
                Block::Part(part) => match messages.last_mut() {
                    Some(last) if last.role == role => last.parts.push(part),
                    _ => {
                        own.get_or_insert(messages.len());
                        messages.push(message(role, vec![part]));
                    }
                },
            }
        }
        if messages.is_empty() {
            own = Some(0);
            messages.push(message(role, Vec::new()));
        }
        let homeless = !turn.extra.is_empty() && own.is_none();
        if let Some(own) = own {
            messages[own].extra = turn.extra;
        }
        Ok(Self { messages, homeless })
    }
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, answers: None, name: None, parts, extra: Vec::new() }
}

/// `content`, `system`: a text or blocks.
enum Content<B = Block> {
    Text(Text),
    Blocks(Vec<B>),
}

impl<'de, B: Read<'de>> Read<'de> for Content<B> {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct TextOrBlocks<'r, B>(&'r Reader, PhantomData<B>);

        impl<'de, B: Read<'de>> Visitor<'de> for TextOrBlocks<'_, B> {
            type Value = Content<B>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content blocks")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                self.0.list(list).map(Content::Blocks)
            }
        }

        from.deserialize_any(TextOrBlocks(reader, PhantomData))
    }
}

impl Content {
    /// Where no tool's result may stand.
    fn into_parts(self, field: &str) -> Result<Vec<Part>, Failure> {
        let blocks = match self {
            Self::Text(text) => return Ok(vec![PartBody::Text(text).into()]),
            Self::Blocks(blocks) => blocks,
        };
        let part = |block| match block {
            Block::Part(part) => Ok(part),
            Block::Result(_) => {
                let why = format!("Invalid '{field}': tool results don't belong here.");
                Err(Failure::invalid(field, why))
            }
        };
        blocks.into_iter().map(part).collect()
    }
}

// --------------------------------------------------------------------------------------- blocks

/// A block of a message.
enum Block {
    Part(Part),
    /// The result of a tool: a message of its own.
    Result(Message),
}

/// A block inside a tool's result, where no further results are.
struct Inner(Part);

object!(WireText { "text" text: Text, "cache_control" cache: Json, });
object!(WireImage { "source" source: WireSource, "cache_control" cache: Json, });
object!(WireDocument {
    "source" source: WireSource,
    "title" title: Text,
    "cache_control" cache: Json,
});
object!(WireThinking {
    "thinking" thinking: Text,
    "signature" signature: Text,
    "cache_control" cache: Json,
});
object!(WireRedacted { "data" data: Text, "cache_control" cache: Json, });
object!(WireCall {
    "id" id: Word,
    "name" name: Word,
    "input" input: Json,
    "cache_control" cache: Json,
});
object!(WireResult {
    "tool_use_id" call_id: Word,
    "content" content: Content<Inner>,
    "is_error" is_error: bool,
});
object!(WireSource {
    "type" kind: Word,
    "media_type" media_type: Word,
    "data" data: Text,
    "url" url: Text,
    "file_id" file_id: Word,
    "content" content: Json,
});

impl<'de> Read<'de> for Block {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        tagged(from, reader)
    }
}

impl Tagged for Block {
    fn read<'de, D: Deserializer<'de>>(
        kind: &str,
        fields: D,
        reader: &Reader,
    ) -> Result<Self, D::Error> {
        match kind {
            "tool_result" => result(WireResult::read(fields, reader)?, reader).map(Self::Result),
            _ => part(kind, fields, reader).map(Self::Part),
        }
    }
}

impl<'de> Read<'de> for Inner {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        tagged(from, reader)
    }
}

impl Tagged for Inner {
    fn read<'de, D: Deserializer<'de>>(
        kind: &str,
        fields: D,
        reader: &Reader,
    ) -> Result<Self, D::Error> {
        if kind == "tool_result" {
            return Err(reader.reject(&["type"], "a tool's result can't hold another one"));
        }
        part(kind, fields, reader).map(Self)
    }
}

/// A block of any type but `tool_result`.
fn part<'de, D: Deserializer<'de>>(
    kind: &str,
    fields: D,
    reader: &Reader,
) -> Result<Part, D::Error> {
    let absent = |field: &str| reader.reject(&[field], "missing");
    let (body, cache, extra) = match kind {
        "text" => {
            let block = WireText::read(fields, reader)?;
            let text = block.text.ok_or_else(|| absent("text"))?;
            (PartBody::Text(text), block.cache, block.extra)
        }
        "image" => {
            let block = WireImage::read(fields, reader)?;
            let source = block.source.ok_or_else(|| absent("source"))?;
            return media(kind, source, None, block.cache, block.extra, reader);
        }
        "document" => {
            let block = WireDocument::read(fields, reader)?;
            let source = block.source.ok_or_else(|| absent("source"))?;
            return media(kind, source, block.title, block.cache, block.extra, reader);
        }
        "tool_use" => {
            let block = WireCall::read(fields, reader)?;
            let Word(id) = block.id.ok_or_else(|| absent("id"))?;
            let Word(name) = block.name.ok_or_else(|| absent("name"))?;
            let arguments = block.input.ok_or_else(|| absent("input"))?;
            if !arguments.get().starts_with('{') {
                return Err(reader.reject(&["input"], "expected an object"));
            }
            (PartBody::ToolCall(ToolCall { id, name, arguments }), block.cache, block.extra)
        }
        "thinking" => {
            let block = WireThinking::read(fields, reader)?;
            let text = block.thinking.ok_or_else(|| absent("thinking"))?;
            // Empty where thinking came from a vendor that doesn't sign it.
            let signature = block.signature.filter(|signature| !signature.is_empty());
            (PartBody::Thinking { text, signature }, block.cache, block.extra)
        }
        "redacted_thinking" => {
            let block = WireRedacted::read(fields, reader)?;
            let data = block.data.ok_or_else(|| absent("data"))?;
            (PartBody::RedactedThinking(data), block.cache, block.extra)
        }
        _ => {
            let fields = AnyFields::read(fields, reader)?.extra;
            let value = OtherBlock { kind, source: None, title: None, cache: None, extra: &fields };
            let value = value.into_json().ok_or_else(|| D::Error::custom("not a block"))?;
            return Ok(PartBody::Other { kind: kind.to_owned(), value }.into());
        }
    };
    Ok(marked(body, cache, extra))
}

/// A part with its cache mark; a mark of a form not known here stays a field.
fn marked(body: PartBody, cache: Option<Json>, mut extra: Vec<Field>) -> Part {
    let cache = cache_mark(cache, &mut extra);
    Part { body, cache, extra }
}

fn cache_mark(cache: Option<Json>, extra: &mut Vec<Field>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct CacheControl {
        r#type: String,
        ttl: Option<String>,
    }

    let cache = cache?;
    match serde_json::from_str::<CacheControl>(cache.get()) {
        Ok(mark) if mark.r#type == "ephemeral" => Some(mark.ttl.unwrap_or_default()),
        _ => {
            keep(extra, "cache_control", cache);
            None
        }
    }
}

fn result<E: serde::de::Error>(result: WireResult, reader: &Reader) -> Result<Message, E> {
    let Some(Word(call_id)) = result.call_id else {
        return Err(reader.reject(&["tool_use_id"], "missing"));
    };
    let mut parts = match result.content {
        Some(Content::Text(text)) => vec![PartBody::Text(text).into()],
        Some(Content::Blocks(blocks)) => blocks.into_iter().map(|Inner(part)| part).collect(),
        None => Vec::new(),
    };
    if parts.is_empty() {
        // A tool that had nothing to say; some vendors want a text all the same.
        parts.push(PartBody::Text("".into()).into());
    }
    let is_error = result.is_error.unwrap_or(false);
    let answers = Some(ToolAnswer { call_id, tool: String::new(), is_error });
    Ok(Message { role: Role::Tool, answers, name: None, parts, extra: result.extra })
}

fn media<E: serde::de::Error>(
    kind: &str,
    source: WireSource,
    title: Option<Text>,
    cache: Option<Json>,
    extra: Vec<Field>,
    reader: &Reader,
) -> Result<Part, E> {
    let absent = |field: &str| reader.reject(&["source", field], "missing");
    let Some(Word(form)) = &source.kind else { return Err(absent("type")) };
    let (media_type, found) = match form.as_str() {
        _ if !source.extra.is_empty() => return other_media(kind, source, title, cache, extra),
        "base64" => {
            let Word(media_type) = source.media_type.ok_or_else(|| absent("media_type"))?;
            media::check_media_type(&media_type)
                .map_err(|why| reader.reject(&["source", "media_type"], why))?;
            let data = source.data.ok_or_else(|| absent("data"))?;
            media::check_base64(&data).map_err(|why| reader.reject(&["source", "data"], why))?;
            (media_type, MediaSource::Base64(data))
        }
        "url" => {
            let url = source.url.ok_or_else(|| absent("url"))?;
            media::from_url(&url).map_err(|why| reader.reject(&["source", "url"], why))?
        }
        "file" => match source.file_id {
            Some(Word(id)) if !id.is_empty() => (String::new(), MediaSource::FileId(id)),
            _ => return Err(absent("file_id")),
        },
        // Text, content, and what else there may be.
        _ => return other_media(kind, source, title, cache, extra),
    };
    let kind = if kind == "image" { MediaKind::Image } else { MediaKind::File };
    if kind == MediaKind::Image && !media_type.is_empty() && !media_type.starts_with("image/") {
        let why = format!("expected a media type of the kind 'image/…', got '{media_type}'");
        return Err(reader.reject(&["source", "media_type"], why));
    }
    let body = Media { kind, media_type, source: found, name: title, detail: None };
    Ok(marked(PartBody::Media(body), cache, extra))
}

fn other_media<E: serde::de::Error>(
    kind: &str,
    source: WireSource,
    title: Option<Text>,
    cache: Option<Json>,
    extra: Vec<Field>,
) -> Result<Part, E> {
    let value = OtherBlock { kind, source: Some(&source), title, cache, extra: &extra };
    let value = value.into_json().ok_or_else(|| E::custom("not a block"))?;
    Ok(PartBody::Other { kind: kind.to_owned(), value }.into())
}

/// A block put together again as it came.
struct OtherBlock<'a> {
    kind: &'a str,
    source: Option<&'a WireSource>,
    title: Option<Text>,
    cache: Option<Json>,
    extra: &'a [Field],
}

impl OtherBlock<'_> {
    fn into_json(self) -> Option<Json> {
        let mut out = Vec::new();
        write_json(&self, &mut out);
        let text = String::from_utf8(out).ok()?;
        RawValue::from_string(text).ok().map(Json::from)
    }
}

impl Serialize for OtherBlock<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        object.serialize_entry("type", self.kind)?;
        if let Some(source) = self.source {
            object.serialize_entry("source", source)?;
        }
        if let Some(title) = &self.title {
            object.serialize_entry("title", &**title)?;
        }
        if let Some(cache) = &self.cache {
            object.serialize_entry("cache_control", &**cache)?;
        }
        for field in self.extra {
            object.serialize_entry(&field.name, &*field.value)?;
        }
        object.end()
    }
}

impl Serialize for WireSource {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(None)?;
        let word = |word: &Option<Word>| word.as_ref().map(|Word(text)| text.clone());
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.to_string());
        for (name, value) in [
            ("type", word(&self.kind)),
            ("media_type", word(&self.media_type)),
            ("data", text(&self.data)),
            ("url", text(&self.url)),
            ("file_id", word(&self.file_id)),
        ] {
            if let Some(value) = value {
                object.serialize_entry(name, &value)?;
            }
        }
        if let Some(content) = &self.content {
            object.serialize_entry("content", &**content)?;
        }
        for field in &self.extra {
            object.serialize_entry(&field.name, &*field.value)?;
        }
        object.end()
    }
}

// ------------------------------------------------------------------------------- tagged objects

/// An object that says in `type` what its other fields are.
trait Tagged: Sized {
    fn read<'de, D: Deserializer<'de>>(
        kind: &str,
        fields: D,
        reader: &Reader,
    ) -> Result<Self, D::Error>;
}

fn tagged<'de, T: Tagged, D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<T, D::Error> {
    struct Object<'r, T>(&'r Reader, PhantomData<T>);

    impl<'de, T: Tagged> Visitor<'de> for Object<'_, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with a 'type'")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let reader = self.0;
            let mut early = Vec::new();
            let Word(kind) = loop {
                match map.next_key()? {
                    Some(Key(key)) if key == "type" => break reader.value(&mut map, "type")?,
                    Some(_) if early.len() >= MAX_UNKNOWN => {
                        let why = format!("more than {MAX_UNKNOWN} fields before it");
                        return Err(reader.reject(&["type"], why));
                    }
                    Some(Key(key)) => {
                        let Raw(value) = reader.value(&mut map, &key)?;
                        early.push((key, value));
                    }
                    None => return Err(reader.reject(&["type"], "missing")),
                }
            };
            let rest = Rest { early: early.into_iter(), value: None, map };
            T::read(&kind, MapAccessDeserializer::new(rest), reader)
        }
    }

    from.deserialize_map(Object(reader, PhantomData))
}

/// The fields before `type`, then those behind it.
struct Rest<'de, A> {
    early: std::vec::IntoIter<(Cow<'de, str>, &'de RawValue)>,
    /// Of the early field whose key was given out.
    value: Option<&'de RawValue>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.early.next() {
            Some((key, value)) => {
                self.value = Some(value);
                seed.deserialize(key.into_deserializer()).map(Some)
            }
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => {
                let mut json = serde_json::Deserializer::from_str(value.get());
                seed.deserialize(&mut json)
                    .map_err(|error| A::Error::custom(read::without_position(&error.to_string())))
            }
            None => self.map.next_value_seed(seed),
        }
    }
}

// ---------------------------------------------------------------------------------------- tools

object!(WireTool {
    "type" kind: Word,
    "name" name: Word,
    "description" description: String,
    "input_schema" input_schema: RawObject,
    "strict" strict: bool,
    "cache_control" cache: Json,
});

struct ToolEntry(Tool);

impl<'de> Read<'de> for ToolEntry {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let tool = WireTool::read(from, reader)?;
        let kind = match tool.kind {
            Some(Word(kind)) if kind != "custom" => kind,
            _ => String::new(),
        };
        let name = tool.name.map(|Word(name)| name).unwrap_or_default();
        // Some of the vendor's own tools have no name.
        if name.is_empty() && kind.is_empty() {
            return Err(reader.reject(&["name"], "missing"));
        }
        let mut extra = tool.extra;
        let cache = cache_mark(tool.cache, &mut extra);
        Ok(Self(Tool {
            name,
            description: tool.description,
            parameters: tool.input_schema.map(|RawObject(text)| text).unwrap_or_default(),
            strict: tool.strict,
            kind,
            cache,
            extra,
        }))
    }
}

/// A choice the contract has a word for with `disable_parallel_tool_use`, or one to be handed on.
enum WireToolChoice {
    Known(ToolChoice, Option<bool>),
    Other(Json),
}

object!(WireChoice {
    "type" kind: Word,
    "name" name: Word,
    "disable_parallel_tool_use" alone: bool,
});

impl<'de> Read<'de> for WireToolChoice {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let choice: WireChoice = reader.again(raw)?;
        let Some(Word(kind)) = choice.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        let known = match (kind.as_str(), choice.name) {
            ("auto", _) => ToolChoice::Auto,
            ("any", _) => ToolChoice::Required,
            ("none", _) => ToolChoice::None,
            ("tool", Some(Word(name))) => ToolChoice::Tool(name),
            ("tool", None) => return Err(reader.reject(&["name"], "missing")),
            _ => return Ok(Self::Other(raw.to_owned().into())),
        };
        if !choice.extra.is_empty() {
            return Ok(Self::Other(raw.to_owned().into()));
        }
        Ok(Self::Known(known, choice.alone))
    }
}

// ------------------------------------------------------------------------------------- thinking

object!(WireThinkingConfig { "type" kind: Word, "budget_tokens" budget_tokens: u32, });

/// `thinking`.
struct Thinking {
    kind: String,
    budget_tokens: Option<u32>,
    /// The operation can say all of it.
    exact: bool,
    raw: Json,
}

impl<'de> Read<'de> for Thinking {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let config: WireThinkingConfig = reader.again(raw)?;
        let Some(Word(kind)) = config.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        let budget_tokens = config.budget_tokens;
        if kind == "enabled" && budget_tokens.is_none() {
            return Err(reader.reject(&["budget_tokens"], "missing"));
        }
        let exact = matches!(kind.as_str(), "enabled" | "disabled") && config.extra.is_empty();
        Ok(Self { kind, budget_tokens, exact, raw: raw.to_owned().into() })
    }
}

object!(WireOutputConfig { "effort" effort: Word, "format" format: OutputFormat, });

/// `output_config`.
#[derive(Default)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<OutputFormat>,
    /// The operation can say all of it.
    exact: bool,
    raw: Option<Json>,
}

impl<'de> Read<'de> for OutputConfig {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let config: WireOutputConfig = reader.again(raw)?;
        let exact =
            config.extra.is_empty() && !matches!(config.format, Some(OutputFormat::Other(_)));
        let effort = config.effort.map(|Word(effort)| effort);
        Ok(Self { effort, format: config.format, exact, raw: Some(raw.to_owned().into()) })
    }
}

object!(WireFormat { "type" kind: Word, "schema" schema: RawObject, });

/// A JSON schema the answer must fit, or a format to be handed on.
enum OutputFormat {
    Schema(String),
    Other(Json),
}

impl<'de> Read<'de> for OutputFormat {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let Raw(raw) = Raw::read(from, reader)?;
        let format: WireFormat = reader.again(raw)?;
        let Some(Word(kind)) = format.kind else {
            return Err(reader.reject(&["type"], "missing"));
        };
        match (kind.as_str(), format.schema) {
            ("json_schema", Some(RawObject(schema))) if format.extra.is_empty() => {
                Ok(Self::Schema(schema))
            }
            ("json_schema", None) => Err(reader.reject(&["schema"], "missing")),
            _ => Ok(Self::Other(raw.to_owned().into())),
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
