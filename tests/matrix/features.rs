//! What becomes of each feature, found out by asking for it.
//!
//! A probe is a chat (or another operation) that asks for one thing more than a plain one. What the
//! adapter then says decides: a failure is a refusal, a warning tells that the thing was left out or
//! done in another way, and without either the request must carry it. A thing that is neither
//! carried nor told of is lost, and that fails the test: nothing a caller asks for may vanish.
//!
//! What only answers show (citations, thinking, the classes of tokens) is taken from the adapter's
//! recordings, which are replayed for it.

use std::collections::BTreeSet;

use keyward_sdk::{
    Body, FailureKind, Framing, Operation, VendorRequest,
    contract::{Event, Output},
    descriptor::OperationKind,
    replay::Recording,
};
use serde_json::{Value as Json, json};

use crate::vendors::Vendor;

/// What becomes of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Native,
    /// Done in another way, and said so.
    Emulated,
    /// Left out, and said so.
    Dropped,
    /// Nothing was sent.
    Refused,
    /// Answers of this vendor never show it.
    Absent,
    /// Neither carried nor told of.
    Lost,
}

/// An outcome with the adapter's own words for it.
pub struct Found {
    pub outcome: Outcome,
    pub words: Vec<String>,
}

impl Found {
    fn silent(outcome: Outcome) -> Self {
        Self { outcome, words: Vec::new() }
    }
}

pub struct Feature {
    pub name: &'static str,
    probe: Probe,
}

enum Probe {
    /// A chat with these members, and the same chat without the wish. The request must differ, and
    /// hold one of the texts if there are any.
    Chat { asked: Json, base: Json, evidence: &'static [&'static str] },
    /// The same for embeddings.
    Embed { asked: Json, evidence: &'static [&'static str] },
    /// The answer comes in pieces.
    Streaming,
    /// Fields that only the caller's dialect knows, in the vendor's own or in another one.
    Fields { own: bool },
    /// An operation sends something.
    Operation { kind: OperationKind, operation: Json },
    /// A recording shows it.
    Answer(fn(&Recording) -> bool),
    /// The classes of tokens and other units that recordings show.
    Usage,
}

/// A group of the table's rows.
pub struct Section {
    pub title: &'static str,
    pub features: Vec<Feature>,
}

/// Not empty and found nowhere else in a request.
const SEED: i64 = 40_961;
const SIGNATURE: &str = "UHJvYmVkU2lnbmF0dXJl";
const THOUGHT: &str = "A probed thought.";
const STOP: &str = "PROBED-STOP";
const DATA: &str = "UFJPQkVE";
const URL: &str = "https://example.com/probed";
const ID: &str = "file-probed";
const FIELD: &str = "probed_field";

