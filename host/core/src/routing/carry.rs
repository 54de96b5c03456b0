//! Carries a decision out: one attempt after the other until one answers, within one budget.
//!
//! A failure that another provider may not have leads to the next candidate at once, and so does
//! silence: who hasn't begun within the request's patience is still waited for, but the next one is
//! asked beside it, and a moment later the one after that. The first that begins goes on; the others
//! are cancelled. When nobody else is left, the candidates whose failure may pass are asked again,
//! each no sooner than its vendor asked for, after a random time that doubles, if the budget has that
//! time. A caller's own mistake ends it: it would be one everywhere.
//!
//! Where hedging is on, the next candidate is asked as well when the one before merely takes its time.
//!
//! The budget counts attempts over all providers, keys, hedges and retries together, so a request costs vendors no
//! more than [`Budget::attempts`], whatever fails. It knows nothing of adapters, connections or
//! clocks: what it needs is a [`Carrier`], so that a simulation can drive it with thousands of faults.
//!
//! Costs: two names and an allocation for each attempt.

mod asked;

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable, Either, select},
    stream::FuturesUnordered,
};
use serde::Serialize;

#[cfg(test)]
pub(crate) use self::asked::GAP;
pub(crate) use self::asked::{Asked, Pace};
use self::asked::{Heard, Shared};
use super::{Candidate, Decision};
use crate::{
    Failure, FailureKind, Fault,
    clock::Clock,
    ids::{ModelName, ProviderName},
};

/// Once a request was kept waiting for its patience, each further candidate has this long before the
/// one after it is asked as well: three that are silent and a fourth that answers stay within 5 s.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(500);

/// The first of these has so much, if it is known to take that long.
const MOST_IMPATIENCE: Duration = Duration::from_secs(1);

/// One that begins later than so many times its usual time is taken for silent, if that is longer than
/// the patience that everyone has.
const SLOW: u32 = 2;

const LEFT: &str = "the caller left before the first content";

/// What a request may spend on being answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Attempts in all.
    pub attempts: u32,
    /// Rounds after the first, of those whose failure may pass.
    pub retries: u32,
    /// No attempt begins later than so long after the request came.
    pub time: Duration,
    /// How long a round may take to the first content before one more candidate is asked as well.
    pub patience: Duration,
    /// Nobody waits longer for a vendor than this, whatever it asks for.
    pub longest_wait: Duration,
    /// After so long without content the next candidate is asked as well, if at all.
    pub hedge: Option<Duration>,
}

impl Budget {
    /// What is left after so many attempts, for the rest of an answer that broke: who waits in the middle
    /// of one isn't kept waiting on purpose.
    pub fn after(self, made: u32) -> Self {
        let attempts = self.attempts.saturating_sub(made);
        Self { attempts, retries: 0, hedge: None, ..self }
    }
}

/// What carries single attempts out.
pub(crate) trait Carrier: Clock + Sync {
    type Answer: Send;

    /// One attempt, up to what its caller sees first: the first content, or all of it. Dropped, it is
    /// cancelled.
    ///
    /// # Errors
    /// Why there is no answer.
    fn attempt(
        &self,
        candidate: &Candidate,
        asked: &Asked,
    ) -> impl Future<Output = Result<Self::Answer, Stop>> + Send;

