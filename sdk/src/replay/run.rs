//! Carrying a recording out against a target, and comparing.

use serde_json::{Map, Value as Json, json};

use super::{
    Answer, Framer, Marks, Recording, Step, Target, event_json, events::failure_json, fold, hold,
    layout,
};
use crate::contract::{
    Body, Context, Event, Framing, Header, Input, Method, Operation, Output, ResponseHead,
    VendorRequest,
};
use crate::{
    Descriptor,
    descriptor::{GRANT_READ_CONTENT, OperationKind},
};

/// Makes a framer for each answer.
pub type Framers<'a> = dyn Fn(Framing) -> Result<Box<dyn Framer>, String> + 'a;

/// What an exchange did.
struct Outcome {
    requests: Vec<Map<String, Json>>,
    events: Vec<Event>,
    /// The members to compare.
    failure: Option<Map<String, Json>>,
}

/// Where the bytes of the answers are cut.
#[derive(Clone, Copy)]
enum Cut {
    /// Into two pieces, here.
    At(usize),
    /// Into single bytes.
    Everywhere,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => write!(f, "answers cut at byte {at}"),
            Self::Everywhere => f.write_str("answers byte by byte"),
        }
    }
}

/// One answer as the adapter gets it.
#[derive(Clone, PartialEq)]
struct Arrivals {
    steps: Vec<Vec<Input>>,
    /// Why there is no more: the answer can't be framed, and the host ends the exchange.
    damage: Option<String>,
}

/// What a replay was: how often the bytes were cut, and how many exchanges that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub cuts: usize,
    pub exchanges: usize,
}

/// Replays a recording in every way and compares: with content given and held, with the bytes of
/// its answers cut at every boundary. Cuts that give the adapter the same steps share one
/// exchange, because an adapter's output is a function of its input; that it is, is seen by
/// carrying out the first exchange twice.
///
/// # Errors
/// The first difference, for people, with the recording's name.
pub fn check(
    recording: &Recording,
    target: &mut dyn Target,
    framers: &Framers<'_>,
) -> Result<Replayed, String> {
    check_every_way(recording, target, framers)
        .map_err(|problem| format!("{}: {problem}", recording.name))
}

fn check_every_way(
    recording: &Recording,
    target: &mut dyn Target,
    framers: &Framers<'_>,
) -> Result<Replayed, String> {
    let descriptor = target.describe()?;
    let mut replayed = Replayed::default();
    // A recording that grants reading is only replayed with what it grants.
    let reads = recording.context.grants.iter().any(|grant| grant == GRANT_READ_CONTENT);
    let modes: &[bool] = if reads { &[false] } else { &[false, true] };
    for &held in modes {
        let content = if held { "content held" } else { "content given" };
        let mut framings = Vec::new();
        let whole = &mut |answer: &Answer, framing| {
            framings.push(framing);
            arrivals(&descriptor, answer, framing, framers, Cut::At(0))
        };
        run(recording, &descriptor, target, held, whole)
            .and_then(|outcome| compare(recording, outcome))
            .map_err(|problem| format!("{content}: {problem}"))?;
        replayed.exchanges += 1;
        let answers = recording.steps.iter().filter_map(|step| match step {
            Step::Request { answer, .. } => Some(answer),
            Step::Sleep(_) => None,
        });
        let asked: Vec<(&Answer, Framing)> = answers.zip(framings).collect();
        let longest = asked.iter().map(|(answer, _)| answer.body.len()).max().unwrap_or(0);
        let mut seen: Vec<Vec<Arrivals>> = Vec::new();
        for cut in (0..=longest).map(Cut::At).chain([Cut::Everywhere]) {
            let place = |problem: String| format!("{content}, {cut}: {problem}");
            let schedule = asked
                .iter()
                .map(|&(answer, framing)| arrivals(&descriptor, answer, framing, framers, cut))
                .collect::<Result<Vec<_>, _>>()
                .map_err(place)?;
            replayed.cuts += 1;
            if seen.contains(&schedule) {
                continue;
            }
            let mut next = schedule.iter();
            let cut_here = &mut |_: &Answer, _| {
                next.next().cloned().ok_or_else(|| "more requests than before".to_owned())
            };
            run(recording, &descriptor, target, held, cut_here)
                .and_then(|outcome| compare(recording, outcome))
                .map_err(place)?;
            replayed.exchanges += 1;
            seen.push(schedule);
        }
    }
    Ok(replayed)
}

