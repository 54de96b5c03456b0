//! Carries single attempts of one request out: leave, turn, reservation, exchange, first content.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Gateway, Way, ready, today};
use crate::{
    Failure, FailureKind, Fault,
    attempt::{self, Attempt, gathered, is_content},
    batch::{self, Joined},
    cache::{CacheUse, Found},
    clock::{Clock, SystemClock},
    contract::Event,
    health::Backoff,
    metering::{Estimate, TokenUsage, Tokens},
    operation::Operation,
    routing::{
        Candidate,
        carry::{Asked, Carrier, Pace, Stop, TriedOutcome},
        leave::Asking,
    },
};

/// The most of a stream's beginning that is held back, in bytes of events as counted by
/// [`attempt::bytes`]: a page of text. What is longer goes to the caller, whatever time is left.
const MAX_HELD: u64 = 64 * 1024;

/// The most memory of a whole answer that comes as a stream: as many bytes as one may have that comes
/// whole, and what events take besides. Larger ones, such as many pictures, fail.
const MAX_WHOLE: u64 = 64 << 20;

/// Whether a vendor's words are about having been asked for a stream.
fn refuses_to_stream(failure: &Failure) -> bool {
    use FailureKind::{InvalidRequest, Unsupported};
    let Failure { kind, message, param, .. } = failure;
    let speaks_of_it = |text: &str| {
        let mut words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        words.any(|word| {
            ["stream", "streaming", "streamed", "stream_options"]
                .iter()
                .any(|other| word.eq_ignore_ascii_case(other))
        })
    };
    matches!(kind, InvalidRequest | Unsupported)
        && (speaks_of_it(message) || param.as_deref().is_some_and(speaks_of_it))
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
        let mut estimate = Estimate {
            request: call.id,
            // Until it is sent.
            attempt: 0,
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
            Found::Hit(events) => {
                estimate.attempt = self.way.made + asked.sends();
                return self.kept(events, estimate);
            }
            Found::Miss(keeping) => Some(keeping),
            Found::Off => None,
        };
        let health = &inner.health;
        let began = Instant::now();
        if provider.batch.is_some() && matches!(operation, Operation::Embed(_)) {
            // Who waits with others may be sent at any moment.
            estimate.attempt = self.way.made + asked.sends();
        }
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
        estimate.attempt = self.way.made + asked.sends();
        let before = Instant::now();
        // Whoever asks for the whole gets it all the same.
        let by_host = asked.patience.is_some() && !self.way.streamed;
        let reservation = inner.meter.reserve(&estimate).map_err(Stop::Failed)?;
        if let (Operation::Chat(chat), true) = (&mut operation, by_host) {
            Arc::make_mut(chat).stream = true;
        }
        let failed = |failure: Failure| {
            if by_host && refuses_to_stream(&failure) {
                return Stop::Whole(failure);
            }
            provider.stop(failure, &candidate.model, health, asked.keys)
        };
        let id = call.id;
        let leave = Some(leave);
        let opened = Attempt::open(&provider, &operation, id, tokens, reservation, leave, None);
        let mut attempt = opened.await.map_err(failed)?;
        attempt.keep(keeping);
        attempt.judged_by(asked.verdict());
        asked.opened(self.now());
        let first = match by_host {
            true => self.whole(&mut attempt, asked).await,
            false => self.beginning(&mut attempt, asked).await,
        };
        let first = first.map_err(failed)?;
        if asked.whole {
            provider.streams_not(&candidate.model);
        }
        Ok(Begun { first, attempt, before })
    }

    fn pace(&self, candidate: &Candidate) -> Option<Pace> {
        let Way { snapshot, streamed, .. } = *self.way;
        let Candidate { provider: name, model, .. } = candidate;
        let provider = ready(snapshot, name).ok()?;
        if !streamed && !provider.may_stream(model) {
            return None;
        }
        let known = self.gateway.inner.health.first_content(name, model, Instant::now());
        Some(Pace { own: provider.patience, known })
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

    /// What the caller sees first: the first content, and what comes for as long as the beginning of a
    /// stream is held back.
    async fn beginning(&self, attempt: &mut Attempt, asked: &Asked) -> Result<Vec<Event>, Failure> {
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
            if until.is_some_and(|until| now >= until) || held > MAX_HELD {
                break;
            }
        }
        Ok(first)
    }

    /// All of a whole answer that comes as a stream: one that breaks in the middle can be asked for
    /// elsewhere.
    async fn whole(&self, attempt: &mut Attempt, asked: &Asked) -> Result<Vec<Event>, Failure> {
        let mut all: Vec<Event> = Vec::new();
        let (mut held, mut begun) = (0, false);
        while let Some(events) = attempt.next().await {
            let events = events?;
            // Once it has begun, whatever comes is a sign of life.
            begun |= events.iter().any(is_content);
            if begun {
                asked.hears(self.now());
            }
            for event in events {
                match all.last_mut().and_then(|last| gathered::join(last, &event)) {
                    Some(more) => held += more as u64,
                    None => {
                        held += gathered::bytes(std::slice::from_ref(&event));
                        all.push(event);
                    }
                }
            }
            if held > MAX_WHOLE {
                let message = format!("its answer has more than {MAX_WHOLE} bytes");
                let failure = Failure::new(FailureKind::MalformedAnswer, Fault::Vendor, message);
                attempt.fail(&failure);
                return Err(failure);
            }
        }
        Ok(all)
    }
}
