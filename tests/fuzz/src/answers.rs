//! What adapters might say, told in each dialect, whole and streamed.
//!
//! An input is a line that asks for something, then events, one a line; an empty line ends what
//! arrives together:
//!
//! ```text
//! {"tools":[{"type":"custom","name":"f"}]}
//! s id model                started
//! t0 text                   text of choice 0
//! r0 text                   refusal
//! k0 text                   thinking; g0 its signature; x0 encrypted thinking
//! c01 id name               the tool call 1 of choice 0 begins
//! f01 {"a":                 a fragment of its arguments
//! n0 {"url":"u"}            citation
//! l0 {"content":[]}         log probabilities
//! i0 image/png AAAA         image; v0 audio; o0 video
//! u 1 2 3 4 5               usage: input, cache read, cache write, output, reasoning
//! z0 stop END               finish, with the stop sequence
//! a name {"json":1}         attribute
//! w dropped sampling.seed   warning
//! e0 1 0.5                  embedding of input 0; b0 AAAA in base64
//! ```
//!
//! `\n` in a text is a line break. Events that the contract forbids are left out: a call that begins
//! twice, a beginning after the beginning. So is JSON that is right by its grammar alone (half a
//! surrogate pair): it is passed on as it is.
//!
//! Promised: whatever an adapter says, an answer is JSON without a field twice, or a failure; a stream
//! is well-formed and has its end, or ends with an error; what a client makes of the stream is what it
//! would have got whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Instant,
};

use keyward::{
    Failure,
    contract::{
        Annotation, Attribute, Embedding, Event, Finish, FinishReason, MediaKind, MediaOutput,
        Started, TextDelta, ToolArguments, ToolCallStart, Usage, Vector, Warning,
    },
    ids::{ModelName, RequestId},
};
use keyward_server::{
    anthropic,
    dialect::{Folder, events::Warnings, stream::StreamWriter},
    ollama, openai,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, json};

use crate::input::first_line;

const REQUEST: RequestId = RequestId(0xabc);

/// The events of an input as they arrive.
fn batches(input: &[u8]) -> Vec<Vec<Event>> {
    let text = String::from_utf8_lossy(input);
    let mut batches = vec![Vec::new()];
    let mut calls = BTreeSet::new();
    let mut begun = false;
    for line in text.split('\n') {
        if line.is_empty() {
            batches.push(Vec::new());
            continue;
        }
        let Some(event) = event(line) else { continue };
        let fits = match &event {
            Event::ToolCall(call) => calls.insert((call.choice, call.index)),
            Event::Started(_) => !begun,
            _ => true,
        };
        begun = true;
        if let (true, Some(batch)) = (fits, batches.last_mut()) {
            batch.push(event);
        }
    }
    batches
}

fn event(line: &str) -> Option<Event> {
    let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut head = head.chars();
    let kind = head.next()?;
    let mut number = || head.next().map_or(0, |c| c.to_digit(10).unwrap_or(u32::from(c)));
    let (choice, index) = (number(), number());
    let text = rest.replace("\\n", "\n");
    let mut words = rest.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let delta = || TextDelta { choice, text: text.clone() };
    let note = || Annotation { choice, json: text.clone() };
    let media =
        |kind, media_type, base64| Event::Media(MediaOutput { choice, kind, media_type, base64 });
    Some(match kind {
        's' => {
            let mut some = || Some(word()).filter(|word| !word.is_empty());
            Event::Started(Started { id: some(), model: some() })
        }
        't' => Event::Text(delta()),
        'r' => Event::Refusal(delta()),
        'k' => Event::Thinking(delta()),
        'g' => Event::ThinkingSignature(delta()),
        'x' => Event::RedactedThinking(delta()),
        'c' => Event::ToolCall(ToolCallStart { choice, index, id: word(), name: word() }),
        'f' => Event::ToolArguments(ToolArguments { choice, index, fragment: text }),
        'n' => Event::Citation(note()),
        'l' => Event::Logprobs(note()),
        'i' => media(MediaKind::Image, word(), word()),
        'v' => media(MediaKind::Audio, word(), word()),
        'o' => media(MediaKind::Video, word(), word()),
        'u' => {
            let mut count = || word().parse().ok();
            Event::Usage(Usage {
                input: count(),
                cache_read: count(),
                cache_write: count(),
                output: count(),
                reasoning: count(),
                units: Vec::new(),
            })
        }
        'z' => {
            let reason = match word() {
                word if word == "stop" => FinishReason::Stop,
                word if word == "length" => FinishReason::Length,
                word if word == "tool-calls" => FinishReason::ToolCalls,
                word if word == "content-filter" => FinishReason::ContentFilter,
                word if word == "refusal" => FinishReason::Refusal,
                other => FinishReason::Other(other),
            };
            let stop_sequence = Some(word()).filter(|word| !word.is_empty());
            Event::Finish(Finish { choice, reason, stop_sequence })
        }
        'a' => {
            let (name, json) = rest.split_once(' ').unwrap_or((rest, "null"));
            // The host takes nothing else from an adapter.
            serde_json::from_str::<Value>(json).ok()?;
            Event::Attribute(Attribute { name: name.to_owned(), json: json.replace("\\n", "\n") })
        }
        'w' => {
            let (code, subject) = (word(), word());
            Event::Warning(Warning { code, subject, message: "It can't.".to_owned() })
        }
        'e' => {
            let floats = rest.split(' ').filter_map(|word| word.parse().ok());
            let floats = floats.filter(|float: &f32| float.is_finite()).collect();
            Event::Embedding(Embedding { index: choice, vector: Vector::Floats(floats) })
        }
        'b' => Event::Embedding(Embedding { index: choice, vector: Vector::Base64(word()) }),
        _ => return None,
    })
    .filter(|event| match event {
        Event::Citation(note) | Event::Logprobs(note) => {
            serde_json::from_str::<Value>(&note.json).is_ok()
        }
        _ => true,
    })
}

