//! A vendor that misbehaves at the level of bytes, as the model's name says.
//!
//! It speaks OpenAI's protocol until it doesn't: [`script`] has every fault of HTTP/1.1 by name,
//! [`http2`] those of HTTP/2, [`Handshake`] what can be wrong with TLS; [`Refusing`] and
//! [`BlackHole`] are addresses where nobody answers. A model that is none of them is answered
//! properly. Each fault treats streamed and whole answers alike as far as that makes sense.
//!
//! Bounds: floods are repeated from one block until the other side leaves or a gigabyte is out.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    Dice,
    vendor::{
        Act, Recorded, STREAM_ID, chunk, data, frame,
        openai::{self, OpenAi},
        reply, reply_json, response_head,
        script::{Asked, Protocol, Turn, Usage},
        stream, stream_head,
    },
};

/// What it says before it breaks, a word a piece. The last has a character of four bytes.
const WORDS: [&str; 6] = ["one ", "two ", "three ", "four ", "five ", "\u{1f980}"];

/// The whole of it.
pub fn words() -> String {
    WORDS.concat()
}

/// What a forged answer says; nobody may ever get it.
pub const FORGED: &str = "this answer is forged";

/// A gigabyte, in blocks of this size.
const BLOCK: usize = 64 << 10;
const BLOCKS: u64 = (1 << 30) / BLOCK as u64;

/// Answers over HTTP/1.1. Redirects lead to `elsewhere`.
pub fn script(request: &Recorded, key: &str, elsewhere: SocketAddr) -> Vec<Act> {
    let bearer = format!("Bearer {key}");
    if request.header("authorization") != Some(bearer.as_str()) || request.method != "POST" {
        return openai::answer(request, key);
    }
    let Ok(asked) = openai::read_chat(&request.json()) else {
        return openai::answer(request, key);
    };
    let answer = Answer::to(&asked);
    match fault(&answer, elsewhere) {
        Some(acts) => acts,
        None => openai::plain_answer(request, key),
    }
}

/// The proper answer, to be spoilt.
struct Answer<'a> {
    asked: &'a Asked,
    /// The events of a stream, or the whole body.
    pieces: Vec<Vec<u8>>,
    whole: Value,
}

impl<'a> Answer<'a> {
    fn to(asked: &'a Asked) -> Self {
        let usage = Usage { input: 11, output: 7, ..Usage::default() };
        let text = WORDS.iter().map(|word| (*word).to_owned()).collect();
        let turn = Turn { text, usage, ..Turn::default() };
        let whole = OpenAi.whole(asked, &turn);
        let pieces = OpenAi.pieces(asked, &turn);
        Self { asked, pieces, whole }
    }

    fn content_type(&self) -> &'static str {
        if self.asked.stream { OpenAi.content_type() } else { "application/json" }
    }

    fn body(&self) -> Vec<u8> {
        if self.asked.stream { self.pieces.concat() } else { self.whole.to_string().into_bytes() }
    }

    /// A head that lacks its last, empty line.
    fn head(&self) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n", self.content_type())
    }

    /// The proper answer as one text, with `headers` to say how long it is.
    fn with(&self, headers: &str) -> Vec<u8> {
        let mut bytes = format!("{}{headers}\r\n", self.head()).into_bytes();
        bytes.extend(self.body());
        bytes
    }

    /// The head, so many pieces and then what is told. Of a whole answer, half the body.
    fn broken(&self, pieces: usize, end: Vec<Act>) -> Vec<Act> {
        let mut acts = vec![stream_head(&[("content-type", self.content_type())])];
        if self.asked.stream {
            acts.extend(self.pieces[..pieces].iter().map(|piece| chunk(piece)));
        } else if pieces > 0 {
            let body = self.body();
            acts.push(chunk(&body[..body.len() / 2]));
        }
        acts.extend(end);
        acts
    }

    /// A proper frame around anything.
    fn instead(&self, body: &[u8]) -> Vec<Act> {
        reply(200, &[("content-type", self.content_type())], body)
    }
}

fn send(bytes: impl Into<Vec<u8>>) -> Act {
    Act::Send(bytes.into())
}

/// What came before needs time to get through, or a reset overtakes it.
const SHORTLY: Act = Act::Pause(Duration::from_millis(50));