    /// What is known of how soon the candidate begins. None if nothing follows from its silence,
    /// because it can only answer all at once.
    fn pace(&self, _: &Candidate) -> Option<Pace> {
        Some(Pace::default())
    }

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

/// What is said of one that was silent for longer than it may be, while another one began.
pub(crate) fn silent(provider: &ProviderName) -> Failure {
    let message = format!("'{provider}' was silent until another one had begun");
    Failure::new(FailureKind::Timeout, Fault::Vendor, message)
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
    /// It refuses to stream, which nobody but the host asked for, and is asked for a whole answer
    /// instead.
    Whole(Failure),
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

impl TriedOutcome {
    fn failed(failure: Failure) -> Self {
        let Failure { kind, fault, message, .. } = failure;
        Self::Failed { kind, fault, message }
    }
}

/// True if asking the same provider again may help.
fn may_pass(kind: FailureKind) -> bool {
    use FailureKind::{Overloaded, RateLimited, Timeout, Unavailable};
    matches!(kind, Overloaded | Unavailable | Timeout | RateLimited)
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Carried<A> {
    pub answer: Result<(A, Candidate), Failure>,
    /// Attempts that were made.
    pub attempts: u32,
    pub tried: Vec<Tried>,
}

/// A decision that is being carried out. It outlives what carries it out, so that it can tell what was
/// tried when that is dropped because the caller left.
pub(crate) struct Carry<'a> {
    decision: &'a Decision,
    budget: &'a Budget,
    /// Whether something follows from silence: the answer is a stream, or can be asked for as one, and
    /// somebody else can be asked.
    watched: bool,
    began: Instant,
    /// From when on this round's patience counts.
    round: Instant,
    rounds: u32,
    /// Attempts that were made and are over.
    made: u32,
    /// Who is to be asked in this round, in the order of the decision.
    left: VecDeque<Next>,
    /// Who is to be asked at once, whatever else is on its way: the one before, in another way.
    next: Option<Next>,
    /// Those that are being asked, in the order in which they began.
    running: Vec<Running>,
    /// Those that may be asked again in the next round.
    waiting: Vec<Waiting>,
    /// When that begins, once it is settled.
    resume: Option<Instant>,
    /// One has refused what every other would refuse: nobody else is asked, and those that are being asked
    /// are waited for until then.
    ends: Option<Instant>,
    tried: Vec<Tried>,
    /// The failure that says most about why there is no answer.
    last: Option<Failure>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy)]
struct Next {
    /// In the decision.
    place: usize,
    /// With how many of its keys it was asked.
    keys: usize,
    /// Whether it refused to stream.
    whole: bool,
    /// Whether it is asked because another one is silent.
    beside: bool,
}

impl From<usize> for Next {
    fn from(place: usize) -> Self {
        Self { place, keys: 0, whole: false, beside: false }
    }
}

struct Running {
    place: usize,
    asked: Arc<Asked>,
    begun: Instant,
    /// From when on its round's patience counts.
    round: Instant,
    pace: Pace,
    /// Whether it was asked because another one is silent.
    beside: bool,
    /// Whether it was asked if one may be asked beside it before.
    hedged: bool,
    cancel: AbortHandle,
}

/// From when on one more is asked beside those that are being asked, for what one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// It waits for its turn, from which nothing follows.
    Whenever,
    At(Instant),
    /// It is waited for in any case.
    Never,
}

impl Running {
    /// As far as it can be told now.
    fn due(&self, usual: Duration, alone: bool) -> Due {
        let beside = self.beside && !alone;
        let Some(patience) = self.asked.patience else {
            return if beside { Due::At(self.begun + MOST_IMPATIENCE) } else { Due::Never };
        };
        let Heard { since, last, .. } = self.asked.heard();
        if let (Some(last), Some(silence)) = (last, self.asked.silence()) {
            return Due::At(last + silence);
        }
        let least = IMPATIENCE.min(patience);
        match since {
            // One is silent already: this one isn't waited for in a queue, nor as long as the first.
            None if beside => Due::At(self.begun + least),
            None => Due::Whenever,
            Some(since) if beside && patience > usual => Due::At(since + MOST_IMPATIENCE),
            Some(since) if patience > usual => Due::At(since + patience),
            Some(since) => {
                let queued = since.saturating_duration_since(self.begun);
                let shared = self.round + queued + patience;
                let known = since + self.pace.known.unwrap_or_default() * 3 / 2;
                let own = (since + least).max(known.min(shared + MOST_IMPATIENCE));
                Due::At(shared.max(own))
            }
        }
    }

    /// Until when it is waited for, once nobody else is asked and the others are given up then; none if it
    /// is in any case.
    fn waited_for(&self, ends: Instant) -> Option<Instant> {
        let (silence, heard) = (self.asked.silence()?, self.asked.heard());
        let since = heard.last.or(heard.since);
        Some(since.map_or(ends, |since| (since + silence).max(ends)))
    }
}

