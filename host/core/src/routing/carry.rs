//! Carries a decision out: one attempt after the other until one answers, within one budget.
//!
//! A failure that another provider may not have leads to the next candidate at once; waiting is for
//! when nobody else is left. Then the candidates whose failure may pass are asked again, after as long
//! as their vendor asked for or a random time that doubles, if the budget has that time. A caller's own
//! mistake ends it: it would be one everywhere.
//!
//! Where hedging is on, the next candidate is asked as well when the one before takes its time; the
//! first that begins answers, and the other is cancelled. At most two are asked at a time.
//!
//! The budget counts attempts over all providers, keys, hedges and retries together, so a request costs vendors no
//! more than [`Budget::attempts`], whatever fails. It knows nothing of adapters, connections or
//! clocks: what it needs is a [`Carrier`], so that a simulation can drive it with thousands of faults.

use std::{
    borrow::Cow,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use serde::Serialize;

use super::{Candidate, Decision};
use crate::{
    Failure, FailureKind, Fault,
    clock::Clock,
    ids::{ModelName, ProviderName},
};

/// What a request may spend on being answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Attempts in all.
    pub attempts: u32,
    /// Rounds after the first, of those whose failure may pass.
    pub retries: u32,
    /// No attempt begins later than so long after the request came.
    pub time: Duration,
    /// How long a watched attempt may take to its first content while another candidate is left.
    pub patience: Duration,
    /// Nobody waits longer for a vendor than this, whatever it asks for.
    pub longest_wait: Duration,
    /// After so long without content the next candidate is asked as well, if at all.
    pub hedge: Option<Duration>,
}

/// What carries single attempts out.
pub(crate) trait Carrier: Clock + Sync {
    type Answer: Send;

    /// One attempt, up to its first content.
    ///
    /// # Errors
    /// Why there is no answer.
    fn attempt(
        &self,
        candidate: &Candidate,
        asked: &Asked,
    ) -> impl Future<Output = Result<Self::Answer, Stop>> + Send;

    /// What is told of an answer.
    fn outcome(&self, _: &Self::Answer) -> TriedOutcome {
        TriedOutcome::Answered
    }

    /// How long to wait before the next round, of which so many were made.
    fn backoff(&self, rounds: u32) -> Duration;

    /// Whether another candidate may be asked while one is being asked; asked once a hedge.
    fn may_hedge(&self) -> bool {
        false
    }
}

/// An attempt, as it is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Which of the request's it is, from 1.
    pub number: u32,
    /// How long it may take to its first content.
    pub patience: Option<Duration>,
    sent: AtomicBool,
}

impl Asked {
    fn new(number: u32, patience: Option<Duration>) -> Self {
        Self { number, patience, sent: AtomicBool::new(false) }
    }

    /// From here on it counts, whatever becomes of it.
    pub fn sends(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }
}

/// Why there is no answer from a candidate.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Failed(Failure),
    /// Nothing was sent: it failed lately and is left alone for as long as the failure says. Counts as
    /// no attempt.
    Resting(Failure),
    /// Nothing was sent: its queue is full, the wait for a turn would be too long, or an operator took
    /// it out. Counts as no attempt, and isn't worth another try by this request.
    Shut(Failure),
    /// It failed for the key it was asked with, and the provider has another one.
    Key(Failure),
}

impl Stop {
    /// A provider that is left alone for so long.
    pub fn resting(provider: &ProviderName, left: Duration) -> Self {
        let message = format!("'{provider}' failed lately and isn't asked right now");
        let mut failure = Failure::new(FailureKind::Unavailable, Fault::Vendor, message);
        failure.retry_after = Some(left);
        Self::Resting(failure)
    }
}

