//! High load for long, while a tenth of what vendors do is a fault and plugins and configuration
//! are replaced every second: every request gets one right answer or one typed error, every attempt
//! its row, and memory stays where it was.
//!
//! Four vendors in three protocols stand in for one another; some callers leave in the middle. What
//! becomes of a request is held against what its vendors really did, which each request's own word
//! tells. One minute of it belongs to the ordinary run; `KEYWARD_SOAK_MINUTES=20` is the whole of it.
//!
//! Bounds: about 100 bytes a request are kept here until the end, to be held against the rows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use keyward::metering::Outcome;
use serde_json::{Value, json};

use crate::{
    reload::variant,
    support::{
        Dice, by_itself, canary, eventually,
        faulty::{self, FORGED},
        gateway::{Gateway, Setup, leak},
        plugins, run,
        vendor::{
            Act, Recorded, Vendor, anthropic, ollama,
            openai::{self, vector},
            script::SPOKEN,
        },
    },
};

/// Requests under way at a time.
const CALLERS: usize = 48;

/// A caller asks no sooner than this after it asked last: on a quick machine 240 requests a second. A
/// tenth of them are faults whatever the machine, and some of those are rate limits of a second.
const PERIOD: Duration = Duration::from_millis(200);

/// How many of a hundred vendor requests go wrong.
const FAULTS: usize = 10;

/// Longer than any request may take: its attempts begin within 10 s, each may take as long.
const PATIENCE: Duration = Duration::from_secs(45);

/// What memory may grow by with each row, in bytes: the store's index of its pages. Measured over
/// 180,000 chats: 6.
const GROWS_PER_ROW: u64 = 12;

/// What unused sandbox slots may keep, once so many were in use at the same time.
const WARM_SLOTS: u64 = 16 * (256 << 10);

/// Different contents of each plugin.
const VARIANTS: usize = 4;

const CALLER: &str = "kw-test-caller";
const OPERATOR: &str = "kw-test-operator";

// ------------------------------------------------------------------ what vendors do

/// Faults at the level of bytes that come before any content, and some within it. See
/// [`crate::support::faulty`].
const BEFORE: &[&str] = &[
    "reset-before-the-head",
    "end-before-the-head",
    "reset-in-the-head",
    "reset-after-the-head",
    "silence",
    "silence-after-the-head",
    "end-before-text",
    "random-bytes",
    "random-bytes-for-http",
    "html",
    "empty-body",
    "no-content",
    "another-document",
    "error-500",
    "error-503",
    "error-529",
    "error-inside-200",
    "error-inside-the-stream",
    "two-lengths",
    "length-and-chunks",
    "chunk-overflow",
    "upgrade",
    "folded-header",
    "nul-in-a-header",
    "redirect-308-to-itself",
    "redirect-302-to-metadata",
];
const WITHIN: &[&str] = &[
    "reset-after-tokens",
    "silence-after-tokens",
    "end-after-tokens",
    "orderly-end-after-tokens",
    "end-inside-an-event",
    "end-inside-a-character",
    "half-a-document",
    "error-after-tokens",
];
const HARMLESS: &[&str] =
    &["answer-and-a-forged-one", "carriage-returns-apart", "end-without-done"];

/// The same for the other protocols: see [`crate::support::vendor::script`].
const BEFORE_SCRIPTED: &[&str] =
    &["status-500", "status-503", "refuse", "hang", "garbage-html", "garbage-random", "error-in"];
const WITHIN_SCRIPTED: &[&str] =
    &["cut-4", "eof-4", "eof-orderly-4", "eof-inside-4", "stream-error-4", "silence-4"];
const BEFORE_EMBEDDING: &[&str] = &["status-500", "status-503"];

/// Seldom, because everyone is kept away from the model for as long.
const RATE_LIMIT: &str = "status-429-after-1";

/// What a vendor did with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Play {
    vendor: &'static str,
    fault: Option<&'static str>,
}

impl Play {
    fn is_proper(self) -> bool {
        self.fault.is_none_or(|fault| HARMLESS.contains(&fault))
    }

    fn breaks_streams(self) -> bool {
        self.fault.is_some_and(|fault| WITHIN.contains(&fault) || WITHIN_SCRIPTED.contains(&fault))
    }
}

/// Everything the vendors did, by the word of the request.
#[derive(Default)]
struct Stage {
    plays: Mutex<HashMap<String, Vec<Play>>>,
    played: AtomicUsize,
    faults: AtomicUsize,
}

impl Stage {
    fn take(&self, word: &str) -> Vec<Play> {
        self.plays.lock().unwrap().remove(word).unwrap_or_default()
    }

