//! What the search begins with: inputs made of the adapters' recordings.
//!
//! They aren't kept as files, so that a new recording is a new seed. What no recording has, a
//! request with every field for one, stands in the corpus.

use std::collections::{BTreeMap, BTreeSet};

use keyward_sdk::replay::{Recording, Step};
use serde_json::Value;

use crate::{
    Target,
    adapters::{self, Bench, NEXT_ANSWER},
    root,
};

/// Names and inputs.
pub type Seeds = BTreeMap<String, Vec<u8>>;

/// The seeds of a target; longer ones than it takes are left out.
pub fn of(target: Target) -> Seeds {
    let mut seeds = match target.name {
        "request-openai-chat" => asked("/chat/completions", None),
        "request-openai-responses" => asked("/responses", None),
        "request-openai-embeddings" => asked("/embeddings", None),
        "request-anthropic-messages" => asked("/messages", None),
        "request-anthropic-count" => asked("/messages/count_tokens", None),
        "request-ollama-chat" => asked("/chat", Some("ollama")),
        "request-ollama-embed" => asked("/embed", Some("ollama")),
        "answer-openai-chat" => told("usage"),
        "answer-openai-responses" => told("{}"),
        "answer-anthropic-messages" => told(""),
        "answer-ollama" => told("chat"),
        "answer-embeddings" => told("2"),
        "framing-sse" => bodies("text/event-stream"),
        "framing-ndjson" => bodies("application/x-ndjson"),
        "framing-json" => bodies("application/json"),
        "descriptor" => each(|bench| serde_json::to_vec(&bench.descriptor).ok()),
        "price" => each(|bench| {
            let model = bench.descriptor.models.iter().find(|model| !model.prices.is_empty())?;
            let mut input = serde_json::to_vec(&model.prices).ok()?;
            input.extend_from_slice(b"\n====\n300000 20 10 900 40 1 searches 3");
            Some(input)
        }),
        "providers-yaml" => {
            let file = std::fs::read(root().join("providers.yaml")).unwrap_or_default();
            Seeds::from([("providers.yaml".to_owned(), file)])
        }
        name => match name.strip_prefix("adapter-") {
            Some(name) => {
                let bench = adapters::bench(name);
                let recordings = bench.recordings.iter();
                recordings.map(|recording| (recording.name.clone(), answered(recording))).collect()
            }
            None => Seeds::new(),
        },
    };
    // Recordings of one thing with several vendors often say the same.
    let mut seen = BTreeSet::new();
    seeds.retain(|_, input| input.len() <= target.max_len && seen.insert(input.clone()));
    seeds
}

fn each(input: impl Fn(&Bench) -> Option<Vec<u8>>) -> Seeds {
    let seed = |bench: &Bench| Some((bench.name.to_owned(), input(bench)?));
    adapters::all().iter().filter_map(|bench| seed(bench)).collect()
}

/// Every recording, with its adapter's name before its own.
fn recordings() -> impl Iterator<Item = (&'static Bench, String, &'static Recording)> {
    adapters::all().iter().flat_map(|bench| {
        bench.recordings.iter().map(move |recording| {
            (&**bench, format!("{}-{}", bench.name, recording.name), recording)
        })
    })
}

/// What a vendor answered, as an input for its adapter.
fn answered(recording: &Recording) -> Vec<u8> {
    let mut input = recording.name.clone().into_bytes();
    input.push(b'\n');
    let answers = recording.steps.iter().filter_map(|step| match step {
        Step::Request { answer, .. } => Some(answer),
        Step::Sleep(_) => None,
    });
    for (at, answer) in answers.enumerate() {
        if at > 0 {
            input.extend_from_slice(NEXT_ANSWER);
        }
        input.extend_from_slice(format!("{}\n", answer.status).as_bytes());
        for (name, value) in &answer.headers {
            input.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        input.push(b'\n');
        input.extend_from_slice(&answer.body);
    }
    input
}

/// What adapters asked their vendors for below a path: a request in the vendor's dialect.
fn asked(path: &str, adapter: Option<&str>) -> Seeds {
    let mut seeds = Seeds::new();
    for (bench, name, recording) in recordings() {
        for step in &recording.steps {
            let Step::Request { expected, .. } = step else { continue };
            let below = expected.get("path").and_then(Value::as_str).unwrap_or_default();
            if let Some(body) = expected.get("body")
                && below.split('?').next().is_some_and(|below| below.ends_with(path))
                && adapter.is_none_or(|adapter| adapter == bench.name)
            {
                seeds.insert(name.clone(), body.to_string().into_bytes());
            }
        }
    }
    seeds
}

/// Vendors' answers of a media type.
fn bodies(media_type: &str) -> Seeds {
    let mut seeds = Seeds::new();
    for (_, name, recording) in recordings() {
        for step in &recording.steps {
            let Step::Request { answer, .. } = step else { continue };
            if answer.headers.iter().any(|(_, value)| value == media_type) {
                seeds.insert(name.clone(), answer.body.clone());
            }
        }
    }
    seeds
}

/// What adapters said, as [`crate::answers`] reads it.
fn told(asked: &str) -> Seeds {
    let seeds = recordings().map(|(_, name, recording)| {
        let mut input = format!("{asked}\n");
        for event in &recording.events {
            if let Some(line) = line(event) {
                input.push_str(&line);
                input.push('\n');
            }
        }
        (name, input.into_bytes())
    });
    seeds.collect()
}

/// An event's short form as a line.
fn line(event: &Value) -> Option<String> {
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (choice, index) = (number("choice"), number("index"));
    let text = |value: &Value| match value {
        Value::String(text) => text.replace('\n', "\\n"),
        Value::Null => String::new(),
        json => json.to_string(),
    };
    let (kind, value) = event.as_object()?.iter().next()?;
    let of = |name: &str| text(value.get(name).unwrap_or(&Value::Null));
    Some(match kind.as_str() {
        "started" => format!("s {} {}", of("id"), of("model")),
        "text" => format!("t{choice} {}", text(value)),
        "refusal" => format!("r{choice} {}", text(value)),
        "thinking" => format!("k{choice} {}", text(value)),
        "thinking-signature" => format!("g{choice} {}", text(value)),
        "redacted-thinking" => format!("x{choice} {}", text(value)),
        "tool-call" => format!("c{choice}{index} {} {}", of("id"), of("name")),
        "tool-arguments" => format!("f{choice}{index} {}", text(value)),
        "citation" => format!("n{choice} {value}"),
        "logprobs" => format!("l{choice} {value}"),
        "media" => format!("i{choice} {} {}", of("media_type"), of("base64")),
        "usage" => format!("u {} {} {}", of("input"), of("cache_read"), of("output")),
        "finish" => format!("z{choice} {}", text(value)),
        "attribute" => {
            let (name, json) = value.as_object()?.iter().next()?;
            format!("a {name} {json}")
        }
        "warning" => format!("w {} {}", text(value), text(event.get("subject")?)),
        "embedding" => match value {
            Value::String(text) => format!("b{index} {text}"),
            Value::Array(floats) => {
                let floats: Vec<String> = floats.iter().map(Value::to_string).collect();
                format!("e{index} {}", floats.join(" "))
            }
            _ => return None,
        },
        _ => return None,
    })
}
