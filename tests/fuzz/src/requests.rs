//! Callers' requests in each dialect, and what adapters make of them.
//!
//! An input is a body. What is read of it is asked of two adapters: that of the dialect's own vendor
//! and one that a hash of the input chooses. Each gets it twice, with the content and with marks in
//! its place.
//!
//! Promised: a body is read, or refused as the caller's mistake in few words; an adapter asks its
//! vendor for it or says why not; with content held it asks for exactly the same; what it asks for is
//! JSON that the host can send. A request that goes to its dialect's own vendor is, read again, the
//! same request.

use std::fmt;

use keyward::{
    Failure, FailureKind, Fault,
    content::{self, Held},
    ids::RequestId,
    operation::{Chat, Dialect, Format, Message, Operation, PartBody, Role},
};
use keyward_sdk::contract as sdk;
use keyward_server::{anthropic, ollama, openai};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{
    across::Across as _,
    adapters::{self, Bench},
    input::hash,
};

/// The longest refusal: SDKs print it, and it must not be the body again.
const MAX_REFUSAL: usize = 4096;

pub fn openai_chat(body: &[u8]) {
    let Some(request) = read(openai::request::parse_chat(body), openai::error::to_json) else {
        return;
    };
    let again = |body: &[u8]| openai::request::parse_chat(body).map(|request| request.chat);
    ask_chat("openai-compatible", request.chat, body, again);
}

pub fn openai_responses(body: &[u8]) {
    use openai::responses::request::parse_response;
    let Some(request) = read(parse_response(body), openai::error::to_json) else { return };
    let again = |body: &[u8]| parse_response(body).map(|request| request.chat);
    ask_chat("openai", request.chat, body, again);
}

pub fn anthropic_messages(body: &[u8]) {
    use anthropic::request::parse_messages;
    let Some(request) = read(parse_messages(body), anthropic_error) else { return };
    let again = |body: &[u8]| parse_messages(body).map(|request| request.chat);
    ask_chat("anthropic", request.chat, body, again);
}

pub fn anthropic_count(body: &[u8]) {
    let Some(count) = read(anthropic::request::parse_count(body), anthropic_error) else { return };
    let model = count.chat.model.clone();
    let count = keyward::operation::CountTokens { model, fields: count.fields };
    ask("anthropic", &Operation::CountTokens(count.into()), body);
}

pub fn ollama_chat(body: &[u8]) {
    use ollama::request::{Request, parse_chat};
    let Some(request) = read(parse_chat(body), ollama_error) else { return };
    let again = |body: &[u8]| match parse_chat(body)? {
        Request::Chat(chat) => Ok(*chat),
        Request::Load { .. } => Err(Failure::plugin("nothing is asked any more")),
    };
    if let Request::Chat(chat) = request {
        ask_chat("ollama", *chat, body, again);
    }
}

pub fn ollama_generate(body: &[u8]) {
    use ollama::request::{Request, parse_generate};
    let Some(request) = read(parse_generate(body), ollama_error) else { return };
    if let Request::Chat(chat) = request {
        ask("ollama", &Operation::Chat((*chat).into()), body);
    }
}

pub fn openai_embeddings(body: &[u8]) {
    let embed = read(openai::embeddings::parse_embed(body), openai::error::to_json);
    if let Some(embed) = embed {
        ask("openai-compatible", &Operation::Embed(embed.into()), body);
    }
}

pub fn ollama_embed(body: &[u8]) {
    for parse in [ollama::embed::parse_embed, ollama::embed::parse_embeddings] {
        if let Some(embed) = read(parse(body), ollama_error) {
            ask("ollama", &Operation::Embed(embed.into()), body);
        }
    }
}

fn anthropic_error(failure: &Failure) -> Vec<u8> {
    anthropic::error::to_json(failure, RequestId(1))
}

fn ollama_error(failure: &Failure) -> Vec<u8> {
    ollama::error::to_json(&failure.message)
}

/// What was read; a refusal is looked at.
fn read<T>(read: Result<T, Failure>, error: fn(&Failure) -> Vec<u8>) -> Option<T> {
    let failure = match read {
        Ok(read) => return Some(read),
        Err(failure) => failure,
    };
    assert_eq!(failure.fault, Fault::Caller, "{failure:?}");
    let refused = matches!(failure.kind, FailureKind::InvalidRequest | FailureKind::Unsupported);
    assert!(refused && !failure.message.is_empty(), "{failure:?}");
    let shown = error(&failure);
    assert!(shown.len() <= MAX_REFUSAL, "a refusal of {} bytes", shown.len());
    serde_json::from_slice::<Value>(&shown).expect("a refusal is JSON");
    None
}

