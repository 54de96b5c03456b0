//! The cases that every adapter has a recording of, and what each of them means.

use keyward_sdk::{
    Chat, Format, Operation, PartBody, Role,
    descriptor::OperationKind,
    replay::{Answer, Recording, Step},
};
use serde_json::{Map, Value as Json, json};

use crate::vendors::{self, Vendor};

/// Says what is wrong with a recording of the case, if anything is.
type Meaning = fn(&Shown<'_>) -> Result<(), String>;

/// A case, and what its recording must show.
const CASES: [(&str, Meaning); 22] = [
    ("plain", plain),
    ("streamed", streamed),
    ("tool_call", tool_call),
    ("parallel_tools", parallel_tools),
    ("tool_result", tool_result),
    ("image", image),
    ("json_schema", json_schema),
    ("stop", stop),
    ("length", length),
    ("refusal", refusal),
    ("error_400", |shown| shown.status(400, "invalid-request", "caller")),
    ("error_401", |shown| shown.status(401, "authentication", "host")),
    ("error_403", |shown| shown.status(403, "permission", "host")),
    ("error_404", |shown| shown.status(404, "model-not-found", "caller")),
    ("error_429", no_time_to_wait),
    ("error_429_retry_after", time_to_wait),
    ("error_500", |shown| shown.status(500, "unavailable", "vendor")),
    (BUSY, busy),
    ("error_in_stream", error_in_stream),
    ("stream_cut", stream_cut),
    ("empty_body", empty_body),
    ("not_json", not_json),
];

/// Vendors say with either status that they are too busy.
const BUSY: &str = "error_503 or error_529";

/// What a vendor can't do, and what its recording shows instead.
const EXCEPTIONS: [(&str, &str, Meaning); 9] = [
    ("OpenAI Responses", "stop", |shown| shown.without("sampling.stop")),
    ("Ollama", "refusal", refusal_in_text),
    ("Cloudflare", "refusal", refusal_in_text),
    ("LocalAI", "refusal", refusal_in_text),
    ("LightLLM", "refusal", refusal_in_text),
    // Without a header the time is in the words of the error.
    ("Azure OpenAI", "error_429", time_to_wait),
    // These answer to an unknown model with another status, or whatever the model's name.
    ("Cloudflare", "error_404", no_such_path),
    ("LightLLM", "error_404", no_such_path),
    // It hangs up and says nothing.
    ("LightLLM", "error_in_stream", stream_cut),
];

/// The headers in which vendors give a request's id.
const REQUEST_IDS: [&str; 5] =
    ["x-request-id", "request-id", "apim-request-id", "cf-ai-req-id", "x-correlation-id"];

/// The vendors that tell which stop sequence it was; of the OpenAI-compatible servers vLLM does.
const NAMES_STOP_SEQUENCE: [&str; 4] = ["anthropic", "cohere", "demo", "openai-compatible"];

#[test]
fn every_adapter_has_every_case_and_it_means_the_same() {
    let mut problems = Vec::new();
    for vendor in vendors::all().into_iter().filter(|vendor| vendor.every_case) {
        for (case, meaning) in CASES {
            let exception = EXCEPTIONS
                .into_iter()
                .find(|(title, name, _)| *title == vendor.title && *name == case);
            let meaning = exception.map_or(meaning, |(_, _, meaning)| meaning);
            let Some(recording) = case.split(" or ").find_map(|name| vendor.recording(name)) else {
                problems.push(format!("{} has no recording {case}", vendor.title));
                continue;
            };
            if let Err(problem) = meaning(&Shown { vendor: &vendor, recording: &recording }) {
                problems.push(format!("{}, {}: {problem}", vendor.title, recording.name));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_operation_of_a_descriptor_is_recorded() {
    for vendor in vendors::all() {
        for operation in vendor.describe().operations {
            let case = match operation {
                OperationKind::Chat => "plain",
                OperationKind::Embed => "embeddings",
                OperationKind::ListModels => "models",
                OperationKind::Probe => "probe",
                OperationKind::Other => continue,
            };
            // One way to list models and to embed is enough for all ways of an adapter to chat.
            let first = vendors::all().into_iter().find(|one| one.adapter == vendor.adapter);
            let recording = first.and_then(|one| one.recording(case));
            let Some(recording) = recording else {
                panic!("{} has no recording {case}", vendor.title);
            };
            assert!(recording.failure.is_none(), "{}, {case}", vendor.title);
            let event = |name: &str| recording.events.iter().any(|event| event.get(name).is_some());
            match operation {
                OperationKind::Embed => assert!(event("embedding"), "{}", vendor.title),
                OperationKind::ListModels => assert!(event("model"), "{}", vendor.title),
                OperationKind::Probe => assert_eq!(recording.events, Vec::<Json>::new()),
                _ => {}
            }
        }
    }
}

#[test]
fn every_adapter_names_the_documents_it_follows_and_when_they_were_read() {
    for vendor in vendors::all().iter().filter(|vendor| vendor.sends) {
        let documents = vendor.describe().documents;
        assert!(!documents.is_empty(), "{}", vendor.title);
        for document in documents {
            assert!(document.url.starts_with("https://"), "{}: {document:?}", vendor.title);
            assert!(document.version.contains("read 20"), "{}: {document:?}", vendor.title);
        }
    }
}

/// What a recording shows.
struct Shown<'a> {
    vendor: &'a Vendor,
    recording: &'a Recording,
}

impl<'a> Shown<'a> {
    fn chat(&self) -> Result<&'a Chat, String> {
        match &self.recording.operation {
            Operation::Chat(chat) => Ok(chat),
            _ => Err("isn't a chat".to_owned()),
        }
    }

    /// The vendor's answer; none from an adapter that asks nobody.
    fn vendors_answer(&self) -> Result<Option<&'a Answer>, String> {
        match self.recording.steps.first() {
            Some(Step::Request { answer, .. }) => Ok(Some(answer)),
            _ if !self.vendor.sends => Ok(None),
            _ => Err("nothing was asked of the vendor".to_owned()),
        }
    }

    /// The bodies of all requests as text.
    fn requests(&self) -> String {
        let body = |step: &Step| match step {
            Step::Request { expected, .. } => expected.get("body").map(Json::to_string),
            Step::Sleep(_) => None,
        };
        self.recording.steps.iter().filter_map(body).collect()
    }

    /// The values of all events of this name.
    fn events(&self, name: &str) -> Vec<&'a Json> {
        self.recording.events.iter().filter_map(|event| event.get(name)).collect()
    }

    fn text(&self) -> String {
        self.events("text").into_iter().filter_map(Json::as_str).collect()
    }

    /// Succeeded, began, finished for this reason, and was counted.
    fn success(&self, reason: &str) -> Result<&'a Chat, String> {
        let chat = self.chat()?;
        self.vendors_answer()?;
        if let Some(failure) = &self.recording.failure {
            return Err(format!("failed: {}", json!(failure)));
        }
        expect(self.events("started").len() == 1, "must begin once")?;
        let reasons = self.events("finish");
        expect(
            !reasons.is_empty() && reasons.iter().all(|found| *found == reason),
            &format!("must finish by {reason}, not {reasons:?}"),
        )?;
        let counted = |class: &str| self.events("usage").iter().any(|usage| usage[class].is_u64());
        expect(counted("input") && counted("output"), "must be counted")?;
        Ok(chat)
    }

    /// As [`Self::success`], with text.
    fn answer(&self, reason: &str) -> Result<&'a Chat, String> {
        let chat = self.success(reason)?;
        expect(!self.text().trim().is_empty(), "must have text")?;
        Ok(chat)
    }

    /// An answer for which something was left out, and said so.
    fn without(&self, subject: &str) -> Result<(), String> {
        self.answer("stop")?;
        let said = json!({"warning": "dropped", "subject": subject});
        expect(self.recording.events.contains(&said), &format!("must warn of {subject}"))
    }

    /// The calls with their arguments, in order; their numbers count from 0.
    fn calls(&self) -> Result<Vec<(&'a str, Json)>, String> {
        let chat = self.success("tool-calls")?;
        let mut calls: Vec<(&str, String)> = Vec::new();
        for event in &self.recording.events {
            let index = event.get("index").and_then(Json::as_u64).unwrap_or(0);
            if let Some(call) = event.get("tool-call") {
                expect(index == calls.len() as u64, "calls must be numbered through from 0")?;
                let name = call["name"].as_str().unwrap_or_default();
                let offered = chat.tools.iter().any(|tool| tool.name == name);
                expect(offered, &format!("{name:?} wasn't offered"))?;
                calls.push((name, String::new()));
            } else if let Some(fragment) = event.get("tool-arguments").and_then(Json::as_str) {
                let call = usize::try_from(index).ok().and_then(|index| calls.get_mut(index));
                let (_, arguments) = call.ok_or("arguments come before their call")?;
                arguments.push_str(fragment);
            }
        }
        let parsed = calls.into_iter().map(|(name, arguments)| {
            match serde_json::from_str::<Json>(&arguments) {
                Ok(arguments @ Json::Object(_)) => Ok((name, arguments)),
                _ => Err(format!("the arguments {arguments:?} are no object")),
            }
        });
        parsed.collect()
    }

    fn failure(&self, kind: &str, fault: &str) -> Result<&'a Map<String, Json>, String> {
        let failure = self.recording.failure.as_ref().ok_or("must fail")?;
        expect(
            failure.get("kind") == Some(&json!(kind))
                && failure.get("fault") == Some(&json!(fault)),
            &format!("must be {kind} by the {fault}, not {}", json!(failure)),
        )?;
        Ok(failure)
    }

    /// Failed with a status, in the vendor's words and with its id of the request.
    fn status(&self, status: u16, kind: &str, fault: &str) -> Result<(), String> {
        self.chat()?;
        let failure = self.failure(kind, fault)?;
        let says = failure.get("message").and_then(Json::as_str).unwrap_or_default();
        expect(!says.is_empty(), "must say why")?;
        let Some(answer) = self.vendors_answer()? else { return Ok(()) };
        expect(answer.status == status, "the vendor must answer with the case's status")?;
        expect(failure.get("status") == Some(&json!(status)), "must tell the status")?;
        let is_id = |name: &str| REQUEST_IDS.contains(&name);
        let ids = answer.headers.iter().filter(|(name, _)| is_id(name)).collect::<Vec<_>>();
        let told = failure.get("request_id").and_then(Json::as_str);
        expect(
            ids.is_empty() || ids.iter().any(|(_, id)| Some(id.as_str()) == told),
            "must tell the vendor's id of the request",
        )
    }

    /// A time to wait, in the failure or in the header that the host reads.
    fn wait(&self) -> Result<bool, String> {
        let given = self.recording.failure.as_ref().and_then(|it| it.get("retry_after_ms"));
        let header = self
            .vendors_answer()?
            .is_some_and(|answer| answer.headers.iter().any(|(name, _)| name == "retry-after"));
        Ok(given.is_some() || header)
    }

    /// An answer that can't be understood.
    fn malformed(&self) -> Result<(), String> {
        self.chat()?;
        self.failure("malformed-answer", "vendor")?;
        let status = self.vendors_answer()?.map_or(200, |answer| answer.status);
        expect(status == 200, "the vendor must have answered well")
    }
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn plain(shown: &Shown<'_>) -> Result<(), String> {
    expect(!shown.answer("stop")?.stream, "must not be streamed")
}