    /// Decides what comes of a request, and notes it. None is what the model's name says.
    fn direct(
        &self,
        vendor: &'static str,
        dice: &Mutex<Dice>,
        request: &Recorded,
    ) -> Option<&'static str> {
        if request.method != "POST" {
            return None;
        }
        let mut dice = dice.lock().unwrap();
        let faulty = dice.below(100) < FAULTS;
        let streamed = request.json()["stream"] == true;
        let (before, within, harmless) = match request.path() {
            path if path.contains("embed") => (BEFORE_EMBEDDING, &[][..], &[][..]),
            "/v1/chat/completions" => (BEFORE, WITHIN, HARMLESS),
            _ => (BEFORE_SCRIPTED, WITHIN_SCRIPTED, &[][..]),
        };
        // A whole answer is right or isn't there.
        let within = if streamed { within } else { &[] };
        let fault = faulty.then(|| {
            let all = [before, within, harmless].concat();
            if dice.below(50) == 0 { RATE_LIMIT } else { all[dice.below(all.len())] }
        });
        drop(dice);
        self.played.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(usize::from(fault.is_some()), Ordering::Relaxed);
        let word = word_in(&request.body).unwrap_or_default();
        self.plays.lock().unwrap().entry(word).or_default().push(Play { vendor, fault });
        fault
    }
}

/// Every request has a word of its own: `soak` and eight digits.
fn word(number: usize) -> String {
    format!("soak{number:08}")
}

fn word_in(body: &[u8]) -> Option<String> {
    let at = body.windows(4).position(|window| window == b"soak")?;
    Some(String::from_utf8_lossy(body.get(at..at + 12)?).into_owned())
}

struct Vendors {
    stage: Arc<Stage>,
    /// With the provider's name and its adapter.
    all: Vec<(&'static str, &'static str, Vendor)>,
}

type Answer = fn(&Recorded, &str) -> Vec<Act>;

impl Vendors {
    fn open() -> Self {
        let stage = Arc::<Stage>::default();
        let open = |name: &'static str, adapter: &'static str, proper: Answer| {
            let key = canary(name);
            let (stage, expected) = (stage.clone(), key.clone());
            let dice = Mutex::new(Dice::new(name));
            let vendor = Vendor::scripted(&key, move |request| {
                let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
                match stage.direct(name, &dice, request) {
                    None => proper(request, &expected),
                    Some(fault) => {
                        let request = request.for_model(fault);
                        let scripted = fault == RATE_LIMIT
                            || adapter != "openai"
                            || request.path() != "/v1/chat/completions";
                        if scripted {
                            proper(&request, &expected)
                        } else {
                            faulty::script(&request, &expected, nowhere)
                        }
                    }
                }
            });
            (name, adapter, vendor)
        };
        let all = vec![
            open("alpha", "openai", openai::answer),
            open("beta", "openai", openai::answer),
            open("gamma", "anthropic", anthropic::answer),
            open("delta", "ollama", ollama::answer),
        ];
        Self { stage, all }
    }

    /// The configuration number `round`: the order changes, and a limit, and seldom what makes new
    /// connections necessary.
    fn config(&self, round: usize) -> String {
        let mut config = "providers:\n".to_owned();
        for at in 0..self.all.len() {
            let (name, adapter, vendor) = &self.all[(at + round) % self.all.len()];
            let path = if *adapter == "openai" { "/v1" } else { "" };
            let vectors = if *adapter == "anthropic" { "" } else { ", vectors" };
            let _ = write!(
                config,
                "  {name}:\n    adapter: {adapter}\n    kind: local\n    endpoint: {}{path}\n    \
                 key: {{env: KEY_OF_{name}}}\n    models: [everyone, tools, long-25, long-200{vectors}]\n    \
                 limits: {{concurrency: {}}}\n    \
                 timeouts: {{connect: 2s, first_byte: 5s, idle: 8s, total: {}s}}\n",
                vendor.url(),
                100 + round % 7,
                20 + round / 8 % 2,
            );
        }
        let order = if round.is_multiple_of(3) { "cost" } else { "listed" };
        let _ = write!(
            config,
            "  demo:\nrouting: {{order: {order}, attempts: 4, retries: 1, time: 10s, patience: 3s}}\n\
             server:\n  tokens:\n    - {{name: tests, env: CALLER_TOKEN}}\n    \
             - {{name: ops, env: OPERATOR_TOKEN, operator: true}}\n"
        );
        config
    }

