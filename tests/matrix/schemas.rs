//! The requests that adapters build, held against what their vendors publish.
//!
//! `published/` has JSON Schemas of request bodies, taken from the vendors' own clients by
//! `published/extract.py`; each says from which version. An object there takes no members but those
//! the vendor lists, so a member that the vendor doesn't know is found as well. Every request of
//! every recording is checked, and every request of the table of features ([`Vendor::start`]).
//!
//! What a vendor documents and its client's types don't have stands in [`BESIDE`], with where it is
//! documented. A caller's own fields pass through on purpose, so recordings that show that are left
//! out ([`PASSED_ON`]). Servers that copied OpenAI's shape publish no schema of their own.
//!
//! The validator knows the few words that these schemas use and refuses others: a library for the
//! rest of JSON Schema would bring thirty crates.

use std::{collections::HashMap, fs, sync::OnceLock};

use keyward_sdk::replay::Step;
use serde_json::Value as Json;

use crate::vendors::{self, Vendor};

/// The file that lists what a request's body may hold, if the vendor publishes that.
fn file(adapter: &str, path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap_or_default();
    match adapter {
        "openai" | "azure-openai" if path.ends_with("/chat/completions") => Some("openai-chat"),
        "openai" | "azure-openai" if path.ends_with("/embeddings") => Some("openai-embeddings"),
        "openai" if path.ends_with("/responses") => Some("openai-responses"),
        "anthropic" if path.ends_with("/messages") => Some("anthropic-messages"),
        "gemini" if path.contains("enerateContent") => Some("gemini-generate"),
        "gemini" if path.contains("mbedContent") => Some("gemini-embed"),
        "cohere" if path.ends_with("/chat") => Some("cohere-chat"),
        "cohere" if path.ends_with("/embed") => Some("cohere-embed"),
        "cloudflare" if path.ends_with("/ai/v1/chat/completions") => Some("openai-chat"),
        "cloudflare" if path.ends_with("/ai/v1/embeddings") => Some("openai-embeddings"),
        "cloudflare" if path.contains("/ai/run/") => Some("cloudflare-run"),
        "ollama" if path.ends_with("/api/chat") => Some("ollama-chat"),
        "ollama" if path.ends_with("/api/embed") => Some("ollama-embed"),
        _ => None,
    }
}

/// What a vendor documents elsewhere, or takes though its client's types say otherwise: adapter, the
/// place's beginning with `[]` for any element, and why.
const BESIDE: &[(&str, &str, &str)] = &[
    // https://developers.openai.com/api/docs/guides/reasoning: what counts is the encrypted
    // content; an id is looked up, and nothing is stored.
    ("openai", ".input[]: id is missing", "reasoning is returned without what was never stored"),
    ("openai", ".tools[]: strict is missing", "left out by a caller who spoke Responses"),
    // https://developers.openai.com/api/docs/guides/conversation-state: an earlier answer is given
    // back by role and content.
    ("openai", ".input[].content: [{\"type\":\"refusal\"", "an answer without its id"),
    ("openai", ".input[].content: [{\"type\":\"output_text\"", "an answer without its id"),
    ("openai", ".input[].content[]", "an answer without its id"),
    // https://platform.claude.com/docs/en/api/messages/create: models before 4.7 take them.
    ("anthropic", ".temperature:", "of models before 4.7"),
    ("anthropic", ".top_p:", "of models before 4.7"),
    ("anthropic", ".top_k:", "of models before 4.7"),
    // https://github.com/ollama/ollama/blob/main/api/types.go, ChatRequest and Message.
    ("ollama", ".truncate:", "of the server, not of its client"),
    ("ollama", ".shift:", "of the server, not of its client"),
    ("ollama", ".tools[].function.parameters", "any JSON Schema"),
    // https://developers.cloudflare.com/workers-ai/models/, each model's own schema: they take the
    // shape of newer models in places where the client's types are those of older ones.
    ("cloudflare", ".top_k:", "of the models' own schemas"),
    ("cloudflare", ".model:", "ignored beside the name in the path"),
    ("cloudflare", ".tool_choice:", "of the models' own schemas"),
    ("cloudflare", ".reasoning_effort:", "of the models' own schemas"),
    ("cloudflare", ".messages[].tool_call", "of the models' own schemas"),
    ("cloudflare", ".messages[].content[].image_url:", "of the models' own schemas"),
    ("cloudflare", ".messages[].content[].file:", "of the models' own schemas"),
    ("cloudflare", ".messages[].content[].input_audio:", "of the models' own schemas"),
    ("cloudflare", ".messages[].reasoning_content:", "of the models' own schemas"),
    ("cloudflare", ".messages[].name:", "of the models' own schemas"),
    ("cloudflare", ".stop:", "of the models' own schemas"),
    ("cloudflare", ".tools[].function", "any JSON Schema, and no description is needed"),
];

