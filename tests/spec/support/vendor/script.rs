//! What a scripted model says, by its name, before any vendor's protocol comes into it.
//!
//! A name is looked up here once, and each protocol renders the same [`Turn`] its own way, so one
//! specification holds for all vendors. Names that aren't scripts are plain models that repeat
//! what they were told.

use std::time::Duration;

use serde_json::Value;

use super::{Act, Recorded, reply, reply_json, stream};

/// What all the protocols' chat requests have in common.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub model: String,
    pub stream: bool,
    /// The text of the last user message.
    pub prompt: String,
    /// The texts of the tool results after the last assistant message.
    pub results: Vec<String>,
    /// Media types and base64 of all images.
    pub images: Vec<(String, String)>,
    /// The schema that the answer must have.
    pub schema: Option<Value>,
    /// Names of the tools on offer.
    pub tools: Vec<String>,
    /// The last piece of a stream carries usage, from vendors that must be asked for it.
    pub usage_in_stream: bool,
    /// The adapter asks for JSON by way of a tool of this name, for want of anything better.
    pub schema_tool: Option<String>,
}

/// What the model does in answer.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub thinking: Vec<String>,
    pub text: Vec<String>,
    pub calls: Vec<Call>,
    pub usage: Usage,
    pub cut_by_length: bool,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub input: i64,
    pub cached: i64,
    pub output: i64,
    pub reasoning: i64,
}

/// What a protocol must be able to do with a script.
pub trait Protocol {
    fn content_type(&self) -> &'static str;
    /// Headers that come with every answer.
    fn headers(&self) -> Vec<(&'static str, &'static str)>;
    /// The plain answer.
    fn whole(&self, asked: &Asked, turn: &Turn) -> Value;
    /// The streamed answer, a vendor's event or line a piece.
    fn pieces(&self, asked: &Asked, turn: &Turn) -> Vec<Vec<u8>>;
    /// The vendor's own error body for a status.
    fn error(&self, status: u16, asked: &Asked) -> Value;
    /// An error inside a stream that began well.
    fn error_piece(&self) -> Vec<u8>;
    /// Writes numbers that make no sense, or none at all, where the usage belongs.
    fn spoil_usage(&self, answer: &mut Value, how: &str);
}

/// How long the scripts with a pace wait between pieces unless their name says otherwise.
const PACE: Duration = Duration::from_millis(20);

pub const SPOKEN: &str = "You said: ";

/// Answers a chat as the model's name says.
pub fn chat(protocol: &dyn Protocol, asked: &Asked, request: &Recorded) -> Vec<Act> {
    let (name, number) = split_number(&asked.model);
    let turn = turn(asked);
    match name {
        "status" => return status(protocol, asked, number),
        "error-in" => return reply_json(200, &[], &protocol.error(500, asked)),
        "reflect" | "reflect-split" | "reflect-words" | "reflect-error" => {
            return reflect(protocol, asked, request, name);
        }
        "redirect" => {
            let (code, to) = redirect(&asked.model);
            return reply(code, &[("location", &to), ("content-type", "text/plain")], b"moved");
        }
        "usage-missing" | "usage-negative" | "usage-huge" | "usage-text" => {
            return usage(protocol, asked, &turn, name);
        }
        "hang" => return vec![Act::Hang],
        "refuse" => return vec![Act::Reset],
        "garbage-html" => {
            return reply(
                200,
                &[("content-type", "text/html")],
                b"<html><h1>It works!</h1></html>",
            );
        }
        "garbage-random" => {
            let mut dice = crate::support::Dice::new("garbage");
            let noise: Vec<u8> = (0..4096).map(|_| dice.roll() as u8).collect();
            return reply(200, &[("content-type", protocol.content_type())], &noise);
        }
        "endless-body" => return flood(protocol, b"{\"padding\":\"", 64 * 1024),
        "endless-line" => return flood(protocol, b"data: ", 64 * 1024),
        "many-headers" => {
            let mut acts = vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec())];
            acts.push(Act::Flood { bytes: b"x-filler: filler\r\n".to_vec(), times: 1_000_000 });
            return acts;
        }
        _ => {}
    }
    if !asked.stream {
        let body = protocol.whole(asked, &turn);
        if name == "slow" || name == "late" {
            let mut acts = vec![Act::Pause(Duration::from_millis(number.unwrap_or(500)))];
            acts.extend(reply_json(200, &protocol.headers(), &body));
            return acts;
        }
        return reply_json(200, &protocol.headers(), &body);
    }
    let mut headers = vec![("content-type", protocol.content_type())];
    headers.extend(protocol.headers());
    let mut pieces = protocol.pieces(asked, &turn);
    let keep = number.unwrap_or(4) as usize;
    match name {
        "slow" => stream(&headers, pieces, Duration::from_millis(number.unwrap_or(20))),
        "late" => {
            let mut acts = stream(&headers, pieces, Duration::ZERO);
            acts.insert(0, Act::Pause(Duration::from_millis(number.unwrap_or(500))));
            acts
        }
        "long" => stream(&headers, pieces, PACE),
        "stream-error" => {
            pieces.truncate(keep);
            pieces.push(protocol.error_piece());
            stream(&headers, pieces, Duration::ZERO)
        }
        // The pieces so far need time to get through, or the reset overtakes them.
        "cut" => unfinished(&headers, pieces, keep, vec![Act::Pause(PACE), Act::Reset]),
        "eof" => unfinished(&headers, pieces, keep, vec![Act::Close]),
        "silence" => unfinished(&headers, pieces, keep, vec![Act::Hang]),
        "eof-orderly" => {
            pieces.truncate(keep);
            stream(&headers, pieces, Duration::ZERO)
        }
        "eof-inside" => {
            // The end comes inside a piece, and inside a character if there is one to be cut.
            let last = pieces[keep.min(pieces.len() - 1)].clone();
            let cut =
                last.iter().position(|byte| *byte >= 0xc0).map_or(last.len() / 2, |at| at + 1);
            pieces.truncate(keep);
            pieces.push(last[..cut].to_vec());
            stream(&headers, pieces, Duration::ZERO)
        }
        "bytewise" => {
            let bytes = pieces.concat().into_iter().map(|byte| vec![byte]).collect();
            stream(&headers, bytes, Duration::ZERO)
        }
        "crlf" => {
            let lines = String::from_utf8(pieces.concat()).unwrap().replace('\n', "\r\n");
            // Cut between each `\r` and its `\n`.
            let cut = lines.split_inclusive('\r').map(|piece| piece.as_bytes().to_vec()).collect();
            stream(&headers, cut, Duration::ZERO)
        }
        "at-once" => stream(&headers, vec![pieces.concat()], Duration::ZERO),
        _ => stream(&headers, pieces, Duration::ZERO),
    }
}

