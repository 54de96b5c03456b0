//! What the sandbox adds to an exchange: an adapter as a component against the native build of the same
//! adapter, in this process, without HTTP.
//!
//! `cargo bench --bench sandbox`. Everything runs on one thread that never waits, so elapsed time is
//! processor time; each figure is the least of many batches, so that other work on the machine
//! counts little. `KEYWARD_BENCH_PLUGINS` names a folder of built
//! adapters; without it `openai` is built first. Of each adapter there, [`adapters`] measures its own
//! recordings.

// A bench that can't go on has nothing to report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
#[path = "../../src/plugin_test/types.rs"]
mod types;

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use keyward::{
    content::{self, Held},
    contract as host,
    ids::ModelName,
    operation::{self, Dialect, Operation, PartBody},
    sandbox::{Compiler, Limits, Plugin, Sandbox, Worker},
};
use keyward_adapter_openai::OpenAi;
use keyward_sdk::{Exchange, contract as sdk};

const BATCHES: usize = 60;
const EXCHANGES: usize = 50;
const EVENTS: usize = 500;

/// The aims, in microseconds of processor time.
const AIM_CHAT: f64 = 40.0;
const AIM_EVENT: f64 = 5.0;
const AIM_LARGE: f64 = 1.2;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"Rivers begin small, gather what the hills give them, and reach the sea in their own time.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":256,"completion_tokens":19,"total_tokens":275,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_1"}"#;
const CHUNK: &str = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" river"},"logprobs":null,"finish_reason":null}],"usage":null}"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let components = components(folder.path());
    let compiler = compiler(folder.path());
    let plugin = runtime.block_on(load(&compiler, &components.join("openai.wasm")));
    let small = asked(1 << 10);
    let large = asked(100 << 10);

    println!("{:<44} {:>10} {:>10} {:>8}", "", "sandbox", "native", "added");
    let chat = |prompt: &Operation| {
        let sandboxed = cost(EXCHANGES, || runtime.block_on(sandboxed_chat(&plugin, prompt)));
        let native = cost(EXCHANGES, || native_chat(prompt));
        (sandboxed, native)
    };
    let (sandboxed, native) = chat(&small);
    row("plain chat, 1 KB prompt", sandboxed, native, AIM_CHAT);
    let (sandboxed_large, native_large) = chat(&large);
    row("plain chat, 100 KB prompt", sandboxed_large, native_large, AIM_CHAT);
    let factor = sandboxed_large / sandboxed;
    println!("  against 1 KB {:>39.2} {:>38}", factor, verdict(factor, AIM_LARGE));
    let opened = cost(EXCHANGES, || {
        let (operation, _) = content::lower(&small, false).unwrap();
        black_box(runtime.block_on(plugin.open(&operation, &host_context())).unwrap());
    });
    println!("  of it a fresh instance and its constructor {opened:>9.1} us");

    let event = stream(&plugin, &runtime);
    let native_event = native_stream();
    row("streamed event", event, native_event, AIM_EVENT);
    let shared = shared_step(&plugin, &runtime);
    println!("  ten events to a step, each {shared:>25.1} us");

    println!("\n{:<44} {:>10} {:>10} {:>8}", "outside the sandbox", "100 KB", "1 KB", "ratio");
    let marks = |prompt: &Operation| {
        cost(EXCHANGES, || {
            black_box(content::lower(prompt, false).unwrap());
        })
    };
    ratio("prompt to marks", marks(&large), marks(&small));
    let filled = |prompt: &Operation| {
        let begun = marks(prompt);
        cost(EXCHANGES, || {
            let (lowered, held) = content::lower(prompt, false).unwrap();
            black_box(fill(&lowered, &held));
        }) - begun
    };
    ratio("marks to content, escaped", filled(&large), filled(&small));

    adapters::print(&components, &compiler, &runtime);
}

fn row(name: &str, sandboxed: f64, native: f64, aim: f64) {
    let added = sandboxed - native;
    println!(
        "{name:<44} {sandboxed:>7.1} us {native:>7.1} us {added:>5.1} us  {}",
        verdict(added, aim)
    );
}

fn ratio(name: &str, one: f64, other: f64) {
    println!("{name:<44} {one:>7.1} us {other:>7.1} us {:>8.1}", one / other);
}

