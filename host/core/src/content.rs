//! Held content: prompts stay in the host, adapters handle marks.
//!
//! [`lower`] turns an operation into the contract's types. For an adapter without the grant
//! `read-content` every piece of content is replaced by a *mark*: [`MARK_LENGTH`] letters and
//! digits with 80 random bits of this exchange in them. [`Held::fill`] then writes the content
//! where the adapter put its marks, escaped for the body. So an adapter reads no prompt, and a
//! prompt of 100 KB costs the sandbox what one of 1 KB does.
//!
//! What bounds it: a mark is honoured once, in a body, in the form it was made for; anywhere else
//! the request is refused. What it costs: one pass over the adapter's body, and one copy of the
//! content with a search for characters to escape, below 100 µs for 100 KB.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::{
    Failure, contract,
    operation::{self, EmbedInput, Field, Json, MediaSource, Operation, PartBody, Text},
};

/// `KW`, 20 hex digits of the exchange, 5 of the piece, 1 letter of the form.
pub const MARK_LENGTH: usize = PREFIX_LENGTH + 5 + 1;
const PREFIX_LENGTH: usize = 22;

/// Pieces an operation can hold: what five hex digits can count.
const MAX_PIECES: usize = 1 << 20;

/// The content of one operation, by the marks that stand for it. Made anew for every attempt.
#[derive(Debug)]
pub struct Held {
    prefix: String,
    pieces: Vec<Piece>,
    readable: bool,
}

#[derive(Debug)]
struct Piece {
    content: Content,
    used: AtomicBool,
}

#[derive(Clone, Debug)]
enum Content {
    Text(Text),
    Json(Json),
}

/// Where a mark may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Text inside a string.
    Text,
    /// A JSON value in the place of a string literal.
    Value,
    /// A JSON value's text inside a string.
    ValueText,
}

impl Form {
    const fn letter(self) -> char {
        match self {
            Self::Text => 'T',
            Self::Value => 'J',
            Self::ValueText => 'S',
        }
    }
}

/// The operation as the adapter gets it, and the content that stays behind.
///
/// `readable` is true for an adapter that was granted `read-content`: it gets everything inline.
///
/// # Errors
/// If the operation has more pieces than marks can name.
pub fn lower(
    operation: &Operation,
    readable: bool,
) -> Result<(contract::Operation, Held), Failure> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::new(
            crate::FailureKind::HostBusy,
            crate::Fault::Host,
            format!("no randomness: {error}"),
        )
    })?;
    let mut prefix = String::with_capacity(PREFIX_LENGTH);
    prefix.push_str("KW");
    for byte in random {
        prefix.push(HEX[usize::from(byte >> 4)] as char);
        prefix.push(HEX[usize::from(byte & 15)] as char);
    }
    let mut held = Held { prefix, pieces: Vec::new(), readable };
    let lowered = match operation {
        Operation::Chat(chat) => contract::Operation::Chat(held.chat(chat)),
        Operation::Embed(embed) => contract::Operation::Embed(held.embed(embed)),
        Operation::ListModels => contract::Operation::ListModels,
        Operation::Probe => contract::Operation::Probe,
        Operation::CountTokens(count) => contract::Operation::Other(held.count_tokens(count)),
    };
    if held.pieces.len() > MAX_PIECES {
        return Err(Failure::invalid("messages", format!("more than {MAX_PIECES} parts")));
    }
    Ok((lowered, held))
}

/// What adapters that count know the operation by.
const COUNT_TOKENS: &str = "count-tokens";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lowering: one method for each type of the contract that holds content.
impl Held {
    fn mark(&self, index: usize, form: Form) -> String {
        let mut mark = String::with_capacity(MARK_LENGTH + 2);
        mark.push_str(&self.prefix);
        for shift in [16, 12, 8, 4, 0] {
            mark.push(HEX[(index >> shift) & 15] as char);
        }
        mark.push(form.letter());
        mark
    }

    fn keep(&mut self, content: Content) -> usize {
        self.pieces.push(Piece { content, used: AtomicBool::new(false) });
        self.pieces.len() - 1
    }

