//! `input`: a text, or items that become messages.
//!
//! The contract knows messages of parts, so neighbouring items of the model's own (thinking, text,
//! calls) become one message of the assistant's, as vendors want them, and each result of a tool a
//! message of its own. Two messages next to each other stay two. Items that nobody here knows are
//! parts of kind "other", written as they came by adapters that speak this protocol.
//!
//! Each item is looked at for its type and then read once. Ids that were made here
//! ([`output::is_own_id`](super::output::is_own_id)) and the status "completed" end here: they would
//! tell a vendor nothing.

use std::{borrow::Cow, fmt};

use keyward::operation::{
    Field, Json, Media, MediaKind, MediaSource, Message, Part, PartBody, Role, Text, ToolAnswer,
    ToolCall,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::output::{REDACTED, is_own_id};
use crate::{
    dialect::{
        media,
        read::{self, Raw, Read, Reader, Word, object},
    },
    openai::request::{Content, audio, json, keep, other_part},
};

const ITEM_REFERENCE: &str = "item_reference";

/// Between paragraphs of thinking that come as several parts.
const BETWEEN_SUMMARIES: &str = "\n\n";

/// A conversation, as far as it was sent.
#[derive(Debug, Default)]
pub struct Input {
    pub messages: Vec<Message>,
    /// Some of it only refers to what a vendor has stored.
    pub refers: bool,
}

impl<'de> Read<'de> for Input {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        struct TextOrItems<'r>(&'r Reader);

        impl<'de> Visitor<'de> for TextOrItems<'_> {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of items")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                let mut input = Input::default();
                input.push(Role::User, vec![PartBody::Text(text.into()).into()], Vec::new());
                Ok(input)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Input, A::Error> {
                let mut input = Input::default();
                for item in self.0.list(list)? {
                    input.add(item);
                }
                Ok(input)
            }
        }

        from.deserialize_any(TextOrItems(reader))
    }
}

impl Input {
    fn add(&mut self, item: Item) {
        match item {
            Item::Message { role: Role::Assistant, parts, extra } => self.said(parts, extra),
            Item::Message { role, parts, extra } => self.push(role, parts, extra),
            Item::Own(part) => self.own(part),
            Item::Result { call_id, parts, extra } => {
                self.push(Role::Tool, parts, extra);
                let answers = ToolAnswer { call_id, tool: String::new(), is_error: false };
                if let Some(message) = self.messages.last_mut() {
                    message.answers = Some(answers);
                }
            }
            Item::Other { kind, value } => {
                self.refers |= kind == ITEM_REFERENCE;
                let result = is_result(&kind);
                let part = PartBody::Other { kind, value }.into();
                match result {
                    true => self.push(Role::User, vec![part], Vec::new()),
                    false => self.own(part),
                }
            }
        }
    }

    fn push(&mut self, role: Role, parts: Vec<Part>, extra: Vec<Field>) {
        self.messages.push(Message { role, answers: None, name: None, parts, extra });
    }

    /// Something else the model did.
    fn own(&mut self, part: Part) {
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Assistant => last.parts.push(part),
            _ => self.push(Role::Assistant, vec![part], Vec::new()),
        }
    }

    /// A message of the model's own. Fields of its own need a message of its own.
    fn said(&mut self, parts: Vec<Part>, extra: Vec<Field>) {
        let is_content = |part: &Part| match &part.body {
            PartBody::Text(_) | PartBody::Refusal(_) | PartBody::Media(_) => true,
            PartBody::Other { kind, .. } => is_part(kind),
            _ => false,
        };
        match self.messages.last_mut() {
            Some(last)
                if last.role == Role::Assistant
                    && !last.parts.last().is_some_and(is_content)
                    && (extra.is_empty() || !last.parts.iter().any(is_content)) =>
            {
                last.parts.extend(parts);
                last.extra.extend(extra);
            }
            _ => self.push(Role::Assistant, parts, extra),
        }
    }
}

enum Item {
    Message { role: Role, parts: Vec<Part>, extra: Vec<Field> },
    Own(Part),
    Result { call_id: String, parts: Vec<Part>, extra: Vec<Field> },
    Other { kind: String, value: Json },
}

object!(WireMessage {
    "type" kind: Word,
    "role" role: Word,
    "content" content: Content<WirePart>,
    "id" id: Word,
    "status" status: Word,
});

object!(WireCall {
    "type" kind: Word,
    "call_id" call_id: Word,
    "name" name: Word,
    "arguments" arguments: String,
    "id" id: Word,
    "status" status: Word,
});

