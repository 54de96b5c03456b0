//! Carries single attempts of one request out: leave, turn, reservation, exchange, first content.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Gateway, Way, ready, today};
use crate::{
    Failure, FailureKind, Fault,
    attempt::{self, Attempt, is_content},
    batch::{self, Joined},
    cache::{CacheUse, Found},
    clock::{Clock, SystemClock},
    contract::Event,
    health::Backoff,
    metering::{Estimate, TokenUsage, Tokens},
    operation::Operation,
    routing::{
        Candidate,
        carry::{Asked, Carrier, Stop, TriedOutcome},
        leave::Asking,
    },
};

/// The most of a stream's beginning that is held back, in bytes of events as counted by
/// [`attempt::bytes`]: a page of text. What is longer goes to the caller, whatever time is left.
const MAX_HELD: u64 = 64 * 1024;

/// The most of a whole answer that came as a stream: as much as one may have that came whole.
const MAX_WHOLE: u64 = 32 << 20;

/// One that begins later than so many times its usual time is taken for silent, if that is longer than
/// the patience that everyone has.
const SLOW: u32 = 2;

/// Whether a vendor's words are about having been asked for a stream.
fn refuses_to_stream(failure: &Failure) -> bool {
    use FailureKind::{InvalidRequest, Permission, Unsupported};
    let Failure { kind, message, code, param, .. } = failure;
    matches!(kind, InvalidRequest | Permission | Unsupported)
        && [Some(message), code.as_ref(), param.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| text.to_ascii_lowercase().contains("stream"))
}

/// One request on its way.
pub(super) struct Carrying<'a> {
    pub gateway: &'a Gateway,
    pub way: &'a Way<'a>,
    /// No turn is waited for longer than until here.
    pub deadline: Instant,
}

/// An answer that has begun.
pub(super) struct Begun {
    pub attempt: Attempt,
    pub first: Vec<Event>,
    /// When the attempt began.
    pub before: Instant,
}

impl Clock for Carrying<'_> {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        SystemClock.sleep(time)
    }
}