/// One thing that was tried, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    pub provider: ProviderName,
    pub model: ModelName,
    #[serde(flatten)]
    pub outcome: TriedOutcome,
    /// From when the request came.
    #[serde(rename = "at_ms", serialize_with = "super::millis")]
    pub at: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum TriedOutcome {
    Answered,
    /// It was asked beside another one, and cancelled when that was the end of the request.
    Overtaken,
    /// With an answer that was kept. Nothing was sent.
    Cached,
    Failed {
        kind: FailureKind,
        fault: Fault,
        message: String,
    },
    /// Nothing was sent.
    Skipped {
        message: String,
    },
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Carried<A> {
    pub answer: Result<(A, Candidate), Failure>,
    /// Attempts that were made.
    pub attempts: u32,
    pub tried: Vec<Tried>,
}

/// True if asking the same provider again may help.
fn may_pass(kind: FailureKind) -> bool {
    use FailureKind::{Overloaded, RateLimited, Timeout, Unavailable};
    matches!(kind, Overloaded | Unavailable | Timeout | RateLimited)
}

/// Tries the candidates of a decision in their order. Streams begin early: what is `watched` has the
/// patience of the budget.
pub(crate) async fn carry<C: Carrier>(
    carrier: &C,
    decision: &Decision,
    budget: &Budget,
    watched: bool,
) -> Carried<C::Answer> {
    let began = carrier.now();
    let mut run =
        Run { carrier, budget, began, attempts: 0, numbers: 0, tried: Vec::new(), last: None };
    let mut left = Cow::Borrowed(&*decision.candidates);
    let mut rounds = 0;
    let answer = loop {
        match run.round(&left, watched).await {
            Round::Answered(answer, candidate) => break Ok((answer, candidate)),
            Round::Over => break Err(run.failure(decision)),
            Round::Again { candidates, wait } => {
                // Before anything is added: what a vendor asks for may be more than time can hold.
                let done = rounds == budget.retries || candidates.is_empty();
                if done || wait > budget.longest_wait {
                    break Err(run.failure(decision));
                }
                // First what was asked for and then the jitter: those who were told the same time
                // don't return together.
                let pause = (wait + carrier.backoff(rounds)).min(budget.longest_wait);
                rounds += 1;
                if carrier.now() + pause > began + budget.time {
                    break Err(run.failure(decision));
                }
                carrier.sleep(pause).await;
                left = Cow::Owned(candidates);
            }
        }
    };
    Carried { answer, attempts: run.attempts, tried: run.tried }
}

struct Run<'a, C> {
    carrier: &'a C,
    budget: &'a Budget,
    began: Instant,
    /// Attempts that were made and are over.
    attempts: u32,
    /// The number of the attempt that was begun last.
    numbers: u32,
    tried: Vec<Tried>,
    /// The failure that says most about why there is no answer.
    last: Option<Failure>,
}

enum Round<A> {
    Answered(A, Candidate),
    /// Nothing more may be tried.
    Over,
    /// These may be asked again, no sooner than after `wait`.
    Again {
        candidates: Vec<Candidate>,
        wait: Duration,
    },
}

/// What came of one attempt.
struct Came<'c, A> {
    candidate: &'c Candidate,
    asked: Arc<Asked>,
    answer: Result<A, Stop>,
}

/// An attempt on its way.
type Asking<'c, A> = Pin<Box<dyn Future<Output = Came<'c, A>> + Send + 'c>>;

fn ask<'c, C: Carrier>(
    carrier: &'c C,
    candidate: &'c Candidate,
    asked: Arc<Asked>,
) -> Asking<'c, C::Answer> {
    Box::pin(async move {
        let answer = carrier.attempt(candidate, &asked).await;
        Came { candidate, asked, answer }
    })
}