    fn text(&mut self, text: &Text) -> contract::Text {
        let value = if self.readable {
            text.as_ref().to_owned()
        } else {
            let index = self.keep(Content::Text(Arc::clone(text)));
            self.mark(index, Form::Text)
        };
        contract::Text {
            value,
            length: length(text),
            blank: text.trim_ascii().is_empty(),
            held: !self.readable,
        }
    }

    fn value(&mut self, json: &Json) -> contract::Value {
        let (in_json, in_text) = if self.readable {
            (json.get().to_owned(), json.get().to_owned())
        } else {
            let index = self.keep(Content::Json(Arc::clone(json)));
            (format!("\"{}\"", self.mark(index, Form::Value)), self.mark(index, Form::ValueText))
        };
        contract::Value {
            json: in_json,
            text: in_text,
            length: length(json.get()),
            held: !self.readable,
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Vec<contract::Field> {
        fields
            .iter()
            .map(|f| contract::Field { name: f.name.clone(), value: self.value(&f.value) })
            .collect()
    }

    fn chat(&mut self, chat: &operation::Chat) -> contract::Chat {
        let mut tools_by_call = HashMap::new();
        let messages = chat.messages.iter().map(|m| self.message(m, &mut tools_by_call)).collect();
        contract::Chat {
            model: chat.model.as_str().to_owned(),
            messages,
            tools: chat.tools.iter().map(|tool| self.tool(tool)).collect(),
            tool_choice: chat.tool_choice.clone(),
            parallel_tool_calls: chat.parallel_tool_calls,
            format: chat.format.clone(),
            sampling: chat.sampling.clone(),
            reasoning: chat.reasoning.clone(),
            stream: chat.stream,
            dialect: chat.dialect.as_str().to_owned(),
            extra: self.fields(&chat.extra),
        }
    }

    fn message<'a>(
        &mut self,
        message: &'a operation::Message,
        tools_by_call: &mut HashMap<&'a str, &'a str>,
    ) -> contract::Message {
        for part in &message.parts {
            if let PartBody::ToolCall(call) = &part.body {
                tools_by_call.insert(&call.id, &call.name);
            }
        }
        let answers = message.answers.as_ref().map(|answer| {
            let known = || tools_by_call.get(answer.call_id.as_str()).copied().unwrap_or_default();
            let tool = if answer.tool.is_empty() { known() } else { &answer.tool };
            contract::ToolAnswer {
                call_id: answer.call_id.clone(),
                tool: tool.to_owned(),
                is_error: answer.is_error,
            }
        });
        contract::Message {
            role: message.role,
            answers,
            name: message.name.as_ref().map(|name| self.text(name)),
            parts: message.parts.iter().map(|part| self.part(part)).collect(),
            extra: self.fields(&message.extra),
        }
    }

    fn part(&mut self, part: &operation::Part) -> contract::Part {
        let body = match &part.body {
            PartBody::Text(text) => contract::PartBody::Text(self.text(text)),
            PartBody::Media(media) => contract::PartBody::Media(self.media(media)),
            PartBody::ToolCall(call) => contract::PartBody::ToolCall(contract::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: self.value(&call.arguments),
            }),
            PartBody::Thinking { text, signature } => {
                contract::PartBody::Thinking(contract::Thinking {
                    text: self.text(text),
                    signature: signature.as_ref().map(|s| self.text(s)),
                })
            }
            PartBody::RedactedThinking(data) => {
                contract::PartBody::RedactedThinking(self.text(data))
            }
            PartBody::Refusal(text) => contract::PartBody::Refusal(self.text(text)),
            PartBody::Other { kind, value } => contract::PartBody::Other(contract::OtherPart {
                kind: kind.clone(),
                value: self.value(value),
            }),
        };
        contract::Part { body, cache: part.cache.clone(), extra: self.fields(&part.extra) }
    }

    fn media(&mut self, media: &operation::Media) -> contract::Media {
        contract::Media {
            kind: media.kind,
            media_type: media.media_type.clone(),
            source: match &media.source {
                MediaSource::Base64(data) => contract::MediaSource::Base64(self.text(data)),
                MediaSource::Url(url) => contract::MediaSource::Url(self.text(url)),
                MediaSource::FileId(id) => contract::MediaSource::FileId(id.clone()),
            },
            name: media.name.as_ref().map(|name| self.text(name)),
            detail: media.detail.clone(),
        }
    }

