//! Tells of requests whose caller leaves before the first content.
//!
//! Such a request ends by being dropped, and everything that would have told of it with it. So who
//! carries a request out holds a [`Pending`], which notes it as left unless it is told that the
//! request is over. What was tried by then stands in a [`Tally`] beside it.
//!
//! Costs: two names and a lock for each attempt.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Way,
    carrying::{Begun, Carrying},
};
use crate::{
    FailureKind, Fault,
    clock::{Clock, SystemClock},
    routing::{
        Candidate,
        carry::{Asked, Carrier, Stop, Tried, TriedOutcome},
        journal::{Ended, Journal, Routed},
    },
};

const LEFT: &str = "the caller left before the first content";

/// A request on its way to its first content.
pub(super) struct Pending<'a> {
    way: &'a Way<'a>,
    journal: &'a Journal,
    began: Instant,
    pub tally: Tally,
    over: bool,
}

impl<'a> Pending<'a> {
    pub fn new(way: &'a Way<'a>, journal: &'a Journal, began: Instant) -> Self {
        Self { way, journal, began, tally: Tally::new(began), over: false }
    }

    /// It has its answer or its failure, and whoever got that tells of it.
    pub fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Way { call, ask, decision, streamed, .. } = *self.way;
        let (tried, attempts) = self.tally.left();
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request = %call.id, caller = &*call.caller.name, model = %ask.model, streamed, attempts, ms,
            "left by its caller"
        );
        self.journal.routed(Routed {
            request: call.id,
            when: jiff::Timestamp::now(),
            caller: Arc::clone(&call.caller.name),
            operation: ask.operation,
            streamed,
            decision: decision.clone(),
            tried,
            attempts,
            ended: Ended::Left,
            continued: Vec::new(),
        });
    }
}

/// What was tried so far, and what is being tried.
pub(super) struct Tally {
    began: Instant,
    all: Mutex<Vec<Trying>>,
}

struct Trying {
    tried: Tried,
    /// Whether it counts: that something was sent, or is about to be.
    counts: bool,
}

impl Tally {
    pub fn new(began: Instant) -> Self {
        Self { began, all: Mutex::default() }
    }

    fn begin(&self, candidate: &Candidate) -> usize {
        let tried = Tried {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            outcome: TriedOutcome::Answered,
            at: self.began.elapsed(),
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Trying { tried, counts: true });
        all.len() - 1
    }

    /// The caller left in the middle of it.
    fn leave(&self, at: usize, sent: bool) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trying) = all.get_mut(at) else { return };
        trying.tried.at = self.began.elapsed();
        trying.counts = sent;
        let message = LEFT.to_owned();
        trying.tried.outcome = match sent {
            true => {
                TriedOutcome::Failed { kind: FailureKind::Other, fault: Fault::Caller, message }
            }
            false => TriedOutcome::Skipped { message },
        };
    }

    fn end(&self, at: usize, stop: &Stop) {
        let now = self.began.elapsed();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trying) = all.get_mut(at) else { return };
        trying.tried.at = now;
        match stop {
            Stop::Failed(failure) | Stop::Key(failure) => {
                let (kind, fault) = (failure.kind, failure.fault);
                let message = failure.message.clone();
                trying.tried.outcome = TriedOutcome::Failed { kind, fault, message };
            }
            Stop::Resting(failure) | Stop::Shut(failure) => {
                trying.counts = false;
                trying.tried.outcome = TriedOutcome::Skipped { message: failure.message.clone() };
            }
        }
    }

    fn left(&self) -> (Vec<Tried>, u32) {
        let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        let attempts = all.iter().filter(|trying| trying.counts).count();
        let tried = all.into_iter().map(|trying| trying.tried).collect();
        (tried, u32::try_from(attempts).unwrap_or(u32::MAX))
    }
}

/// An attempt that is being made. Dropped, its caller has left.
struct Attempting<'a> {
    tally: &'a Tally,
    at: usize,
    asked: &'a Asked,
    over: bool,
}

impl Drop for Attempting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.tally.leave(self.at, self.asked.is_sent());
        }
    }
}

/// Carries out as [`Carrying`] does, and keeps the tally.
pub(super) struct Tallied<'a> {
    pub carrying: Carrying<'a>,
    pub tally: &'a Tally,
}

impl Clock for Tallied<'_> {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        SystemClock.sleep(time)
    }
}

impl Carrier for Tallied<'_> {
    type Answer = Begun;

    async fn attempt(&self, candidate: &Candidate, asked: &Asked) -> Result<Begun, Stop> {
        let at = self.tally.begin(candidate);
        let mut attempting = Attempting { tally: self.tally, at, asked, over: false };
        let answer = self.carrying.attempt(candidate, asked).await;
        attempting.over = true;
        if let Err(stop) = &answer {
            self.tally.end(at, stop);
        }
        answer
    }

    fn outcome(&self, begun: &Begun) -> TriedOutcome {
        self.carrying.outcome(begun)
    }

    fn backoff(&self, rounds: u32) -> Duration {
        self.carrying.backoff(rounds)
    }

    fn may_hedge(&self) -> bool {
        self.carrying.may_hedge()
    }
}
