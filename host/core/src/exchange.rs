//! One operation carried out against one provider.
//!
//! The exchange steps the adapter and moves bytes for it: what the adapter sends goes through
//! [`egress`](crate::egress), what the vendor answers is framed and handed back, what the adapter
//! emits is checked and passed on. It may take several vendor requests, one after the other.
//!
//! What bounds it: the adapter's [`Limits`](crate::sandbox::Limits), the provider's timeouts, and
//! the caps on events below; what nobody is billed for may only look ([`refuse_payable`]). Nothing
//! is buffered beyond one network read and its frames, so a slow caller slows the vendor down.
//! Dropping an exchange closes the vendor's connection and frees the slot at once. What it costs:
//! about two steps for a plain answer, one for each read of a stream.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, header};

use crate::{
    Failure, FailureKind, Fault,
    catalog::Provider,
    content::{self, Held},
    contract::{self, Body, Event, Input, Method, Output, VendorRequest},
    echo::Echo,
    egress::{Decoder, FramingError, Outgoing, Response, Secrets, retry_after},
    ids::RequestId,
    operation::Operation,
    routing::keyring::KeyAt,
    sandbox::{Instance, Trap},
    tape::{self, Tape},
};

/// The longest wait an adapter may ask for between polls.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Answers to one prompt, and tool calls in one answer. Vendors stop at 128 for both.
const MAX_CHOICES: u32 = 128;
const MAX_TOOL_CALLS: u32 = 1024;

/// Tokens of one exchange: a thousand times the largest context window there is.
const MAX_TOKENS: u64 = 1_000_000_000;

/// What the vendor has counted so far, and whether that can be believed.
///
/// Counts are cumulative, so they only grow. One that is out of range or takes back what was counted
/// before makes all of them doubtful: they are left out from there on, the caller is warned once, and
/// the host bills by its own count.
#[derive(Debug, Default)]
struct Counted {
    input: u64,
    output: u64,
    doubtful: bool,
}

impl Counted {
    /// The event as it goes on: as it is, as a warning in its place, or not at all.
    fn check(&mut self, usage: contract::Usage) -> Option<Event> {
        if self.doubtful {
            return None;
        }
        let counts =
            [usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning];
        let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
        self.doubtful = counts.into_iter().flatten().any(|tokens| tokens > MAX_TOKENS)
            || usage.units.iter().any(|unit| !unit.amount.is_finite() || unit.amount < 0.0)
            || usage.input.is_some() && input < self.input
            || usage.output.is_some() && output < self.output;
        if self.doubtful {
            return Some(Event::Warning(contract::Warning {
                code: "dropped".to_owned(),
                subject: "usage".to_owned(),
                message: "The vendor's count of tokens makes no sense; the gateway's own is used."
                    .to_owned(),
            }));
        }
        self.input = self.input.max(input);
        self.output = self.output.max(output);
        Some(Event::Usage(usage))
    }
}

/// A running exchange. Ask it for events with [`Exchange::next`] until it says `None` or fails.
pub struct Exchange {
    provider: Arc<Provider>,
    key: KeyAt,
    instance: Instance,
    /// The operation's name, where nothing that is sent for it may cost anything.
    free: Option<&'static str>,
    held: Held,
    state: State,
    requests: u32,
    sleeps: u32,
    /// Outputs since the vendor was last heard.
    unprompted: usize,
    /// What was injected so far: no answer may show it.
    secrets: Secrets,
    echo: Echo,
    counted: Counted,
    /// What the last answer's `retry-after` says, for a failure that doesn't say it itself.
    retry_after: Option<Duration>,
    began: Instant,
    waited: Duration,
    /// Only where a recording is made.
    tape: Option<Tape>,
}

enum State {
    /// Nothing is outstanding; this is for the adapter.
    Step(Input),
    /// A request is to be sent.
    Send(Box<Sending>),
    /// An answer is arriving.
    Receive(Box<Receiving>),
    Sleep(Duration),
    /// The events before the failure are out; it comes next.
    Failed(Box<Failure>),
    Over,
}

struct Sending {
    request: Outgoing,
    framing: contract::Framing,
}

struct Receiving {
    response: Response,
    /// Absent if the answer isn't framed as asked.
    decoder: Option<Decoder>,
    /// Kept back to go in with the first piece of the answer.
    head: Option<contract::ResponseHead>,
    tape: Option<Tape>,
}