/// Answers anything but a chat as its model's name says, if it is a script for that.
pub fn fault(protocol: &dyn Protocol, asked: &Asked) -> Option<Vec<Act>> {
    let (name, number) = split_number(&asked.model);
    (name == "status").then(|| status(protocol, asked, number))
}

/// `slow-50` is `slow` with 50; `status-429-after-7` is `status` with 429.
fn split_number(model: &str) -> (&str, Option<u64>) {
    let digits = model.find(|c: char| c.is_ascii_digit());
    match digits {
        Some(at) if model[..at].ends_with('-') => {
            let number = model[at..].split('-').next().and_then(|digits| digits.parse().ok());
            (&model[..at - 1], number)
        }
        _ => (model, None),
    }
}

fn turn(asked: &Asked) -> Turn {
    let mut turn = Turn::default();
    let mut usage = Usage { input: 11, output: 7, ..Usage::default() };
    let (name, number) = split_number(&asked.model);
    let say = |text: &str| text.split_inclusive(' ').map(str::to_owned).collect::<Vec<_>>();
    if !asked.results.is_empty() {
        turn.text = say(&format!("The tools say: {}", asked.results.join(" and ")));
    } else if asked.schema.is_some() || asked.schema_tool.is_some() {
        let answer = r#"{"name": "Ada", "age": 36}"#;
        match &asked.schema_tool {
            Some(tool) => turn.calls.push(Call {
                id: "call_schema".into(),
                name: tool.clone(),
                arguments: serde_json::from_str(answer).unwrap(),
            }),
            None => turn.text = say(answer),
        }
    } else if matches!(name, "tools" | "tools-parallel") && !asked.tools.is_empty() {
        let cities: &[&str] = if name == "tools" { &["Paris"] } else { &["Paris", "Zürich"] };
        for (index, city) in cities.iter().enumerate() {
            turn.calls.push(Call {
                id: format!("call_{index}"),
                name: asked.tools[0].clone(),
                arguments: serde_json::json!({ "city": city }),
            });
        }
    } else if name == "image" {
        let seen: Vec<String> = asked
            .images
            .iter()
            .map(|(kind, base64)| format!("{kind} of {} base64 characters", base64.len()))
            .collect();
        turn.text = say(&format!("I see {}", seen.join(" and ")));
    } else if name == "long" {
        turn.text = (0..number.unwrap_or(100)).map(|count| format!("{count} ")).collect();
    } else if name == "blank" {
        usage.output = 0;
    } else {
        turn.text = say(&format!("{SPOKEN}{}", asked.prompt));
        if name == "thinking" {
            turn.thinking = say("First I think it over.");
            usage.reasoning = 5;
            usage.output += 5;
        }
        if name == "cached" {
            usage.cached = 8;
        }
        turn.cut_by_length = name == "length";
        if name == "unicode" {
            turn.text = vec!["Grüße ".into(), "日本語 ".into(), "🦀".into()];
        }
    }
    turn.usage = usage;
    turn
}

fn unfinished(
    headers: &[(&str, &str)],
    mut pieces: Vec<Vec<u8>>,
    keep: usize,
    end: Vec<Act>,
) -> Vec<Act> {
    pieces.truncate(keep);
    let mut acts = stream(headers, pieces, Duration::ZERO);
    acts.pop();
    acts.extend(end);
    acts
}