    fn tool(&mut self, tool: &operation::Tool) -> contract::Tool {
        contract::Tool {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
            strict: tool.strict,
            kind: tool.kind.clone(),
            cache: tool.cache.clone(),
            extra: self.fields(&tool.extra),
        }
    }

    /// A body as its vendor takes it: the model, and a mark in the place of each other field.
    fn count_tokens(&mut self, count: &operation::CountTokens) -> contract::Other {
        let mut body = b"{\"model\":\"".to_vec();
        escape_json(count.model.as_str(), &mut body);
        body.push(b'"');
        for field in &count.fields {
            body.extend_from_slice(b",\"");
            escape_json(&field.name, &mut body);
            body.extend_from_slice(b"\":");
            body.extend_from_slice(self.value(&field.value).json.as_bytes());
        }
        body.push(b'}');
        // Made of strings and ASCII.
        let json = String::from_utf8(body).unwrap_or_default();
        contract::Other { kind: COUNT_TOKENS.to_owned(), json }
    }

    fn embed(&mut self, embed: &operation::Embed) -> contract::Embed {
        contract::Embed {
            model: embed.model.as_str().to_owned(),
            inputs: embed
                .inputs
                .iter()
                .map(|input| match input {
                    EmbedInput::Text(text) => contract::EmbedInput::Text(self.text(text)),
                    EmbedInput::Tokens(tokens) => contract::EmbedInput::Tokens(self.value(tokens)),
                })
                .collect(),
            dimensions: embed.dimensions,
            encoding: if embed.base64 {
                contract::EmbedEncoding::Base64
            } else {
                contract::EmbedEncoding::Floats
            },
            purpose: embed.purpose.clone(),
            dialect: embed.dialect.as_str().to_owned(),
            extra: self.fields(&embed.extra),
        }
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Filling: from the adapter's body with marks to the vendor's body with content.
impl Held {
    /// Writes the content into a JSON body.
    ///
    /// # Errors
    /// If a mark is unknown, used before, or not where its form belongs.
    pub fn fill_json(&self, body: String) -> Result<Bytes, Failure> {
        self.fill(body.into_bytes(), Encoding::Json)
    }

    /// Writes the content into a body of another kind, as it is.
    ///
    /// # Errors
    /// If a mark is unknown or used before.
    pub fn fill_raw(&self, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.fill(body, Encoding::Raw)
    }

    /// Refuses a mark in a place where content must never stand: a path, a header.
    ///
    /// # Errors
    /// If there is one; `place` names where.
    pub fn refuse_marks(&self, place: &str, text: &str) -> Result<(), Failure> {
        if text.contains(&self.prefix) {
            return Err(Failure::plugin(format!("the adapter put a content mark into {place}")));
        }
        Ok(())
    }

    fn fill(&self, body: Vec<u8>, encoding: Encoding) -> Result<Bytes, Failure> {
        if self.pieces.is_empty() {
            return Ok(body.into());
        }
        let content: usize = self.pieces.iter().map(|p| p.content.as_str().len()).sum();
        let mut filled = Vec::with_capacity(body.len() + content + content / 16);
        let mut strings = Strings::default();
        let mut copied = 0;
        for at in Finder::new(self.prefix.as_bytes()).find_iter(&body) {
            let end = at + MARK_LENGTH;
            let mark = body.get(at + PREFIX_LENGTH..end).ok_or_else(unknown_mark)?;
            let (content, form) = self.take(mark)?;
            match (encoding, form) {
                (Encoding::Raw, _) => {
                    filled.extend_from_slice(&body[copied..at]);
                    filled.extend_from_slice(content.as_bytes());
                    copied = end;
                }
                (Encoding::Json, Form::Text | Form::ValueText) => {
                    if !strings.inside(&body, at) {
                        return Err(misplaced("inside a JSON string"));
                    }
                    filled.extend_from_slice(&body[copied..at]);
                    escape_json(content, &mut filled);
                    copied = end;
                }
                (Encoding::Json, Form::Value) => {
                    // The literal's quotes go too, so the mark must be all there is between them.
                    let quoted = at > 0 && body[at - 1] == b'"' && body.get(end) == Some(&b'"');
                    if !quoted || at - 1 < copied || strings.inside(&body, at - 1) {
                        return Err(misplaced("as a whole JSON string"));
                    }
                    filled.extend_from_slice(&body[copied..at - 1]);
                    filled.extend_from_slice(content.as_bytes());
                    copied = end + 1;
                }
            }
        }
        filled.extend_from_slice(&body[copied..]);
        Ok(filled.into())
    }

    /// The content for what follows the prefix in a mark, once.
    fn take(&self, mark: &[u8]) -> Result<(&str, Form), Failure> {
        let (index, letter) = mark.split_at(5);
        let index = std::str::from_utf8(index)
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or_else(unknown_mark)?;
        let piece = self.pieces.get(index).ok_or_else(unknown_mark)?;
        let form = match (&piece.content, letter) {
            (Content::Text(_), b"T") => Form::Text,
            (Content::Json(_), b"J") => Form::Value,
            (Content::Json(_), b"S") => Form::ValueText,
            _ => return Err(unknown_mark()),
        };
        if piece.used.swap(true, Ordering::Relaxed) {
            return Err(Failure::plugin("the adapter used a content mark twice"));
        }
        Ok((piece.content.as_str(), form))
    }
}

impl Content {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Json(json) => json.get(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Raw,
}

fn unknown_mark() -> Failure {
    Failure::plugin("the adapter used a content mark that the host didn't make")
}

fn misplaced(place: &str) -> Failure {
    Failure::plugin(format!("the adapter used a content mark elsewhere than {place}"))
}

/// Knows which places of a JSON text are inside a string, asked from front to back.
#[derive(Default)]
struct Strings {
    at: usize,
    inside: bool,
}

impl Strings {
    fn inside(&mut self, body: &[u8], at: usize) -> bool {
        while let Some(next) = memchr::memchr2(b'"', b'\\', &body[self.at..at.max(self.at)]) {
            let found = self.at + next;
            if body[found] == b'"' {
                self.inside = !self.inside;
                self.at = found + 1;
            } else {
                // An escape: what follows it is never a delimiter.
                self.at = found + 2;
            }
        }
        self.at = self.at.max(at);
        self.inside
    }
}

/// Appends `text` as the inside of a JSON string.
pub fn escape_json(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = special_in(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte stands that a JSON string can't hold as it is. Eight bytes at a time:
/// prompts have such a byte every few words, too often for blocks as wide as a vector register.
fn special_in(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        // A subtraction borrows into a byte's high bit where the byte is too small, and beyond it
        // only after such a byte: the lowest bit that is set is a true one.
        let control = word.wrapping_sub(ONES * 0x20);
        let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let special = (control | quote | backslash) & !word & HIGH;
        if special != 0 {
            return Some(at + special.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    words.remainder().iter().position(special).map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ids::ModelName,
        operation::{Chat, Dialect, Format, Message, Part, Role, Sampling, ToolCall},
    };

    fn chat(parts: Vec<PartBody>) -> Operation {
        Operation::Chat(Arc::new(Chat {
            model: ModelName::new("m").unwrap(),
            messages: vec![Message {
                role: Role::User,
                answers: None,
                name: None,
                parts: parts.into_iter().map(Part::from).collect(),
                extra: Vec::new(),
            }],
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: Format::Text,
            sampling: Sampling::default(),
            reasoning: None,
            stream: false,
            dialect: Dialect::Keyward,
            extra: Vec::new(),
        }))
    }

    fn text(text: &str) -> PartBody {
        PartBody::Text(text.into())
    }

    fn json(json: &str) -> Json {
        serde_json::from_str::<Box<serde_json::value::RawValue>>(json).unwrap().into()
    }

    fn call(arguments: &str) -> PartBody {
        PartBody::ToolCall(ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: json(arguments),
        })
    }

    fn lowered(parts: Vec<PartBody>) -> (Vec<contract::Part>, Held) {
        match lower(&chat(parts), false).unwrap() {
            (contract::Operation::Chat(mut chat), held) => (chat.messages.remove(0).parts, held),
            _ => unreachable!(),
        }
    }

    fn mark_of(part: &contract::Part) -> &contract::Text {
        match &part.body {
            contract::PartBody::Text(text) => text,
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_adapter_gets_marks_in_the_place_of_content() {
        let (parts, _) = lowered(vec![text("the secret plan"), text(" \n")]);
        let shown = format!("{parts:?}");
        assert!(!shown.contains("secret"), "{shown}");
        let (first, second) = (mark_of(&parts[0]), mark_of(&parts[1]));
        assert_eq!((first.value.len(), first.length, first.blank), (MARK_LENGTH, 15, false));
        assert!(first.value.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(second.blank);
        assert_ne!(first.value, second.value);
    }

    #[test]
    fn a_prompt_to_be_counted_stays_behind_as_well() {
        let field = |name: &str, value: &str| Field { name: name.into(), value: json(value) };
        let count = operation::CountTokens {
            model: ModelName::new("m\"1").unwrap(),
            fields: vec![
                field("messages", r#"[{"role":"user","content":"the secret plan"}]"#),
                field("thinking", r#"{"type":"adaptive"}"#),
            ],
        };
        let operation = Operation::CountTokens(Arc::new(count));
        let other = |readable| match lower(&operation, readable).unwrap() {
            (contract::Operation::Other(other), held) => (other, held),
            _ => unreachable!(),
        };
        let (given, held) = other(false);
        assert_eq!(given.kind, "count-tokens");
        assert!(!given.json.contains("secret") && !given.json.contains("adaptive"), "{given:?}");
        let whole = r#"{"model":"m\"1","messages":[{"role":"user","content":"the secret plan"}],"thinking":{"type":"adaptive"}}"#;
        assert_eq!(held.fill_json(given.json).unwrap(), whole);
        assert_eq!(other(true).0.json, whole);
    }

    #[test]
    fn an_adapter_with_the_grant_gets_content() {
        let (operation, _) = lower(&chat(vec![text("plan")]), true).unwrap();
        assert!(format!("{operation:?}").contains("\"plan\""));
    }

    #[test]
    fn marks_of_two_exchanges_differ() {
        let (a, _) = lowered(vec![text("x")]);
        let (b, held) = lowered(vec![text("y")]);
        assert_ne!(mark_of(&a[0]).value, mark_of(&b[0]).value);
        let foreign = format!(r#"{{"a":"{}"}}"#, mark_of(&a[0]).value);
        let filled = held.fill_json(foreign.clone()).unwrap();
        assert_eq!(filled, foreign, "a mark of another exchange means nothing here");
    }

    #[test]
    fn content_is_written_escaped_where_its_mark_stands() {
        let (parts, held) = lowered(vec![text("say \"hi\"\n\\ \u{1} é")]);
        let body = format!(r#"{{"p":"Human: {}!"}}"#, mark_of(&parts[0]).value);
        let filled = held.fill_json(body).unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&filled).unwrap();
        assert_eq!(parsed["p"], "Human: say \"hi\"\n\\ \u{1} é!");
    }

    #[test]
    fn a_value_is_written_as_json_or_as_text() {
        for (as_text, expected) in
            [(false, r#"{"a":{"city":"Paris"}}"#), (true, r#"{"a":"{\"city\":\"Paris\"}"}"#)]
        {
            let (parts, held) = lowered(vec![call(r#"{"city":"Paris"}"#)]);
            let contract::PartBody::ToolCall(call) = &parts[0].body else { unreachable!() };
            let body = if as_text {
                format!(r#"{{"a":"{}"}}"#, call.arguments.text)
            } else {
                format!(r#"{{"a":{}}}"#, call.arguments.json)
            };
            assert_eq!(held.fill_json(body).unwrap(), expected);
        }
    }

    #[test]
    fn a_mark_is_honoured_once() {
        let (parts, held) = lowered(vec![text("x")]);
        let mark = &mark_of(&parts[0]).value;
        let failure = held.fill_json(format!(r#"["{mark}","{mark}"]"#)).unwrap_err();
        assert_eq!(failure.message, "the adapter used a content mark twice");
        let failure = held.fill_json(format!(r#"["{mark}"]"#)).unwrap_err();
        assert_eq!(
            failure.message, "the adapter used a content mark twice",
            "nor in a later request"
        );
    }

    #[test]
    fn a_value_used_in_both_forms_is_refused() {
        let (parts, held) = lowered(vec![call("{}")]);
        let contract::PartBody::ToolCall(call) = &parts[0].body else { unreachable!() };
        let body = format!(r#"[{},"{}"]"#, call.arguments.json, call.arguments.text);
        assert!(held.fill_json(body).is_err());
    }

    #[test]
    fn a_mark_outside_a_string_is_refused() {
        for frame in [("[", "]"), (r#"["a",""#, r#"",x]"#), (r#"{"a\"":"#, "}")] {
            let (parts, held) = lowered(vec![text("x")]);
            let body = format!("{}{}{}", frame.0, mark_of(&parts[0]).value, frame.1);
            let outside = frame.0 != r#"["a",""#;
            assert_eq!(held.fill_json(body).is_err(), outside, "{frame:?}");
        }
    }

    #[test]
    fn a_value_mark_inside_a_longer_string_is_refused() {
        let (parts, held) = lowered(vec![call("{}")]);
        let contract::PartBody::ToolCall(call) = &parts[0].body else { unreachable!() };
        let bare = call.arguments.json.trim_matches('"').to_owned();
        assert!(held.fill_json(format!(r#"["x{bare}"]"#)).is_err());
        assert!(held.fill_json(format!(r#"["\"{bare}"]"#)).is_err());
    }

    #[test]
    fn a_forged_mark_is_refused() {
        let (parts, held) = lowered(vec![text("x")]);
        let mark = mark_of(&parts[0]).value.clone();
        for forged in [
            format!("{}00001T", &mark[..PREFIX_LENGTH]),
            format!("{}00000J", &mark[..PREFIX_LENGTH]),
            format!("{}zzzzzT", &mark[..PREFIX_LENGTH]),
            mark[..MARK_LENGTH - 1].to_owned(),
        ] {
            assert!(held.fill_json(format!(r#"["{forged}"]"#)).is_err(), "{forged}");
        }
    }

    #[test]
    fn a_mark_in_a_path_or_header_is_refused() {
        let (parts, held) = lowered(vec![text("x")]);
        let mark = &mark_of(&parts[0]).value;
        assert!(held.refuse_marks("the path", &format!("/v1/{mark}")).is_err());
        assert!(held.refuse_marks("the path", "/v1/models").is_ok());
    }

    #[test]
    fn a_tool_answer_gets_the_name_of_the_call_it_answers() {
        let Operation::Chat(asked) = chat(vec![call("{}")]) else { unreachable!() };
        let mut asked = Arc::unwrap_or_clone(asked);
        asked.messages.push(Message {
            role: Role::Tool,
            answers: Some(operation::ToolAnswer {
                call_id: "c".into(),
                tool: String::new(),
                is_error: false,
            }),
            name: None,
            parts: vec![text("42").into()],
            extra: Vec::new(),
        });
        let (lowered, _) = lower(&Operation::Chat(Arc::new(asked)), false).unwrap();
        let contract::Operation::Chat(lowered) = lowered else { unreachable!() };
        assert_eq!(lowered.messages[1].answers.as_ref().unwrap().tool, "f");
    }

    proptest! {
        #[test]
        fn a_byte_to_escape_is_found_wherever_it_stands(
            bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 5 => 0x1fu8..0x24, 5 => 0x5bu8..0x5e], 0..40)
        ) {
            let slow = bytes.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(special_in(&bytes), slow);
        }

        #[test]
        fn whatever_the_content_the_body_parses_to_it(content in ".*", before in "[a-z\"\\\\]*") {
            let (parts, held) = lowered(vec![text(&content)]);
            let around = serde_json::to_string(&before).unwrap();
            let body = format!(r#"{{"k":{around},"v":"{}"}}"#, mark_of(&parts[0]).value);
            let parsed: serde_json::Value =
                serde_json::from_slice(&held.fill_json(body).unwrap()).unwrap();
            prop_assert_eq!(parsed["v"].as_str().unwrap(), content);
            prop_assert_eq!(parsed["k"].as_str().unwrap(), before);
        }

        #[test]
        fn hostile_bodies_never_panic(body in "[KW0-9a-fTJS\"\\\\{}:]*", cut in 0usize..40) {
            let (parts, held) = lowered(vec![text("x"), call("{}")]);
            let mark = &mark_of(&parts[0]).value;
            let cut = &mark[..cut.min(mark.len())];
            let _ = held.fill_json(format!("{body}{cut}{body}"));
            let _ = held.fill_raw(format!("{cut}{body}{mark}").into_bytes());
        }
    }
}