    fn start(&self) -> Gateway {
        let adapters = ["demo", "openai", "anthropic", "ollama"];
        let mut setup = Setup::new(&self.config(0), &adapters)
            .variable("KEYWARD_LOG", "info")
            .variable("CALLER_TOKEN", CALLER)
            .variable("OPERATOR_TOKEN", OPERATOR)
            .token(CALLER);
        for (name, _, vendor) in &self.all {
            setup = setup.variable(&format!("KEY_OF_{name}"), &vendor.key);
        }
        setup.start()
    }
}

// ------------------------------------------------------------------ what callers ask

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    Chat,
    Messages,
    Ollama,
    Responses,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    /// Half a second, so over a reload more often than not.
    Long,
    Tools,
    Embedding(usize),
    /// Leaves a long answer once it has begun.
    LeavesLate,
    /// Leaves at a moment of chance.
    LeavesEarly(Duration),
}

struct Asking {
    word: String,
    dialect: Dialect,
    kind: Kind,
    streamed: bool,
}

impl Asking {
    fn new(number: usize, dice: &mut Dice) -> Self {
        let dialects = [Dialect::Chat, Dialect::Messages, Dialect::Ollama, Dialect::Responses];
        let mut dialect = dialects[dice.below(4)];
        let mut streamed = dice.below(2) == 0;
        let kind = match dice.below(100) {
            0..60 => Kind::Plain,
            60..72 => Kind::Tools,
            72..84 => Kind::Embedding(1 + dice.below(3)),
            84..92 => Kind::Long,
            92..97 => Kind::LeavesLate,
            _ => Kind::LeavesEarly(Duration::from_millis(dice.below(40) as u64)),
        };
        match kind {
            Kind::Tools if dialect != Dialect::Messages => dialect = Dialect::Chat,
            Kind::Embedding(_) => (dialect, streamed) = (Dialect::Chat, false),
            Kind::Long | Kind::LeavesLate => streamed = true,
            _ => {}
        }
        Self { word: word(number), dialect, kind, streamed }
    }

    fn prompt(&self) -> String {
        format!("{} one two three f\u{fc}nf \u{1f980} seven", self.word)
    }

    fn request(&self) -> (&'static str, Value) {
        let model = match self.kind {
            Kind::Plain | Kind::LeavesEarly(_) => "everyone",
            Kind::Long => "long-25",
            Kind::LeavesLate => "long-200",
            Kind::Tools => "tools",
            Kind::Embedding(count) => {
                let inputs = vec![self.word.as_str(); count];
                return ("/v1/embeddings", json!({ "model": "vectors", "input": inputs }));
            }
        };
        let messages = json!([{ "role": "user", "content": self.prompt() }]);
        let mut body = json!({ "model": model, "messages": messages, "stream": self.streamed });
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
        let tools = self.kind == Kind::Tools;
        match self.dialect {
            Dialect::Chat => {
                if tools {
                    let function = json!({ "name": self.word, "parameters": schema });
                    body["tools"] = json!([{ "type": "function", "function": function }]);
                }
                ("/v1/chat/completions", body)
            }
            Dialect::Messages => {
                body["max_tokens"] = json!(1000);
                if tools {
                    body["tools"] = json!([{ "name": self.word, "input_schema": schema }]);
                }
                ("/v1/messages", body)
            }
            Dialect::Ollama => ("/api/chat", body),
            Dialect::Responses => {
                let input = self.prompt();
                let body = json!({ "model": model, "input": input, "stream": self.streamed });
                ("/v1/responses", body)
            }
        }
    }

    /// The right answer: a vendor's own, or that of a harmless fault.
    fn is_right(&self, seen: &Seen, play: Play) -> bool {
        if seen.errors > 0 || seen.ends != 1 {
            return false;
        }
        if play.fault.is_some() {
            return seen.text == faulty::words() && seen.calls.is_empty();
        }
        match self.kind {
            Kind::Plain | Kind::LeavesEarly(_) => seen.text == format!("{SPOKEN}{}", self.prompt()),
            Kind::Long => seen.text == long(25),
            Kind::LeavesLate => seen.text == long(200),
            Kind::Tools => {
                let [(name, arguments)] = &seen.calls[..] else { return false };
                let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
                seen.text.is_empty()
                    && *name == self.word
                    && arguments == json!({ "city": "Paris" })
            }
            Kind::Embedding(count) => {
                seen.vectors == (0..count).map(|at| vector(at, 4)).collect::<Vec<_>>()
            }
        }
    }

    /// The beginning of an answer, of which nothing is invented.
    fn is_beginning(&self, text: &str) -> bool {
        let said = format!("{SPOKEN}{}", self.prompt());
        [said, long(200), faulty::words()].iter().any(|whole| whole.starts_with(text))
    }
}