fn streamed(shown: &Shown<'_>) -> Result<(), String> {
    expect(shown.answer("stop")?.stream, "must be streamed")
}

fn tool_call(shown: &Shown<'_>) -> Result<(), String> {
    expect(shown.calls()?.len() == 1, "must call one tool")
}

fn parallel_tools(shown: &Shown<'_>) -> Result<(), String> {
    let calls = shown.calls()?;
    expect(calls.len() == 2, "must call two tools at once")?;
    expect(calls[0] != calls[1], "the calls must differ")
}

fn tool_result(shown: &Shown<'_>) -> Result<(), String> {
    let chat = shown.answer("stop")?;
    let result = chat.messages.iter().find(|message| message.role == Role::Tool);
    let result = result.ok_or("there must be a result")?;
    let text = result.parts.iter().find_map(|part| match &part.body {
        PartBody::Text(text) => Some(text.value.as_str()),
        _ => None,
    });
    let text = text.ok_or("the result must be text")?;
    let sent = !shown.vendor.sends || shown.requests().contains(text);
    expect(sent, "the result must reach the vendor")
}

fn image(shown: &Shown<'_>) -> Result<(), String> {
    let chat = shown.answer("stop")?;
    let parts = chat.messages.iter().flat_map(|message| &message.parts);
    let image = parts.into_iter().find_map(|part| match &part.body {
        PartBody::Media(media) => match &media.source {
            keyward_sdk::MediaSource::Base64(data) => Some(data.value.as_str()),
            _ => None,
        },
        _ => None,
    });
    let image = image.ok_or("there must be an image by content")?;
    let sent = !shown.vendor.sends || shown.requests().contains(image);
    expect(sent, "the image must reach the vendor")
}