fn fault(answer: &Answer<'_>, elsewhere: SocketAddr) -> Option<Vec<Act>> {
    let name = answer.asked.model.as_str();
    if let Some(form) = name.strip_prefix("rate-limited-") {
        return Some(rate_limited(form, answer.asked));
    }
    if let Some(rest) = name.strip_prefix("redirect-") {
        let (status, to) = rest.split_once("-to-")?;
        return Some(redirect(status.parse().ok()?, to, elsewhere));
    }
    if let Some(how) = name.strip_prefix("usage-") {
        return Some(usage(answer, how));
    }
    let length = answer.body().len();
    Some(match name {
        // Connections that end.
        "reset-before-the-head" => vec![Act::Reset],
        "end-before-the-head" => vec![Act::Close],
        "reset-in-the-head" => vec![send("HTTP/1.1 200 O"), SHORTLY, Act::Reset],
        "reset-after-the-head" => answer.broken(0, vec![SHORTLY, Act::Reset]),
        "reset-after-tokens" => answer.broken(4, vec![SHORTLY, Act::Reset]),
        // Slowness.
        "silence" => vec![Act::Hang],
        "head-drips" => {
            let bytes = answer.with(&format!("content-length: {length}\r\n"));
            vec![Act::Drip { bytes, pause: Duration::from_secs(1) }]
        }
        "silence-after-the-head" => answer.broken(0, vec![Act::Hang]),
        "silence-after-a-late-head" => {
            let mut acts = vec![Act::Pause(Duration::from_millis(1_200))];
            acts.extend(answer.broken(0, vec![Act::Hang]));
            acts
        }
        "silence-after-tokens" => answer.broken(4, vec![Act::Hang]),
        "silence-in-an-error" => {
            vec![send("HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\n{\"error\":"), Act::Hang]
        }
        "body-drips" => {
            let head = format!("{}\r\n", answer.head());
            vec![send(head), Act::Drip { bytes: answer.body(), pause: Duration::from_secs(1) }]
        }
        "comments-without-end" => {
            let comment = Act::Drip { bytes: b": still here\n".to_vec(), pause: ms(100) };
            let mut acts = vec![send(format!("{}\r\n", answer.head()))];
            acts.extend(std::iter::repeat_n(comment, 1_000));
            acts
        }
        // Streams that are cut, at places where it matters.
        "end-before-text" => answer.broken(0, vec![Act::Close]),
        "end-after-tokens" => answer.broken(4, vec![Act::Close]),
        "orderly-end-after-tokens" => answer.broken(4, vec![send("0\r\n\r\n")]),
        "end-inside-an-event" => cut(answer, 5, |event| event.len() / 2),
        "end-inside-a-character" => {
            cut(answer, 6, |event| event.iter().position(|byte| *byte >= 0xc0).unwrap_or(1) + 2)
        }
        "end-without-done" => {
            let mut pieces = vec![answer.body()];
            if answer.asked.stream {
                pieces.clone_from(&answer.pieces);
                pieces.pop();
            }
            stream(&[("content-type", answer.content_type())], pieces, Duration::ZERO)
        }
        "carriage-returns-apart" => {
            let text = String::from_utf8(answer.body()).ok()?.replace('\n', "\r\n");
            let pieces = text.split_inclusive('\r').map(|piece| piece.as_bytes().to_vec());
            let pieces = if answer.asked.stream { pieces.collect() } else { vec![answer.body()] };
            stream(&[("content-type", answer.content_type())], pieces, ms(1))
        }
        // Bodies that are none.
        "random-bytes" => {
            let mut dice = Dice::new("random bytes");
            answer.instead(&(0..4096).map(|_| dice.roll() as u8).collect::<Vec<u8>>())
        }
        "random-bytes-for-http" => {
            let mut dice = Dice::new("random bytes");
            let noise: Vec<u8> = (0..4096).map(|_| dice.roll() as u8).collect();
            vec![send(noise), Act::Close]
        }
        "html" => {
            let page = b"<!doctype html><h1>Please log in to this network</h1>";
            reply(200, &[("content-type", "text/html; charset=utf-8")], page)
        }
        "gzip-bomb" => {
            let headers = [("content-type", answer.content_type()), ("content-encoding", "gzip")];
            reply(200, &headers, &bomb())
        }
        "gzip-bomb-unannounced" => answer.instead(&bomb()),
        "utf-16" => {
            let text = String::from_utf8(answer.body()).ok()?;
            let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let kind = format!("{}; charset=utf-16le", answer.content_type());
            reply(200, &[("content-type", &kind)], &bytes)
        }
        "latin-1" => {
            let text = String::from_utf8(answer.body()).ok()?;
            let bytes: Vec<u8> =
                text.replace("one ", "\u{fc}ne ").chars().map(|c| c as u32 as u8).collect();
            let kind = format!("{}; charset=iso-8859-1", answer.content_type());
            reply(200, &[("content-type", &kind)], &bytes)
        }
        "byte-order-mark" => answer.instead(&["\u{feff}".as_bytes(), &answer.body()].concat()),
        "empty-body" => answer.instead(b""),
        "no-content" => vec![send("HTTP/1.1 204 No Content\r\n\r\n")],
        "half-a-document" => {
            let body = answer.body();
            answer.instead(&body[..body.len() / 3])
        }
        "another-document" => answer.instead(b"[1, 2, 3]"),
        // More than anyone wants.
        "body-of-a-gigabyte" => answer.broken(0, vec![flood(b"a\n")]),
        "line-of-a-gigabyte" => answer.broken(0, vec![chunk(b"data: "), flood(b"a")]),
        "document-of-a-gigabyte" => answer.broken(0, vec![chunk(b"{\"choices\": \""), flood(b"a")]),
        "announced-gigabyte" => {
            let head = format!("{}content-length: {}\r\n\r\n", answer.head(), 1 << 30);
            vec![send(head), Act::Flood { bytes: vec![b' '; BLOCK], times: BLOCKS }]
        }
        "endless-tokens" => {
            let piece = answer.pieces[1].repeat(100);
            let Act::Send(bytes) = chunk(&piece) else { return None };
            answer.broken(2, vec![Act::Flood { bytes, times: u64::MAX }])
        }
        "a-million-headers" => {
            let line = b"x-filler: filler\r\n".to_vec();
            vec![send("HTTP/1.1 200 OK\r\n"), Act::Flood { bytes: line, times: 1_000_000 }]
        }
        "header-of-a-gigabyte" => {
            let times = BLOCKS;
            vec![send("HTTP/1.1 200 OK\r\nx: "), Act::Flood { bytes: vec![b'a'; BLOCK], times }]
        }
        // Errors.
        "error-500" | "error-502" | "error-503" | "error-504" | "error-529" => {
            let status = name[6..].parse().ok()?;
            reply_json(status, &[], &OpenAi.error(status, answer.asked))
        }
        "error-401" | "error-403" | "error-404" => {
            let status = name[6..].parse().ok()?;
            reply_json(status, &[], &OpenAi.error(status, answer.asked))
        }
        "error-inside-200" => reply_json(200, &[], &OpenAi.error(500, answer.asked)),
        "error-inside-the-stream" if answer.asked.stream => {
            let pieces = vec![OpenAi.error_piece()];
            stream(&[("content-type", answer.content_type())], pieces, Duration::ZERO)
        }
        "error-inside-the-stream" => reply_json(200, &[], &OpenAi.error(500, answer.asked)),
        "error-after-tokens" if answer.asked.stream => {
            let pieces = [&answer.pieces[..4], &[OpenAi.error_piece()]].concat();
            stream(&[("content-type", answer.content_type())], pieces, Duration::ZERO)
        }
        "error-after-tokens" => reply_json(200, &[], &OpenAi.error(500, answer.asked)),
        // HTTP that isn't.
        "two-lengths" => {
            let lengths = format!("content-length: {length}\r\ncontent-length: {}\r\n", length - 5);
            vec![send(answer.with(&lengths))]
        }
        "equal-lengths" => {
            let length = format!("content-length: {length}\r\n");
            vec![send(answer.with(&length.repeat(2)))]
        }
        "list-of-lengths" => {
            vec![send(answer.with(&format!("content-length: {length}, {}\r\n", length - 5)))]
        }
        "negative-length" => vec![send(answer.with("content-length: -1\r\n")), Act::Close],
        "length-and-chunks" => {
            let mut bytes = format!(
                "{}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n",
                answer.head()
            )
            .into_bytes();
            bytes.extend(answer.body());
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            vec![send(bytes)]
        }
        "chunk-overflow" => answer.broken(0, vec![send("ffffffffffffffff1\r\nabc\r\n"), Act::Hang]),
        "chunk-of-no-size" => answer.broken(0, vec![send("zz\r\nabc\r\n"), Act::Hang]),
        "chunk-extension-flood" => {
            let bytes = vec![b'e'; BLOCK];
            answer.broken(0, vec![send("5;"), Act::Flood { bytes, times: BLOCKS }])
        }
        "informational-flood" => {
            let bytes = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
            vec![Act::Flood { bytes, times: u64::MAX }]
        }
        "upgrade" => {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            vec![send(head), Act::Hang]
        }
        "folded-header" => {
            vec![send(answer.with(&format!("x: a\r\n b\r\ncontent-length: {length}\r\n")))]
        }
        "nul-in-a-header" => {
            vec![send(answer.with(&format!("x: a\0b\r\ncontent-length: {length}\r\n")))]
        }
        "unknown-encoding" => {
            vec![send(answer.with("transfer-encoding: gzip, chunked\r\n")), Act::Close]
        }
        "old-http" => vec![send(answer.body()), Act::Close],
        "answer-and-a-forged-one" => {
            let mut bytes = answer.with(&format!("content-length: {length}\r\n"));
            bytes.extend(forged(answer));
            vec![send(bytes)]
        }
        _ => return None,
    })
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Ends in the middle of the event number `at`.
fn cut(answer: &Answer<'_>, at: usize, place: impl Fn(&[u8]) -> usize) -> Vec<Act> {
    if !answer.asked.stream {
        let body = answer.body();
        let half = &body[..place(&body).min(body.len() - 1)];
        return stream(&[("content-type", answer.content_type())], vec![half.to_vec()], ms(0));
    }
    let event = &answer.pieces[at];
    let mut pieces = answer.pieces[..at].to_vec();
    pieces.push(event[..place(event)].to_vec());
    stream(&[("content-type", answer.content_type())], pieces, Duration::ZERO)
}

/// A gigabyte of the same in chunks.
fn flood(pattern: &[u8]) -> Act {
    let mut bytes = format!("{BLOCK:x}\r\n").into_bytes();
    bytes.extend(pattern.repeat(BLOCK / pattern.len()));
    bytes.extend_from_slice(b"\r\n");
    Act::Flood { bytes, times: BLOCKS }
}

fn forged(answer: &Answer<'_>) -> Vec<u8> {
    let turn = Turn { text: vec![FORGED.to_owned()], ..Turn::default() };
    let body = if answer.asked.stream {
        OpenAi.pieces(answer.asked, &turn).concat()
    } else {
        OpenAi.whole(answer.asked, &turn).to_string().into_bytes()
    };
    let mut bytes = format!("{}content-length: {}\r\n\r\n", answer.head(), body.len()).into_bytes();
    bytes.extend(body);
    bytes
}

fn rate_limited(form: &str, asked: &Asked) -> Vec<Act> {
    let date = http_date(super::unix_seconds() + 20);
    let header = match form {
        "seconds" => Some(("retry-after", "20")),
        "date" => Some(("retry-after", date.as_str())),
        "milliseconds" => Some(("retry-after-ms", "20000")),
        "past-date" => Some(("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")),
        "absurd" => Some(("retry-after", "1000000000")),
        "negative" => Some(("retry-after", "-20")),
        "words" => Some(("retry-after", "soon")),
        _ => None,
    };
    reply_json(429, header.as_slice(), &OpenAi.error(429, asked))
}

/// "Sun, 06 Nov 1994 08:49:37 GMT".
fn http_date(unix_seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years that begin in March, counted from the year 0: leap days come last.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let year = year + era * 400 + u64::from(month >= 10);
    format!(
        "{}, {date:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

fn redirect(status: u16, to: &str, elsewhere: SocketAddr) -> Vec<Act> {
    let to = match to {
        "host-b" => format!("http://{elsewhere}/v1/chat/completions"),
        "host-b-by-name" => format!("http://localhost:{}/v1/chat/completions", elsewhere.port()),
        "itself" => "/v1/chat/completions".to_owned(),
        "metadata" => "http://169.254.169.254/latest/meta-data/".to_owned(),
        "nothing" => return reply(status, &[], b"moved"),
        "half-a-host" => "http://[".to_owned(),
        _ => "\u{1}nowhere".to_owned(),
    };
    reply(status, &[("location", &to)], b"moved")
}

fn usage(answer: &Answer<'_>, how: &str) -> Vec<Act> {
    let spoil = |value: &mut Value| {
        if value["usage"].is_object() {
            value["usage"] = match how {
                "missing" => Value::Null,
                "negative" => json!({ "prompt_tokens": -11, "completion_tokens": -7 }),
                "huge" => json!({ "prompt_tokens": 1u64 << 63, "completion_tokens": 1u64 << 63 }),
                "above-all-windows" => {
                    json!({ "prompt_tokens": 11, "completion_tokens": 1_000_000_001 })
                }
                "fraction" => json!({ "prompt_tokens": 1.5, "completion_tokens": 0.5 }),
                "text" => json!({ "prompt_tokens": "NaN", "completion_tokens": "many" }),
                // No JSON, which comes later.
                "not-a-number" => json!({ "prompt_tokens": NOT_A_NUMBER, "completion_tokens": 7 }),
                "list" => json!([11, 7]),
                _ => value["usage"].take(),
            };
        }
    };
    if !answer.asked.stream {
        let mut whole = answer.whole.clone();
        spoil(&mut whole);
        return answer.instead(bare(&whole).as_bytes());
    }
    let mut pieces = Vec::new();
    for piece in &answer.pieces {
        let text = String::from_utf8_lossy(piece);
        let json = text.trim().trim_start_matches("data: ");
        let Ok(mut value) = serde_json::from_str::<Value>(json) else {
            pieces.push(piece.clone());
            continue;
        };
        spoil(&mut value);
        let several: &[u64] = match how {
            "changing" => &[70, 7, 7_000, 700],
            "shrinking" => &[7, 0],
            "growing" => &[1, 3, 3, 7],
            _ => &[],
        };
        if !several.is_empty() && value["usage"].is_object() {
            for tokens in several {
                value["usage"]["completion_tokens"] = json!(tokens);
                pieces.push(format!("data: {value}\n\n").into_bytes());
            }
            continue;
        }
        pieces.push(format!("data: {}\n\n", bare(&value)).into_bytes());
    }
    stream(&[("content-type", answer.content_type())], pieces, Duration::ZERO)
}

/// Stands for a number that JSON hasn't.
const NOT_A_NUMBER: &str = "@NaN@";

fn bare(value: &Value) -> String {
    value.to_string().replace(&format!("\"{NOT_A_NUMBER}\""), "NaN")
}

/// A hundred megabytes of one letter, in gzip's format by hand: deflate's fixed codes have a pair
/// of 13 bits for "the last letter 258 times again".
fn bomb() -> Vec<u8> {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(make_bomb).clone()
}

fn make_bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push_low_first(0b011, 3);
    bits.push_high_first(0x30 + u32::from(b'a'), 8);
    for _ in 0..100_000_000 / 258 {
        bits.push_high_first(0xc5, 8);
        bits.push_high_first(0, 5);
    }
    bits.push_high_first(0, 7);
    let mut gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    gzip.extend(bits.bytes);
    gzip.extend_from_slice(&[0; 8]);
    gzip
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bit: u32) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= (bit as u8) << (self.used % 8);
        }
        self.used += 1;
    }

    fn push_low_first(&mut self, value: u32, count: u32) {
        (0..count).for_each(|at| self.push(value >> at & 1));
    }

    fn push_high_first(&mut self, value: u32, count: u32) {
        (0..count).rev().for_each(|at| self.push(value >> at & 1));
    }
}