fn long(count: usize) -> String {
    (0..count).fold(String::new(), |text, number| text + &format!("{number} "))
}

// ------------------------------------------------------------------ what callers see

#[derive(Debug, Default)]
struct Seen {
    status: u16,
    /// The gateway's id of the request.
    id: Option<u128>,
    /// The kind of an error, where the whole answer is one.
    error: String,
    text: String,
    calls: Vec<(String, String)>,
    vectors: Vec<Vec<f32>>,
    /// How often it says that it ended well.
    ends: usize,
    /// Errors inside a stream.
    errors: usize,
    /// The first of them.
    problem: String,
}

impl Seen {
    fn read(&mut self, asking: &Asking, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains(FORGED), "{text}");
        if !asking.streamed || self.status != 200 {
            let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
            return self.read_whole(asking.dialect, &body);
        }
        for line in text.lines() {
            let data = match asking.dialect {
                Dialect::Ollama => line,
                _ => match line.strip_prefix("data: ") {
                    Some("[DONE]") | None => continue,
                    Some(data) => data,
                },
            };
            let event = serde_json::from_str(data).unwrap_or_else(|_| panic!("{data}"));
            self.read_event(asking.dialect, &event);
        }
    }

    fn say(&mut self, text: &Value) {
        self.text.push_str(text.as_str().unwrap_or_default());
    }

    fn call(&mut self, name: &Value, arguments: String) {
        self.calls.push((name.as_str().unwrap_or_default().to_owned(), arguments));
    }

    fn read_whole(&mut self, dialect: Dialect, body: &Value) {
        if self.status != 200 {
            // Ollama's errors are texts.
            let error = &body["error"];
            self.errors += usize::from(error["message"].is_string() || error.is_string());
            return;
        }
        match dialect {
            Dialect::Chat => {
                let message = &body["choices"][0]["message"];
                self.say(&message["content"]);
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                    self.call(&call["function"]["name"], arguments.to_owned());
                }
                self.ends += usize::from(body["choices"][0]["finish_reason"].is_string());
                if let Some(data) = body["data"].as_array() {
                    let vectors = data.iter().map(|entry| {
                        serde_json::from_value(entry["embedding"].clone()).unwrap_or_default()
                    });
                    self.vectors = vectors.collect();
                    self.ends += 1;
                }
            }
            Dialect::Messages => {
                for block in body["content"].as_array().into_iter().flatten() {
                    match block["type"].as_str() {
                        Some("tool_use") => self.call(&block["name"], block["input"].to_string()),
                        _ => self.say(&block["text"]),
                    }
                }
                self.ends += usize::from(body["stop_reason"].is_string());
            }
            Dialect::Ollama => {
                self.say(&body["message"]["content"]);
                self.ends += usize::from(body["done"] == true);
            }
            Dialect::Responses => {
                for item in body["output"].as_array().into_iter().flatten() {
                    for part in item["content"].as_array().into_iter().flatten() {
                        self.say(&part["text"]);
                    }
                }
                self.ends += usize::from(body["status"] == "completed");
            }
        }
    }

    fn read_event(&mut self, dialect: Dialect, event: &Value) {
        let failed = matches!(event["type"].as_str(), Some("error" | "response.failed"));
        if (failed || !event["error"].is_null()) && self.problem.is_empty() {
            self.problem = event.to_string();
        }
        match (dialect, event["type"].as_str()) {
            (Dialect::Chat, _) => {
                self.errors += usize::from(!event["error"].is_null());
                let choice = &event["choices"][0];
                self.say(&choice["delta"]["content"]);
                for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    if function["name"].is_string() {
                        self.call(&function["name"], String::new());
                    }
                    if let (Some(last), Some(piece)) =
                        (self.calls.last_mut(), function["arguments"].as_str())
                    {
                        last.1.push_str(piece);
                    }
                }
                self.ends += usize::from(choice["finish_reason"].is_string());
            }
            (Dialect::Messages, Some("content_block_start")) => {
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    self.call(&block["name"], String::new());
                }
            }
            (Dialect::Messages, Some("content_block_delta")) => {
                self.say(&event["delta"]["text"]);
                if let (Some(last), Some(piece)) =
                    (self.calls.last_mut(), event["delta"]["partial_json"].as_str())
                {
                    last.1.push_str(piece);
                }
            }
            (Dialect::Messages, Some("message_stop"))
            | (Dialect::Responses, Some("response.completed")) => self.ends += 1,
            (Dialect::Messages, Some("error"))
            | (Dialect::Responses, Some("response.failed" | "error")) => self.errors = 1,
            (Dialect::Responses, Some("response.output_text.delta")) => self.say(&event["delta"]),
            (Dialect::Ollama, _) => {
                self.errors += usize::from(!event["error"].is_null());
                self.say(&event["message"]["content"]);
                self.ends += usize::from(event["done"] == true);
            }
            _ => {}
        }
    }
}

