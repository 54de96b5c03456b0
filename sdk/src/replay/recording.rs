//! The format of a recording.
//!
//! ```json
//! {
//!   "about": "One sentence, and where the bytes are from.",
//!   "operation": {"chat": {"model": "m-1", "stream": true,
//!     "messages": [{"role": "user", "content": "Hi"}]}},
//!   "context": {"settings": {"region": "eu"}},
//!   "steps": [{
//!     "request": {"path": "/chat", "body": {"model": "m-1", "prompt": "Hi"}},
//!     "response": {"status": 200, "headers": {"x-request-id": "r1"},
//!       "sse": [{"text": "Hel"}, {"text": "lo"}, "[DONE]"]}
//!   }],
//!   "expect": {"events": [{"text": "Hello"}, {"finish": "stop"}]}
//! }
//! ```
//!
//! - `operation` is written with its real text; see `operation.rs` for all its members. `"probe"`
//!   and `"list-models"` stand alone.
//! - `context` may be left out, or give `settings`, `grants`, `now_ms`, `seed`, `id`.
//! - `request`: `origin` ("api"), `method` (POST with a body, else GET), `path`, `headers`
//!   (exactly those), `body` (JSON, or a string for a raw body). Bodies are compared as JSON.
//! - `response`: `status` (200), `headers`, and the body in the form best to read: `json`, `sse`
//!   (an element is data, or a pair of event name and data; JSON is written on one line),
//!   `ndjson`, `text` (or a list of texts, joined), or `base64`.
//! - A step `{"sleep": 500}` stands for time the adapter asks to wait.
//! - `expect`: `events` with adjacent deltas put together, and `failure` if it fails, of which
//!   only the members given are compared. See `events.rs` for the short form of events.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, value::RawValue};

use super::{layout, operation, read};
use crate::contract::{Context, Operation};

/// A recording as read, with its operation un-held.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without `.json`.
    pub name: String,
    pub about: String,
    pub operation: Operation,
    pub context: Context,
    pub steps: Vec<Step>,
    /// Events in their short form.
    pub events: Vec<Json>,
    /// Members a failure must have; none if the exchange must succeed.
    pub failure: Option<Map<String, Json>>,
    source: Source,
}

/// What happens between two steps of the adapter.
#[derive(Clone, Debug)]
pub enum Step {
    Request { expected: Map<String, Json>, answer: Answer },
    Sleep(u32),
}

/// A vendor's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The file's members, kept to write it back in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    about: String,
    operation: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    context: Map<String, Json>,
    #[serde(default)]
    steps: Vec<SourceStep>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum SourceStep {
    Sleep {
        sleep: u32,
    },
    Exchange {
        #[serde(default)]
        request: Map<String, Json>,
        response: Box<SourceAnswer>,
    },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceAnswer {
    #[serde(default = "ok", skip_serializing_if = "is_ok")]
    status: u16,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sse: Option<Vec<Json>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ndjson: Option<Vec<Json>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    events: Vec<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Map<String, Json>>,
}

fn ok() -> u16 {
    200
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_ok(status: &u16) -> bool {
    *status == 200
}

pub(super) fn load_all(folder: &Path) -> Result<Vec<Recording>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: no recordings (*.json)", folder.display()));
    }
    paths.iter().map(|path| Recording::load(path)).collect()
}

impl Recording {
    /// # Errors
    /// If the file can't be read or isn't a recording, with its path, line and column.
    pub fn load(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &read(path)?).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// # Errors
    /// If the text isn't a recording.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let source: Source = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let operation = operation::parse(source.operation.get())
            .map_err(|error| format!("operation: {error}"))?;
        let steps = source.steps.iter().map(step).collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            about: source.about.clone(),
            operation,
            context: context(&source.context)?,
            steps,
            events: source.expect.events.clone(),
            failure: source.expect.failure.clone(),
            source,
        })
    }

    /// Takes what came out as what must come out.
    pub(super) fn set(
        &mut self,
        requests: Vec<Map<String, Json>>,
        events: Vec<Json>,
        failure: Option<Map<String, Json>>,
    ) {
        let mut requests = requests.into_iter();
        for (source, step) in self.source.steps.iter_mut().zip(&mut self.steps) {
            let (SourceStep::Exchange { request, .. }, Step::Request { expected, .. }) =
                (source, step)
            else {
                continue;
            };
            if let Some(made) = requests.next() {
                (*request, *expected) = (made.clone(), made);
            }
        }
        self.source.expect = Expect { events: events.clone(), failure: failure.clone() };
        (self.events, self.failure) = (events, failure);
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(format!("{}.json", self.name));
        let json = serde_json::to_value(&self.source).map_err(|error| error.to_string())?;
        fs::write(&path, layout::document(&json))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn context(members: &Map<String, Json>) -> Result<Context, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Members {
        settings: Map<String, Json>,
        grants: Vec<String>,
        now_ms: u64,
        seed: u64,
        id: String,
    }
    impl Default for Members {
        fn default() -> Self {
            Self {
                settings: Map::new(),
                grants: Vec::new(),
                // 2026-01-01T00:00:00Z
                now_ms: 1_767_225_600_000,
                seed: 1,
                id: "exchange-1".to_owned(),
            }
        }
    }
    let members: Members = serde_json::from_value(Json::Object(members.clone()))
        .map_err(|error| format!("context: {error}"))?;
    Ok(Context {
        settings: Json::Object(members.settings).to_string(),
        now_ms: members.now_ms,
        seed: members.seed,
        id: members.id,
        grants: members.grants,
    })
}