impl Carrier for Carrying<'_> {
    type Answer = Begun;

    async fn attempt(&self, candidate: &Candidate, asked: &Asked) -> Result<Begun, Stop> {
        let Way { snapshot, call, ask, .. } = *self.way;
        let provider = ready(snapshot, &candidate.provider).map_err(Stop::Failed)?;
        let inner = &self.gateway.inner;
        let tokens = ask.tokens;
        let mut operation = self.way.operation.of_model(&candidate.model);
        let estimate = Estimate {
            request: call.id,
            attempt: self.way.made + asked.number,
            caller: call.caller.name.clone(),
            provider: provider.name.clone(),
            model: candidate.model.clone(),
            operation: ask.operation,
            streamed: self.way.streamed,
            tokens: attempt::estimate(tokens),
            tariff: provider.tariff(&candidate.model, today()).cloned(),
        };
        let sensitive = self.way.decision.sensitive.is_some();
        let sizes = &snapshot.config.cache;
        let found = match self.way.made {
            0 => inner.cache.look(&provider, call, sensitive, &operation, sizes),
            // Half of an answer is nobody's to keep.
            _ => Found::Off,
        };
        let keeping = match found {
            Found::Hit(events) => return self.kept(events, estimate),
            Found::Miss(keeping) => Some(keeping),
            Found::Off => None,
        };
        let health = &inner.health;
        let joining = batch::Request {
            provider: &provider,
            candidate,
            operation: &operation,
            estimate: &estimate,
            sensitive,
            tokens,
            keys: asked.keys,
            deadline: self.deadline,
            health,
            meter: &inner.meter,
        };
        let began = Instant::now();
        if provider.batch.is_some() && matches!(operation, Operation::Embed(_)) {
            // Who waits with others may be sent at any moment.
            asked.sends(self.now());
        }
        match inner.batches.join(joining).await {
            Joined::Answered(events) => {
                let mut attempt = Attempt::given(events);
                attempt.keep(keeping);
                return Ok(Begun { attempt, first: Vec::new(), before: began });
            }
            Joined::Stopped(stop) => return Err(stop),
            Joined::Alone => {}
        }
        let asking = Asking {
            candidate,
            kind: provider.kind,
            sensitive,
            caller: &call.caller.name,
            // Until it is known what it took.
            tokens: Tokens(tokens.0.saturating_add(ask.max_output.unwrap_or_default().into())),
            deadline: self.deadline,
        };
        let leave = provider.leave(&asking, health).await?;
        asked.sends(self.now());
        let before = Instant::now();
        let mut by_host = false;
        let reservation = inner.meter.reserve(&estimate).map_err(Stop::Failed)?;
        if let (Operation::Chat(chat), Some(_), false) =
            (&mut operation, asked.patience, self.way.streamed)
        {
            // Whoever asks for the whole gets it all the same.
            Arc::make_mut(chat).stream = true;
            by_host = true;
        }
        let failed = |failure: Failure| {
            if by_host && refuses_to_stream(&failure) {
                provider.refused_to_stream(&candidate.model);
                return Stop::Whole(failure);
            }
            provider.stop(failure, &candidate.model, health, asked.keys)
        };
        let id = call.id;
        let leave = Some(leave);
        let opened = Attempt::open(&provider, &operation, id, tokens, reservation, leave, None);
        let mut attempt = opened.await.map_err(failed)?;
        attempt.keep(keeping);
        attempt.expect_within(asked.patience);
        let first = self.begin(&mut attempt, asked).await.map_err(failed)?;
        // From here on its pace is the caller's.
        attempt.expect_within(None);
        Ok(Begun { first, attempt, before })
    }

    fn patience(&self, candidate: &Candidate, usual: Duration) -> Option<Duration> {
        let Way { snapshot, streamed, .. } = *self.way;
        let Candidate { provider: name, model, .. } = candidate;
        let provider = ready(snapshot, name).ok()?;
        if !streamed && !provider.may_stream(model) {
            return None;
        }
        let health = &self.gateway.inner.health;
        let known = || health.stream_latency(name, model, Instant::now()).unwrap_or_default();
        Some(provider.patience.unwrap_or_else(|| usual.max(known().saturating_mul(SLOW))))
    }

    fn outcome(&self, begun: &Begun) -> TriedOutcome {
        match begun.attempt.cache() {
            Some(CacheUse::Hit) => TriedOutcome::Cached,
            _ => TriedOutcome::Answered,
        }
    }

    fn backoff(&self, rounds: u32) -> Duration {
        Backoff::default().delay(rounds + 1, None, super::random())
    }

    fn may_hedge(&self) -> bool {
        self.gateway.inner.hedges.spend()
    }
}

impl Carrying<'_> {
    /// An answer that was kept: nobody is asked for leave, because nothing is sent.
    fn kept(&self, events: Vec<Event>, estimate: Estimate) -> Result<Begun, Stop> {
        let before = Instant::now();
        let estimate = Estimate { tokens: TokenUsage::default(), ..estimate };
        let reservation = self.gateway.inner.meter.reserve(&estimate).map_err(Stop::Failed)?;
        Ok(Begun { attempt: Attempt::kept(events, reservation), first: Vec::new(), before })
    }

    /// What its caller sees first. Of a stream that is the first content, and what comes for as long
    /// as the beginning is held back. Of a whole answer it is all of it: one that breaks in the middle
    /// can be asked for elsewhere.
    async fn begin(&self, attempt: &mut Attempt, asked: &Asked) -> Result<Vec<Event>, Failure> {
        let mut first: Vec<Event> = Vec::new();
        let mut until: Option<Instant> = None;
        let mut held = 0;
        while let Some(events) = attempt.next().await {
            let mut events = events?;
            held += events.iter().map(attempt::bytes).sum::<u64>();
            let now = Instant::now();
            if events.iter().any(is_content) {
                asked.hears(now);
                until.get_or_insert_with(|| now + self.way.hold.unwrap_or_default());
            }
            first.append(&mut events);
            // Released by the first piece after the time: one that stalls in it is still elsewhere's.
            let released = until.is_some_and(|until| now >= until) || held > MAX_HELD;
            if self.way.streamed && released {
                break;
            }
            if held > MAX_WHOLE {
                let message = format!("its answer has more than {MAX_WHOLE} bytes");
                let failure = Failure::new(FailureKind::MalformedAnswer, Fault::Vendor, message);
                attempt.fail(&failure);
                return Err(failure);
            }
        }
        Ok(first)
    }
}
