//! A tape written as a recording of the replay kit.
//!
//! Bodies are written in the form that reads best, as long as it gives back the vendor's bytes to
//! the last one; otherwise as text, and as base64 where they aren't text.

use anyhow::{Context as _, Result, bail};
use keyward::{
    contract::{self as host, Header, Method},
    tape::{Body, Step, Taped},
};
use keyward_sdk::{
    contract::{Event, Failure},
    replay::{self, Recording},
};
use serde_json::{Map, Value as Json, json};

use super::scrub::Scrub;
use crate::plugin_test::Across;

/// A recording before it is written, in decoded form.
pub struct Draft {
    pub about: String,
    /// As recordings write it.
    pub operation: Json,
    pub settings: Json,
    /// What else the adapter was told, if its output needs it.
    pub now_ms: u64,
    pub seed: u64,
    pub id: String,
    pub grants: Vec<String>,
    steps: Vec<DraftStep>,
    events: Vec<Json>,
    failure: Option<Map<String, Json>>,
}

enum DraftStep {
    Sleep(u32),
    Exchange { request: Map<String, Json>, status: u16, headers: Vec<Header>, body: Vec<u8> },
}

impl Draft {
    /// # Errors
    /// If the tape isn't whole, or the exchange ended before it was answered.
    pub fn new(
        about: String,
        operation: Json,
        taped: Taped,
        events: Vec<host::Event>,
    ) -> Result<Self> {
        if taped.cut_short {
            bail!(
                "the answer has more than {} MiB, too much for a recording",
                keyward::tape::MAX_BYTES >> 20
            );
        }
        let context = taped.context.context("the adapter was never called")?;
        let mut steps = Vec::new();
        for step in taped.steps {
            steps.push(match step {
                Step::Sleep(milliseconds) => DraftStep::Sleep(milliseconds),
                Step::Request(request) => {
                    let mut members = Map::new();
                    if request.origin != keyward_sdk::VendorRequest::get("").origin {
                        members.insert("origin".to_owned(), json!(request.origin));
                    }
                    let method = match request.method {
                        Method::Get => "GET",
                        Method::Post => "POST",
                        Method::Put => "PUT",
                        Method::Delete => "DELETE",
                    };
                    let usual = if matches!(request.body, Body::Empty) { "GET" } else { "POST" };
                    if method != usual {
                        members.insert("method".to_owned(), json!(method));
                    }
                    members.insert("path".to_owned(), json!(request.path));
                    if !request.headers.is_empty() {
                        let headers = request.headers.into_iter();
                        let headers: Map<_, _> =
                            headers.map(|header| (header.name, json!(header.value))).collect();
                        members.insert("headers".to_owned(), Json::Object(headers));
                    }
                    let body = match request.body {
                        Body::Empty => None,
                        Body::Json(body) => {
                            Some(serde_json::from_slice(&body).context("the request isn't JSON")?)
                        }
                        Body::Raw(body) => Some(json!(String::from_utf8_lossy(&body))),
                    };
                    members.extend(body.map(|body| ("body".to_owned(), body)));
                    let answer = request.answer.context("the last request was never answered")?;
                    DraftStep::Exchange {
                        request: members,
                        status: answer.status,
                        headers: answer.headers,
                        body: answer.body,
                    }
                }
            });
        }
        let events: Vec<Event> = events.across();
        let failure: Option<Failure> = taped.failure.across();
        Ok(Self {
            about,
            operation,
            settings: serde_json::from_str(&context.settings).unwrap_or_else(|_| json!({})),
            now_ms: context.now_ms,
            seed: context.seed,
            id: context.id,
            grants: context.grants,
            steps,
            events: replay::fold(events).iter().map(replay::event_json).collect(),
            failure: failure.as_ref().map(replay::failure_json),
        })
    }

    pub fn requests(&self) -> usize {
        self.exchanges().count()
    }

    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// The status of the last answer.
    pub fn status(&self) -> Option<u16> {
        self.exchanges().last().map(|(_, status, _, _)| status)
    }

    fn exchanges(&self) -> impl Iterator<Item = (&Map<String, Json>, u16, &[Header], &[u8])> {
        self.steps.iter().filter_map(|step| match step {
            DraftStep::Sleep(_) => None,
            DraftStep::Exchange { request, status, headers, body } => {
                Some((request, *status, headers.as_slice(), body.as_slice()))
            }
        })
    }