/// One that may be asked again, but not before.
struct Waiting {
    next: Next,
    until: Instant,
}

/// What is to be done next.
enum Turn {
    Ask(Next),
    /// Until one of those on their way is over or there is news of it, or this time has come.
    Wait(Option<Instant>),
    /// Nothing more is waited for or tried.
    Over,
}

/// What came of one attempt.
struct Came<A> {
    place: usize,
    asked: Arc<Asked>,
    answer: Result<A, Stop>,
}

/// An attempt on its way.
type Asking<'c, A> = Abortable<Pin<Box<dyn Future<Output = Came<A>> + Send + 'c>>>;

fn ask<'c, C: Carrier>(
    carrier: &'c C,
    candidate: &'c Candidate,
    running: &Running,
    cancelled: futures_util::future::AbortRegistration,
) -> Asking<'c, C::Answer> {
    let (place, asked) = (running.place, Arc::clone(&running.asked));
    let attempt = async move {
        let answer = carrier.attempt(candidate, &asked).await;
        Came { place, asked, answer }
    };
    Abortable::new(Box::pin(attempt), cancelled)
}

/// The first of the attempts that is over; none if there is news or the time has come before.
async fn first<C: Carrier>(
    carrier: &C,
    attempts: &mut FuturesUnordered<Asking<'_, C::Answer>>,
    shared: &Shared,
    until: Option<Instant>,
) -> Option<Came<C::Answer>> {
    // Begun after the attempts, of which one may just have been made.
    let timer = async {
        match until {
            Some(until) => carrier.sleep(until.saturating_duration_since(carrier.now())).await,
            None => std::future::pending().await,
        }
    };
    let (timer, news) = (pin!(timer), pin!(shared.news.notified()));
    let nothing = select(timer, news);
    if attempts.is_empty() {
        nothing.await;
        return None;
    }
    match select(attempts.next(), nothing).await {
        // One that was cancelled was told of when it was.
        Either::Left((came, _)) => came?.ok(),
        Either::Right(_) => None,
    }
}

impl<'a> Carry<'a> {
    /// `watched`: whether the answer is a stream, or can be asked for as one.
    pub fn new(decision: &'a Decision, budget: &'a Budget, watched: bool, now: Instant) -> Self {
        Self {
            decision,
            budget,
            watched: watched && decision.candidates.len() > 1 && budget.attempts > 1,
            began: now,
            round: now,
            rounds: 0,
            made: 0,
            left: (0..decision.candidates.len()).map(Next::from).collect(),
            next: None,
            running: Vec::new(),
            waiting: Vec::new(),
            resume: None,
            ends: None,
            tried: Vec::new(),
            last: None,
            shared: Arc::default(),
        }
    }

    /// Tries the candidates in their order. The failure, if there is no answer, is the one that says most
    /// of those of the attempts, or that of the decision.
    pub async fn run<C: Carrier>(&mut self, carrier: &C) -> Carried<C::Answer> {
        let answer = self.answer(carrier).await;
        let tried = std::mem::take(&mut self.tried);
        Carried { answer, attempts: self.made, tried }
    }

    async fn answer<C: Carrier>(&mut self, carrier: &C) -> Result<(C::Answer, Candidate), Failure> {
        let candidates = &self.decision.candidates;
        let shared = Arc::clone(&self.shared);
        let mut attempts = FuturesUnordered::new();
        loop {
            match self.turn(carrier) {
                Turn::Ask(next) => {
                    let (cancel, cancelled) = AbortHandle::new_pair();
                    let running = self.begin(next, carrier, cancel);
                    attempts.push(ask(carrier, &candidates[next.place], &running, cancelled));
                    self.running.push(running);
                }
                Turn::Wait(until) => {
                    let came = first(carrier, &mut attempts, &shared, until).await;
                    let Some(came) = came else { continue };
                    let place = came.place;
                    match self.came(came, carrier) {
                        ControlFlow::Continue(()) => {}
                        ControlFlow::Break(answer) => {
                            return Ok((answer, candidates[place].clone()));
                        }
                    }
                }
                Turn::Over => break,
            }
        }
        self.give_up(carrier.now(), None);
        Err(self.failure())
    }