// ------------------------------------------------------------------ the judge

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Right,
    /// The stream ended with an error.
    Broken,
    /// A typed error for the whole of it, after what its vendors did.
    Failed,
    /// A typed error, and nobody was asked.
    Refused,
    /// The caller left.
    Left,
}

/// What is kept of a request, to be held against its rows.
#[derive(Clone, Copy)]
struct Judged {
    plays: u8,
    right: bool,
    embedding: bool,
}

#[derive(Default)]
struct Judge {
    tally: BTreeMap<Verdict, usize>,
    by_id: HashMap<u128, Judged>,
    /// Words of those that left before they had an id.
    left: HashSet<String>,
    /// Answers in order that came too late because this machine was busy, so that another was asked.
    late: usize,
    slowest: Duration,
    complaints: Vec<String>,
}

impl Judge {
    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < 20 {
            self.complaints.push(complaint);
        }
    }

    fn count(&mut self, verdict: Verdict) {
        *self.tally.entry(verdict).or_default() += 1;
    }

    fn judge(&mut self, asking: &Asking, seen: &Seen, plays: &[Play], took: Duration) {
        self.slowest = self.slowest.max(took);
        let last = plays.last().copied();
        let proper = plays.iter().filter(|play| play.is_proper()).count();
        let verdict = match (seen.status, last) {
            (200, Some(last)) if last.is_proper() && asking.is_right(seen, last) => {
                self.late += proper - 1;
                Some(Verdict::Right)
            }
            (200, Some(last)) => {
                let broken = asking.streamed
                    && last.breaks_streams()
                    && seen.errors == 1
                    && seen.ends == 0
                    && asking.is_beginning(&seen.text);
                broken.then_some(Verdict::Broken)
            }
            (429 | 500..=504 | 529, last) if !seen.error.is_empty() && seen.errors == 1 => {
                self.late += proper;
                Some(if last.is_some() { Verdict::Failed } else { Verdict::Refused })
            }
            _ => None,
        };
        match verdict {
            Some(verdict) => self.count(verdict),
            None => {
                let Asking { word, dialect, kind, streamed } = asking;
                self.complain(format!(
                    "{word} {dialect:?} {kind:?} streamed {streamed}: {seen:?} after {plays:?}"
                ));
            }
        }
        let Some(id) = seen.id else { return self.complain(format!("no id: {seen:?}")) };
        let judged = Judged {
            plays: plays.len() as u8,
            right: verdict == Some(Verdict::Right),
            embedding: matches!(asking.kind, Kind::Embedding(_)),
        };
        if self.by_id.insert(id, judged).is_some() {
            self.complain(format!("two requests have the id {id:032x}"));
        }
    }
}

// ------------------------------------------------------------------ the load

struct Load {
    url: String,
    stage: Arc<Stage>,
    judge: Mutex<Judge>,
    stop: Arc<AtomicBool>,
    numbers: AtomicUsize,
}

impl Load {
    async fn caller(&self, number: usize) {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut dice = Dice::new(&format!("caller {number}"));
        while !self.stop.load(Ordering::Relaxed) {
            let next = tokio::time::Instant::now() + PERIOD;
            let asking = Asking::new(self.numbers.fetch_add(1, Ordering::Relaxed), &mut dice);
            self.ask(&client, &asking).await;
            tokio::time::sleep_until(next).await;
        }
    }

    async fn ask(&self, client: &reqwest::Client, asking: &Asking) {
        let began = Instant::now();
        let (path, body) = asking.request();
        let request = client
            .post(format!("{}{path}", self.url))
            .bearer_auth(CALLER)
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Kind::LeavesEarly(after) = asking.kind {
            if let Ok(Ok(response)) = tokio::time::timeout(after, request.send()).await {
                drop(response);
            }
            let mut judge = self.judge.lock().unwrap();
            judge.count(Verdict::Left);
            judge.left.insert(asking.word.clone());
            return;
        }
        let mut seen = Seen::default();
        let read = async {
            let response = request.send().await?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            seen.status = response.status().as_u16();
            let id = header("x-request-id").and_then(|id| id.strip_prefix("kw-"));
            seen.id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
            seen.error = header("x-keyward-error").unwrap_or_default().to_owned();
            let mut body = Vec::new();
            let mut stream = response.bytes_stream();
            while let Some(bytes) = stream.next().await {
                body.extend_from_slice(&bytes?);
                // A few pieces of content, in any dialect.
                let leaves = asking.kind == Kind::LeavesLate && seen.status == 200;
                if leaves && crate::support::contains(&body, b"\"12 \"") {
                    return Ok(None);
                }
            }
            Ok::<_, reqwest::Error>(Some(body))
        };
        match read.await {
            Ok(Some(body)) => {
                seen.read(asking, &body);
                let plays = self.stage.take(&asking.word);
                self.judge.lock().unwrap().judge(asking, &seen, &plays, began.elapsed());
            }
            Ok(None) => {
                let mut judge = self.judge.lock().unwrap();
                judge.count(Verdict::Left);
                judge.left.insert(asking.word.clone());
            }
            Err(error) => {
                let plays = self.stage.take(&asking.word);
                let complaint = format!("{} is lost: {error:?} after {plays:?}", asking.word);
                self.judge.lock().unwrap().complain(complaint);
            }
        }
    }
}