fn fold(mut folder: impl Folder, batches: &[Vec<Event>]) -> Result<Value, Failure> {
    for batch in batches {
        folder.add(batch.clone())?;
    }
    let json = folder.finish()?;
    let json = String::from_utf8(json).expect("an answer is UTF-8");
    let Fields = serde_json::from_str(&json).expect("an answer is an object");
    read(&json).ok_or_else(|| Failure::plugin("can't be compared"))
}

/// Any object without a field that stands in it twice. What is in the fields may be the vendor's own,
/// as it was written.
struct Fields;

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    let what = format!("{name:?} stands in an answer twice");
                    assert!(names.insert(name), "{what}");
                }
                Ok(Fields)
            }
        }

        from.deserialize_map(Object)
    }
}

/// The value of what must be JSON. Nothing for what is so by its grammar alone: half a surrogate
/// pair, a number beyond all measure. That is passed on as it is and can't be compared.
fn read(json: &str) -> Option<Value> {
    let value = serde_json::from_str(json);
    value
        .inspect_err(|_| {
            serde_json::from_str::<IgnoredAny>(json).expect("an answer is JSON");
        })
        .ok()
}

/// What a client reads, and the failure if that is how it ends.
fn write(mut writer: impl StreamWriter, batches: &[Vec<Event>]) -> (String, Option<Failure>) {
    let mut out = Vec::new();
    let mut failed = None;
    for batch in batches {
        if let Err(failure) = writer.write(batch, &mut out) {
            writer.fail(&failure, &mut out);
            failed = Some(failure);
            break;
        }
    }
    if failed.is_none() {
        writer.finish(&mut out);
    }
    (String::from_utf8(out).expect("a stream is UTF-8"), failed)
}