object!(WireResult {
    "type" kind: Word,
    "call_id" call_id: Word,
    "output" output: Content<WirePart>,
    "id" id: Word,
    "status" status: Word,
});

object!(WireReasoning {
    "type" kind: Word,
    "summary" summary: Vec<WireParagraph>,
    "content" content: Vec<WireParagraph>,
    "encrypted_content" encrypted_content: Text,
    "id" id: Word,
    "status" status: Word,
});

object!(WireParagraph { "type" kind: Word, "text" text: Text, });

impl<'de> Read<'de> for Item {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, rename = "type")]
            kind: Option<Cow<'a, str>>,
            role: Option<IgnoredAny>,
            id: Option<IgnoredAny>,
        }

        let Raw(raw) = Raw::read(from, reader)?;
        let kind: Kind<'_> = serde_json::from_str(raw.get())
            .map_err(|_| D::Error::custom("expected an object with a 'type' that is a string"))?;
        let kind = match (kind.kind, kind.role, kind.id) {
            (Some(kind), ..) => kind,
            (None, Some(_), _) => "message".into(),
            (None, None, Some(_)) => ITEM_REFERENCE.into(),
            (None, None, None) => return Err(reader.reject(&["type"], "missing")),
        };
        match &*kind {
            "message" => reader.again::<WireMessage, _>(raw)?.into_item(reader),
            "function_call" => reader.again::<WireCall, _>(raw)?.into_item(reader),
            "function_call_output" => reader.again::<WireResult, _>(raw)?.into_item(reader),
            "reasoning" => reader.again::<WireReasoning, _>(raw)?.into_item(raw, reader),
            kind if kind.chars().any(char::is_control) => {
                Err(reader.reject(&["type"], "control characters aren't allowed here"))
            }
            // As an item it would be sent as a part of a message that nobody wrote.
            kind if is_part(kind) => {
                let why = format!("'{kind}' is a part of a message, not an item");
                Err(reader.reject(&["type"], why))
            }
            kind => Ok(Self::Other { kind: kind.to_owned(), value: raw.to_owned().into() }),
        }
    }
}

/// Whether an item of this type is what a tool found, and no word of the model's.
fn is_result(kind: &str) -> bool {
    kind.ends_with("_output") || kind.ends_with("_response")
}

/// Whether what is of this type stands in a message, known or not; otherwise it is an item.
fn is_part(kind: &str) -> bool {
    kind.starts_with("input_") || kind.starts_with("output_")
}

impl WireMessage {
    fn into_item<E: serde::de::Error>(self, reader: &Reader) -> Result<Item, E> {
        let Some(Word(role)) = &self.role else {
            return Err(reader.reject(&["role"], "missing"));
        };
        let role = match role.as_str() {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let why = format!(
                    "unknown role '{other}', expected system, developer, user or assistant"
                );
                return Err(reader.reject(&["role"], why));
            }
        };
        let Some(content) = self.content else {
            return Err(reader.reject(&["content"], "expected a string or a list of parts"));
        };
        let (parts, mut extra) = (content.into_parts(), self.extra);
        // It would be sent as an item: what nobody here knows is told apart by its type alone.
        let item = |part: &Part| match &part.body {
            PartBody::Other { kind, .. } => {
                !is_part(kind)
                    && (role == Role::Assistant || is_result(kind) || kind == ITEM_REFERENCE)
            }
            _ => false,
        };
        if let Some(at) = parts.iter().position(item) {
            let why = "as far as its type tells, an item of its own";
            return Err(reader.reject(&[&format!("content[{at}]"), "type"], why));
        }
        keep_identity(self.id, self.status, &mut extra);
        Ok(Item::Message { role, parts, extra })
    }
}

impl WireCall {
    fn into_item<E: serde::de::Error>(self, reader: &Reader) -> Result<Item, E> {
        let Some(Word(id)) = self.call_id else {
            return Err(reader.reject(&["call_id"], "missing"));
        };
        let Some(Word(name)) = self.name else { return Err(reader.reject(&["name"], "missing")) };
        // Models leave the text empty for a tool without parameters.
        let arguments = match self.arguments {
            Some(text) if !text.trim().is_empty() => text,
            _ => "{}".to_owned(),
        };
        let arguments =
            read::json_in_text(arguments).map_err(|why| reader.reject(&["arguments"], why))?;
        let mut extra = self.extra;
        keep_identity(self.id, self.status, &mut extra);
        let body = PartBody::ToolCall(ToolCall { id, name, arguments });
        Ok(Item::Own(Part { body, cache: None, extra }))
    }
}