impl Exchange {
    /// Opens the adapter's instance; nothing is sent yet.
    ///
    /// # Errors
    /// If no sandbox slot is free or the adapter traps.
    pub async fn open(
        provider: Arc<Provider>,
        operation: &Operation,
        id: RequestId,
    ) -> Result<Self, Failure> {
        let key = provider.first_key();
        Self::open_with(provider, operation, id, key, None).await
    }

    /// As [`Exchange::open`], with one of several keys and everything that goes over the wire kept on `tape`.
    ///
    /// # Errors
    /// As [`Exchange::open`].
    pub async fn open_with(
        provider: Arc<Provider>,
        operation: &Operation,
        id: RequestId,
        key: KeyAt,
        tape: Option<Tape>,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let (lowered, held) = content::lower(operation, provider.reads_content())?;
        let context = contract::Context {
            settings: provider.settings.clone(),
            now_ms: unix_ms(),
            seed: seed(id),
            id: id.to_string(),
            grants: provider.grants.clone(),
        };
        if let Some(tape) = &tape {
            tape.context(&context);
        }
        let opened = provider.plugin.open(&lowered, &context).await;
        let instance = opened.map_err(|trap| trapped(&provider, &trap))?;
        Ok(Self {
            provider,
            key,
            instance,
            free: operation.free(),
            held,
            state: State::Step(Input::Start),
            requests: 0,
            sleeps: 0,
            unprompted: 0,
            secrets: Secrets::default(),
            echo: Echo::default(),
            counted: Counted::default(),
            retry_after: None,
            began,
            waited: Duration::ZERO,
            tape,
        })
    }

