//! Carrying a recording out against a target, and comparing.

use serde_json::{Map, Value as Json, json};

use super::{
    Answer, Framer, Marks, Recording, Step, Target, event_json, events::failure_json, fold, hold,
    layout,
};
use crate::contract::{
    Body, Context, Event, Failure, Frame, Framing, Header, Input, Method, Operation, Output,
    ResponseHead, VendorRequest,
};
use crate::{
    Descriptor,
    descriptor::{GRANT_READ_CONTENT, OperationKind},
};

/// Makes a framer for each answer.
pub type Framers<'a> = dyn Fn(Framing) -> Result<Box<dyn Framer>, String> + 'a;

/// Steps and outputs of one exchange; a recording never needs more.
const MAX_STEPS: usize = 1000;

/// What an exchange did.
struct Outcome {
    requests: Vec<Map<String, Json>>,
    events: Vec<Event>,
    failure: Option<Failure>,
}

/// How one replay differs from the others.
#[derive(Clone, Copy)]
struct Way {
    held: bool,
    cut: Cut,
}

#[derive(Clone, Copy)]
enum Cut {
    /// Bytes arrive in two pieces, cut here.
    At(usize),
    /// Byte by byte.
    Everywhere,
}

/// Replays a recording in every way and compares.
///
/// # Errors
/// The first difference, for people, with the recording's name.
pub fn check(
    recording: &Recording,
    target: &mut dyn Target,
    framers: &Framers<'_>,
) -> Result<(), String> {
    let mut replay = || -> Result<(), String> {
        let descriptor = target.describe()?;
        let longest = recording.steps.iter().map(|step| match step {
            Step::Request { answer, .. } => answer.body.len(),
            Step::Sleep(_) => 0,
        });
        let longest = longest.max().unwrap_or(0);
        // A recording that grants reading is only replayed with what it grants.
        let reads = recording.context.grants.iter().any(|grant| grant == GRANT_READ_CONTENT);
        let modes: &[bool] = if reads { &[false] } else { &[false, true] };
        for &held in modes {
            let cuts = (0..=longest).map(Cut::At).chain([Cut::Everywhere]);
            for cut in cuts {
                let way = Way { held, cut };
                let place = match (held, cut) {
                    (_, Cut::At(0)) => String::new(),
                    (_, Cut::At(at)) => format!(", answers cut at byte {at}"),
                    (_, Cut::Everywhere) => ", answers byte by byte".to_owned(),
                };
                let content = if held { "content held" } else { "content given" };
                let outcome = run(recording, &descriptor, target, framers, way)
                    .and_then(|outcome| compare(recording, outcome));
                outcome.map_err(|problem| format!("{content}{place}: {problem}"))?;
            }
        }
        Ok(())
    };
    replay().map_err(|problem| format!("{}: {problem}", recording.name))
}

/// Takes what the target does as what the recording expects.
pub(super) fn bless(
    recording: &mut Recording,
    target: &mut dyn Target,
    framers: &Framers<'_>,
) -> Result<(), String> {
    let descriptor = target.describe()?;
    let way = Way { held: false, cut: Cut::At(0) };
    let outcome = run(recording, &descriptor, target, framers, way)
        .map_err(|problem| format!("{}: {problem}", recording.name))?;
    let events = outcome.events.iter().map(event_json).collect();
    recording.set(outcome.requests, events, outcome.failure.as_ref().map(failure_json));
    Ok(())
}