impl WireResult {
    fn into_item<E: serde::de::Error>(self, reader: &Reader) -> Result<Item, E> {
        let Some(Word(call_id)) = self.call_id else {
            return Err(reader.reject(&["call_id"], "missing"));
        };
        let Some(output) = self.output else {
            return Err(reader.reject(&["output"], "expected a string or a list of parts"));
        };
        let mut extra = self.extra;
        keep_identity(self.id, self.status, &mut extra);
        Ok(Item::Result { call_id, parts: output.into_parts(), extra })
    }
}

impl WireReasoning {
    fn into_item<E: serde::de::Error>(self, raw: &RawValue, reader: &Reader) -> Result<Item, E> {
        let foreign = self.id.as_ref().is_some_and(|Word(id)| !is_own_id(id));
        if self.encrypted_content.is_none() && foreign {
            // It stands for what its vendor has stored, not for its summary.
            return Ok(Item::Other { kind: "reasoning".to_owned(), value: raw.to_owned().into() });
        }
        let summary = joined(self.summary.unwrap_or_default(), "summary", reader)?;
        let content = joined(self.content.unwrap_or_default(), "content", reader)?;
        let mut extra = self.extra;
        keep_identity(self.id, self.status, &mut extra);
        let text = if summary.is_empty() { content } else { summary };
        let body = match self.encrypted_content {
            Some(encrypted) => match encrypted.strip_prefix(REDACTED) {
                Some(data) => PartBody::RedactedThinking(data.into()),
                None => PartBody::Thinking { text, signature: Some(encrypted) },
            },
            None => PartBody::Thinking { text, signature: None },
        };
        Ok(Item::Own(Part { body, cache: None, extra }))
    }
}

fn joined<E: serde::de::Error>(
    paragraphs: Vec<WireParagraph>,
    field: &str,
    reader: &Reader,
) -> Result<Text, E> {
    let mut all = String::new();
    for (at, paragraph) in paragraphs.into_iter().enumerate() {
        let Some(text) = paragraph.text else {
            return Err(reader.reject(&[&format!("{field}[{at}]"), "text"], "missing"));
        };
        if at > 0 {
            all.push_str(BETWEEN_SUMMARIES);
        }
        all.push_str(&text);
    }
    Ok(all.into())
}

fn keep_identity(id: Option<Word>, status: Option<Word>, extra: &mut Vec<Field>) {
    let text = |Word(text): Word| json(&serde_json::Value::from(text).to_string());
    keep(extra, "id", id.filter(|Word(id)| !is_own_id(id)).and_then(text));
    keep(extra, "status", status.filter(|Word(status)| status != "completed").and_then(text));
}

// ---------------------------------------------------------------------------------------- parts

impl Content<WirePart> {
    fn into_parts(self) -> Vec<Part> {
        match self {
            Self::Text(text) => vec![PartBody::Text(text).into()],
            Self::Parts(parts) => parts.into_iter().map(|WirePart(part)| part).collect(),
        }
    }
}

struct WirePart(Part);

object!(WirePartFields {
    "type" kind: Word,
    "text" text: Text,
    "refusal" refusal: Text,
    "image_url" image_url: Text,
    "detail" detail: Word,
    "file_id" file_id: Word,
    "file_data" file_data: Text,
    "file_url" file_url: Text,
    "filename" filename: Text,
    "input_audio" input_audio: WireAudio,
    "annotations" annotations: Json,
    "logprobs" logprobs: Json,
    "prompt_cache_breakpoint" prompt_cache_breakpoint: Json,
});

object!(WireAudio { "data" data: Text, "format" format: Word, });

impl<'de> Read<'de> for WirePart {
    fn read<D: Deserializer<'de>>(from: D, reader: &Reader) -> Result<Self, D::Error> {
        let mut part = WirePartFields::read(from, reader)?;
        let Some(Word(kind)) = part.kind.take() else {
            return Err(reader.reject(&["type"], "missing"));
        };
        let absent = |field: &'static str| reader.reject(&[field], "missing");
        let body = match kind.as_str() {
            "input_text" | "output_text" | "text" => {
                PartBody::Text(part.text.take().ok_or_else(|| absent("text"))?)
            }
            "refusal" => PartBody::Refusal(part.refusal.take().ok_or_else(|| absent("refusal"))?),
            "input_image" => part.take_image(reader)?,
            "input_file" => part.take_file(reader)?,
            "input_audio" => {
                let audio = part.input_audio.take().ok_or_else(|| absent("input_audio"))?;
                audio.into_media(reader)?
            }
            // As a part it would be sent as the item that it says it is.
            "message" | "function_call" | "function_call_output" | "reasoning" => {
                let why = format!("'{kind}' is an item of its own, not a part of one");
                return Err(reader.reject(&["type"], why));
            }
            _ => return part.into_other(&kind).ok_or_else(|| D::Error::custom("not a part")),
        };
        let cache = part.take_mark();
        // What answers have whether or not there is something in it.
        for (name, list) in
            [("annotations", part.annotations.take()), ("logprobs", part.logprobs.take())]
        {
            keep(&mut part.extra, name, list.filter(|list| list.get() != "[]"));
        }
        part.leave_rest();
        Ok(Self(Part { body, cache, extra: part.extra }))
    }
}