// ------------------------------------------------------------------ HTTP/2

/// Answers over HTTP/2, in its frames. Whatever isn't a fault there gets an answer as well.
pub fn http2(request: &Recorded) -> Vec<Act> {
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const CONTINUATION: u8 = 9;
    let id: u32 = request.header(STREAM_ID).and_then(|id| id.parse().ok()).unwrap_or(1);
    let Ok(asked) = openai::read_chat(&request.json()) else { return vec![Act::Close] };
    let answer = Answer::to(&asked);
    let pieces: Vec<Vec<u8>> = if asked.stream {
        answer.pieces.clone()
    } else {
        let body = answer.body();
        body.chunks(body.len() / 6).map(<[u8]>::to_vec).collect()
    };
    let goaway = |last: u32, code: u32| {
        send(frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()))
    };
    let reset = |code: u32| send(frame(RST_STREAM, 0, id, &code.to_be_bytes()));
    let begun = || {
        let mut acts = vec![send(response_head(id))];
        acts.extend(pieces[..4].iter().map(|piece| send(data(id, piece))));
        acts.push(SHORTLY);
        acts
    };
    let flood = |frame: Vec<u8>| vec![Act::Flood { bytes: frame.repeat(100), times: u64::MAX }];
    let after = |mut acts: Vec<Act>, more: Vec<Act>| {
        acts.extend(more);
        acts
    };
    match asked.model.as_str() {
        "goaway" => vec![goaway(0, 2), SHORTLY, Act::Close],
        // Orderly: what was begun is finished, and what comes next belongs elsewhere.
        "goaway-beside-an-answer" => {
            let mut acts = vec![send(response_head(id)), goaway(id, 0)];
            acts.extend(pieces.iter().map(|piece| send(data(id, piece))));
            acts.push(send(frame(0, 1, id, b"")));
            acts
        }
        "goaway-after-tokens" => after(begun(), vec![goaway(0, 2), SHORTLY, Act::Close]),
        "stream-reset" => vec![reset(2)],
        "stream-refused" => vec![reset(7)],
        "stream-reset-after-tokens" => after(begun(), vec![reset(2)]),
        "end-of-connection-after-tokens" => after(begun(), vec![Act::Close]),
        "empty-data-flood" => after(vec![send(response_head(id))], flood(data(id, b""))),
        "settings-storm" => flood(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        "ping-flood" => flood(frame(PING, 0, 0, &[7; 8])),
        "continuation-flood" => {
            let start = send(frame(1, 0, id, &[0x88]));
            let line = b"\0\x01x\x7f\x80\x07".repeat(100);
            after(vec![start], flood(frame(CONTINUATION, 0, id, &line)))
        }
        "frame-of-no-kind" => vec![send(frame(PING, 0, id, &[1, 2, 3])), Act::Hang],
        "frame-too-long" => vec![send(b"\xff\xff\xff\0\0\0\0\0\x01".to_vec()), Act::Hang],
        "silent-stream" => vec![send(response_head(id)), Act::Hang],
        _ => {
            let mut acts = vec![send(response_head(id))];
            acts.extend(pieces.iter().map(|piece| send(data(id, piece))));
            acts.push(send(frame(0, 1, id, b"")));
            acts
        }
    }
}