/// What an adapter asks its vendor for.
#[derive(Debug, PartialEq)]
struct Asked {
    warnings: Vec<(String, String)>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    Sent { place: String, headers: Vec<(String, String)>, framing: sdk::Framing, body: Body },
    Failed { kind: sdk::FailureKind, param: Option<String> },
    Done,
}

#[derive(PartialEq)]
enum Body {
    Empty,
    Json(Json),
    Raw(Vec<u8>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Raw(bytes) | Self::Json(Json(bytes))) = self else {
            return f.write_str("nothing");
        };
        f.write_str(&String::from_utf8_lossy(bytes))
    }
}

/// JSON, equal to what is spelled otherwise. What is right by its grammar alone, half a surrogate
/// pair or a number beyond all measure, can't be compared and is equal to everything.
struct Json(Vec<u8>);

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        let value = |json: &Self| serde_json::from_slice::<Value>(&json.0).ok();
        match (value(self), value(other)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
}

fn ask_chat(own: &str, chat: Chat, body: &[u8], again: impl Fn(&[u8]) -> Result<Chat, Failure>) {
    let operation = Operation::Chat(chat.into());
    let asked = ask(own, &operation, body);
    let Operation::Chat(chat) = operation else { return };
    let (End::Sent { body: Body::Json(Json(json)), .. }, []) =
        (&asked.end, asked.warnings.as_slice())
    else {
        return;
    };
    let again = again(json);
    let sent = String::from_utf8_lossy(json);
    let again = again.unwrap_or_else(|failure| panic!("{failure:?}\nwas sent: {sent}"));
    let (was, is) = (plain(&chat, &chat), plain(&again, &chat));
    assert!(
        was == is,
        "not the same request in its own dialect\n{}\nwas sent: {sent}",
        difference(&was, &is)
    );
}

/// A chat in a form in which spellings of the same are the same. Adapters may add fields.
fn plain(chat: &Chat, original: &Chat) -> String {
    let mut chat = chat.clone();
    // A text of nothing is as good as none; Anthropic refuses spaces alone as well.
    let spaces = chat.dialect == Dialect::AnthropicMessages;
    let nothing = |text: &str| text.is_empty() || spaces && text.trim().is_empty();
    for message in &mut chat.messages {
        message.parts.retain(|part| {
            let empty = matches!(&part.body, PartBody::Text(text) if nothing(text));
            !empty || part.cache.is_some() || !part.extra.is_empty()
        });
    }
    if chat.dialect == Dialect::AnthropicMessages {
        chat.messages = joined(chat.messages);
        // The default: adapters leave it out.
        for number in [&mut chat.sampling.temperature, &mut chat.sampling.top_p] {
            *number = number.filter(|&number| number != 1.0);
        }
    }
    for message in &mut chat.messages {
        if message.role == Role::Developer {
            message.role = Role::System;
        }
        message.name = message.name.take().filter(|name| !name.is_empty());
        // Only the model refuses; from others it is what they say.
        for part in message.parts.iter_mut().filter(|_| message.role != Role::Assistant) {
            if let PartBody::Refusal(text) = &part.body {
                part.body = PartBody::Text(text.clone());
            }
        }
    }
    for tool in &mut chat.tools {
        tool.parameters = plain_schema(&tool.parameters);
    }
    if let Format::Schema(schema) = &mut chat.format {
        schema.schema = plain_schema(&schema.schema);
        // Vendors want a name; one that has none is given this.
        if schema.name.is_empty() {
            schema.name = "answer".to_owned();
        }
    }
    if chat.tools.is_empty() {
        (chat.tool_choice, chat.parallel_tool_calls) = (None, None);
    }
    for part in chat.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let PartBody::Media(media) = &mut part.body {
            // What vendors do anyway, and a name that is none.
            media.detail = media.detail.take().filter(|detail| detail != "auto");
            media.name = media.name.take().filter(|name| !name.is_empty());
        }
    }
    let sampling = &mut chat.sampling;
    for number in [
        &mut sampling.temperature,
        &mut sampling.top_p,
        &mut sampling.frequency_penalty,
        &mut sampling.presence_penalty,
    ] {
        // A number written and read again may differ in its last bit.
        *number = number.and_then(|number| format!("{number:.12e}").parse().ok());
    }
    chat.extra.retain(|field| original.extra.iter().any(|known| known.name == field.name));
    chat.extra.sort_by(|a, b| a.name.cmp(&b.name));
    format!("{chat:#?}")
}