impl WirePartFields {
    fn take_image<E: serde::de::Error>(&mut self, reader: &Reader) -> Result<PartBody, E> {
        let (media_type, source) = match (self.image_url.take(), self.file_id.take()) {
            (Some(url), None) => {
                media::from_url(&url).map_err(|why| reader.reject(&["image_url"], why))?
            }
            (None, Some(Word(id))) if !id.is_empty() => (String::new(), MediaSource::FileId(id)),
            _ => {
                let why = "expected either 'image_url' or 'file_id'";
                return Err(reader.reject(&["image_url"], why));
            }
        };
        if !media_type.is_empty() && !media_type.starts_with("image/") {
            let why = format!("expected a media type of the kind 'image/…', got '{media_type}'");
            return Err(reader.reject(&["image_url"], why));
        }
        let detail = self.detail.take().map(|Word(detail)| detail);
        let kind = MediaKind::Image;
        Ok(PartBody::Media(Media { kind, media_type, source, name: None, detail }))
    }

    fn take_file<E: serde::de::Error>(&mut self, reader: &Reader) -> Result<PartBody, E> {
        let given = (self.file_data.take(), self.file_url.take(), self.file_id.take());
        let (media_type, source) = match given {
            (Some(data), None, None) => {
                media::from_data_url(&data).map_err(|why| reader.reject(&["file_data"], why))?
            }
            (None, Some(url), None) => {
                media::from_url(&url).map_err(|why| reader.reject(&["file_url"], why))?
            }
            (None, None, Some(Word(id))) if !id.is_empty() => {
                (String::new(), MediaSource::FileId(id))
            }
            _ => {
                let why = "expected either 'file_data', 'file_url' or 'file_id'";
                return Err(reader.reject(&["file_data"], why));
            }
        };
        let (kind, name) = (MediaKind::File, self.filename.take());
        Ok(PartBody::Media(Media { kind, media_type, source, name, detail: None }))
    }

    /// A cache mark in the form that all vendors with marks know; others go along as they are.
    fn take_mark(&mut self) -> Option<String> {
        let mark = self.prompt_cache_breakpoint.take()?;
        let value: serde_json::Value = serde_json::from_str(mark.get()).ok()?;
        if value == serde_json::json!({ "mode": "explicit" }) {
            return Some(String::new());
        }
        keep(&mut self.extra, "prompt_cache_breakpoint", Some(mark));
        None
    }

    /// Known fields where they mean nothing that is known go along as well.
    fn leave_rest(&mut self) {
        let text = |text: Text| json(&serde_json::Value::from(&*text).to_string());
        let word = |Word(word): Word| json(&serde_json::Value::from(word).to_string());
        let extra = &mut self.extra;
        keep(extra, "text", self.text.take().and_then(text));
        keep(extra, "refusal", self.refusal.take().and_then(text));
        keep(extra, "image_url", self.image_url.take().and_then(text));
        keep(extra, "detail", self.detail.take().and_then(word));
        keep(extra, "file_id", self.file_id.take().and_then(word));
        keep(extra, "file_data", self.file_data.take().and_then(text));
        keep(extra, "file_url", self.file_url.take().and_then(text));
        keep(extra, "filename", self.filename.take().and_then(text));
        keep(extra, "annotations", self.annotations.take());
        keep(extra, "logprobs", self.logprobs.take());
        keep(extra, "prompt_cache_breakpoint", self.prompt_cache_breakpoint.take());
    }

    /// A part of an unknown type, put together again as it came.
    fn into_other(mut self, kind: &str) -> Option<WirePart> {
        self.leave_rest();
        let value = other_part(kind, None, &self.extra)?;
        Some(WirePart(PartBody::Other { kind: kind.to_owned(), value }.into()))
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