fn identity() -> openai::answer::Identity {
    openai::answer::Identity::new(REQUEST, &ModelName::new("asked").expect("a name"), 1_700_000_000)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Asserts that two values are the same, and tells both if not.
#[track_caller]
fn same(what: &str, streamed: &Value, whole: &Value) {
    assert!(streamed == whole, "{what} differs\nstreamed: {streamed}\nwhole:    {whole}");
}

// ------------------------------------------------------------------------------- OpenAI's chat

/// A choice as a client gathers it from chunks.
#[derive(Default)]
struct Gathered {
    texts: BTreeMap<&'static str, String>,
    lists: BTreeMap<&'static str, Vec<Value>>,
    audio: String,
    /// By their numbers, in the order in which they began.
    calls: Vec<(Value, Value, String)>,
    logprobs: BTreeMap<&'static str, Vec<Value>>,
    ends: Vec<Value>,
}

pub fn openai_chat(input: &[u8]) {
    let (asked, events) = first_line(input);
    let batches = batches(events);
    let include_usage = asked.starts_with(b"usage");
    let writer = openai::stream::ChunkWriter::new(identity(), include_usage);
    let (streamed, failed) = write(writer, &batches);
    let whole = fold(openai::answer::ChatFolder::new(identity()), &batches);
    let mut chunks: Vec<&str> = streamed
        .strip_suffix("\n\n")
        .expect("the last event ends")
        .split("\n\n")
        .map(|event| {
            let data = event.strip_prefix("data: ").expect("only data");
            assert!(!data.contains(['\n', '\r']), "{data:?}");
            data
        })
        .collect();
    let last = chunks.pop().expect("an end");
    if failed.is_some() {
        let last: Value = serde_json::from_str(last).expect("an error is JSON");
        assert!(last["error"]["message"].is_string(), "{last}");
        return;
    }
    assert_eq!(last, "[DONE]");
    let Ok(whole) = whole else { return };
    let mut choices: BTreeMap<u64, Gathered> = BTreeMap::new();
    let mut fields = serde_json::Map::new();
    for chunk in chunks {
        let Some(chunk) = read(chunk) else { return };
        for (name, value) in chunk.as_object().expect("an object") {
            if name != "choices" && !(name == "usage" && value.is_null()) {
                fields.insert(name.clone(), value.clone());
            }
        }
        for choice in chunk["choices"].as_array().expect("choices") {
            gather(choices.entry(choice["index"].as_u64().expect("an index")).or_default(), choice);
        }
    }
    fields.insert("object".to_owned(), json!("chat.completion"));
    if !include_usage && let Some(usage) = whole.get("usage") {
        fields.insert("usage".to_owned(), usage.clone());
    }
    for (name, value) in whole.as_object().expect("an object") {
        if name != "choices" {
            same(name, fields.get(name).unwrap_or(&Value::Null), value);
            fields.remove(name);
        }
    }
    assert!(fields.is_empty(), "only streamed: {fields:?}");
    let all = whole["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), all.len());
    for ((index, gathered), whole) in choices.iter().zip(all) {
        same("index", &json!(index), &whole["index"]);
        compare(gathered, whole);
    }
}

fn gather(into: &mut Gathered, choice: &Value) {
    let delta = &choice["delta"];
    for name in ["content", "refusal", "reasoning_content"] {
        into.texts.entry(name).or_default().push_str(text(&delta[name]));
    }
    for name in ["thinking_blocks", "annotations", "images"] {
        into.lists.entry(name).or_default().extend(list(&delta[name]));
    }
    for name in ["content", "refusal"] {
        into.logprobs.entry(name).or_default().extend(list(&choice["logprobs"][name]));
    }
    into.audio.push_str(text(&delta["audio"]["data"]));
    for call in list(&delta["tool_calls"]) {
        if call["id"].is_string() {
            into.calls.push((call["index"].clone(), call.clone(), String::new()));
        }
        let known = into.calls.iter_mut().find(|(index, ..)| *index == call["index"]);
        let (.., arguments) = known.expect("arguments of a call that has begun");
        arguments.push_str(text(&call["function"]["arguments"]));
    }
    if !choice["finish_reason"].is_null() {
        into.ends.push(choice.clone());
    }
}

fn compare(gathered: &Gathered, whole: &Value) {
    let message = &whole["message"];
    for (name, streamed) in &gathered.texts {
        same(name, &json!(streamed), &json!(text(&message[name])));
    }
    for (name, streamed) in &gathered.lists {
        same(name, &json!(streamed), &json!(list(&message[name])));
    }
    same("audio", &json!(gathered.audio), &json!(text(&message["audio"]["data"])));
    let calls = gathered.calls.iter().map(|(_, call, arguments)| {
        let arguments = if arguments.is_empty() { "{}" } else { arguments };
        let function = json!({"name": call["function"]["name"], "arguments": arguments});
        json!({"id": call["id"], "type": call["type"], "function": function})
    });
    same("tool_calls", &json!(calls.collect::<Vec<_>>()), &json!(list(&message["tool_calls"])));
    for (name, streamed) in &gathered.logprobs {
        // A list beside something that isn't one can't be read whole.
        if !whole["logprobs"].is_null() {
            let whole = list(&whole["logprobs"][name]);
            assert!(whole.iter().all(|token| streamed.contains(token)), "logprobs differ");
        }
    }
    let [end] = gathered.ends.as_slice() else { panic!("ends {} times", gathered.ends.len()) };
    for name in ["finish_reason", "native_finish_reason", "stop_reason"] {
        same(name, &end[name], &whole[name]);
    }
}

// -------------------------------------------------------------------------- OpenAI's responses

pub fn openai_responses(input: &[u8]) {
    let (request, events) = first_line(input);
    let batches = batches(events);
    let mut body = json!({"model": "m", "input": "Hi"});
    if let Ok(Value::Object(members)) = serde_json::from_slice(request) {
        body.as_object_mut().expect("an object").extend(members);
    }
    let parsed = openai::responses::request::parse_response(body.to_string().as_bytes());
    let Ok(request) = parsed else { return };
    let writer = openai::responses::stream::EventWriter::new(identity(), request.asked.clone());
    let (streamed, failed) = write(writer, &batches);
    let folder = openai::responses::answer::ResponseFolder::new(identity(), request.asked);
    let whole = fold(folder, &batches);
    let Some(all) = named_events(&streamed) else { return };
    for (number, event) in all.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let last = all.last().expect("an end");
    if failed.is_some() {
        assert_eq!(last["type"], "error");
        return;
    }
    assert!(last["response"].is_object(), "{last}");
    let mut items: Vec<Item> = Vec::new();
    for event in &all[2..all.len() - 1] {
        follow(&mut items, event, last);
    }
    assert!(items.iter().all(|item| !item.open), "not all items ended");
    let output = last["response"]["output"].as_array().expect("an output");
    assert_eq!(items.len(), output.len());
    for (item, whole) in items.iter().zip(output) {
        let texts = whole["content"].as_array().or(whole["summary"].as_array());
        let said: String = texts
            .into_iter()
            .flatten()
            .map(|part| part["text"].as_str().unwrap_or(text(&part["refusal"])))
            .collect();
        assert_eq!(item.said, said, "deltas don't add up");
        let arguments = text(&whole["arguments"]).to_owned() + text(&whole["input"]);
        if !(item.arguments.is_empty() && arguments == "{}") && whole["call_id"].is_string() {
            assert_eq!(item.arguments, arguments, "arguments don't add up");
        }
    }
    // The whole answer has no items that only an event of the vendor's announced.
    let vendors = |event: &Event| matches!(event, Event::Attribute(it) if it.name == "event");
    if let Ok(whole) = whole
        && !batches.iter().flatten().any(vendors)
    {
        same("the response", &last["response"], &whole);
    }
}

struct Item {
    id: Value,
    kind: String,
    open: bool,
    said: String,
    arguments: String,
}

fn follow(items: &mut Vec<Item>, event: &Value, last: &Value) {
    let Some(index) = event["output_index"].as_u64().map(|index| index as usize) else {
        return;
    };
    let kind = text(&event["type"]);
    if kind == "response.output_item.added" {
        assert_eq!(index, items.len(), "items begin in order");
        items.push(Item {
            id: event["item"]["id"].clone(),
            kind: text(&event["item"]["type"]).to_owned(),
            open: true,
            said: String::new(),
            arguments: String::new(),
        });
        return;
    }
    let item = items.get_mut(index).expect("an item that has begun");
    if kind == "response.output_item.done" {
        assert!(std::mem::replace(&mut item.open, false), "done twice: {event}");
        same("an item", &event["item"], &last["response"]["output"][index]);
        return;
    }
    same("an item's id", &event["item_id"], &item.id);
    let own = matches!(
        item.kind.as_str(),
        "message" | "reasoning" | "function_call" | "custom_tool_call"
    );
    assert!(item.open || !own, "after its end: {event}");
    match kind {
        "response.output_text.delta"
        | "response.refusal.delta"
        | "response.reasoning_summary_text.delta" => item.said.push_str(text(&event["delta"])),
        "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
            item.arguments.push_str(text(&event["delta"]));
        }
        _ => {}
    }
}

/// Server-sent events, each with the type in its data as name. Nothing if they can't be compared.
fn named_events(stream: &str) -> Option<Vec<Value>> {
    let events = stream.strip_suffix("\n\n").expect("the last event ends").split("\n\n");
    events
        .map(|event| {
            let (name, data) = event.split_once('\n').expect("a name and data");
            let data = data.strip_prefix("data: ").expect("data");
            assert!(!data.contains(['\n', '\r']), "{data:?}");
            let data = read(data)?;
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event:?}");
            Some(data)
        })
        .collect()
}