/// Neighbours as one message where that is how their vendor takes them. Those with fields stay apart,
/// but for system text: what stands together becomes one turn.
fn joined(messages: Vec<Message>) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        if message.parts.is_empty() && message.answers.is_none() {
            continue;
        }
        let apart = |last: &Message| {
            message.role != Role::System && !(message.extra.is_empty() && last.extra.is_empty())
        };
        match all.last_mut() {
            Some(last)
                if last.role == message.role
                    && last.answers.is_none()
                    && message.answers.is_none()
                    && !apart(last) =>
            {
                last.parts.extend(message.parts);
                last.extra.extend(message.extra);
            }
            _ => all.push(message),
        }
    }
    all
}

/// A schema without what adapters add to it: an empty one, and in strict ones that nothing else may
/// be given.
fn plain_schema(text: &str) -> String {
    fn strip(schema: &mut Value) {
        if let Value::Object(members) = schema {
            members.retain(|name, value| name != "additionalProperties" || *value != false);
            members.values_mut().for_each(strip);
        } else if let Value::Array(items) = schema {
            items.iter_mut().for_each(strip);
        }
    }
    let Ok(mut schema) = serde_json::from_str(text) else { return text.to_owned() };
    strip(&mut schema);
    if schema == json!({"type": "object", "properties": {}}) {
        String::new()
    } else {
        schema.to_string()
    }
}

/// The lines that only one of two texts has.
fn difference(was: &str, is: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - before;
    let after =
        old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let lines = |sign: &str, lines: &[&str]| -> String {
        lines.iter().map(|line| format!("{sign} {line}\n")).collect()
    };
    let context = lines(" ", &old[before.saturating_sub(8)..before]);
    context
        + &lines("-", &old[before..old.len() - after])
        + &lines("+", &new[before..new.len() - after])
}

/// Asks two adapters, and gives what the first, the dialect's own vendor's, made of it.
fn ask(own: &str, operation: &Operation, seed: &[u8]) -> Asked {
    let all = adapters::all();
    let other = &all[(hash(seed) % all.len() as u64) as usize];
    ask_one(other, operation);
    ask_one(adapters::bench(own), operation)
}

fn ask_one(bench: &Bench, operation: &Operation) -> Asked {
    let given = ask_with(bench, operation, true);
    let held = ask_with(bench, operation, false);
    assert_eq!(held, given, "{}: asks for another thing when content is held", bench.name);
    given
}

fn ask_with(bench: &Bench, operation: &Operation, readable: bool) -> Asked {
    let (lowered, held) = content::lower(operation, readable).expect("few pieces");
    let context = bench.recording(b"plain").context.clone();
    let mut warnings = Vec::new();
    let mut end = None;
    let outputs = bench.begin(lowered.across(), context).step(vec![sdk::Input::Start]);
    for output in outputs.expect("a native step") {
        assert!(end.is_none(), "{}: goes on after {end:?}", bench.name);
        match output {
            sdk::Output::Event(sdk::Event::Warning(warning)) => {
                warnings.push((warning.code, warning.subject));
            }
            sdk::Output::Event(_) => {}
            sdk::Output::Send(request) => end = Some(sent(bench, &held, request)),
            sdk::Output::Done => end = Some(End::Done),
            sdk::Output::Failed(sdk::Failure { kind, param, fault, message, .. }) => {
                assert!(fault != sdk::Fault::Plugin, "{}: {message}", bench.name);
                end = Some(End::Failed { kind, param });
            }
            other => panic!("{}: {other:?}", bench.name),
        }
    }
    Asked { warnings, end: end.expect("an adapter begins") }
}

fn sent(bench: &Bench, held: &Held, request: sdk::VendorRequest) -> End {
    let sdk::VendorRequest { origin, method, path, headers, body, framing } = request;
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    held.refuse_marks("the path", &path).expect("a path without marks");
    let mut given = Vec::new();
    for header in headers {
        held.refuse_marks("a header", &header.value).expect("headers without marks");
        assert!(bench.descriptor.request_headers.contains(&header.name), "{}", header.name);
        given.push((header.name, header.value));
    }
    let body = match body {
        sdk::Body::Empty => Body::Empty,
        sdk::Body::Json(json) => {
            let filled = held.fill_json(json.clone());
            let filled = filled.unwrap_or_else(|failure| panic!("{failure:?}: {json}"));
            // Grammar alone: half a surrogate pair may stand in a caller's unknown field.
            let read = serde_json::from_slice::<IgnoredAny>(&filled);
            read.unwrap_or_else(|error| panic!("{}: {error}: {json}", bench.name));
            Body::Json(Json(filled.to_vec()))
        }
        sdk::Body::Raw(raw) => Body::Raw(held.fill_raw(raw.data).expect("marks in place").to_vec()),
    };
    End::Sent { place: format!("{method:?} {origin} {path}"), headers: given, framing, body }
}