/// Recordings that show a caller's own fields, or mistakes, being passed on.
const PASSED_ON: &[(&str, &str)] = &[
    ("openai", "error_400"),
    ("openai", "extra_fields"),
    ("openai", "dialect_responses"),
    ("openai", "dialect_tool_choice_responses"),
    ("openai", "dialect_unknown_part_responses"),
    ("anthropic", "native_message_fields"),
    ("anthropic", "native_thinking"),
    ("azure-openai", "extra_fields"),
    ("cloudflare", "extra_fields"),
    ("cloudflare", "error_405"),
    ("ollama", "native_options"),
];

fn schemas() -> &'static HashMap<String, Json> {
    static SCHEMAS: OnceLock<HashMap<String, Json>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let folder = fs::read_dir(crate::project("tests/matrix/published")).unwrap();
        let paths = folder.map(|entry| entry.unwrap().path());
        let files = paths.filter(|path| path.extension().is_some_and(|it| it == "json"));
        let read = |path: std::path::PathBuf| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        };
        files.map(read).collect()
    })
}

/// What is wrong with a request by its vendor's schema; nothing where there is none.
pub fn problems(vendor: &Vendor, path: &str, body: &Json) -> Vec<String> {
    let Some(file) = file(vendor.adapter, path) else { return Vec::new() };
    let schema = &schemas()[file]["schema"];
    let mut found = Vec::new();
    fit(body, schema, schema, "", &mut found);
    let mut found: Vec<String> =
        found.into_iter().map(|problem| format!("{}: {}", problem.place, problem.what)).collect();
    found.retain(|problem| {
        let beside = |of: &str, place: &str| of == vendor.adapter && problem.starts_with(place);
        !BESIDE.iter().any(|(of, place, _)| beside(of, place))
    });
    found
}

struct Problem {
    place: String,
    what: String,
    /// A constant or one of a few was wanted.
    kind: bool,
}

impl Problem {
    /// A member right below `place` says that something else is meant.
    fn of_another_kind(&self, place: &str) -> bool {
        let rest = self.place.strip_prefix(place).unwrap_or_default();
        self.kind && rest.rfind(['.', '[']) == Some(0)
    }
}