// ------------------------------------------------------------------------ Anthropic's messages

pub fn anthropic_messages(input: &[u8]) {
    let batches = batches(first_line(input).1);
    let model = ModelName::new("asked").expect("a name");
    let identity = anthropic::answer::Identity::new(REQUEST, &model);
    let writer = anthropic::stream::EventWriter::new(identity.clone(), Warnings::default());
    let (streamed, failed) = write(writer, &batches);
    let folder = anthropic::answer::MessageFolder::new(identity, Warnings::default());
    let whole = fold(folder, &batches);
    let Some(events) = named_events(&streamed) else { return };
    if failed.is_some() {
        let last = events.last().expect("an end");
        assert_eq!(last["type"], "error");
        return;
    }
    let streamed = accumulated(&events, whole.is_ok());
    let Ok(whole) = whole else { return };
    let (streamed, whole) = (comparable(streamed), comparable(whole));
    same("the message", &streamed, &whole);
}

/// Without fields of blocks, which may begin another one where events interleave.
fn comparable(mut message: Value) -> Value {
    const OWN: &[&str] = &["type", "text", "thinking", "signature", "data", "id", "name", "input"];
    let known = ["text", "thinking", "redacted_thinking", "tool_use"];
    for block in message["content"].as_array_mut().expect("content") {
        if known.contains(&text(&block["type"])) {
            let block = block.as_object_mut().expect("a block is an object");
            block.retain(|name, _| OWN.contains(&name.as_str()) || name == "citations");
        }
    }
    message
}