fn json_schema(shown: &Shown<'_>) -> Result<(), String> {
    let chat = shown.answer("stop")?;
    let Format::Schema(schema) = &chat.format else {
        return Err("must ask for a schema".to_owned());
    };
    let schema: Json = serde_json::from_str(&schema.schema).map_err(|error| error.to_string())?;
    let answer: Json = serde_json::from_str(&shown.text())
        .map_err(|error| format!("the answer isn't JSON: {error}"))?;
    let required = schema["required"].as_array().ok_or("the schema must require something")?;
    let has = |name: &Json| name.as_str().is_some_and(|name| answer.get(name).is_some());
    expect(required.iter().all(has), "the answer must have what the schema requires")
}

fn stop(shown: &Shown<'_>) -> Result<(), String> {
    let chat = shown.answer("stop")?;
    expect(!chat.sampling.stop.is_empty(), "must ask for a stop sequence")?;
    let found = shown.recording.events.iter().find_map(|event| event["stop_sequence"].as_str());
    let named = found.is_some_and(|found| chat.sampling.stop.iter().any(|stop| stop == found));
    let names = NAMES_STOP_SEQUENCE.contains(&shown.vendor.adapter);
    expect(named == names, &format!("the stop sequence: named {named}, can be named {names}"))
}

fn length(shown: &Shown<'_>) -> Result<(), String> {
    let chat = shown.success("length")?;
    expect(chat.sampling.max_output_tokens.is_some(), "must ask for a limit")
}