fn verdict(figure: f64, aim: f64) -> String {
    let word = if figure <= aim { "met" } else { "missed" };
    format!("(aim {aim}: {word})")
}

/// Microseconds of one of `times` runs, the least of all batches.
fn cost(times: usize, mut run: impl FnMut()) -> f64 {
    let mut least = f64::MAX;
    for batch in 0..BATCHES + 3 {
        let began = Instant::now();
        for _ in 0..times {
            run();
        }
        let each = began.elapsed().as_secs_f64() * 1e6 / times as f64;
        // The first ones warm caches and slots.
        if batch >= 3 {
            least = least.min(each);
        }
    }
    least
}

/// The folder of built adapters.
fn components(scratch: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("KEYWARD_BENCH_PLUGINS") {
        return PathBuf::from(path);
    }
    let built = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["plugin", "build"])
        .arg(sources().join("openai"))
        .arg("--out")
        .arg(scratch)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the adapter doesn't build");
    scratch.to_owned()
}

/// The folder of the adapters' sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

fn compiler(scratch: &Path) -> Compiler {
    let worker = Worker::Child {
        program: env!("CARGO_BIN_EXE_keyward").into(),
        arguments: vec!["compile-worker".into()],
    };
    Compiler::new(Sandbox::new(64).unwrap(), worker, &scratch.join("compiled")).unwrap()
}

/// An adapter, loaded as the gateway would.
async fn load(compiler: &Compiler, component: &Path) -> Plugin {
    let bytes = std::fs::read(component).unwrap();
    Plugin::load(compiler, bytes.into(), &Limits::default()).await.unwrap()
}

fn asked(bytes: usize) -> Operation {
    let line = "The river turns north here, past the \"old\" mill.\n";
    let prompt: String = line.chars().cycle().take(bytes).collect();
    let message = |role, text: &str| operation::Message {
        role,
        answers: None,
        name: None,
        parts: vec![PartBody::Text(text.into()).into()],
        extra: Vec::new(),
    };
    Operation::Chat(Arc::new(operation::Chat {
        model: ModelName::new("gpt-4.1").unwrap(),
        messages: vec![
            message(operation::Role::System, "Answer in one sentence."),
            message(operation::Role::User, &prompt),
        ],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        format: host::Format::Text,
        sampling: host::Sampling {
            max_output_tokens: Some(200),
            temperature: Some(0.2),
            ..host::Sampling::default()
        },
        reasoning: None,
        stream: false,
        dialect: Dialect::OpenAiChat,
        extra: Vec::new(),
    }))
}

fn host_context() -> host::Context {
    host::Context {
        settings: "{}".into(),
        now_ms: 0,
        seed: 0,
        id: "req_1".into(),
        grants: Vec::new(),
    }
}

async fn sandboxed_chat(plugin: &Plugin, prompt: &Operation) {
    let (operation, _held) = content::lower(prompt, false).unwrap();
    let mut instance = plugin.open(&operation, &host_context()).await.unwrap();
    let sent = instance.step(&[host::Input::Start]).await.unwrap();
    assert!(matches!(sent[..], [host::Output::Send(_)]));
    let answer = [
        host::Input::Head(host::ResponseHead { status: 200, headers: Vec::new() }),
        host::Input::Frame(host::Frame { name: String::new(), data: ANSWER.into() }),
        host::Input::End,
    ];
    let events = instance.step(&answer).await.unwrap();
    assert!(matches!(events.last(), Some(host::Output::Done)));
}

fn native_operation(prompt: &Operation) -> sdk::Operation {
    let Operation::Chat(chat) = prompt else { panic!("only chats are measured") };
    let (lowered, _held) = content::lower(prompt, false).unwrap();
    let host::Operation::Chat(lowered) = lowered else { panic!("a chat stays one") };
    let messages = lowered.messages.into_iter().zip([sdk::Role::System, sdk::Role::User]);
    sdk::Operation::Chat(sdk::Chat {
        model: lowered.model,
        messages: messages
            .map(|(message, role)| sdk::Message {
                role,
                answers: None,
                name: None,
                parts: message
                    .parts
                    .into_iter()
                    .map(|part| {
                        let host::PartBody::Text(text) = part.body else { panic!("only text") };
                        let host::Text { value, length, blank, held } = text;
                        sdk::Part {
                            body: sdk::PartBody::Text(sdk::Text { value, length, blank, held }),
                            cache: None,
                            extra: Vec::new(),
                        }
                    })
                    .collect(),
                extra: Vec::new(),
            })
            .collect(),
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        format: sdk::Format::Text,
        sampling: sdk::Sampling {
            max_output_tokens: chat.sampling.max_output_tokens,
            temperature: chat.sampling.temperature,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            stop: Vec::new(),
            choices: None,
            logprobs: None,
        },
        reasoning: None,
        stream: false,
        dialect: lowered.dialect,
        extra: Vec::new(),
    })
}