fn status(protocol: &dyn Protocol, asked: &Asked, number: Option<u64>) -> Vec<Act> {
    let status = number.unwrap_or(500) as u16;
    let mut headers = protocol.headers();
    let after = asked.model.split("-after-").nth(1).map(str::to_owned);
    if let Some(after) = &after {
        headers.push(("retry-after", after));
    }
    reply_json(status, &headers, &protocol.error(status, asked))
}

/// A vendor that sends back what it was sent, credential and all: in a header, in the answer's
/// text, cut between two pieces, word by word, or in an error.
fn reflect(protocol: &dyn Protocol, asked: &Asked, request: &Recorded, name: &str) -> Vec<Act> {
    let secret = ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
        .into_iter()
        .find_map(|header| request.header(header))
        .unwrap_or("no credential");
    let secret = secret.trim_start_matches("Bearer ").to_owned();
    let mut headers = protocol.headers();
    headers.push(("x-reflected", &secret));
    if name == "reflect-error" {
        let mut body = protocol.error(400, asked);
        replace_strings(&mut body, &format!("you sent {secret}"));
        return reply_json(400, &headers, &body);
    }
    let mut text = vec![format!("you sent {secret} to me")];
    if name == "reflect-words" {
        // As a model's tokens come: each in an event of its own, with a part of the secret.
        text = text[0].as_bytes().chunks(7).map(word).collect();
    }
    let turn =
        Turn { text, usage: Usage { input: 3, output: 4, ..Usage::default() }, ..Turn::default() };
    if asked.stream {
        headers.insert(0, ("content-type", protocol.content_type()));
        let mut pieces = protocol.pieces(asked, &turn);
        if name == "reflect-split" {
            // Cut after every third byte, so that no write has more than that of the secret.
            pieces = pieces.concat().chunks(3).map(<[u8]>::to_vec).collect();
        }
        stream(&headers, pieces, Duration::from_millis(1))
    } else {
        reply_json(200, &headers, &protocol.whole(asked, &turn))
    }
}

fn word(ascii: &[u8]) -> String {
    String::from_utf8_lossy(ascii).into_owned()
}

/// Puts `text` in the place of every `message` or `error` that is a string.
fn replace_strings(value: &mut Value, text: &str) {
    if let Value::Object(members) = value {
        for (name, member) in members {
            match member {
                Value::String(old) if name == "message" || name == "error" => text.clone_into(old),
                other => replace_strings(other, text),
            }
        }
    }
}

/// `redirect-307-to-PORT` points to another server, `redirect-307` to the address of cloud
/// metadata services.
fn redirect(model: &str) -> (u16, String) {
    let (_, code) = split_number(model);
    let to = match model.split("-to-").nth(1) {
        Some(port) => format!("http://127.0.0.1:{port}/v1/chat/completions"),
        None => "http://169.254.169.254/latest/meta-data/".to_owned(),
    };
    (code.unwrap_or(302) as u16, to)
}

fn usage(protocol: &dyn Protocol, asked: &Asked, turn: &Turn, name: &str) -> Vec<Act> {
    if !asked.stream {
        let mut body = protocol.whole(asked, turn);
        protocol.spoil_usage(&mut body, name);
        return reply_json(200, &protocol.headers(), &body);
    }
    let pieces = protocol.pieces(asked, turn).into_iter().map(|piece| {
        // Only the JSON between the first and the last brace is of interest.
        let text = String::from_utf8(piece).unwrap();
        let (Some(from), Some(to)) = (text.find('{'), text.rfind('}')) else {
            return text.into_bytes();
        };
        let mut value: Value = serde_json::from_str(&text[from..=to]).unwrap();
        protocol.spoil_usage(&mut value, name);
        format!("{}{value}{}", &text[..from], &text[to + 1..]).into_bytes()
    });
    stream(&[("content-type", protocol.content_type())], pieces.collect(), Duration::ZERO)
}

/// A body that goes on for a gigabyte after a beginning that looks right.
fn flood(protocol: &dyn Protocol, beginning: &[u8], step: usize) -> Vec<Act> {
    let headers = [("content-type", protocol.content_type())];
    let block = vec![b'a'; step];
    let mut bytes = format!("{step:x}\r\n").into_bytes();
    bytes.extend_from_slice(&block);
    bytes.extend_from_slice(b"\r\n");
    let times = (1 << 30) / step as u64;
    vec![super::stream_head(&headers), super::chunk(beginning), Act::Flood { bytes, times }]
}

/// Replaces the numbers of a usage object as the script says.
pub fn spoil(usage: &mut Value, how: &str) {
    if let Value::Object(members) = usage {
        for (_, member) in members.iter_mut() {
            match how {
                _ if member.is_object() => spoil(member, how),
                "usage-negative" => *member = Value::from(-5),
                "usage-huge" => *member = Value::from(u64::MAX),
                "usage-text" => *member = Value::from("many"),
                _ => {}
            }
        }
    }
}