pub fn sections() -> Vec<Section> {
    vec![
        Section {
            title: "Conversation",
            features: vec![
                chat(
                    "text",
                    json!({"messages": [user("A probed question.")]}),
                    &["A probed question."],
                ),
                Feature { name: "streaming", probe: Probe::Streaming },
                chat(
                    "system text",
                    json!({"messages": [{"role": "system", "content": "Probed rule."}, hello()]}),
                    &["Probed rule."],
                ),
                chat(
                    "system text between turns",
                    json!({"messages": [hello(), {"role": "assistant", "content": "Hello."},
                        {"role": "system", "content": "Probed rule."}, user("Go on.")]}),
                    &["Probed rule."],
                ),
                chat(
                    "participants' names",
                    json!({"messages": [{"role": "user", "name": "Probed", "content": "Hi"}]}),
                    &["Probed"],
                ),
                chat(
                    "earlier refusals",
                    json!({"messages": [hello(),
                        {"role": "assistant", "content": [{"refusal": "Probed refusal."}]}, user("Why?")]}),
                    &["Probed refusal."],
                ),
            ],
        },
        Section {
            title: "Tools",
            features: vec![
                chat("tools", json!({"tools": [tool(json!({}))]}), &["probed_argument"]),
                Feature {
                    name: "parallel tools",
                    probe: Probe::Answer(|recording| {
                        recording.name.starts_with("parallel_tools")
                            && recording
                                .events
                                .iter()
                                .filter(|e| e.get("tool-call").is_some())
                                .count()
                                > 1
                    }),
                },
                tools("one call at a time", json!({"parallel_tool_calls": false})),
                tools("tool choice: any tool", json!({"tool_choice": "required"})),
                tools("tool choice: one tool", json!({"tool_choice": {"tool": "probed_tool"}})),
                tools("tool choice: no tool", json!({"tool_choice": "none"})),
                beside(
                    "strict tools",
                    json!({"tools": [tool(json!({}))]}),
                    json!({"tools": [tool(json!({"strict": true}))]}),
                    &[],
                ),
                tool_result(
                    "tool results",
                    json!({}),
                    json!("Probed result."),
                    &["Probed result."],
                ),
                tool_result("failed tools", json!({"is_error": true}), json!("A result."), &[]),
                tool_result(
                    "images in tool results",
                    json!({}),
                    json!([{"image": png(json!({}))}]),
                    &[DATA],
                ),
                chat(
                    "tools of another vendor's own",
                    json!({"dialect": "keyward", "tools": [{"name": "probed", "kind": "probed_20260101"}]}),
                    &["probed_20260101"],
                ),
            ],
        },
        Section {
            title: "Images, files, audio",
            features: vec![
                media(
                    "images by content",
                    "image",
                    json!({"base64": DATA, "media_type": "image/png"}),
                    &[DATA],
                ),
                media("images by URL", "image", json!({"url": URL}), &[URL]),
                media(
                    "images by file id",
                    "image",
                    json!({"file_id": ID, "media_type": "image/png"}),
                    &[ID],
                ),
                beside(
                    "image detail",
                    json!({"messages": shown("image", png(json!({})))}),
                    json!({"messages": shown("image", png(json!({"detail": "low"})))}),
                    &[],
                ),
                media(
                    "PDF by content",
                    "file",
                    json!({"base64": DATA, "media_type": "application/pdf"}),
                    &[DATA],
                ),
                media(
                    "PDF by URL",
                    "file",
                    json!({"url": URL, "media_type": "application/pdf"}),
                    &[URL],
                ),
                media(
                    "files by id",
                    "file",
                    json!({"file_id": ID, "media_type": "application/pdf"}),
                    &[ID],
                ),
                media(
                    "audio",
                    "audio",
                    json!({"base64": DATA, "media_type": "audio/wav"}),
                    &[DATA],
                ),
                media(
                    "video",
                    "video",
                    json!({"base64": DATA, "media_type": "video/mp4"}),
                    &[DATA],
                ),
            ],
        },
        Section {
            title: "The answer's form",
            features: vec![
                chat("JSON object", json!({"format": "json"}), &[]),
                chat("JSON schema", json!({"format": schema()}), &["probed_member"]),
                beside(
                    "JSON schema beside tools",
                    json!({"tools": [tool(json!({}))]}),
                    json!({"format": schema(), "tools": [tool(json!({}))]}),
                    &["probed_member"],
                ),
                sampling("stop sequences", json!({"stop": [STOP]}), &[STOP]),
                sampling("answer limit", json!({"max_output_tokens": 4_097}), &["4097"]),
                sampling("several choices", json!({"choices": 2}), &[]),
                sampling("log probabilities", json!({"logprobs": 3}), &[]),
            ],
        },
        Section {
            title: "Sampling",
            features: vec![
                sampling("temperature", json!({"temperature": 0.375}), &["0.375"]),
                sampling("top-p", json!({"top_p": 0.625}), &["0.625"]),
                sampling("top-k", json!({"top_k": 37}), &["37"]),
                sampling("frequency penalty", json!({"frequency_penalty": 0.375}), &["0.375"]),
                sampling("presence penalty", json!({"presence_penalty": 0.375}), &["0.375"]),
                sampling("seed", json!({"seed": SEED}), &["40961"]),
            ],
        },
        Section {
            title: "Thinking",
            features: vec![
                chat("reasoning effort", json!({"reasoning": {"effort": "high"}}), &[]),
                chat(
                    "a budget of tokens",
                    json!({"reasoning": {"budget_tokens": 4_098}}),
                    &["4098"],
                ),
                chat("no thinking", json!({"reasoning": {"effort": "none"}}), &[]),
                Feature {
                    name: "thinking shown",
                    probe: Probe::Answer(|recording| has_event(recording, "thinking")),
                },
                thought(
                    "thinking round trip",
                    json!({"thinking": THOUGHT, "signature": SIGNATURE}),
                    &[THOUGHT, SIGNATURE],
                ),
                thought(
                    "encrypted thinking round trip",
                    json!({"redacted_thinking": SIGNATURE}),
                    &[SIGNATURE],
                ),
            ],
        },
        Section {
            title: "Caching",
            features: vec![
                chat(
                    "cache marks",
                    json!({"messages": [{"role": "user", "content": [{"text": "Hi", "cache": "5m"}]}]}),
                    &[],
                ),
                chat(
                    "cache marks for an hour",
                    json!({"messages": [{"role": "user", "content": [{"text": "Hi", "cache": "1h"}]}]}),
                    &["1h"],
                ),
                beside(
                    "cache marks on tools",
                    json!({"tools": [tool(json!({}))]}),
                    json!({"tools": [tool(json!({"cache": "5m"}))]}),
                    &[],
                ),
            ],
        },
        Section {
            title: "What answers tell",
            features: vec![
                Feature {
                    name: "citations",
                    probe: Probe::Answer(|recording| has_event(recording, "citation")),
                },
                Feature {
                    name: "refusals apart from text",
                    probe: Probe::Answer(|recording| {
                        let by =
                            |reason| recording.events.iter().any(|event| event["finish"] == reason);
                        has_event(recording, "refusal") || by("refusal") || by("content-filter")
                    }),
                },
                Feature {
                    name: "which stop sequence",
                    probe: Probe::Answer(|recording| has_event(recording, "stop_sequence")),
                },
                Feature {
                    name: "limits left",
                    probe: Probe::Answer(|recording| has_event(recording, "rate-limit")),
                },
                Feature { name: "usage classes", probe: Probe::Usage },
            ],
        },
        Section {
            title: "Fields the contract doesn't know",
            features: vec![
                Feature { name: "in the vendor's dialect", probe: Probe::Fields { own: true } },
                Feature { name: "in another dialect", probe: Probe::Fields { own: false } },
            ],
        },
        Section {
            title: "Other operations",
            features: vec![
                Feature {
                    name: "embeddings",
                    probe: Probe::Operation {
                        kind: OperationKind::Embed,
                        operation: json!({"embed": embedding()}),
                    },
                },
                embed("embeddings: dimensions", json!({"dimensions": 257}), &["257"]),
                embed("embeddings: query or document", json!({"purpose": "query"}), &[]),
                embed(
                    "embeddings of token numbers",
                    json!({"inputs": [{"tokens": [40_961, 7]}]}),
                    &["40961"],
                ),
                Feature {
                    name: "model list",
                    probe: Probe::Operation {
                        kind: OperationKind::ListModels,
                        operation: json!("list-models"),
                    },
                },
            ],
        },
    ]
}