fn compare(recording: &Recording, outcome: Outcome) -> Result<(), String> {
    let expected = recording.steps.iter().filter_map(|step| match step {
        Step::Request { expected, .. } => Some(expected),
        Step::Sleep(_) => None,
    });
    for (i, expected) in expected.enumerate() {
        let Some(made) = outcome.requests.get(i) else {
            return Err(match &outcome.failure {
                Some(failure) => format!(
                    "request {} was never made: {:?}: {}",
                    i + 1,
                    failure.kind,
                    failure.message
                ),
                None => format!("request {} was never made", i + 1),
            });
        };
        let expected = complete_request(expected);
        if &expected != made {
            return Err(format!(
                "request {} differs (- expected, + made)\n{}",
                i + 1,
                layout::difference(&Json::Object(expected), &Json::Object(made.clone()))
            ));
        }
    }
    let events: Vec<Json> = outcome.events.iter().map(event_json).collect();
    if events != recording.events {
        return Err(format!(
            "events differ (- expected, + emitted)\n{}",
            layout::difference(&json!(recording.events), &json!(events))
        ));
    }
    match (&recording.failure, &outcome.failure) {
        (None, None) => Ok(()),
        (None, Some(failure)) => Err(format!("failed: {failure:?}")),
        (Some(_), None) => Err("succeeded, where a failure was expected".to_owned()),
        (Some(expected), Some(failure)) => {
            let mut found = failure_json(failure);
            found.retain(|name, _| expected.contains_key(name));
            if &found == expected {
                return Ok(());
            }
            Err(format!(
                "the failure differs (- expected, + given)\n{}",
                layout::difference(&json!(expected), &json!(found))
            ))
        }
    }
}

/// The request as expected, with the members that may be left out.
fn complete_request(expected: &Map<String, Json>) -> Map<String, Json> {
    let method = if expected.contains_key("body") { "POST" } else { "GET" };
    let mut complete = Map::new();
    complete.insert("origin".to_owned(), json!("api"));
    complete.insert("method".to_owned(), json!(method));
    complete.extend(expected.clone());
    short_request(complete)
}

/// Leaves out what goes without saying.
fn short_request(mut request: Map<String, Json>) -> Map<String, Json> {
    let method = if request.contains_key("body") { "POST" } else { "GET" };
    request.retain(|name, value| match name.as_str() {
        "origin" => value != "api",
        "method" => value != method,
        "headers" => value != &json!({}),
        _ => true,
    });
    request
}

fn run(
    recording: &Recording,
    descriptor: &Descriptor,
    target: &mut dyn Target,
    framers: &Framers<'_>,
    way: Way,
) -> Result<Outcome, String> {
    let (operation, marks) = match way.held {
        true => hold(&recording.operation),
        false => (recording.operation.clone(), Marks::default()),
    };
    check_operation(descriptor, &operation)?;
    let mut context: Context = recording.context.clone();
    if !way.held && !context.grants.iter().any(|grant| grant == GRANT_READ_CONTENT) {
        context.grants.push(GRANT_READ_CONTENT.to_owned());
    }
    let mut exchange = target.open(operation, context)?;
    let mut outcome = Outcome { requests: Vec::new(), events: Vec::new(), failure: None };
    let mut steps = recording.steps.iter();
    let mut waiting: std::collections::VecDeque<Vec<Input>> = [vec![Input::Start]].into();
    let mut over = false;
    for _ in 0..MAX_STEPS + recording.steps.len() * way.steps(recording) {
        let Some(inputs) = waiting.pop_front() else { break };
        for output in exchange.step(inputs)? {
            if over {
                return Err(format!("{output:?} follows the last output"));
            }
            match output {
                Output::Event(event) => outcome.events.push(event),
                Output::Done => over = true,
                Output::Failed(failure) => {
                    outcome.failure = Some(failure);
                    over = true;
                }
                Output::Send(request) => {
                    if !waiting.is_empty() {
                        return Err("a second request before the end of the first".to_owned());
                    }
                    outcome.requests.push(written(descriptor, &marks, &request)?);
                    let Some(Step::Request { answer, .. }) = steps.next() else {
                        return Err(format!(
                            "a request more than recorded: {:?} {}",
                            request.method, request.path
                        ));
                    };
                    waiting = arrivals(descriptor, answer, request.framing, framers, way.cut)?;
                }
                Output::Sleep(asked) => match steps.next() {
                    Some(Step::Sleep(recorded)) if *recorded == asked => {
                        waiting.push_back(vec![Input::Timer]);
                    }
                    _ => return Err(format!("sleeps {asked} ms, which isn't recorded here")),
                },
                Output::Other(other) => return Err(format!("an unknown output: {other:?}")),
            }
        }
        if over {
            break;
        }
    }
    if !over {
        return Err("the exchange ends neither done nor failed".to_owned());
    }
    outcome.events = fold(outcome.events);
    Ok(outcome)
}