// ------------------------------------------------------------------ what changes meanwhile

/// Replaces a plugin and the configuration by turns, a change a second.
struct Changes<'a> {
    vendors: &'a Vendors,
    gateway: &'a Gateway,
    variants: Vec<(&'static str, Vec<Vec<u8>>)>,
    made: usize,
}

impl<'a> Changes<'a> {
    fn new(vendors: &'a Vendors, gateway: &'a Gateway) -> Self {
        let variants = ["openai", "anthropic", "ollama"].map(|adapter| {
            let component = plugins::bytes(adapter);
            (adapter, (0..VARIANTS).map(|number| variant(&component, number)).collect())
        });
        Self { vendors, gateway, variants: variants.into(), made: 0 }
    }

    fn make(&mut self) {
        let turn = self.made / 2;
        if self.made.is_multiple_of(2) {
            let (adapter, variants) = &self.variants[turn % self.variants.len()];
            self.gateway.install(adapter, &variants[turn / self.variants.len() % VARIANTS]);
        } else {
            self.gateway.configure(&self.vendors.config(turn + 1));
        }
        self.made += 1;
    }
}

/// What is measured every second.
#[derive(Default)]
struct Measured {
    memory: Vec<u64>,
    files: Vec<usize>,
    /// Of vendors, so far.
    attempts: Vec<usize>,
}

impl Measured {
    /// The least memory in one quarter of the time, so that what a moment needs isn't in it, and how
    /// many attempts there were until then.
    fn quarter(&self, number: usize) -> (u64, usize) {
        let seconds = self.memory.len() / 4;
        let quarter = seconds * (number - 1)..seconds * number;
        let least = quarter.min_by_key(|second| self.memory[*second]).unwrap();
        (self.memory[least], self.attempts[least])
    }
}

/// What the log told so far; its text isn't kept.
#[derive(Default)]
struct Log {
    plugins: usize,
    configurations: usize,
    leaks: Vec<String>,
    lines: usize,
}

impl Log {
    fn read(&mut self, gateway: &Gateway) {
        for line in gateway.take_log().lines() {
            self.lines += 1;
            self.plugins += usize::from(line.contains("plugin loaded"));
            self.configurations += usize::from(line.contains("configuration loaded"));
            self.leaks.extend(leak(line.as_bytes()).map(|form| format!("{form}: {line}")));
        }
    }
}

#[test]
fn a_minute_of_faults_and_reloads_loses_no_request_and_no_memory() {
    let minutes = std::env::var("KEYWARD_SOAK_MINUTES");
    let minutes = minutes.map_or(1, |minutes| minutes.parse().expect("a number of minutes"));
    let _alone = by_itself();
    soak(minutes);
}