fn chat(name: &'static str, asked: Json, evidence: &'static [&'static str]) -> Feature {
    beside(name, json!({}), asked, evidence)
}

/// A wish that goes with something else: `base` is the chat without it.
fn beside(
    name: &'static str,
    base: Json,
    asked: Json,
    evidence: &'static [&'static str],
) -> Feature {
    Feature { name, probe: Probe::Chat { asked, base, evidence } }
}

/// A wish about the tools of a chat.
fn tools(name: &'static str, wished: Json) -> Feature {
    let base = json!({"tools": [tool(json!({})), {"name": "other"}]});
    let mut asked = base.clone();
    extend(&mut asked, &wished);
    beside(name, base, asked, &[])
}

fn sampling(name: &'static str, wished: Json, evidence: &'static [&'static str]) -> Feature {
    chat(name, json!({"sampling": wished}), evidence)
}

fn embed(name: &'static str, asked: Json, evidence: &'static [&'static str]) -> Feature {
    Feature { name, probe: Probe::Embed { asked, evidence } }
}

fn media(
    name: &'static str,
    kind: &str,
    source: Json,
    evidence: &'static [&'static str],
) -> Feature {
    chat(name, json!({"messages": shown(kind, source)}), evidence)
}

fn hello() -> Json {
    user("Hi")
}

fn user(text: &str) -> Json {
    json!({"role": "user", "content": text})
}

fn png(more: Json) -> Json {
    let mut image = json!({"base64": DATA, "media_type": "image/png"});
    extend(&mut image, &more);
    image
}

/// A question about a picture or the like.
fn shown(kind: &str, media: Json) -> Json {
    json!([{"role": "user", "content": ["What is this?", {kind: media}]}])
}

fn tool(more: Json) -> Json {
    let mut tool = json!({"name": "probed_tool", "description": "Probes.", "parameters": {
        "type": "object", "properties": {"probed_argument": {"type": "string"}},
        "required": ["probed_argument"], "additionalProperties": false}});
    extend(&mut tool, &more);
    tool
}

fn schema() -> Json {
    json!({"schema": {"name": "probed", "schema": {"type": "object",
        "properties": {"probed_member": {"type": "string"}}, "required": ["probed_member"],
        "additionalProperties": false}}})
}

/// A wish about the result of a call.
fn tool_result(
    name: &'static str,
    answers: Json,
    content: Json,
    evidence: &'static [&'static str],
) -> Feature {
    // Some vendors want a call's signature back with it.
    let thinking = json!({"thinking": "A plan.", "signature": SIGNATURE});
    let base = called(Some(thinking.clone()), json!({}), json!("A result."));
    beside(name, base, called(Some(thinking), answers, content), evidence)
}