impl Way {
    fn steps(self, recording: &Recording) -> usize {
        let bytes = recording.steps.iter().map(|step| match step {
            Step::Request { answer, .. } => answer.body.len(),
            Step::Sleep(_) => 0,
        });
        match self.cut {
            Cut::At(_) => 0,
            Cut::Everywhere => bytes.max().unwrap_or(0),
        }
    }
}

fn check_operation(descriptor: &Descriptor, operation: &Operation) -> Result<(), String> {
    let kind = match operation {
        Operation::Chat(_) => OperationKind::Chat,
        Operation::Embed(_) => OperationKind::Embed,
        Operation::ListModels => OperationKind::ListModels,
        Operation::Probe => OperationKind::Probe,
        Operation::Other(_) => return Ok(()),
    };
    match descriptor.operations.contains(&kind) {
        true => Ok(()),
        false => Err(format!("the descriptor doesn't list the operation {kind:?}")),
    }
}

/// A request as recordings write it, with content in the place of its marks.
fn written(
    descriptor: &Descriptor,
    marks: &Marks,
    request: &VendorRequest,
) -> Result<Map<String, Json>, String> {
    if !descriptor.origins.iter().any(|origin| origin.name == request.origin) {
        return Err(format!("the descriptor has no origin {:?}", request.origin));
    }
    if !request.path.starts_with('/') {
        return Err(format!("the path {:?} doesn't begin with a slash", request.path));
    }
    let mut headers = Map::new();
    for Header { name, value } in &request.headers {
        if !descriptor.request_headers.contains(name) {
            return Err(format!("the descriptor doesn't list the request header {name:?}"));
        }
        if marks.found_in(value) {
            return Err(format!("content in the header {name}"));
        }
        headers.insert(name.clone(), json!(value));
    }
    if marks.found_in(&request.path) {
        return Err("content in the path".to_owned());
    }
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    };
    let mut written = Map::new();
    written.insert("origin".to_owned(), json!(request.origin));
    written.insert("method".to_owned(), json!(method));
    written.insert("path".to_owned(), json!(request.path));
    written.insert("headers".to_owned(), Json::Object(headers));
    match &request.body {
        Body::Empty => {}
        Body::Json(text) => {
            let text = marks.fill(text, true)?;
            let body = serde_json::from_str(&text)
                .map_err(|error| format!("the body isn't JSON: {error}\n{text}"))?;
            written.insert("body".to_owned(), body);
        }
        Body::Raw(raw) => {
            let text = marks.fill(&String::from_utf8_lossy(&raw.data), false)?;
            written.insert("body".to_owned(), json!(text));
        }
    }
    Ok(short_request(written))
}

/// What an answer is to the adapter, as a list of steps.
fn arrivals(
    descriptor: &Descriptor,
    answer: &Answer,
    framing: Framing,
    framers: &Framers<'_>,
    cut: Cut,
) -> Result<std::collections::VecDeque<Vec<Input>>, String> {
    let wanted = |name: &str| {
        descriptor.response_headers.iter().any(|listed| match listed.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => listed == name,
        })
    };
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| Header { name: name.clone(), value: value.clone() })
        .collect();
    let head = Input::Head(ResponseHead { status: answer.status, headers });
    let media_type = answer.headers.iter().find(|(name, _)| name == "content-type");
    let is_json = media_type.is_some_and(|(_, value)| value.starts_with("application/json"));
    let asked_stream = matches!(framing, Framing::Sse | Framing::AwsEventStream);
    if !(200..300).contains(&answer.status) || (asked_stream && is_json) {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Ok([vec![head, Input::Body(body), Input::End]].into());
    }
    let mut framer = framers(framing)?;
    let frames = |frames: Vec<Frame>| frames.into_iter().map(Input::Frame);
    let mut steps = vec![vec![head]];
    match cut {
        Cut::At(at) => {
            let at = at.min(answer.body.len());
            steps[0].extend(frames(framer.push(&answer.body[..at])?));
            steps.push(frames(framer.push(&answer.body[at..])?).collect());
        }
        Cut::Everywhere => {
            for byte in answer.body.chunks(1) {
                steps.push(frames(framer.push(byte)?).collect());
            }
        }
    }
    let mut last: Vec<Input> = frames(framer.finish()?).collect();
    last.push(Input::End);
    steps.push(last);
    steps.retain(|inputs| !inputs.is_empty());
    Ok(steps.into())
}
