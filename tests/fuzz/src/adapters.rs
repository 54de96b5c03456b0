//! Adapters' decoders, with what their vendors might answer.
//!
//! An input names one of the adapter's recordings, whose operation is asked, then says what the
//! vendor answers, one answer for each request, much as HTTP would:
//!
//! ```text
//! streamed
//! 200
//! content-type: text/event-stream
//!
//! data: {"choices":[]}
//! ====
//! 429
//! …
//! ```
//!
//! The adapter's native build gets it framed by the host's framing, whole and in pieces.
//!
//! Promised: no panic; an exchange ends done or failed once its last answer is complete, and says
//! nothing after that; nothing is sent while an answer is arriving; what an event holds is no larger
//! than what it was made from; JSON is JSON; arguments follow the call they belong to; events and
//! end are the same however the bytes came.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use keyward::egress::{Decoder, FrameLimits};
use keyward_adapter_anthropic::Anthropic;
use keyward_adapter_azure_openai::AzureOpenAi;
use keyward_adapter_cloudflare::Cloudflare;
use keyward_adapter_cohere::Cohere;
use keyward_adapter_demo::Demo;
use keyward_adapter_gemini::Gemini;
use keyward_adapter_lightllm::LightLlm;
use keyward_adapter_localai::LocalAi;
use keyward_adapter_ollama::Ollama;
use keyward_adapter_openai::OpenAi;
use keyward_adapter_openai_compatible::OpenAiCompatible;
use keyward_sdk::{
    Descriptor, Framing,
    contract::{Event, Failure, Frame, Header, Input, Output, ResponseHead, VendorRequest},
    replay::{self, Native, Recording, Running, Target},
};

use crate::{
    across::Across as _,
    input::{first_line, hash, pieces, split},
    root,
};

/// What stands between two answers of an input.
pub const NEXT_ANSWER: &[u8] = b"\n====\n";

/// As the host has it.
const MAX_BODY: usize = 64 << 10;
const MAX_SLEEPS: usize = 120;

/// What events may hold beyond what the vendor sent, and how often it may stand in them: an id or
/// a text that the adapter repeats, a base64 that becomes numbers.
const FREE: usize = 32 << 10;
const REPEATED: usize = 64;

/// Makes an adapter's native build.
type Open = fn() -> Box<dyn Target>;

/// An adapter's native build with its recordings.
pub struct Bench {
    pub name: &'static str,
    open: Open,
    pub descriptor: Descriptor,
    pub recordings: Vec<Recording>,
}

/// Every adapter.
pub fn all() -> &'static [Arc<Bench>] {
    static ALL: OnceLock<Vec<Arc<Bench>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let adapters: [(&str, Open); 11] = [
            ("anthropic", || Box::new(Native::<Anthropic>::default())),
            ("azure-openai", || Box::new(Native::<AzureOpenAi>::default())),
            ("cloudflare", || Box::new(Native::<Cloudflare>::default())),
            ("cohere", || Box::new(Native::<Cohere>::default())),
            ("demo", || Box::new(Native::<Demo>::default())),
            ("gemini", || Box::new(Native::<Gemini>::default())),
            ("lightllm", || Box::new(Native::<LightLlm>::default())),
            ("localai", || Box::new(Native::<LocalAi>::default())),
            ("ollama", || Box::new(Native::<Ollama>::default())),
            ("openai", || Box::new(Native::<OpenAi>::default())),
            ("openai-compatible", || Box::new(Native::<OpenAiCompatible>::default())),
        ];
        let bench = |(name, open): (&'static str, Open)| {
            let folder = root().join("plugins").join(name).join("recordings");
            let recordings = replay::load_all(folder).expect("recordings");
            let descriptor = open().describe().expect("a descriptor");
            Arc::new(Bench { name, open, descriptor, recordings })
        };
        adapters.map(bench).to_vec()
    })
}

/// The adapter of this name.
pub fn bench(name: &str) -> &'static Bench {
    all().iter().find(|bench| bench.name == name).expect("an adapter of this name")
}

impl Bench {
    /// The recording of this name. Of another name, any, but always the same.
    pub fn recording(&self, name: &[u8]) -> &Recording {
        let named = self.recordings.iter().find(|recording| recording.name.as_bytes() == name);
        let count = self.recordings.len() as u64;
        named.unwrap_or_else(|| &self.recordings[(hash(name) % count) as usize])
    }

    pub fn begin(
        &self,
        operation: keyward_sdk::Operation,
        context: keyward_sdk::Context,
    ) -> Box<dyn Running> {
        (self.open)().open(operation, context).expect("a native adapter opens")
    }
}

/// One answer of an input.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(text: &'a [u8]) -> Self {
        let (status, mut rest) = first_line(text);
        let status = std::str::from_utf8(status).ok().and_then(|text| text.trim().parse().ok());
        let mut headers = Vec::new();
        loop {
            let (line, after) = first_line(rest);
            rest = after;
            let line = String::from_utf8_lossy(line);
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        Self { status: status.unwrap_or(200), headers, body: rest }
    }
}