/// What a client of this dialect makes of a stream. It holds one block open at a time.
fn accumulated(events: &[Value], parse: bool) -> Value {
    let mut message = events[0]["message"].clone();
    assert_eq!(events[0]["type"], "message_start");
    let mut open: Option<String> = None;
    for (at, event) in events.iter().enumerate().skip(1) {
        let count = message["content"].as_array().map_or(0, Vec::len);
        match text(&event["type"]) {
            "content_block_start" => {
                assert!(open.is_none(), "two blocks are open: {event}");
                assert_eq!(event["index"], count as u64);
                let content = message["content"].as_array_mut().expect("content");
                content.push(event["content_block"].clone());
                open = Some(String::new());
            }
            "content_block_delta" => {
                let input = open.as_mut().expect("a block is open");
                assert_eq!(event["index"], count as u64 - 1);
                add(&mut message["content"][count - 1], input, &event["delta"]);
            }
            "content_block_stop" => {
                let input = open.take().expect("a block is open");
                assert_eq!(event["index"], count as u64 - 1);
                let block = &mut message["content"][count - 1];
                if parse && !input.trim().is_empty() {
                    match serde_json::from_str(&input) {
                        Ok(input) => block["input"] = input,
                        // Cut off by the answer's length, or the vendor's own.
                        Err(_) => assert!(block["type"] != "tool_use" || at + 3 == events.len()),
                    }
                }
            }
            "message_delta" => {
                assert!(open.is_none());
                for (name, value) in event["delta"].as_object().expect("a delta") {
                    message[name] = value.clone();
                }
                for (name, value) in event.as_object().expect("an event") {
                    if name != "type" && name != "delta" {
                        message[name] = value.clone();
                    }
                }
            }
            "message_stop" => {
                assert_eq!(at + 1, events.len(), "goes on after its end");
                return message;
            }
            other => panic!("{other}"),
        }
    }
    panic!("no end")
}

fn add(block: &mut Value, input: &mut String, delta: &Value) {
    let grow = |place: &mut Value, more: &Value| {
        *place = json!(text(place).to_owned() + text(more));
    };
    match text(&delta["type"]) {
        "text_delta" if block["type"] == "text" => grow(&mut block["text"], &delta["text"]),
        "thinking_delta" if block["type"] == "thinking" => {
            grow(&mut block["thinking"], &delta["thinking"]);
        }
        "signature_delta" if block["type"] == "thinking" => {
            block["signature"] = delta["signature"].clone();
        }
        "citations_delta" if block["type"] == "text" => match block["citations"].as_array_mut() {
            Some(all) => all.push(delta["citation"].clone()),
            None => block["citations"] = json!([delta["citation"]]),
        },
        _ => input.push_str(text(&delta["partial_json"])),
    }
}

// ------------------------------------------------------------------------------------- Ollama's