fn fit(value: &Json, schema: &Json, root: &Json, place: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |what: String, kind: bool| {
        problems.push(Problem { place: place.to_owned(), what, kind });
    };
    let Json::Object(words) = schema else { return };
    for (word, wanted) in words {
        match word.as_str() {
            "type" => {
                if !is_of_type(value, wanted.as_str().unwrap()) {
                    wrong(format!("{value} isn't of type {wanted}"), false);
                }
            }
            "const" if value != wanted => wrong(format!("{value} isn't {wanted}"), true),
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                wrong(format!("{value} isn't one of {wanted}"), true);
            }
            "required" => {
                let names = wanted.as_array().unwrap().iter().filter_map(Json::as_str);
                for name in names.filter(|name| value.is_object() && value.get(*name).is_none()) {
                    wrong(format!("{name} is missing"), false);
                }
            }
            // Only the vendor's servers know these.
            "const" | "enum" | "format" | "minLength" | "properties" | "$defs" => {}
            "items" | "anyOf" | "$ref" | "additionalProperties" => {}
            other => panic!("the schema has the word {other}, which this validator doesn't know"),
        }
    }
    if let Some(target) = schema["$ref"].as_str() {
        fit(value, root.pointer(target.trim_start_matches('#')).unwrap(), root, place, problems);
    }
    if let Json::Array(items) = value {
        for item in items.iter().filter(|_| words.contains_key("items")) {
            fit(item, &schema["items"], root, &format!("{place}[]"), problems);
        }
    }
    if let Json::Object(members) = value {
        for (name, member) in members {
            let place = format!("{place}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(known), _) => fit(member, known, root, &place, problems),
                (None, Json::Bool(false)) => {
                    problems.push(Problem {
                        place,
                        kind: false,
                        what: "the vendor doesn't list it".to_owned(),
                    });
                }
                (None, other) => fit(member, other, root, &place, problems),
            }
        }
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        // The problems of the choice that comes furthest are the ones to tell.
        let tried = choices.iter().map(|choice| {
            let mut problems = Vec::new();
            fit(value, choice, root, place, &mut problems);
            problems
        });
        let other = |problem: &Problem| problem.of_another_kind(place);
        let nearest = tried.min_by_key(|problems| {
            (problems.iter().any(other), shallowest(problems), problems.len())
        });
        problems.extend(nearest.unwrap_or_default());
    }
}

/// How near to the top the first problem is, the deeper the better: the choice that got furthest
/// was meant.
fn shallowest(problems: &[Problem]) -> std::cmp::Reverse<usize> {
    let depth = |problem: &Problem| problem.place.matches(['.', '[']).count();
    std::cmp::Reverse(problems.iter().map(depth).min().unwrap_or(usize::MAX))
}

fn is_of_type(value: &Json, wanted: &str) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema has the type {other}"),
    }
}

#[test]
fn requests_are_as_the_vendors_publish_them() {
    let (mut wrong, mut checked) = (Vec::new(), HashMap::<&str, usize>::new());
    for vendor in vendors::all() {
        for recording in vendor.recordings() {
            if PASSED_ON.contains(&(vendor.adapter, &recording.name)) {
                continue;
            }
            for step in &recording.steps {
                let Step::Request { expected, .. } = step else { continue };
                let (Some(path), Some(body)) = (expected["path"].as_str(), expected.get("body"))
                else {
                    continue;
                };
                *checked.entry(vendor.adapter).or_default() +=
                    usize::from(file(vendor.adapter, path).is_some());
                let found = problems(&vendor, path, body);
                wrong.extend(
                    found.iter().map(|it| format!("{} {}: {it}", vendor.title, recording.name)),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for adapter in
        ["openai", "anthropic", "gemini", "cohere", "cloudflare", "azure-openai", "ollama"]
    {
        assert!(checked.get(adapter).is_some_and(|&number| number > 20), "{adapter}: {checked:?}");
    }
}

/// The validator itself: what must be found is found.
#[test]
fn a_member_the_vendor_does_not_list_and_a_wrong_type_are_found() {
    let anthropic = vendors::all().into_iter().find(|one| one.adapter == "anthropic").unwrap();
    let found = |change: fn(&mut Json)| {
        let mut body = serde_json::json!({"model": "claude-sonnet-5-5", "max_tokens": 10,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]});
        change(&mut body);
        problems(&anthropic, "/messages", &body).join("; ")
    };
    assert_eq!(found(|_| {}), "");
    assert_eq!(found(|body| body["seed"] = 1.into()), ".seed: the vendor doesn't list it");
    assert_eq!(
        found(|body| body["messages"][0]["content"][0]["txt"] = "x".into()),
        ".messages[].content[].txt: the vendor doesn't list it"
    );
    assert_eq!(
        found(|body| body["max_tokens"] = "10".into()),
        ".max_tokens: \"10\" isn't of type \"integer\""
    );
    assert_eq!(
        found(|body| drop(body.as_object_mut().unwrap().remove("messages"))),
        ": messages is missing"
    );
}