fn soak(minutes: u64) {
    let vendors = Vendors::open();
    let gateway = vendors.start();
    let load = Load {
        url: gateway.url.clone(),
        stage: vendors.stage.clone(),
        judge: Mutex::default(),
        stop: Arc::default(),
        numbers: AtomicUsize::new(0),
    };
    let mut log = Log::default();
    let mut changes = Changes::new(&vendors, &gateway);
    let files = gateway.open_files();
    let measured = run(async {
        fill(&gateway).await;
        let callers = join_all((0..CALLERS).map(|number| load.caller(number)));
        let conduct = async {
            let measured = conduct(&load, &mut changes, &mut log, minutes).await;
            load.stop.store(true, Ordering::Relaxed);
            measured
        };
        let pauses = tokio::spawn(pauses(load.url.clone(), load.stop.clone()));
        let (_, measured) = tokio::join!(callers, conduct);
        let (ours, theirs) = pauses.await.unwrap();
        println!("longest pause here {ours:?}, of the gateway {theirs:?}");
        measured
    });
    run(at_rest(&vendors, &gateway, files));
    log.read(&gateway);
    println!(
        "{} changes; {} plugins and {} configurations loaded since; {} lines of log",
        changes.made, log.plugins, log.configurations, log.lines
    );
    let mut complaints = log.leaks.clone();
    complaints.extend(gateway.leaks());
    let setup = gateway.stop();
    let mut judge = load.judge.into_inner().unwrap();
    println!("{:?}; slowest {:?}; {} late", judge.tally, judge.slowest, judge.late);
    hold_against_rows(&setup, &vendors.stage, &mut judge);
    complaints.append(&mut judge.complaints);
    // By the second quarter, slots and pools have the size that the load needs.
    let ((before, first), (after, last)) = (measured.quarter(2), measured.quarter(4));
    let attempts = (last - first) as u64;
    println!(
        "least memory: {} KiB in the second quarter, {} in the last, {attempts} attempts later",
        before >> 10,
        after >> 10
    );
    if after > before + before / 20 + WARM_SLOTS + attempts * GROWS_PER_ROW {
        complaints.push(format!("memory grew from {before} to {after} bytes"));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The store keeps the pages of its newest rows, up to a limit. A request without a vendor fills it
/// quickest.
async fn fill(gateway: &Gateway) {
    let chats = (0..32).map(async |_| {
        let caller = gateway.caller();
        for _ in 0..500 {
            assert_eq!(caller.chat("demo/demo", "on and on").await.status, 200);
        }
    });
    join_all(chats).await;
    println!("filled; {} KiB", gateway.memory() >> 10);
}

/// Makes a change every second for so long, and measures.
async fn conduct(load: &Load, changes: &mut Changes<'_>, log: &mut Log, minutes: u64) -> Measured {
    let (vendors, gateway) = (changes.vendors, changes.gateway);
    let mut measured = Measured::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    println!(
        "minute requests   right broken failed refused  left  faults/attempts  KiB least  mean   most  files"
    );
    for second in 1..=60 * minutes as usize {
        ticks.tick().await;
        changes.make();
        measured.memory.push(gateway.memory());
        measured.files.push(gateway.open_files());
        measured.attempts.push(vendors.stage.played.load(Ordering::Relaxed));
        for (_, _, vendor) in &vendors.all {
            vendor.forget_answered();
        }
        log.read(gateway);
        if second % 60 > 0 {
            continue;
        }
        let tally = load.judge.lock().unwrap().tally.clone();
        let of = |verdict| tally.get(&verdict).copied().unwrap_or_default();
        let memory = &measured.memory[second - 60..];
        println!(
            "{:6} {:8} {:7} {:6} {:6} {:7} {:5} {:7}/{:<8} {:9} {:5} {:6} {:6}",
            second / 60,
            load.numbers.load(Ordering::Relaxed),
            of(Verdict::Right),
            of(Verdict::Broken),
            of(Verdict::Failed),
            of(Verdict::Refused),
            of(Verdict::Left),
            vendors.stage.faults.load(Ordering::Relaxed),
            vendors.stage.played.load(Ordering::Relaxed),
            memory.iter().min().unwrap() >> 10,
            (memory.iter().sum::<u64>() / 60) >> 10,
            memory.iter().max().unwrap() >> 10,
            measured.files[second - 60..].iter().max().unwrap(),
        );
    }
    measured
}

/// The longest that a short sleep took here, and that the gateway took to say that it is well: what
/// takes long because the machine is busy is told by it.
async fn pauses(url: String, stop: Arc<AtomicBool>) -> (Duration, Duration) {
    let ours = async {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(20)).await;
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let theirs = async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let began = Instant::now();
            let healthy = client.get(format!("{url}/healthz")).send().await;
            assert!(healthy.is_ok_and(|answer| answer.status() == 200), "it isn't well");
            longest = longest.max(began.elapsed());
        }
        longest
    };
    tokio::join!(ours, theirs)
}

/// The least resident memory of a few seconds.
async fn least_memory(gateway: &Gateway) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        least = least.min(gateway.memory());
    }
    least
}