/// How an exchange ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    Failed(Box<Failure>),
    /// The answer couldn't be framed: the host says so itself.
    Damaged,
    /// There was no further answer, or the adapter waited for too long.
    Abandoned,
}

/// # Panics
/// If a promise is broken.
pub fn decode(adapter: &str, input: &[u8]) {
    let bench = bench(adapter);
    let (name, answers) = first_line(input);
    let recording = bench.recording(name);
    let answers: Vec<Answer<'_>> =
        split(answers, NEXT_ANSWER).into_iter().map(Answer::read).collect();
    let whole = carry_out(bench, recording, &answers, None);
    let split = carry_out(bench, recording, &answers, Some(input));
    assert_eq!(split.0, whole.0, "events differ when the bytes come in pieces");
    assert_eq!(split.1, whole.1, "the end differs when the bytes come in pieces");
}

/// An exchange in progress.
struct Exchange<'a> {
    running: Box<dyn Running>,
    events: Vec<Event>,
    /// Calls that have begun.
    calls: BTreeSet<(u32, u32)>,
    sleeps: usize,
    /// Bytes given to the adapter and got from it.
    given: usize,
    got: usize,
    bench: &'a Bench,
}

/// What comes next.
enum Next {
    /// The adapter waits for more of the answer.
    More,
    Send(Box<VendorRequest>),
    Sleep,
    End(End),
}