// ------------------------------------------------------------------ TLS

/// An authority that the gateway is told to trust.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }
}

/// What is wrong with a server's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Good,
    WrongHost,
    Expired,
    NotYetValid,
    SelfSigned,
    UnknownAuthority,
}

impl Authority {
    /// A server's side of TLS at 127.0.0.1.
    pub fn server(&self, handshake: Handshake, protocol: &str) -> TlsAcceptor {
        let host = if handshake == Handshake::WrongHost { "other.test" } else { "127.0.0.1" };
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        match handshake {
            Handshake::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            Handshake::NotYetValid => params.not_before = rcgen::date_time_ymd(2090, 1, 1),
            _ => {}
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = match handshake {
            Handshake::SelfSigned => params.self_signed(&key).unwrap(),
            Handshake::UnknownAuthority => params.signed_by(&key, &Self::default().issuer).unwrap(),
            _ => params.signed_by(&key, &self.issuer).unwrap(),
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

// ------------------------------------------------------------------ below HTTP

/// A server that says the same to every connection, whatever it hears, and keeps what it hears.
pub struct Deaf {
    pub address: SocketAddr,
    heard: Arc<std::sync::Mutex<Vec<u8>>>,
    accepting: tokio::task::AbortHandle,
}

impl Deaf {
    /// Says `bytes` after the first thing it hears, then nothing.
    pub fn saying(bytes: &[u8]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (ear, bytes) = (heard.clone(), bytes.to_vec());
        let accepting = super::runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (ear, bytes) = (ear.clone(), bytes.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    let mut said = false;
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        ear.lock().unwrap().extend_from_slice(&buffer[..count]);
                        if !said {
                            said = stream.write_all(&bytes).await.is_ok();
                        }
                    }
                });
            }
        });
        Self { address, heard, accepting: accepting.abort_handle() }
    }

    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address that refuses connections, and that nobody else can take meanwhile.
pub struct Refusing {
    pub address: SocketAddr,
    _bound: TcpSocket,
}

impl Default for Refusing {
    fn default() -> Self {
        let bound = TcpSocket::new_v4().unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: bound.local_addr().unwrap(), _bound: bound }
    }
}

/// An address where connections are neither taken nor refused: its queue is full.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

impl BlackHole {
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        // The queue takes one more than it is told; the first that isn't taken ends this.
        while let Ok(Ok(filler)) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            fillers.push(filler);
        }
        Self { address, _listener: listener, _fillers: fillers }
    }
}
