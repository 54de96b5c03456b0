//! Carries a decision out: one attempt after the other until one answers, within one budget.
//!
//! A failure that another provider may not have leads to the next candidate at once; waiting is for
//! when nobody else is left. Then the candidates whose failure may pass are asked again, each no sooner
//! than its vendor asked for, after a random time that doubles, if the budget has that time. A caller's
//! own mistake ends it: it would be one everywhere.
//!
//! Where hedging is on, the next candidate is asked as well when the one before takes its time; the
//! first that begins answers, and the other is cancelled. At most two are asked at a time.
//!
//! The budget counts attempts over all providers, keys, hedges and retries together, so a request costs vendors no
//! more than [`Budget::attempts`], whatever fails. It knows nothing of adapters, connections or
//! clocks: what it needs is a [`Carrier`], so that a simulation can drive it with thousands of faults.

use std::{
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
    /// So many of the provider's keys failed in this round.
    pub keys: usize,
    sent: AtomicBool,
}

impl Asked {
    fn new(number: u32, patience: Option<Duration>, keys: usize) -> Self {
        Self { number, patience, keys, sent: AtomicBool::new(false) }
    }

    /// From here on it counts, whatever becomes of it.
    pub fn sends(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    pub fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
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
    /// A provider that failed and is left alone for so long.
    pub fn resting(provider: &ProviderName, left: Duration) -> Self {
        let message = format!("'{provider}' failed lately and isn't asked right now");
        Self::rests(FailureKind::Unavailable, message, left)
    }

    /// A provider that asked to be left alone for so long.
    pub fn limited(provider: &ProviderName, left: Duration) -> Self {
        let message = format!("'{provider}' limits how often it is asked, and isn't right now");
        Self::rests(FailureKind::RateLimited, message, left)
    }

    fn rests(kind: FailureKind, message: String, left: Duration) -> Self {
        let mut failure = Failure::new(kind, Fault::Vendor, message);
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
    let all = &decision.candidates[..];
    let mut left: Vec<usize> = (0..all.len()).collect();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut rounds = 0;
    let answer = loop {
        match run.round(all, &left, watched, &mut waiting).await {
            Round::Answered(answer, candidate) => break Ok((answer, candidate)),
            Round::Over => break Err(run.failure(decision)),
            Round::Done => {}
        }
        let Some(soonest) = waiting.iter().map(|it| it.until).min() else {
            break Err(run.failure(decision));
        };
        let wait = soonest.saturating_duration_since(carrier.now());
        // First what was asked for and then the jitter: those who were told the same time don't
        // return together.
        let pause = (wait + carrier.backoff(rounds)).min(budget.longest_wait);
        if rounds == budget.retries || carrier.now() + pause > began + budget.time {
            break Err(run.failure(decision));
        }
        rounds += 1;
        carrier.sleep(pause).await;
        let now = carrier.now();
        left = waiting.extract_if(.., |it| it.until <= now).map(|it| it.place).collect();
        left.sort_unstable();
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
    /// All were asked.
    Done,
}

/// One that may be asked again, but not before.
struct Waiting {
    /// In the decision.
    place: usize,
    until: Instant,
}

/// What came of one attempt.
struct Came<A> {
    place: usize,
    asked: Arc<Asked>,
    answer: Result<A, Stop>,
}

/// An attempt on its way.
type Asking<'c, A> = Pin<Box<dyn Future<Output = Came<A>> + Send + 'c>>;

fn ask<'c, C: Carrier>(
    carrier: &'c C,
    candidate: &'c Candidate,
    place: usize,
    asked: Arc<Asked>,
) -> Asking<'c, C::Answer> {
    Box::pin(async move {
        let answer = carrier.attempt(candidate, &asked).await;
        Came { place, asked, answer }
    })
}

impl<C: Carrier> Run<'_, C> {
    /// Asks each at these places once, and one with several keys with each.
    async fn round(
        &mut self,
        all: &[Candidate],
        places: &[usize],
        watched: bool,
        waiting: &mut Vec<Waiting>,
    ) -> Round<C::Answer> {
        let mut left = places.iter().copied().peekable();
        // Those that are being asked, one or two, in the order in which they began.
        let mut running: Vec<(&Candidate, Arc<Asked>)> = Vec::new();
        let mut attempts = FuturesUnordered::new();
        // With how many of its keys it was asked.
        let mut next: Option<(usize, usize)> = None;
        loop {
            if attempts.is_empty() && next.is_none() {
                next = left.next().map(|place| (place, 0));
                if next.is_none() {
                    return Round::Done;
                }
            }
            let may_begin = self.may_begin(running.len());
            if !may_begin && running.is_empty() {
                return Round::Over;
            }
            // Otherwise what is on its way may still answer.
            if let Some((place, keys)) = next.take().filter(|_| may_begin) {
                let others = left.peek().is_some() && self.may_begin(running.len() + 1);
                let patience = (others && watched).then_some(self.budget.patience);
                self.numbers += 1;
                let asked = Arc::new(Asked::new(self.numbers, patience, keys));
                running.push((&all[place], Arc::clone(&asked)));
                attempts.push(ask(self.carrier, &all[place], place, asked));
            }
            let hedge = self.budget.hedge.filter(|_| {
                running.len() == 1 && left.peek().is_some() && self.may_begin(running.len())
            });
            let Some(came) = self.first(&mut attempts, hedge).await else {
                next = left.next().map(|place| (place, 0));
                continue;
            };
            let Came { place, asked, answer } = came;
            let candidate = &all[place];
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
                    waiting.extend(self.waiting(place, &failure));
                    self.skip(candidate, failure);
                }
                Err(Stop::Shut(failure)) => {
                    self.unmade(asked.number);
                    self.skip(candidate, failure);
                }
                Err(Stop::Key(failure)) => {
                    self.failed(candidate, failure);
                    next = Some((place, asked.keys + 1));
                }
                Err(Stop::Failed(failure)) => {
                    let kind = failure.kind;
                    if may_pass(kind) {
                        waiting.extend(self.waiting(place, &failure));
                    }
                    self.failed(candidate, failure);
                    if !kind.may_go_elsewhere() {
                        self.give_up(running);
                        return Round::Over;
                    }
                }
            }
        }
    }

    /// When to ask it again, if its vendor doesn't ask for more than anybody waits.
    fn waiting(&self, place: usize, failure: &Failure) -> Option<Waiting> {
        let wait = failure.retry_after.unwrap_or_default();
        (wait <= self.budget.longest_wait)
            .then(|| Waiting { place, until: self.carrier.now() + wait })
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
            if asked.is_sent() {
                self.attempts += 1;
                self.note(candidate, TriedOutcome::Overtaken);
            } else {
                let message = "it waited for its turn when the request was over".to_owned();
                self.note(candidate, TriedOutcome::Skipped { message });
            }
        }
    }

    /// The first of the attempts that is over; none if it is time to ask one more as well.
    async fn first(
        &self,
        attempts: &mut FuturesUnordered<Asking<'_, C::Answer>>,
        hedge: Option<Duration>,
    ) -> Option<Came<C::Answer>> {
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

    /// Keeps what tells the caller most: what they can mend, then what passes, then what only the
    /// operator can mend; the newest of equals.
    fn remember(&mut self, failure: Failure) {
        let weight = |failure: &Failure| match failure.fault {
            Fault::Caller => 2,
            _ if may_pass(failure.kind) => 1,
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

    /// One candidate's attempts stop as they are told to, each after so long, and then it answers at once.
    type Script = Vec<(Duration, Stop)>;

    struct Scripted {
        clock: SimulatedClock,
        /// By the candidates' places.
        scripts: Vec<Mutex<Script>>,
        asked: Mutex<Vec<(Duration, usize)>>,
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

        async fn attempt(&self, candidate: &Candidate, asked: &Asked) -> Result<Duration, Stop> {
            asked.sends();
            let place: usize = candidate.provider.as_str()[1..].parse().unwrap();
            self.asked.lock().unwrap().push((self.clock.elapsed(), place));
            let next = {
                let mut script = self.scripts[place].lock().unwrap();
                (!script.is_empty()).then(|| script.remove(0))
            };
            let Some((after, stop)) = next else { return Ok(self.clock.elapsed()) };
            self.clock.sleep(after).await;
            match stop {
                Stop::Failed(failure) if failure.kind == ANSWERS => Ok(self.clock.elapsed()),
                stop => Err(stop),
            }
        }

        fn backoff(&self, _: u32) -> Duration {
            self.backoff
        }

        fn may_hedge(&self) -> bool {
            true
        }
    }

    /// Stands for an answer that takes its time.
    const ANSWERS: FailureKind = FailureKind::Sealed;

    fn failure(kind: FailureKind, retry_after: Option<Duration>) -> Failure {
        let mut failure = Failure::new(kind, Fault::Vendor, "no");
        failure.retry_after = retry_after;
        failure
    }

    fn fails(kind: FailureKind, retry_after: Option<Duration>) -> (Duration, Stop) {
        (Duration::ZERO, Stop::Failed(failure(kind, retry_after)))
    }

    const BUDGET: Budget = Budget {
        attempts: 4,
        retries: 4,
        time: Duration::from_secs(30),
        patience: SECOND,
        longest_wait: Duration::from_secs(10),
        hedge: None,
    };

    struct Ran {
        /// When it was answered and by whom.
        answer: Result<(Duration, usize), Failure>,
        /// When who was asked.
        asked: Vec<(Duration, usize)>,
        tried: Vec<TriedOutcome>,
    }

    fn run(scripts: Vec<Script>, budget: Budget, backoff: Duration) -> Ran {
        let simulation = Simulation::new();
        let candidates = (0..scripts.len()).map(|place| Candidate {
            provider: tests::provider(&format!("p{place}")),
            model: tests::model("m"),
            kind: ProviderKind::Local,
            reason: Reason::Listed,
            cost: None,
            latency: None,
        });
        let decision = Decision {
            model: tests::model("m"),
            route: None,
            sensitive: None,
            candidates: candidates.collect(),
            refused: Vec::new(),
            failure: None,
        };
        let scripted = Scripted {
            clock: simulation.clock(),
            scripts: scripts.into_iter().map(Mutex::new).collect(),
            asked: Mutex::default(),
            backoff,
        };
        simulation.block_on(async move {
            let carried = carry(&scripted, &decision, &budget, true).await;
            let place = |candidate: &Candidate| candidate.provider.as_str()[1..].parse().unwrap();
            Ran {
                answer: carried.answer.map(|(at, candidate)| (at, place(&candidate))),
                asked: scripted.asked.into_inner().unwrap(),
                tried: carried.tried.into_iter().map(|tried| tried.outcome).collect(),
            }
        })
    }

    /// When it was answered, by one candidate that stops so at first.
    fn carried(stop: Stop, backoff: Duration) -> Result<Duration, Failure> {
        run(vec![vec![(Duration::ZERO, stop)]], BUDGET, backoff).answer.map(|(at, _)| at)
    }

    #[test]
    fn each_is_asked_again_no_sooner_than_its_vendor_asked_for() {
        let busy = || vec![fails(FailureKind::Unavailable, Some(8 * SECOND))];
        let down = || vec![fails(FailureKind::Unavailable, None); 3];
        let ran = run(vec![busy(), down()], Budget { attempts: 9, ..BUDGET }, SECOND);
        assert_eq!(ran.answer.ok(), Some((3 * SECOND, 1)), "after three failures of its own");
        assert_eq!(ran.asked[2..], [(SECOND, 1), (2 * SECOND, 1), (3 * SECOND, 1)]);

        // It keeps its place once its time has come.
        let ran = run(
            vec![busy(), vec![fails(FailureKind::Unavailable, Some(8 * SECOND))]],
            BUDGET,
            SECOND,
        );
        assert_eq!(ran.answer.ok(), Some((9 * SECOND, 0)));

        // More than anybody waits is as good as no.
        let long = vec![fails(FailureKind::Unavailable, Some(11 * SECOND))];
        let ran = run(vec![long, vec![fails(FailureKind::Unavailable, None)]], BUDGET, SECOND);
        assert_eq!(ran.answer.ok(), Some((SECOND, 1)));
    }

    #[test]
    fn what_is_on_its_way_may_answer_when_nobody_else_may_be_asked_any_more() {
        let slow = || vec![(10 * SECOND, Stop::Failed(failure(ANSWERS, None)))];
        // The time for attempts is over when the hedge would begin.
        let late = Budget { time: 5 * SECOND, hedge: Some(8 * SECOND), ..BUDGET };
        let ran = run(vec![slow(), Vec::new()], late, SECOND);
        assert_eq!(ran.answer.ok(), Some((10 * SECOND, 0)));
        assert_eq!(ran.asked.len(), 1);

        // The other key would be the third of two attempts.
        let key = vec![(3 * SECOND, Stop::Key(failure(FailureKind::Authentication, None)))];
        let two = Budget { attempts: 2, hedge: Some(SECOND), ..BUDGET };
        let ran = run(vec![key, slow()], two, SECOND);
        assert_eq!(ran.answer.ok(), Some((11 * SECOND, 1)));
        assert!(!ran.tried.contains(&TriedOutcome::Overtaken), "{:?}", ran.tried);
    }

    #[test]
    fn an_attempt_knows_how_many_keys_failed_before_it() {
        let key = || (Duration::ZERO, Stop::Key(failure(FailureKind::Authentication, None)));
        let ran = run(vec![vec![key(), key()]], BUDGET, SECOND);
        assert_eq!(ran.answer.ok(), Some((Duration::ZERO, 0)));
        assert_eq!(ran.asked.len(), 3);
    }

    #[test]
    fn a_caller_hears_of_what_passes_before_what_only_the_operator_can_mend() {
        let mut dead = failure(FailureKind::Authentication, None);
        dead.fault = Fault::Host;
        let dead = vec![(Duration::ZERO, Stop::Failed(dead))];
        let limited = vec![fails(FailureKind::RateLimited, Some(20 * SECOND))];
        for scripts in [vec![dead.clone(), limited.clone()], vec![limited, dead]] {
            let failure = run(scripts, BUDGET, SECOND).answer.unwrap_err();
            assert_eq!(failure.kind, FailureKind::RateLimited);
            assert_eq!(failure.retry_after, Some(20 * SECOND));
        }
    }

    fn resting(left: Duration) -> Stop {
        Stop::resting(&tests::provider("p0"), left)
    }

    #[test]
    fn what_a_vendor_asks_for_may_be_more_than_time_can_hold() {
        let limited = failure(FailureKind::RateLimited, Some(Duration::MAX));
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