    /// What was tried and how many attempts were made, where the caller left before the first content.
    pub fn leave(&mut self, now: Instant) -> (Vec<Tried>, u32) {
        for Running { place, asked, .. } in std::mem::take(&mut self.running) {
            let message = LEFT.to_owned();
            let outcome = if asked.heard().is_sent() {
                self.made += 1;
                TriedOutcome::Failed { kind: FailureKind::Other, fault: Fault::Caller, message }
            } else {
                TriedOutcome::Skipped { message }
            };
            self.note(place, outcome, now);
        }
        (std::mem::take(&mut self.tried), self.made)
    }

    fn turn<C: Carrier>(&mut self, carrier: &C) -> Turn {
        let now = carrier.now();
        self.prefer_who_has_begun(now);
        if let Some(ends) = self.ends {
            return self.end(ends, now);
        }
        // What is on its way may still answer when nothing more may begin.
        let may_begin = self.may_begin(now);
        let impatient = self.is_impatient(now);
        if !impatient {
            // The next round is for when nobody is waited for any more.
            self.resume = None;
        }
        if may_begin && self.next.is_none() && impatient {
            self.next = self.left.pop_front();
            if self.next.is_none() && self.resumes(carrier, now) {
                self.next = self.left.pop_front();
            }
            if let Some(next) = &mut self.next {
                next.beside = !self.running.is_empty();
            }
        }
        if may_begin && self.next.is_none() && self.hedges(carrier, now) {
            self.next = self.left.pop_front();
        }
        match self.next {
            Some(next) if may_begin => {
                self.next = None;
                return Turn::Ask(next);
            }
            _ if self.running.is_empty() && !may_begin => return Turn::Over,
            None if self.running.is_empty() && self.resume.is_none() => return Turn::Over,
            _ => {}
        }
        let others = may_begin && (!self.left.is_empty() || self.may_retry());
        let hedge = self.hedge().filter(|_| may_begin);
        let due = self.due().filter(|due| others && *due > now);
        let resume = self.resume.filter(|at| *at > now);
        Turn::Wait([due, hedge, resume].into_iter().flatten().min())
    }

    /// Nobody else is asked; but those who are, one of them in another way, may still answer.
    fn end(&mut self, ends: Instant, now: Instant) -> Turn {
        if self.may_begin(now)
            && let Some(next) = self.next.take()
        {
            return Turn::Ask(next);
        }
        let until = self.running.iter().map(|running| running.waited_for(ends));
        match until.reduce(|one, other| Some(one?.max(other?))) {
            Some(None) => Turn::Wait(None),
            Some(Some(until)) if until > now => Turn::Wait(Some(until)),
            Some(Some(_)) | None => Turn::Over,
        }
    }

    /// Cancels those that are asked beside one that has begun, and isn't silent again.
    fn prefer_who_has_begun(&mut self, now: Instant) {
        if self.running.len() < 2 {
            return;
        }
        let on_time =
            self.running.iter().enumerate().filter(|(_, running)| !running.asked.is_late(now));
        let begun = on_time.filter_map(|(at, running)| Some((running.asked.heard().first?, at)));
        let Some((_, at)) = begun.min() else { return };
        let preferred = self.running.remove(at);
        self.give_up(now, Some(preferred.asked.heard().took(now)));
        self.running.push(preferred);
    }

    /// Whether nobody is being asked who still has time to begin.
    fn is_impatient(&self, now: Instant) -> bool {
        self.running.is_empty() || self.due().is_some_and(|due| due <= now)
    }

    /// From when on one more is asked beside those that are being asked; none if they are waited for.
    fn due(&self) -> Option<Instant> {
        let alone = self.running.len() == 1;
        let dues = self.running.iter().map(|running| running.due(self.budget.patience, alone));
        match dues.max()? {
            Due::At(due) => Some(due),
            Due::Whenever | Due::Never => None,
        }
    }