/// Nothing is left of the load: no request under way, no connection, no code of replaced plugins.
/// Code is freed with the last instance on it, and each change has replaced some.
async fn at_rest(vendors: &Vendors, gateway: &Gateway, files: usize) {
    for (_, _, vendor) in &vendors.all {
        eventually("the vendors' requests to be over", Duration::from_secs(10), async || {
            vendor.forget_answered().is_empty().then_some(())
        })
        .await;
    }
    let operator = gateway.stranger(Some(OPERATOR));
    eventually("nothing under way", Duration::from_secs(10), async || {
        let providers = operator.get("/operator/v1/providers").await.json();
        let idle = |provider: &Value| provider["open"] == 0 && provider["waiting"] == 0;
        let providers = providers["providers"].as_array().or(providers.as_array())?;
        providers.iter().all(idle).then_some(())
    })
    .await;
    drop(operator);
    // Connections to vendors are kept for a while; those of a provider that has changed aren't.
    let config = vendors.config(0).replace("total: 20s", "total: 25s");
    gateway.configure(&config);
    // Health may look after each vendor meanwhile, over one connection.
    let most = files + vendors.all.len();
    let adapters = fs::read_dir(gateway.setup().plugins()).unwrap().count();
    let open = eventually("connections and code to be gone", Duration::from_secs(20), async || {
        let open = gateway.open_files();
        (open <= most && gateway.compiled_code_mapped() == adapters).then_some(open)
    });
    println!("{files} files open before, {} after", open.await);
    println!("{} KiB at rest", least_memory(gateway).await >> 10);
}

/// Every attempt has its row, and no row is of anything else.
fn hold_against_rows(setup: &Setup, stage: &Stage, judge: &mut Judge) {
    #[derive(Clone, Copy, Default)]
    struct Rows {
        all: u8,
        ok: u8,
        unsent: u8,
        highest: u32,
    }
    let mut by_request: HashMap<u128, Rows> = HashMap::new();
    let (mut known, mut unknown) = (0, 0);
    for row in setup.rows() {
        if row.provider.as_str() == "demo" {
            continue;
        }
        let id = row.request.0;
        let judged = judge.by_id.get(&id).copied();
        *(if judged.is_some() { &mut known } else { &mut unknown }) += 1;
        let of = by_request.entry(id).or_default();
        of.all += 1;
        of.highest = of.highest.max(row.attempt);
        let tokens = (row.tokens.input.map(|t| t.0), row.tokens.output.map(|t| t.0));
        if row.outcome == Outcome::Ok {
            of.ok += 1;
            let counted = match judged {
                Some(Judged { embedding: true, .. }) => {
                    tokens.0 == Some(6) && tokens.1.unwrap_or(0) == 0
                }
                Some(_) => tokens == (Some(11), Some(7)),
                None => true,
            };
            if !counted || row.estimated {
                judge.complain(format!("not what the vendor counted: {row:?}"));
            }
        } else if tokens == (Some(0), Some(0)) {
            of.unsent += 1;
        }
    }
    let mut surplus = 0;
    for (id, judged) in judge.by_id.clone() {
        let of = by_request.get(&id).copied().unwrap_or_default();
        // A vendor may close a connection just when the next request is on it: it knows nothing of
        // that attempt, which has failed and cost nothing.
        let more = of.all.saturating_sub(judged.plays);
        surplus += usize::from(more);
        let right = of.all >= judged.plays && more <= of.unsent;
        if !right || of.ok != u8::from(judged.right) || u32::from(of.all) != of.highest {
            judge.complain(format!(
                "request {id:032x}: {} rows, {} of them ok, attempts up to {}, for {} at vendors, \
                 right {}",
                of.all, of.ok, of.highest, judged.plays, judged.right
            ));
        }
    }
    let plays = std::mem::take(&mut *stage.plays.lock().unwrap());
    let mut left = 0;
    for (word, plays) in plays {
        left += plays.len();
        if !judge.left.contains(&word) {
            judge.complain(format!("{word} was over, and then {plays:?}"));
        }
    }
    println!(
        "{known} rows of {} requests, {surplus} of them for attempts that no vendor saw; {unknown} \
         rows for {left} at vendors of {} that left",
        judge.by_id.len(),
        judge.left.len()
    );
    // Those that left before their vendor was asked may have a row as well.
    if unknown < left || unknown > left + judge.left.len() {
        judge.complain(format!("{unknown} rows for {left} attempts of those that left"));
    }
    let asked = judge.by_id.len();
    if surplus * 200 > asked {
        judge.complain(format!("{surplus} attempts that no vendor saw"));
    }
    let refused = judge.tally.get(&Verdict::Refused).copied().unwrap_or_default();
    // A limit keeps its model away from its vendor for a second. At full rate three are told within
    // one, so that now and then all rest.
    if refused * 20 > asked {
        judge.complain(format!("{refused} of {asked} requests were refused"));
    }
    if judge.late * 100 > asked {
        judge.complain(format!("{} good answers came too late", judge.late));
    }
    if judge.slowest > PATIENCE {
        judge.complain(format!("one took {:?}", judge.slowest));
    }
}