fn carry_out(
    bench: &Bench,
    recording: &Recording,
    answers: &[Answer<'_>],
    cut: Option<&[u8]>,
) -> (Vec<Event>, End) {
    let running = bench.begin(recording.operation.clone(), recording.context.clone());
    let mut exchange = Exchange {
        running,
        events: Vec::new(),
        calls: BTreeSet::new(),
        sleeps: 0,
        given: 0,
        got: 0,
        bench,
    };
    let end = exchange.run(answers, cut);
    let late = exchange.running.step(vec![Input::End]).expect("a native step");
    assert!(!matches!(end, End::Done | End::Failed(_)) || late.is_empty(), "goes on: {late:?}");
    (replay::fold(exchange.events), end)
}

impl Exchange<'_> {
    fn run(&mut self, answers: &[Answer<'_>], cut: Option<&[u8]>) -> End {
        let mut answers = answers.iter();
        let mut next = self.step(vec![Input::Start], false);
        loop {
            next = match next {
                Next::End(end) => return end,
                Next::More => panic!("waits although nothing was asked"),
                Next::Sleep if self.sleeps >= MAX_SLEEPS => return End::Abandoned,
                Next::Sleep => {
                    self.sleeps += 1;
                    self.step(vec![Input::Timer], false)
                }
                Next::Send(request) => {
                    let Some(answer) = answers.next() else { return End::Abandoned };
                    self.receive(answer, request.framing, cut)
                }
            }
        }
    }

    /// Hands an answer over as the host does.
    fn receive(&mut self, answer: &Answer<'_>, framing: Framing, cut: Option<&[u8]>) -> Next {
        let visible = |name: &str| {
            self.bench.descriptor.response_headers.iter().any(|listed| {
                match listed.strip_suffix('*') {
                    Some(beginning) => name.starts_with(beginning),
                    None => listed == name,
                }
            })
        };
        let headers = answer.headers.iter().filter(|(name, _)| visible(name));
        let headers =
            headers.map(|(name, value)| Header { name: name.clone(), value: value.clone() });
        let head = ResponseHead { status: answer.status, headers: headers.collect() };
        let head = Input::Head(head);
        let is_json = answer.headers.iter().any(|(name, value)| {
            name == "content-type" && value.split(';').next() == Some("application/json")
        });
        let streamed = !matches!(framing, Framing::Json);
        let framed =
            (200..300).contains(&answer.status) && answer.status != 204 && !(streamed && is_json);
        if !framed {
            let body = &answer.body[..answer.body.len().min(MAX_BODY)];
            let body = Input::Body(String::from_utf8_lossy(body).into_owned());
            return self.complete(vec![head, body, Input::End]);
        }
        let mut decoder = Decoder::new(framing.across(), FrameLimits::default());
        let mut inputs = vec![head];
        let pieces = cut.map_or_else(|| vec![answer.body], |seed| pieces(answer.body, seed));
        for piece in pieces {
            let mut frames = Vec::new();
            let pushed = decoder.push(piece, &mut frames);
            inputs.extend(frames.into_iter().map(|frame| Input::Frame(frame.across())));
            let only_head = matches!(inputs.as_slice(), [Input::Head(_)]);
            if pushed.is_err() || !(inputs.is_empty() || only_head) {
                match self.step(std::mem::take(&mut inputs), true) {
                    Next::More => {}
                    next => return next,
                }
            }
            if pushed.is_err() {
                return Next::End(End::Damaged);
            }
        }
        let mut frames: Vec<keyward::contract::Frame> = Vec::new();
        let finished = decoder.finish(&mut frames);
        let frames: Vec<Frame> = frames.across();
        inputs.extend(frames.into_iter().map(Input::Frame));
        if finished.is_ok() {
            inputs.push(Input::End);
            return self.complete(inputs);
        }
        if inputs.is_empty() {
            return Next::End(End::Damaged);
        }
        match self.step(inputs, true) {
            Next::More => Next::End(End::Damaged),
            next => next,
        }
    }

    /// The last step of an answer.
    fn complete(&mut self, inputs: Vec<Input>) -> Next {
        match self.step(inputs, false) {
            Next::More => panic!("neither ends nor goes on after the end of an answer"),
            next => next,
        }
    }

    fn step(&mut self, inputs: Vec<Input>, receiving: bool) -> Next {
        self.given += inputs.iter().map(size_of_input).sum::<usize>();
        let mut next = Next::More;
        for output in self.running.step(inputs).expect("a native step") {
            assert!(matches!(next, Next::More), "goes on after its last output: {output:?}");
            match output {
                Output::Event(event) => self.event(event),
                Output::Done => next = Next::End(End::Done),
                Output::Failed(failure) => {
                    assert!(!failure.message.is_empty(), "a failure without words");
                    next = Next::End(End::Failed(Box::new(failure)));
                }
                Output::Send(request) => {
                    assert!(!receiving, "sends while an answer is arriving");
                    next = Next::Send(Box::new(request));
                }
                Output::Sleep(_) => {
                    assert!(!receiving, "sleeps while an answer is arriving");
                    next = Next::Sleep;
                }
                Output::Other(other) => panic!("an unknown output: {other:?}"),
            }
        }
        next
    }

    fn event(&mut self, event: Event) {
        check(&event);
        match &event {
            Event::ToolCall(call) => {
                let new = self.calls.insert((call.choice, call.index));
                assert!(new, "a tool call that has begun before: {call:?}");
            }
            Event::ToolArguments(piece) => {
                let begun = self.calls.contains(&(piece.choice, piece.index));
                assert!(begun, "arguments of a call that hasn't begun: {piece:?}");
            }
            _ => {}
        }
        self.got += size_of_event(&event);
        assert!(
            self.got <= FREE + REPEATED * self.given,
            "{} bytes of events from {} bytes",
            self.got,
            self.given
        );
        self.events.push(event);
    }
}

/// What the host checks of an event.
fn check(event: &Event) {
    let json = |text: &str| {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(text);
        assert!(json.is_ok(), "not JSON in {event:?}");
    };
    match event {
        Event::Citation(note) | Event::Logprobs(note) => json(&note.json),
        Event::Attribute(attribute) => json(&attribute.json),
        Event::Other(other) => json(&other.json),
        Event::Model(model) => json(&model.extra),
        Event::Usage(usage) => {
            for unit in &usage.units {
                assert!(unit.amount.is_finite() && unit.amount >= 0.0, "{unit:?}");
            }
        }
        Event::Embedding(embedding) => {
            if let keyward_sdk::Vector::Floats(floats) = &embedding.vector {
                assert!(floats.iter().all(|float| float.is_finite()), "not finite: {floats:?}");
            }
        }
        _ => {}
    }
}

fn size_of_input(input: &Input) -> usize {
    match input {
        Input::Frame(frame) => frame.name.len() + frame.data.len(),
        Input::Body(body) => body.len(),
        Input::Head(head) => {
            head.headers.iter().map(|header| header.name.len() + header.value.len()).sum()
        }
        _ => 0,
    }
}

fn size_of_event(event: &Event) -> usize {
    let texts: &[&str] = match event {
        Event::Text(delta)
        | Event::Refusal(delta)
        | Event::Thinking(delta)
        | Event::ThinkingSignature(delta)
        | Event::RedactedThinking(delta) => &[&delta.text],
        Event::ToolCall(call) => &[&call.id, &call.name],
        Event::ToolArguments(piece) => &[&piece.fragment],
        Event::Citation(note) | Event::Logprobs(note) => &[&note.json],
        Event::Media(media) => &[&media.media_type, &media.base64],
        Event::Model(model) => &[&model.id, &model.extra],
        Event::Attribute(attribute) => &[&attribute.name, &attribute.json],
        Event::Warning(warning) => &[&warning.subject, &warning.message],
        _ => &[],
    };
    let vector = match event {
        Event::Embedding(embedding) => match &embedding.vector {
            keyward_sdk::Vector::Floats(floats) => floats.len() * 4,
            keyward_sdk::Vector::Base64(text) => text.len(),
        },
        _ => 0,
    };
    16 + vector + texts.iter().map(|text| text.len()).sum::<usize>()
}