/// Takes what the target does as what the recording expects.
pub(super) fn bless(
    recording: &mut Recording,
    target: &mut dyn Target,
    framers: &Framers<'_>,
) -> Result<(), String> {
    let descriptor = target.describe()?;
    let whole =
        &mut |answer: &Answer, framing| arrivals(&descriptor, answer, framing, framers, Cut::At(0));
    let outcome = run(recording, &descriptor, target, false, whole)
        .map_err(|problem| format!("{}: {problem}", recording.name))?;
    let events = outcome.events.iter().map(event_json).collect();
    recording.set(outcome.requests, events, outcome.failure);
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
                Some(failure) => {
                    format!("request {} was never made: {}", i + 1, json!(failure))
                }
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
    match (&recording.failure, outcome.failure) {
        (None, None) => Ok(()),
        (None, Some(failure)) => Err(format!("failed: {}", json!(failure))),
        (Some(_), None) => Err("succeeded, where a failure was expected".to_owned()),
        (Some(expected), Some(mut found)) => {
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

/// Carries the recording out once; `arrive` makes steps of each answer, in order.
fn run(
    recording: &Recording,
    descriptor: &Descriptor,
    target: &mut dyn Target,
    held: bool,
    arrive: &mut dyn FnMut(&Answer, Framing) -> Result<Arrivals, String>,
) -> Result<Outcome, String> {
    let (operation, marks) = match held {
        true => hold(&recording.operation),
        false => (recording.operation.clone(), Marks::default()),
    };
    check_operation(descriptor, &operation)?;
    let free = matches!(operation, Operation::ListModels | Operation::Probe);
    let mut context: Context = recording.context.clone();
    if !held && !context.grants.iter().any(|grant| grant == GRANT_READ_CONTENT) {
        context.grants.push(GRANT_READ_CONTENT.to_owned());
    }
    let mut exchange = target.open(operation, context)?;
    let mut outcome = Outcome { requests: Vec::new(), events: Vec::new(), failure: None };
    let mut steps = recording.steps.iter();
    let mut waiting = vec![vec![Input::Start]].into_iter();
    let mut damage = None;
    let mut over = false;
    while let Some(inputs) = waiting.next() {
        for output in exchange.step(inputs)? {
            if over {
                return Err(format!("{output:?} follows the last output"));
            }
            match output {
                Output::Event(event) => outcome.events.push(event),
                Output::Done => over = true,
                Output::Failed(failure) => {
                    outcome.failure = Some(failure_json(&failure));
                    over = true;
                }
                Output::Send(_) | Output::Sleep(_) if waiting.len() > 0 => {
                    return Err("it sends or waits before the answer has ended".to_owned());
                }
                Output::Send(request) => {
                    if free {
                        check_free(&request)?;
                    }
                    outcome.requests.push(written(descriptor, &marks, &request)?);
                    let Some(Step::Request { answer, .. }) = steps.next() else {
                        return Err(format!(
                            "a request more than recorded: {:?} {}",
                            request.method, request.path
                        ));
                    };
                    let arrivals = arrive(answer, request.framing)?;
                    waiting = arrivals.steps.into_iter();
                    damage = arrivals.damage;
                }
                Output::Sleep(asked) => match steps.next() {
                    Some(Step::Sleep(recorded)) if *recorded == asked => {
                        waiting = vec![vec![Input::Timer]].into_iter();
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
        if damage.is_none() {
            return Err("the exchange ends neither done nor failed".to_owned());
        }
        // In words of the host's own, which a recording doesn't hold.
        let failure = [("kind", "malformed-answer"), ("fault", "vendor")];
        let failure = failure.map(|(name, value)| (name.to_owned(), json!(value)));
        outcome.failure = Some(failure.into_iter().collect());
    }
    outcome.events = fold(outcome.events);
    Ok(outcome)
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

/// What nobody is billed for may only look; a host sends nothing else.
fn check_free(request: &VendorRequest) -> Result<(), String> {
    match (request.method, &request.body) {
        (Method::Get, Body::Empty) => Ok(()),
        (method, _) => Err(format!(
            "asks for {} {}, which may be billed: `probe` and `list-models` are answered with GET \
             and no body",
            method_name(method),
            request.path
        )),
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
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
    let mut written = Map::new();
    written.insert("origin".to_owned(), json!(request.origin));
    written.insert("method".to_owned(), json!(method_name(request.method)));
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
) -> Result<Arrivals, String> {
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
        let steps = vec![vec![head, Input::Body(body), Input::End]];
        return Ok(Arrivals { steps, damage: None });
    }
    let mut framer = framers(framing)?;
    let mut steps = vec![vec![head]];
    let pieces: Vec<&[u8]> = match cut {
        Cut::At(at) => {
            let (one, other) = answer.body.split_at(at.min(answer.body.len()));
            vec![one, other]
        }
        Cut::Everywhere => answer.body.chunks(1).collect(),
    };
    let mut damage = None;
    for (at, piece) in pieces.into_iter().enumerate() {
        let mut frames = Vec::new();
        damage = framer.push(piece, &mut frames).err();
        let frames = frames.into_iter().map(Input::Frame);
        // The head goes in with the first piece.
        if at == 0 {
            steps[0].extend(frames);
        } else {
            steps.push(frames.collect());
        }
        if damage.is_some() {
            break;
        }
    }
    if damage.is_none() {
        let mut frames = Vec::new();
        damage = framer.finish(&mut frames).err();
        let mut last: Vec<Input> = frames.into_iter().map(Input::Frame).collect();
        if damage.is_none() {
            last.push(Input::End);
        }
        steps.push(last);
    }
    steps.retain(|inputs| !inputs.is_empty());
    Ok(Arrivals { steps, damage })
}