    /// The next events, never an empty list; `None` after the valid end, once.
    ///
    /// Not to be cancelled halfway: keep the future, or drop the whole exchange.
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        loop {
            match self.advance().await {
                Ok(events) if events.is_empty() => {
                    if matches!(self.state, State::Over) {
                        return None;
                    }
                }
                Ok(events) => return Some(Ok(events)),
                Err(failure) => {
                    // What came before it was only held back, and comes before it.
                    let rest = self.echo.end();
                    if rest.is_empty() {
                        self.state = State::Over;
                        return Some(Err(failure));
                    }
                    self.state = State::Failed(Box::new(failure));
                    return Some(Ok(rest));
                }
            }
        }
    }

    /// Time spent in host and sandbox since the exchange was opened; waiting for the vendor, or
    /// for the caller to take events, isn't counted.
    pub fn busy(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.waited)
    }

    /// True if the vendor's usage made no sense, whatever of it came before.
    pub fn usage_is_doubtful(&self) -> bool {
        self.counted.doubtful
    }

    /// Counts time during which nothing was asked of the exchange.
    pub fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    async fn advance(&mut self) -> Result<Vec<Event>, Failure> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => Ok(Vec::new()),
            State::Failed(failure) => Err(*failure),
            State::Step(input) => self.step(vec![input], None).await,
            State::Sleep(time) => {
                let began = Instant::now();
                tokio::time::sleep(time).await;
                self.waited += began.elapsed();
                self.step(vec![Input::Timer], None).await
            }
            State::Send(sending) => {
                let began = Instant::now();
                let response = self.provider.client.send(sending.request).await;
                self.waited += began.elapsed();
                let response = response?;
                self.retry_after = retry_after(response.headers(), jiff::Timestamp::now());
                self.state = State::Receive(Box::new(self.receiving(response, sending.framing)));
                Ok(Vec::new())
            }
            State::Receive(mut receiving) => {
                let began = Instant::now();
                let arrived = receiving.next().await;
                self.waited += began.elapsed();
                let Arrived { inputs, damage } = arrived?;
                let ended = matches!(inputs.last(), Some(Input::End));
                let events = self.step(inputs, Some(receiving).filter(|_| !ended)).await?;
                // What came whole before the damaged place counts, however the bytes were cut. An
                // adapter that had its end before isn't concerned.
                if let Some(damage) = damage
                    && matches!(self.state, State::Receive(_))
                {
                    self.state = State::Failed(Box::new(damage.into()));
                }
                Ok(events)
            }
        }
    }

    /// Reads the head and decides whether the answer is framed as asked.
    fn receiving(&self, response: Response, framing: contract::Framing) -> Receiving {
        let visible = &self.provider.plugin.response_headers;
        let head = contract::ResponseHead {
            status: response.status(),
            headers: visible.filter(response.headers(), response.secrets()),
        };
        if let Some(tape) = &self.tape {
            tape.head(head.status, &head.headers, response.headers(), response.secrets());
        }
        let whole = is_streamed(framing) && is_json(&response);
        // A success without content has nothing to frame.
        let framed = (200..300).contains(&head.status) && head.status != 204 && !whole;
        let limits = self.provider.frame_limits;
        Receiving {
            decoder: framed.then(|| Decoder::new(framing, limits)),
            head: Some(head),
            response,
            tape: self.tape.clone(),
        }
    }

    /// Steps the adapter; `receiving` is the answer that is still arriving, if one is.
    async fn step(
        &mut self,
        inputs: Vec<Input>,
        receiving: Option<Box<Receiving>>,
    ) -> Result<Vec<Event>, Failure> {
        if inputs.is_empty() {
            self.state = receiving.map_or(State::Over, State::Receive);
            return Ok(Vec::new());
        }
        let stepped = self.instance.step(&inputs).await;
        let outputs = stepped.map_err(|trap| trapped(&self.provider, &trap))?;
        if inputs.iter().any(|input| matches!(input, Input::Frame(_) | Input::Body(_))) {
            self.unprompted = 0;
        }
        self.unprompted += outputs.len();
        let limit = self.provider.plugin.limits().outputs;
        if self.unprompted > limit {
            return Err(Failure::plugin(format!(
                "the adapter gave more than {limit} outputs without hearing from its vendor"
            )));
        }
        let mut events = Vec::with_capacity(outputs.len());
        let mut next = None;
        for output in outputs {
            if next.is_some() {
                return Err(Failure::plugin("the adapter went on after its last output"));
            }
            match output {
                Output::Event(Event::Usage(usage)) => events.extend(self.counted.check(usage)),
                Output::Event(event) => events.push(checked(event)?),
                Output::Done => next = Some(State::Over),
                Output::Failed(failure) => {
                    if let Some(tape) = &self.tape {
                        tape.failed(&failure);
                    }
                    let mut failure = Failure::from(failure);
                    failure.retry_after = failure.retry_after.or(self.retry_after);
                    next = Some(State::Failed(Box::new(failure)));
                }
                Output::Send(_) | Output::Sleep(_) if receiving.is_some() => {
                    return Err(Failure::plugin(
                        "the adapter sent a request before the last answer had ended",
                    ));
                }
                Output::Send(request) => {
                    next = Some(State::Send(Box::new(self.sending(request).await?)));
                }
                Output::Sleep(ms) => {
                    self.sleeps += 1;
                    let limit = self.provider.plugin.limits().sleeps;
                    if self.sleeps > limit {
                        return Err(Failure::plugin(format!(
                            "the adapter asked to wait more than {limit} times"
                        )));
                    }
                    if let Some(tape) = &self.tape {
                        tape.sleep(ms);
                    }
                    let time = Duration::from_millis(u64::from(ms)).min(MAX_SLEEP);
                    next = Some(State::Sleep(time));
                }
                Output::Other(other) => {
                    return Err(Failure::plugin(format!(
                        "the adapter gave an output this host doesn't know: '{}'",
                        other.kind.escape_default()
                    )));
                }
            }
        }
        self.state = match (next, receiving) {
            (Some(state), _) => state,
            (None, Some(receiving)) => State::Receive(receiving),
            (None, None) => State::Failed(Box::new(silent_end(&inputs))),
        };
        let mut events = self.echo.hide(events, &self.secrets);
        if !matches!(self.state, State::Receive(_)) {
            events.append(&mut self.echo.end());
        }
        Ok(events)
    }

    /// Checks a vendor request against the grant and fills in content and credential.
    async fn sending(&mut self, request: VendorRequest) -> Result<Sending, Failure> {
        self.requests += 1;
        let limit = self.provider.plugin.limits().requests;
        if self.requests > limit {
            return Err(Failure::plugin(format!("the adapter sent more than {limit} requests")));
        }
        if let Some(operation) = self.free {
            refuse_payable(operation, &request)?;
        }
        let framing = request.framing;
        self.held.refuse_marks("a path", &request.path)?;
        for header in &request.headers {
            self.held.refuse_marks("a header", &header.name)?;
            self.held.refuse_marks("a header", &header.value)?;
        }
        let origin = self.provider.origin(&request.origin)?;
        let url = origin.target.join(&request.path)?;
        let mut headers = self.provider.plugin.request_headers.check(&request.headers)?;
        let (content_type, body) = match request.body {
            Body::Empty => (None, bytes::Bytes::new()),
            Body::Json(json) => (Some(JSON), self.held.fill_json(json)?),
            Body::Raw(raw) => (Some(media_type(&raw.media_type)?), self.held.fill_raw(raw.data)?),
        };
        if let Some(tape) = &self.tape {
            tape.request(tape::Request {
                origin: request.origin.clone(),
                method: request.method,
                path: request.path.clone(),
                headers: request.headers.clone(),
                body: match &content_type {
                    None => tape::Body::Empty,
                    Some(value) if value == JSON => tape::Body::Json(body.clone()),
                    Some(_) => tape::Body::Raw(body.clone()),
                },
                answer: None,
            });
        }
        if let Some(value) = content_type {
            headers.insert(header::CONTENT_TYPE, value);
        }
        let credential = self.provider.credential(origin, self.key).await?;
        let hide = self.secrets.clone();
        if let Some(injection) = &credential {
            self.secrets = injection.secrets().and(&hide);
        }
        let streamed = is_streamed(framing);
        let method = request.method;
        let request = Outgoing { method, url, headers, body, credential, hide, streamed };
        Ok(Sending { request, framing })
    }
}