fn step(source: &SourceStep) -> Result<Step, String> {
    match source {
        SourceStep::Sleep { sleep } => Ok(Step::Sleep(*sleep)),
        SourceStep::Exchange { request, response } => {
            Ok(Step::Request { expected: request.clone(), answer: answer(response)? })
        }
    }
}

fn answer(source: &SourceAnswer) -> Result<Answer, String> {
    let mut bodies = Vec::new();
    if let Some(json) = &source.json {
        bodies.push((json.to_string().into_bytes(), "application/json"));
    }
    if let Some(events) = &source.sse {
        bodies.push((sse(events)?.into_bytes(), "text/event-stream"));
    }
    if let Some(lines) = &source.ndjson {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        bodies.push((text.into_bytes(), "application/x-ndjson"));
    }
    if let Some(text) = &source.text {
        let text = match text {
            Json::String(text) => text.clone(),
            Json::Array(texts) => texts.iter().filter_map(Json::as_str).collect(),
            _ => return Err("response: `text` is a string or a list of strings".to_owned()),
        };
        bodies.push((text.into_bytes(), ""));
    }
    if let Some(text) = &source.base64 {
        let bytes = base64(text).ok_or("response: `base64` isn't standard base64")?;
        bodies.push((bytes, ""));
    }
    if bodies.len() > 1 {
        return Err("response: give one of json, sse, ndjson, text, base64".to_owned());
    }
    let (body, media_type) = bodies.pop().unwrap_or_default();
    let mut headers = Vec::new();
    for (name, value) in &source.headers {
        let value = value.as_str().ok_or_else(|| format!("response: header {name}: no string"))?;
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    if !media_type.is_empty() && !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), media_type.to_owned()));
    }
    Ok(Answer { status: source.status, headers, body })
}

fn sse(events: &[Json]) -> Result<String, String> {
    let data = |json: &Json| match json {
        Json::String(text) => text.clone(),
        json => json.to_string(),
    };
    let mut text = String::new();
    for event in events {
        match event {
            Json::Array(pair) => {
                let [Json::String(name), json] = pair.as_slice() else {
                    return Err("response: an sse event is data or [name, data]".to_owned());
                };
                text.push_str(&format!("event: {name}\ndata: {}\n\n", data(json)));
            }
            json => text.push_str(&format!("data: {}\n\n", data(json))),
        }
    }
    Ok(text)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_written_in_the_form_best_to_read() {
        let of = |json: &str| answer(&serde_json::from_str(json).unwrap()).map(|a| a.body);
        assert_eq!(of(r#"{"json": {"a": 1}}"#).unwrap(), br#"{"a":1}"#);
        assert_eq!(
            of(r#"{"sse": [{"a": 1}, ["end", "x"], "[DONE]"]}"#).unwrap(),
            b"data: {\"a\":1}\n\nevent: end\ndata: x\n\ndata: [DONE]\n\n"
        );
        assert_eq!(of(r#"{"ndjson": [1, 2]}"#).unwrap(), b"1\n2\n");
        assert_eq!(of(r#"{"text": ["a", "b"]}"#).unwrap(), b"ab");
        assert_eq!(of(r#"{"base64": "AAH/"}"#).unwrap(), [0, 1, 255]);
        assert!(of(r#"{"text": "a", "json": 1}"#).is_err());
    }

    #[test]
    fn a_misspelt_member_is_an_error() {
        let text = r#"{"about": "", "operation": "probe", "step": []}"#;
        assert!(Recording::parse("x", text).unwrap_err().contains("step"));
    }
}