    /// Every decoded string that a reader of the recording could see.
    pub fn visit(&self, see: &mut dyn FnMut(Seen<'_>)) {
        see(Seen::Json(&self.operation));
        see(Seen::Json(&self.settings));
        for (request, _, headers, body) in self.exchanges() {
            for (name, value) in request {
                match value {
                    Json::String(text) => see(Seen::Body(text)),
                    json => see(Seen::Json(&json!({ name: json }))),
                }
            }
            for Header { name, value } in headers {
                see(Seen::Header(name, value));
            }
            see(Seen::Body(&String::from_utf8_lossy(body)));
        }
        // Texts that came in pieces are whole here.
        self.events.iter().for_each(|event| see(Seen::Json(event)));
        if let Some(failure) = &self.failure {
            see(Seen::Json(&Json::Object(failure.clone())));
        }
    }

    /// Puts placeholders in the place of what was found.
    pub fn scrub(&mut self, scrub: &Scrub) {
        scrub.json(&mut self.operation);
        scrub.json(&mut self.settings);
        for step in &mut self.steps {
            let DraftStep::Exchange { request, headers, body, .. } = step else { continue };
            request.values_mut().for_each(|value| scrub.json(value));
            for header in headers {
                header.value = scrub.text(&header.value);
            }
            *body = scrub.bytes(body);
        }
        self.events.iter_mut().for_each(|event| scrub.json(event));
        if let Some(failure) = &mut self.failure {
            failure.values_mut().for_each(|value| scrub.json(value));
        }
    }

    /// The file's text; `whole` with the time, the seed and the id that the adapter was told.
    ///
    /// # Errors
    /// If the recording can't be read back.
    pub fn text(&self, whole: bool) -> Result<String> {
        let mut context = Map::new();
        if self.settings != json!({}) {
            context.insert("settings".to_owned(), self.settings.clone());
        }
        if !self.grants.is_empty() {
            context.insert("grants".to_owned(), json!(self.grants));
        }
        if whole {
            context.insert("now_ms".to_owned(), json!(self.now_ms));
            context.insert("seed".to_owned(), json!(self.seed));
            context.insert("id".to_owned(), json!(self.id));
        }
        let mut steps = Vec::new();
        for step in &self.steps {
            steps.push(match step {
                DraftStep::Sleep(milliseconds) => json!({ "sleep": milliseconds }),
                DraftStep::Exchange { request, status, headers, body } => {
                    json!({"request": request, "response": answer(*status, headers, body)?})
                }
            });
        }
        let mut document = Map::new();
        document.insert("about".to_owned(), json!(self.about));
        document.insert("operation".to_owned(), self.operation.clone());
        if !context.is_empty() {
            document.insert("context".to_owned(), Json::Object(context));
        }
        document.insert("steps".to_owned(), Json::Array(steps));
        let mut expect = Map::new();
        expect.insert("events".to_owned(), json!(self.events));
        if let Some(failure) = &self.failure {
            expect.insert("failure".to_owned(), json!(failure));
        }
        document.insert("expect".to_owned(), Json::Object(expect));
        Ok(replay::document(&Json::Object(document)))
    }
}

/// A decoded piece of a draft, by what it is.
pub enum Seen<'a> {
    Json(&'a Json),
    Header(&'a str, &'a str),
    Body(&'a str),
}

/// An answer's members, its body in the first form that gives the same bytes.
fn answer(status: u16, headers: &[Header], body: &[u8]) -> Result<Json> {
    let mut members = Map::new();
    if status != 200 {
        members.insert("status".to_owned(), json!(status));
    }
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(body) {
        forms.extend(as_json(text).map(|json| ("json", json)));
        forms.extend(as_sse(text).map(|json| ("sse", json)));
        forms.extend(as_ndjson(text).map(|json| ("ndjson", json)));
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        forms.push(match lines[..] {
            [line] => ("text", json!(line)),
            _ => ("text", json!(lines)),
        });
    }
    forms.push(("base64", json!(base64(body))));
    for (name, form) in forms.into_iter().filter(|_| !body.is_empty()) {
        let usual = match name {
            "json" => "application/json",
            "sse" => "text/event-stream",
            "ndjson" => "application/x-ndjson",
            _ => "",
        };
        let mut written = members.clone();
        write_headers(&mut written, headers, usual);
        written.insert(name.to_owned(), form);
        if read_back(&written).is_some_and(|(kept, media)| kept == body && media == of(headers)) {
            return Ok(Json::Object(written));
        }
    }
    if body.is_empty() {
        write_headers(&mut members, headers, "");
        return Ok(Json::Object(members));
    }
    bail!("the answer's body can't be written down")
}

/// The media type among these headers.
fn of(headers: &[Header]) -> String {
    let found = headers.iter().find(|header| header.name == "content-type");
    found.map(|header| header.value.clone()).unwrap_or_default()
}

fn write_headers(members: &mut Map<String, Json>, headers: &[Header], usual: &str) {
    let written: Map<String, Json> = headers
        .iter()
        .filter(|header| header.name != "content-type" || header.value != usual)
        .map(|header| (header.name.clone(), json!(header.value)))
        .collect();
    if !written.is_empty() {
        members.insert("headers".to_owned(), Json::Object(written));
    }
}

/// Body and media type of an answer as the replay kit reads it.
fn read_back(answer: &Map<String, Json>) -> Option<(Vec<u8>, String)> {
    let recording = json!({"about": "", "operation": "probe", "steps": [{"response": answer}]});
    let recording = Recording::parse("answer", &recording.to_string()).ok()?;
    let Some(replay::Step::Request { answer, .. }) = recording.steps.into_iter().next() else {
        return None;
    };
    let media = answer.headers.iter().find(|(name, _)| name == "content-type");
    let media = media.map(|(_, value)| value.clone()).unwrap_or_default();
    Some((answer.body, media))
}

/// JSON that is written in the same way again.
fn as_json(text: &str) -> Option<Json> {
    let json: Json = serde_json::from_str(text).ok()?;
    let written = json.to_string();
    (written == text).then_some(json)
}

fn as_sse(text: &str) -> Option<Json> {
    let mut events = Vec::new();
    for block in text.strip_suffix("\n\n")?.split("\n\n") {
        let (name, data) = match block.split_once('\n') {
            Some((name, data)) => (Some(name.strip_prefix("event: ")?), data),
            None => (None, block),
        };
        let data = data.strip_prefix("data: ")?;
        // A JSON string would be taken for the text in it.
        let json = as_json(data).filter(|json| !json.is_string()).unwrap_or_else(|| json!(data));
        events.push(match name {
            Some(name) => json!([name, json]),
            None => json,
        });
    }
    Some(Json::Array(events))
}

fn as_ndjson(text: &str) -> Option<Json> {
    let lines: Option<Vec<Json>> = text.strip_suffix('\n')?.split('\n').map(as_json).collect();
    lines.map(Json::Array)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(media: &str, body: &[u8]) -> Json {
        let header = Header { name: "content-type".into(), value: media.into() };
        answer(200, &[header], body).unwrap()
    }

    #[test]
    fn a_body_is_written_in_the_form_that_reads_best_and_keeps_every_byte() {
        assert_eq!(form("application/json", b"{\"a\":1}"), json!({"json": {"a": 1}}));
        assert_eq!(
            form("text/event-stream", b"data: {\"a\":1}\n\nevent: end\ndata: x\n\n"),
            json!({"sse": [{"a": 1}, ["end", "x"]]})
        );
        assert_eq!(
            form("application/x-ndjson", b"{\"a\":1}\n{}\n"),
            json!({"ndjson": [{"a": 1}, {}]})
        );
        // Written otherwise than we would: the bytes stay the vendor's.
        assert_eq!(
            form("application/json", b"{ \"a\": 1.50 }\n"),
            json!({"headers": {"content-type": "application/json"}, "text": "{ \"a\": 1.50 }\n"})
        );
        assert_eq!(
            form("text/event-stream", b": ping\n\ndata: 1\r\n\r\n"),
            json!({"headers": {"content-type": "text/event-stream"},
                "text": [": ping\n", "\n", "data: 1\r\n", "\r\n"]})
        );
        assert_eq!(
            form("application/json; charset=utf-8", b"{}"),
            json!({"headers": {"content-type": "application/json; charset=utf-8"}, "json": {}})
        );
        assert_eq!(
            form("application/octet-stream", &[0, 1, 255, 7]),
            json!({"headers": {"content-type": "application/octet-stream"}, "base64": "AAH/Bw=="})
        );
        assert_eq!(answer(204, &[], b"").unwrap(), json!({"status": 204}));
    }
}