/// Vendors bill what they are given to do, never being looked at: so what the host asks of its own
/// accord goes as GET without a body, whatever the adapter's author had in mind. Headers that name
/// another method are refused with all others that steer.
fn refuse_payable(operation: &str, request: &VendorRequest) -> Result<(), Failure> {
    let what = match (request.method, &request.body) {
        (Method::Get, Body::Empty) => return Ok(()),
        (Method::Get, _) => "a GET with a body",
        (Method::Post, _) => "a POST",
        (Method::Put, _) => "a PUT",
        (Method::Delete, _) => "a DELETE",
    };
    Err(Failure::plugin(format!(
        "the adapter asked for {what} to answer `{operation}`; nothing was sent, because that may be \
         billed, and `{operation}` never is. Its author can ask with GET and no body, or leave \
         `{operation}` out of the descriptor's `operations`"
    )))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn media_type(text: &str) -> Result<HeaderValue, Failure> {
    let plausible = text.contains('/') && text.len() <= 256;
    let value = HeaderValue::from_str(text).ok().filter(|_| plausible);
    value.ok_or_else(|| Failure::plugin("the adapter gave a body a media type that isn't one"))
}

/// True if the vendor sends the answer piece by piece.
fn is_streamed(framing: contract::Framing) -> bool {
    !matches!(framing, contract::Framing::Json)
}

/// True for one JSON document where a stream of another kind was asked for: some vendors report
/// an error so, with a status that says success.
fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    content_type.is_some_and(|text| {
        text.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// The adapter had nothing more to say though nothing more will come.
fn silent_end(inputs: &[Input]) -> Failure {
    if matches!(inputs.last(), Some(Input::End)) {
        Failure::malformed("the vendor's answer ended before it was complete")
    } else {
        Failure::plugin("the adapter stopped without an end")
    }
}

/// What came of one wait for the vendor.
struct Arrived {
    /// None if no frame is complete yet.
    inputs: Vec<Input>,
    /// The answer can't be framed from here on.
    damage: Option<FramingError>,
}

impl Receiving {
    /// Waits for the next piece of the answer and makes it inputs.
    async fn next(&mut self) -> Result<Arrived, Failure> {
        let Some(decoder) = &mut self.decoder else {
            let body = self.response.text().await;
            if let Some(tape) = &self.tape {
                tape.body(body.as_bytes());
            }
            let head = self.head.take().map(Input::Head);
            let inputs = head.into_iter().chain([Input::Body(body), Input::End]).collect();
            return Ok(Arrived { inputs, damage: None });
        };
        let mut frames = Vec::new();
        let (framed, ended) = match self.response.next().await? {
            Some(bytes) => {
                if let Some(tape) = &self.tape {
                    tape.body(&bytes);
                }
                (decoder.push(&bytes, &mut frames), false)
            }
            None => (decoder.finish(&mut frames), true),
        };
        let damage = framed.err();
        let complete = ended && damage.is_none();
        let mut inputs = Vec::with_capacity(frames.len() + 2);
        if complete || damage.is_some() || !frames.is_empty() {
            inputs.extend(self.head.take().map(Input::Head));
        }
        inputs.extend(frames.into_iter().map(Input::Frame));
        if complete {
            inputs.push(Input::End);
        }
        Ok(Arrived { inputs, damage })
    }
}

/// What the adapter may be believed: numbers in range, raw JSON that is JSON. Usage isn't looked at
/// here but by [`Counted`].
fn checked(event: Event) -> Result<Event, Failure> {
    let bad = |what: &str| Err(Failure::plugin(format!("the adapter gave an event with {what}")));
    let choice = |choice: u32| choice < MAX_CHOICES;
    let json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let fits = match &event {
        Event::Text(delta)
        | Event::Refusal(delta)
        | Event::Thinking(delta)
        | Event::ThinkingSignature(delta)
        | Event::RedactedThinking(delta) => choice(delta.choice),
        Event::ToolCall(call) => choice(call.choice) && call.index < MAX_TOOL_CALLS,
        Event::ToolArguments(piece) => choice(piece.choice) && piece.index < MAX_TOOL_CALLS,
        Event::Media(media) => choice(media.choice),
        Event::Finish(finish) => choice(finish.choice),
        Event::Citation(note) | Event::Logprobs(note) => {
            if !json(&note.json) {
                return bad("text that isn't JSON");
            }
            choice(note.choice)
        }
        Event::Attribute(attribute) => {
            if !json(&attribute.json) {
                return bad("text that isn't JSON");
            }
            true
        }
        Event::Embedding(embedding) => match &embedding.vector {
            contract::Vector::Floats(floats) if floats.iter().any(|f| !f.is_finite()) => {
                return bad("an embedding that isn't finite");
            }
            _ => true,
        },
        // Checked against what came before it.
        Event::Usage(_)
        | Event::Started(_)
        | Event::Model(_)
        | Event::RateLimit(_)
        | Event::Warning(_)
        | Event::Other(_) => true,
    };
    if fits { Ok(event) } else { bad("an index out of range") }
}

fn trapped(provider: &Provider, trap: &Trap) -> Failure {
    if *trap == Trap::Full {
        return Failure::new(FailureKind::HostBusy, Fault::Host, trap.to_string());
    }
    tracing::warn!(provider = %provider.name, plugin = %provider.plugin.name, %trap, "an adapter was stopped");
    Failure::plugin(format!("the adapter '{}' was stopped: {trap}", provider.plugin.name))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The adapter's entropy, from the request's random id but not the id itself.
fn seed(id: RequestId) -> u64 {
    (id.0 ^ (id.0 >> 64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: Option<u64>, output: Option<u64>) -> contract::Usage {
        contract::Usage {
            input,
            output,
            cache_read: None,
            cache_write: None,
            reasoning: None,
            units: Vec::new(),
        }
    }

    #[test]
    fn counts_that_grow_are_passed_on() {
        let mut counted = Counted::default();
        for (input, output) in [
            (Some(11), Some(1)),
            (None, Some(1)),
            (None, None),
            (Some(12), Some(MAX_TOKENS)),
            (Some(12), None),
        ] {
            let usage = usage(input, output);
            let shown = counted.check(usage);
            assert!(
                matches!(shown, Some(Event::Usage(it)) if (it.input, it.output) == (input, output))
            );
        }
        assert!(!counted.doubtful);
    }

    #[test]
    fn a_count_that_makes_no_sense_becomes_one_warning_and_no_failure() {
        let unit = |amount| contract::Usage {
            units: vec![contract::Unit { name: "searches".to_owned(), amount }],
            ..usage(Some(20), Some(20))
        };
        for senseless in [
            usage(Some(1 << 63), None),
            usage(None, Some(MAX_TOKENS + 1)),
            contract::Usage { reasoning: Some(u64::MAX), ..usage(Some(20), Some(20)) },
            contract::Usage { cache_read: Some(u64::MAX), ..usage(Some(20), Some(20)) },
            usage(Some(10), None),
            usage(None, Some(6)),
            unit(-1.0),
            unit(f64::NAN),
            unit(f64::INFINITY),
        ] {
            let mut counted = Counted::default();
            counted.check(usage(Some(11), Some(7)));
            let shown = counted.check(senseless.clone());
            assert!(
                matches!(&shown, Some(Event::Warning(warning)) if warning.subject == "usage"),
                "{senseless:?}: {shown:?}"
            );
            assert!(counted.doubtful);
            // Nothing is believed after it, and nobody is warned twice.
            assert!(counted.check(usage(Some(11), Some(8))).is_none());
            assert!(counted.check(senseless).is_none());
        }
    }
}