impl<C: Carrier> Run<'_, C> {
    /// Asks each of them once, and one with several keys with each.
    async fn round(&mut self, candidates: &[Candidate], watched: bool) -> Round<C::Answer> {
        let mut again = Vec::new();
        // The soonest that any of them may be asked again.
        let mut wait: Option<Duration> = None;
        let mut left = candidates.iter().peekable();
        // Those that are being asked, one or two, in the order in which they began.
        let mut running: Vec<(&Candidate, Arc<Asked>)> = Vec::new();
        let mut attempts = FuturesUnordered::new();
        let mut next = None;
        loop {
            if attempts.is_empty() && next.is_none() {
                next = left.next();
                if next.is_none() {
                    return Round::Again { candidates: again, wait: wait.unwrap_or_default() };
                }
            }
            if let Some(candidate) = next.take() {
                if !self.may_begin(running.len()) {
                    self.give_up(running);
                    return Round::Over;
                }
                let others = left.peek().is_some() && self.may_begin(running.len() + 1);
                let patience = (others && watched).then_some(self.budget.patience);
                self.numbers += 1;
                let asked = Arc::new(Asked::new(self.numbers, patience));
                running.push((candidate, Arc::clone(&asked)));
                attempts.push(ask(self.carrier, candidate, asked));
            }
            let hedge = self.budget.hedge.filter(|_| {
                running.len() == 1 && left.peek().is_some() && self.may_begin(running.len())
            });
            let Some(came) = self.first(&mut attempts, hedge).await else {
                next = left.next();
                continue;
            };
            let Came { candidate, asked, answer } = came;
            running.retain(|(_, other)| !Arc::ptr_eq(other, &asked));
            match answer {
                Ok(answer) => {
                    self.attempts += 1;
                    self.give_up(running);
                    self.note(candidate, self.carrier.outcome(&answer));
                    return Round::Answered(answer, Candidate::clone(candidate));
                }
                Err(Stop::Resting(failure)) => {
                    self.unmade(asked.number);
                    let left = failure.retry_after.unwrap_or_default();
                    again.push(Candidate::clone(candidate));
                    wait = Some(wait.map_or(left, |soonest| soonest.min(left)));
                    self.skip(candidate, failure);
                }
                Err(Stop::Shut(failure)) => {
                    self.unmade(asked.number);
                    self.skip(candidate, failure);
                }
                Err(Stop::Key(failure)) => {
                    self.failed(candidate, failure);
                    next = Some(candidate);
                }
                Err(Stop::Failed(failure)) => {
                    let (kind, retry_after) = (failure.kind, failure.retry_after);
                    self.failed(candidate, failure);
                    if !kind.may_go_elsewhere() {
                        self.give_up(running);
                        return Round::Over;
                    }
                    if may_pass(kind) {
                        again.push(Candidate::clone(candidate));
                        let asked = retry_after.unwrap_or_default();
                        wait = Some(wait.map_or(asked, |soonest| soonest.min(asked)));
                    }
                }
            }
        }
    }

    /// Whether one more attempt fits into the budget while so many are being made.
    fn may_begin(&self, running: usize) -> bool {
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        self.attempts.saturating_add(running) < self.budget.attempts
            && self.carrier.now() <= self.began + self.budget.time
    }

    /// Those that are still being asked when the request is over.
    fn give_up(&mut self, running: Vec<(&Candidate, Arc<Asked>)>) {
        for (candidate, asked) in running {
            if asked.sent.load(Ordering::Relaxed) {
                self.attempts += 1;
                self.note(candidate, TriedOutcome::Overtaken);
            } else {
                let message = "it waited for its turn when the request was over".to_owned();
                self.note(candidate, TriedOutcome::Skipped { message });
            }
        }
    }

    /// The first of the attempts that is over; none if it is time to ask one more as well.
    async fn first<'c>(
        &self,
        attempts: &mut FuturesUnordered<Asking<'c, C::Answer>>,
        hedge: Option<Duration>,
    ) -> Option<Came<'c, C::Answer>> {
        if let Some(after) = hedge {
            let timer = pin!(self.carrier.sleep(after));
            if let Either::Left((came, _)) = select(attempts.next(), timer).await {
                return came;
            }
            if self.carrier.may_hedge() {
                return None;
            }
        }
        attempts.next().await
    }

    /// Nothing was sent: its number is free again, unless a later one was given.
    fn unmade(&mut self, number: u32) {
        if number == self.numbers {
            self.numbers -= 1;
        }
    }

    fn failed(&mut self, candidate: &Candidate, failure: Failure) {
        self.attempts += 1;
        let Failure { kind, fault, ref message, .. } = failure;
        let message = message.clone();
        self.note(candidate, TriedOutcome::Failed { kind, fault, message });
        self.remember(failure);
    }

    fn skip(&mut self, candidate: &Candidate, failure: Failure) {
        let message = failure.message.clone();
        self.note(candidate, TriedOutcome::Skipped { message });
        self.remember(failure);
    }

    fn note(&mut self, candidate: &Candidate, outcome: TriedOutcome) {
        self.tried.push(Tried {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            outcome,
            at: self.carrier.now().saturating_duration_since(self.began),
        });
    }

    /// Keeps what tells the caller most: what they can mend before what passes, the newest of equals.
    fn remember(&mut self, failure: Failure) {
        let weight = |failure: &Failure| match failure.fault {
            Fault::Caller => 2,
            _ if !may_pass(failure.kind) => 1,
            _ => 0,
        };
        let both = self.last.iter().chain([&failure]);
        let soonest = both.filter_map(|failure| failure.retry_after).min();
        if self.last.as_ref().is_none_or(|last| weight(last) <= weight(&failure)) {
            self.last = Some(failure);
        }
        // Whoever is free first decides when it is worth asking again.
        if let Some(last) = &mut self.last
            && may_pass(last.kind)
        {
            last.retry_after = soonest;
        }
    }

    fn failure(&mut self, decision: &Decision) -> Failure {
        self.last.take().or_else(|| decision.failure()).unwrap_or_else(|| {
            let message =
                format!("'{}' can't be served right now: nobody may be asked", decision.model);
            Failure::new(FailureKind::Unavailable, Fault::Vendor, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use keyward_contract::ProviderKind;

    use super::*;
    use crate::{
        clock::simulated::{SimulatedClock, Simulation},
        routing::{Reason, tests},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails as it is told to, then answers.
    struct Scripted {
        clock: SimulatedClock,
        stops: Mutex<Vec<Stop>>,
        backoff: Duration,
    }

    impl Clock for Scripted {
        fn now(&self) -> Instant {
            self.clock.now()
        }

        fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
            self.clock.sleep(time)
        }
    }

    impl Carrier for Scripted {
        type Answer = Duration;

        async fn attempt(&self, _: &Candidate, _: &Asked) -> Result<Duration, Stop> {
            let stop = self.stops.lock().unwrap().pop();
            stop.map_or_else(|| Ok(self.clock.elapsed()), Err)
        }

        fn backoff(&self, _: u32) -> Duration {
            self.backoff
        }
    }

    /// When it was answered, by one candidate that stops so at first.
    fn carried(stop: Stop, backoff: Duration) -> Result<Duration, Failure> {
        let simulation = Simulation::new();
        let stops = Mutex::new(vec![stop]);
        let scripted = Scripted { clock: simulation.clock(), stops, backoff };
        let candidate = Candidate {
            provider: tests::provider("p"),
            model: tests::model("m"),
            kind: ProviderKind::Local,
            reason: Reason::Listed,
            cost: None,
            latency: None,
        };
        let decision = Decision {
            model: tests::model("m"),
            route: None,
            sensitive: None,
            candidates: vec![candidate],
            refused: Vec::new(),
            failure: None,
        };
        let budget = Budget {
            attempts: 4,
            retries: 4,
            time: 30 * SECOND,
            patience: SECOND,
            longest_wait: 10 * SECOND,
            hedge: None,
        };
        let carried =
            simulation.block_on(async move { carry(&scripted, &decision, &budget, true).await });
        carried.answer.map(|(at, _)| at)
    }

    fn resting(left: Duration) -> Stop {
        Stop::resting(&tests::provider("p"), left)
    }

    #[test]
    fn what_a_vendor_asks_for_may_be_more_than_time_can_hold() {
        let mut limited = Failure::new(FailureKind::RateLimited, Fault::Vendor, "later");
        limited.retry_after = Some(Duration::MAX);
        let failure = carried(Stop::Failed(limited), SECOND).unwrap_err();
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert!(carried(resting(Duration::MAX), SECOND).is_err());
    }

    #[test]
    fn what_was_asked_for_is_waited_out_and_then_the_jitter_so_that_no_two_return_together() {
        for jitter in [Duration::ZERO, SECOND / 3, SECOND * 2] {
            assert_eq!(carried(resting(5 * SECOND), jitter).ok(), Some(5 * SECOND + jitter));
        }
        let longest = carried(resting(9 * SECOND), 2 * SECOND).ok();
        assert_eq!(longest, Some(10 * SECOND), "and not beyond the longest wait");
        assert!(carried(resting(11 * SECOND), Duration::ZERO).is_err());
    }
}