    /// When it is to be asked whether one may be asked beside the one that is being asked.
    fn hedge(&self) -> Option<Instant> {
        let [only] = &self.running[..] else { return None };
        let heard = only.asked.heard();
        let hedge = self.budget.hedge.filter(|_| heard.first.is_none() && !only.hedged)?;
        heard.since.filter(|_| !self.left.is_empty()).map(|since| since + hedge)
    }

    fn hedges<C: Carrier>(&mut self, carrier: &C, now: Instant) -> bool {
        let due = self.hedge().is_some_and(|hedge| hedge <= now);
        if due {
            self.running[0].hedged = true;
        }
        due && carrier.may_hedge()
    }

    fn may_retry(&self) -> bool {
        self.rounds < self.budget.retries && !self.waiting.is_empty()
    }

    /// Whether the next round begins now. If it is to begin at all, it is settled here when.
    fn resumes<C: Carrier>(&mut self, carrier: &C, now: Instant) -> bool {
        if self.resume.is_none() && self.may_retry() {
            let soonest = self.waiting.iter().map(|it| it.until).min().unwrap_or(now);
            let wait = soonest.saturating_duration_since(now);
            // First what was asked for and then the jitter: those who were told the same time don't
            // return together.
            let pause = (wait + carrier.backoff(self.rounds)).min(self.budget.longest_wait);
            self.resume = Some(now + pause).filter(|at| *at <= self.began + self.budget.time);
            if self.resume.is_none() {
                self.waiting.clear();
            }
        }
        if self.resume.is_none_or(|at| at > now) {
            return false;
        }
        self.resume = None;
        self.rounds += 1;
        self.round = now;
        self.left = self.waiting.extract_if(.., |it| it.until <= now).map(|it| it.next).collect();
        self.left.make_contiguous().sort_unstable_by_key(|next| next.place);
        true
    }

    fn begin<C: Carrier>(&self, next: Next, carrier: &C, cancel: AbortHandle) -> Running {
        let Next { place, keys, whole, beside } = next;
        // The last one of the budget is waited for, unless another one is on its way.
        let last = self.running.is_empty() && self.made + 1 >= self.budget.attempts;
        let judged = self.watched && !whole && !last;
        let pace = carrier.pace(&self.decision.candidates[place]).filter(|_| judged);
        let patience = pace.map(|Pace { own, known }| {
            let known = known.unwrap_or_default().saturating_mul(SLOW);
            own.unwrap_or_else(|| self.budget.patience.max(known))
        });
        Running {
            place,
            asked: Arc::new(Asked::new(keys, whole, patience, Arc::clone(&self.shared))),
            begun: carrier.now(),
            round: self.round,
            pace: pace.unwrap_or_default(),
            beside,
            hedged: false,
            cancel,
        }
    }