/// Thinking of the model's own before a call.
fn thought(name: &'static str, thinking: Json, evidence: &'static [&'static str]) -> Feature {
    let chat = |thinking| called(thinking, json!({}), json!("A result."));
    beside(name, chat(None), chat(Some(thinking)), evidence)
}

/// A conversation with a call and its result.
fn called(thinking: Option<Json>, answers: Json, result: Json) -> Json {
    let mut tool = json!({"call_id": "call_1", "tool": "probed_tool"});
    extend(&mut tool, &answers);
    let call = json!({"tool_call":
        {"id": "call_1", "name": "probed_tool", "arguments": {"probed_argument": "a"}}});
    let parts: Vec<Json> = thinking.into_iter().chain([call]).collect();
    json!({"messages": [
        hello(),
        {"role": "assistant", "content": parts},
        {"role": "tool", "answers": tool, "content": result}
    ]})
}

fn embedding() -> Json {
    json!({"inputs": ["A text."], "dialect": "keyward"})
}

fn extend(object: &mut Json, members: &Json) {
    if let (Json::Object(object), Json::Object(members)) = (object, members) {
        object.extend(members.clone());
    }
}

fn has_event(recording: &Recording, name: &str) -> bool {
    recording.events.iter().any(|event| event.get(name).is_some())
}

impl Feature {
    /// What becomes of it with this vendor.
    pub fn find(&self, vendor: &Vendor) -> Found {
        match &self.probe {
            Probe::Chat { asked, base, evidence } => {
                let base = Started::of(vendor, &chat_operation(vendor, base));
                if base.refused() {
                    return base.against(&base, &[]);
                }
                Started::of(vendor, &chat_operation(vendor, asked)).against(&base, evidence)
            }
            Probe::Embed { asked, evidence } => {
                let base = Started::of(vendor, &embed_operation(vendor, &json!({})));
                if base.refused() {
                    return base.against(&base, &[]);
                }
                Started::of(vendor, &embed_operation(vendor, asked)).against(&base, evidence)
            }
            Probe::Streaming => {
                let started =
                    Started::of(vendor, &chat_operation(vendor, &json!({"stream": true})));
                let pieces = started.requests.iter().all(|sent| sent.framing != Framing::Json);
                Found::silent(if pieces { Outcome::Native } else { Outcome::Emulated })
            }
            Probe::Fields { own } => fields(vendor, *own),
            Probe::Operation { kind, operation } => {
                let operation = match operation {
                    Json::String(_) => operation.clone(),
                    _ => embed_operation(vendor, &json!({})),
                };
                let started = Started::of(vendor, &operation);
                let listed = vendor.describe().operations.contains(kind);
                assert_eq!(listed, !started.refused(), "{}: {}", vendor.title, self.name);
                match started.requests.is_empty() {
                    true => started.against(&started, &[]),
                    false => Found::silent(Outcome::Native),
                }
            }
            Probe::Answer(shows) => {
                // The smallest will do: a replay cuts it at every byte.
                let shown = vendor.recordings().into_iter().filter(shows);
                match shown.min_by_key(length) {
                    Some(recording) => {
                        vendor.replay(&recording);
                        Found::silent(Outcome::Native)
                    }
                    None => Found::silent(Outcome::Absent),
                }
            }
            Probe::Usage => usage(vendor),
        }
    }
}

fn length(recording: &Recording) -> usize {
    use keyward_sdk::replay::Step;
    let of_step = |step: &Step| match step {
        Step::Request { answer, .. } => answer.body.len(),
        Step::Sleep(_) => 0,
    };
    recording.steps.iter().map(of_step).sum()
}

fn chat_operation(vendor: &Vendor, asked: &Json) -> Json {
    let mut chat = json!({"model": vendor.model, "messages": [hello()], "dialect": "keyward"});
    extend(&mut chat, asked);
    for message in chat["messages"].as_array_mut().into_iter().flatten() {
        for part in message["content"].as_array_mut().into_iter().flatten() {
            if let (false, Some(part)) = (vendor.signs_thinking, part.as_object_mut()) {
                part.shift_remove("signature");
            }
        }
    }
    json!({"chat": chat})
}

fn embed_operation(vendor: &Vendor, asked: &Json) -> Json {
    let mut embed = embedding();
    extend(&mut embed, &json!({"model": vendor.embedding_model}));
    extend(&mut embed, asked);
    json!({"embed": embed})
}

/// Every place that has room for unknown fields must carry them, or tell of them.
fn fields(vendor: &Vendor, own: bool) -> Found {
    let dialect = match own {
        true if vendor.dialect.is_empty() => {
            return Found {
                outcome: Outcome::Absent,
                words: vec!["Keyward's callers have no dialect of this vendor's.".to_owned()],
            };
        }
        true => vendor.dialect,
        false => "keyward",
    };
    let extra = json!({FIELD: 1});
    let in_message = json!({"role": "user", "content": "Hi", "extra": extra});
    let in_part = json!({"role": "user", "content": [{"text": "Hi", "extra": extra}]});
    let mut found = Found::silent(Outcome::Native);
    for asked in [
        json!({"extra": extra}),
        json!({"messages": [in_message]}),
        json!({"messages": [in_part]}),
        json!({"tools": [tool(json!({"extra": extra}))]}),
    ] {
        let mut asked = asked;
        extend(&mut asked, &json!({"dialect": dialect}));
        let base = Started::of(vendor, &chat_operation(vendor, &json!({})));
        let place = Started::of(vendor, &chat_operation(vendor, &asked)).against(&base, &[FIELD]);
        match place.outcome {
            Outcome::Native => {}
            // The dialect's own messages have no room for them: that one was told of.
            Outcome::Dropped if own => found.words.extend(place.words),
            outcome => {
                if found.outcome != Outcome::Lost {
                    found.outcome = outcome;
                }
            }
        }
    }
    found
}

/// The classes that the vendor's answers count, by its recordings.
fn usage(vendor: &Vendor) -> Found {
    let mut classes: BTreeSet<String> = BTreeSet::new();
    let mut recordings = vendor.recordings();
    recordings.sort_by_key(length);
    for recording in recordings {
        let seen = recording.events.iter().filter_map(|event| event.get("usage")?.as_object());
        let names = seen.flat_map(|usage| {
            let units = usage.get("units").and_then(Json::as_object);
            let classes = usage.keys().filter(|name| *name != "units").cloned();
            classes.chain(
                units.into_iter().flat_map(|units| units.keys().map(|name| format!("`{name}`"))),
            )
        });
        let new: Vec<String> = names.filter(|name| !classes.contains(name)).collect();
        if !new.is_empty() {
            vendor.replay(&recording);
            classes.extend(new);
        }
    }
    let order = ["input", "cache_read", "cache_write", "output", "reasoning"];
    let known =
        order.iter().filter(|name| classes.contains(**name)).map(|name| name.replace('_', " "));
    let units = classes.iter().filter(|name| name.starts_with('`')).cloned();
    let words = known.chain(units).collect::<Vec<_>>().join(", ");
    Found { outcome: Outcome::Native, words: vec![format!("{words}.")] }
}

/// What an adapter said at once.
struct Started {
    requests: Vec<VendorRequest>,
    /// Code and message of each.
    warnings: Vec<(String, String)>,
    failure: Option<(FailureKind, String)>,
}

impl Started {
    fn of(vendor: &Vendor, operation: &Json) -> Self {
        let text = json!({"about": "", "operation": operation}).to_string();
        let recording = Recording::parse("probe", &text).unwrap();
        let mut started = Self { requests: Vec::new(), warnings: Vec::new(), failure: None };
        for output in vendor.start(match &recording.operation {
            Operation::Other(_) => unreachable!("probes are of the contract"),
            operation => operation.clone(),
        }) {
            match output {
                Output::Send(request) => started.requests.push(request),
                Output::Event(Event::Warning(warning)) => {
                    started.warnings.push((warning.code, warning.message));
                }
                Output::Failed(failure) => started.failure = Some((failure.kind, failure.message)),
                _ => {}
            }
        }
        started
    }

    fn refused(&self) -> bool {
        self.failure.is_some()
    }

    /// What the requests say, as text to search in.
    fn text(&self) -> String {
        let of_request = |request: &VendorRequest| {
            let body = match &request.body {
                Body::Empty => "",
                Body::Json(text) => text,
                Body::Raw(_) => unreachable!("chats and embeddings are JSON"),
            };
            format!("{} {body}", request.path)
        };
        self.requests.iter().map(of_request).collect()
    }

    fn against(&self, base: &Self, evidence: &[&str]) -> Found {
        if let Some((kind, message)) = &self.failure {
            let refusal = matches!(kind, FailureKind::Unsupported | FailureKind::InvalidRequest);
            assert!(refusal, "an unexpected failure: {message}");
            return Found { outcome: Outcome::Refused, words: vec![message.clone()] };
        }
        let news = self.warnings.iter().filter(|warning| !base.warnings.contains(warning));
        let (codes, words): (Vec<&str>, Vec<String>) =
            news.map(|(code, message)| (code.as_str(), message.clone())).unzip();
        let text = self.text();
        let carried = text != base.text()
            && (evidence.is_empty() || evidence.iter().any(|evidence| text.contains(evidence)));
        let outcome = match (codes.contains(&"dropped"), codes.contains(&"emulated")) {
            (true, _) => Outcome::Dropped,
            (false, true) => Outcome::Emulated,
            // What was changed, and told, need not be found as it was.
            (false, false) if carried || codes.contains(&"changed") => Outcome::Native,
            (false, false) => Outcome::Lost,
        };
        Found { outcome, words }
    }
}