/// The model's own words, or the vendor's reason.
fn refusal(shown: &Shown<'_>) -> Result<(), String> {
    if !shown.events("refusal").is_empty() {
        return shown.success("stop").or_else(|_| shown.success("refusal")).map(|_| ());
    }
    let by_reason = |reason: &str| shown.success(reason).map(|_| ());
    by_reason("refusal").or_else(|_| by_reason("content-filter"))
}

/// A model that won't answer says so in text, and nothing tells it from an answer.
fn refusal_in_text(shown: &Shown<'_>) -> Result<(), String> {
    shown.answer("stop").map(|_| ())
}

/// It is the endpoint that is wrong, not what the caller asked for.
fn no_such_path(shown: &Shown<'_>) -> Result<(), String> {
    shown.status(404, "endpoint", "host")
}

fn no_time_to_wait(shown: &Shown<'_>) -> Result<(), String> {
    shown.status(429, "rate-limited", "host")?;
    expect(!shown.wait()?, "must not say how long to wait")
}

fn time_to_wait(shown: &Shown<'_>) -> Result<(), String> {
    shown.status(429, "rate-limited", "host")?;
    expect(shown.wait()?, "must say how long to wait")
}

fn busy(shown: &Shown<'_>) -> Result<(), String> {
    shown.status(503, "overloaded", "vendor").or_else(|_| shown.status(529, "overloaded", "vendor"))
}

fn error_in_stream(shown: &Shown<'_>) -> Result<(), String> {
    expect(shown.chat()?.stream, "must be streamed")?;
    shown.failure("overloaded", "vendor").or_else(|_| shown.failure("unavailable", "vendor"))?;
    let status = shown.vendors_answer()?.map_or(200, |answer| answer.status);
    expect(status == 200, "the stream must have begun well")?;
    expect(!shown.text().is_empty(), "what came before must stay")?;
    expect(shown.events("finish").is_empty(), "must not finish")
}

fn stream_cut(shown: &Shown<'_>) -> Result<(), String> {
    expect(shown.chat()?.stream, "must be streamed")?;
    shown.malformed()?;
    expect(!shown.text().is_empty(), "what came before must stay")?;
    expect(shown.events("finish").is_empty(), "must not finish")
}

fn empty_body(shown: &Shown<'_>) -> Result<(), String> {
    shown.malformed()?;
    let empty = shown.vendors_answer()?.is_none_or(|answer| answer.body.is_empty());
    expect(empty && shown.recording.events.is_empty(), "nothing must come in or out")
}

fn not_json(shown: &Shown<'_>) -> Result<(), String> {
    shown.malformed()?;
    let is_json = |answer: &Answer| serde_json::from_slice::<Json>(&answer.body).is_ok();
    let damaged = shown.vendors_answer()?.is_none_or(|answer| !is_json(answer));
    expect(damaged && shown.recording.events.is_empty(), "must be no JSON, and nothing come out")
}