fn native(prompt: &Operation) -> Exchange<OpenAi> {
    let context = sdk::Context {
        settings: "{}".into(),
        now_ms: 0,
        seed: 0,
        id: "req_1".into(),
        grants: Vec::new(),
    };
    let mut exchange = Exchange::<OpenAi>::new(native_operation(prompt), context);
    let sent = exchange.step(vec![sdk::Input::Start]);
    assert!(matches!(sent[..], [sdk::Output::Send(_)]));
    exchange
}

fn native_chat(prompt: &Operation) {
    let mut exchange = native(prompt);
    let events = exchange.step(vec![
        sdk::Input::Head(sdk::ResponseHead { status: 200, headers: Vec::new() }),
        sdk::Input::Frame(sdk::Frame { name: String::new(), data: ANSWER.into() }),
        sdk::Input::End,
    ]);
    assert!(matches!(events.last(), Some(sdk::Output::Done)));
}

/// An exchange that is in the middle of its answer, and the cost of one event more.
fn stream(plugin: &Plugin, runtime: &tokio::runtime::Runtime) -> f64 {
    let mut instance = runtime.block_on(begun(plugin));
    cost(EVENTS, || {
        let frame = host::Input::Frame(host::Frame { name: String::new(), data: CHUNK.into() });
        let events = runtime.block_on(instance.step(&[frame])).unwrap();
        assert_eq!(events.len(), 1);
    })
}

fn shared_step(plugin: &Plugin, runtime: &tokio::runtime::Runtime) -> f64 {
    let mut instance = runtime.block_on(begun(plugin));
    let ten = cost(EVENTS / 10, || {
        let frame = || host::Input::Frame(host::Frame { name: String::new(), data: CHUNK.into() });
        let frames: Vec<_> = (0..10).map(|_| frame()).collect();
        let events = runtime.block_on(instance.step(&frames)).unwrap();
        assert_eq!(events.len(), 10);
    });
    ten / 10.0
}

async fn begun(plugin: &Plugin) -> keyward::sandbox::Instance {
    let (operation, _held) = content::lower(&asked(1 << 10), false).unwrap();
    let mut instance = plugin.open(&operation, &host_context()).await.unwrap();
    instance.step(&[host::Input::Start]).await.unwrap();
    let head = host::Input::Head(host::ResponseHead { status: 200, headers: Vec::new() });
    let frame = host::Input::Frame(host::Frame { name: String::new(), data: CHUNK.into() });
    instance.step(&[head, frame]).await.unwrap();
    instance
}

fn native_stream() -> f64 {
    let mut exchange = native(&asked(1 << 10));
    let head = sdk::Input::Head(sdk::ResponseHead { status: 200, headers: Vec::new() });
    let frame = || sdk::Input::Frame(sdk::Frame { name: String::new(), data: CHUNK.into() });
    exchange.step(vec![head, frame()]);
    cost(EVENTS, || {
        let events = exchange.step(vec![frame()]);
        assert_eq!(events.len(), 1);
    })
}

/// A body with every mark in it, filled.
fn fill(lowered: &host::Operation, held: &Held) -> bytes::Bytes {
    let host::Operation::Chat(chat) = lowered else { panic!("only chats are measured") };
    let texts = chat.messages.iter().flat_map(|message| &message.parts).map(|part| {
        let host::PartBody::Text(text) = &part.body else { panic!("only text") };
        text.value.as_str()
    });
    let body: Vec<&str> = texts.collect();
    held.fill_json(format!("[\"{}\"]", body.join("\",\""))).unwrap()
}