    /// Goes on, or ends with the answer.
    fn came<C: Carrier>(&mut self, came: Came<C::Answer>, carrier: &C) -> ControlFlow<C::Answer> {
        let now = carrier.now();
        let Came { place, asked, answer } = came;
        let heard = asked.heard();
        if let [only] = &self.running[..]
            && only.round == self.round
        {
            // Time in a queue is nobody's silence.
            let opened = heard.since.unwrap_or(now);
            self.round += opened.saturating_duration_since(only.begun);
        }
        let of_it = |running: &mut Running| Arc::ptr_eq(&running.asked, &asked);
        let beside = self.running.extract_if(.., of_it).any(|running| running.beside);
        match answer {
            Err(Stop::Resting(_) | Stop::Shut(_)) => asked.unsent(),
            _ => self.made += u32::from(heard.is_sent()),
        }
        let again = Next { place, keys: asked.keys, whole: asked.whole, beside };
        match answer {
            Ok(answer) => {
                self.give_up(now, Some(heard.took(now)));
                self.note(place, carrier.outcome(&answer), now);
                return ControlFlow::Break(answer);
            }
            Err(Stop::Resting(failure)) => {
                self.may_come_back(again, &failure, now);
                self.skip(place, failure, now);
            }
            Err(Stop::Shut(failure)) => self.skip(place, failure, now),
            Err(Stop::Key(failure)) => {
                self.failed(place, failure, now);
                self.asks_next(Next { keys: asked.keys + 1, ..again });
            }
            Err(Stop::Whole(failure)) => {
                self.note(place, TriedOutcome::failed(failure.clone()), now);
                // The caller hears of what came of the answer that it asked for, if it can be asked for.
                if !self.may_begin(now) {
                    self.remember(failure);
                }
                self.asks_next(Next { whole: true, ..again });
            }
            Err(Stop::Failed(failure)) => {
                let kind = failure.kind;
                if may_pass(kind) {
                    self.may_come_back(again, &failure, now);
                }
                self.failed(place, failure, now);
                if !kind.may_go_elsewhere() {
                    // Those that are being asked may see it in another way.
                    self.ends.get_or_insert(now + self.budget.patience);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn asks_next(&mut self, next: Next) {
        if let Some(before) = self.next.replace(next) {
            self.left.push_front(before);
        }
    }

    /// It may be asked again, if its vendor doesn't ask for more time than anybody waits.
    fn may_come_back(&mut self, next: Next, failure: &Failure, now: Instant) {
        let wait = failure.retry_after.unwrap_or_default();
        if wait <= self.budget.longest_wait {
            // With all of its keys.
            let next = Next { keys: 0, beside: false, ..next };
            self.waiting.push(Waiting { next, until: now + wait });
            self.resume = None;
        }
    }

    /// Whether one more attempt fits into the budget, beside those that are being made.
    fn may_begin(&self, now: Instant) -> bool {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.made.saturating_add(running) < self.budget.attempts
            && now <= self.began + self.budget.time
    }

    /// Cancels those that are still being asked, because one that took so long to begin goes on, or
    /// because the request is over. One has failed if it had all of its time and more than the other took.
    fn give_up(&mut self, now: Instant, took: Option<Duration>) {
        let mut overtaken = Vec::new();
        for running in std::mem::take(&mut self.running) {
            let heard = running.asked.heard();
            let slower = took.is_some_and(|took| heard.silent_for(now) > Some(took));
            let (place, asked) = (running.place, &running.asked);
            let next = Next { place, keys: asked.keys, whole: asked.whole, beside: false };
            let outcome = if slower && asked.is_late(now) {
                let failure = silent(&self.decision.candidates[place].provider);
                asked.fails_by_silence();
                self.may_come_back(next, &failure, now);
                self.remember(failure.clone());
                TriedOutcome::failed(failure)
            } else {
                overtaken.push(next);
                match heard.is_sent() {
                    true => TriedOutcome::Overtaken,
                    false => {
                        let message = "it waited for its turn when another one had begun";
                        TriedOutcome::Skipped { message: message.to_owned() }
                    }
                }
            };
            self.made += u32::from(heard.is_sent());
            running.cancel.abort();
            self.note(place, outcome, now);
        }
        // In case that the one that goes on breaks.
        overtaken.into_iter().rev().for_each(|next| self.left.push_front(next));
    }

    fn failed(&mut self, place: usize, failure: Failure, now: Instant) {
        self.note(place, TriedOutcome::failed(failure.clone()), now);
        self.remember(failure);
    }

    fn skip(&mut self, place: usize, failure: Failure, now: Instant) {
        let message = failure.message.clone();
        self.note(place, TriedOutcome::Skipped { message }, now);
        self.remember(failure);
    }

    fn note(&mut self, place: usize, outcome: TriedOutcome, now: Instant) {
        let Candidate { provider, model, .. } = &self.decision.candidates[place];
        self.tried.push(Tried {
            provider: provider.clone(),
            model: model.clone(),
            outcome,
            at: now.saturating_duration_since(self.began),
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

    fn failure(&mut self) -> Failure {
        let decision = self.decision;
        self.last.take().or_else(|| decision.failure()).unwrap_or_else(|| {
            let message =
                format!("'{}' can't be served right now: nobody may be asked", decision.model);
            Failure::new(FailureKind::Unavailable, Fault::Vendor, message)
        })
    }
}

#[cfg(test)]
mod tests;