pub fn ollama(input: &[u8]) {
    use ollama::answer::{AnswerFolder, Clock, Form, Head};
    let (asked, events) = first_line(input);
    let batches = batches(events);
    let form = if asked.starts_with(b"generate") { Form::Generate } else { Form::Chat };
    let head = || Head::new(form, "asked:latest");
    let clock = || Clock::since(Instant::now());
    let writer = ollama::stream::LineWriter::new(head(), REQUEST, clock());
    let (streamed, failed) = write(writer, &batches);
    let whole = fold(AnswerFolder::new(head(), REQUEST, clock()), &batches);
    // Clients of this dialect split at everything that Unicode calls the end of a line.
    assert!(!streamed.contains(['\u{85}', '\u{2028}', '\u{2029}', '\r', '\u{b}', '\u{c}']));
    let lines: Option<Vec<Value>> =
        streamed.strip_suffix('\n').expect("the last line ends").split('\n').map(read).collect();
    let Some(mut lines) = lines else { return };
    let last = lines.pop().expect("an end");
    assert!(lines.iter().all(|line| line["done"] == false), "done before the end");
    if failed.is_some() || last.get("error").is_some() && last.get("done").is_none() {
        assert!(last["error"].is_string(), "{last}");
        assert!(failed.is_some() || whole.is_err(), "only the stream failed: {last}");
        return;
    }
    assert_eq!(last["done"], true);
    let Ok(mut whole) = whole else { return };
    let place = |line: &Value| match form {
        Form::Chat => line["message"].clone(),
        Form::Generate => line.clone(),
    };
    let content = if form == Form::Chat { "content" } else { "response" };
    let said = place(&whole);
    for name in [content, "thinking"] {
        let streamed: String =
            lines.iter().map(|line| text(&place(line)[name]).to_owned()).collect();
        assert_eq!(streamed, text(&said[name]), "{name}");
    }
    for name in ["thinking_blocks", "tool_calls", "annotations", "images"] {
        let streamed: Vec<Value> = lines.iter().flat_map(|line| list(&place(line)[name])).collect();
        // One image is `image` in this form.
        if name != "images" || form == Form::Chat {
            same(name, &json!(streamed), &json!(list(&said[name])));
        }
    }
    let logprobs: Vec<Value> = lines.iter().flat_map(|line| list(&line["logprobs"])).collect();
    same("logprobs", &json!(logprobs), &json!(list(&whole["logprobs"])));
    let mut last = last;
    for object in [&mut last, &mut whole] {
        let object = object.as_object_mut().expect("an object");
        let changing = ["created_at", "message", "logprobs", "response", "thinking", "image"];
        let lists = ["thinking_blocks", "tool_calls", "annotations", "images"];
        object.retain(|name, _| {
            !changing.contains(&name.as_str())
                && !lists.contains(&name.as_str())
                && !name.ends_with("_duration")
        });
    }
    same("the end", &last, &whole);
}

// ---------------------------------------------------------------------------------- embeddings

/// The first line is the number of inputs, and `base64` behind it if that is wanted.
pub fn embeddings(input: &[u8]) {
    use ollama::{
        answer::Clock,
        embed::{EmbedFolder, Shape},
    };
    let (asked, events) = first_line(input);
    let asked = String::from_utf8_lossy(asked);
    let (count, encoding) = asked.split_once(' ').unwrap_or((&asked, ""));
    let inputs = count.parse().unwrap_or(1).clamp(1, 64);
    let base64 = encoding == "base64";
    let batches = batches(events);
    let folder = openai::embeddings::EmbeddingsFolder::new(identity(), inputs, base64);
    let openais = fold(folder, &batches);
    let shape = Shape::All { model: "asked".to_owned() };
    let ollamas = fold(EmbedFolder::new(shape, inputs, Clock::since(Instant::now())), &batches);
    if let Ok(answer) = &openais {
        let data = answer["data"].as_array().expect("data");
        assert_eq!(data.len(), inputs);
        for (index, row) in data.iter().enumerate() {
            assert_eq!(row["index"], index);
            assert_eq!(row["embedding"].is_string(), base64, "{row}");
        }
    }
    if let Ok(answer) = &ollamas {
        let all = answer["embeddings"].as_array().expect("embeddings");
        assert_eq!(all.len(), inputs);
        let numbers = all.iter().flat_map(list);
        assert!(numbers.into_iter().all(|number| number.is_number()), "{answer}");
    }
    if !base64 && let (Ok(one), Ok(other)) = (openais, ollamas) {
        let data = list(&one["data"]);
        let vectors: Vec<Value> = data.iter().map(|row| row["embedding"].clone()).collect();
        same("vectors", &json!(vectors), &other["embeddings"]);
    }
}
