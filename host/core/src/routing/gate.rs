//! The gate before a provider: how many requests may be open at once, how many requests and tokens
//! start per minute, and a fair queue with a deadline for those who wait.
//!
//! Callers take turns ([`queue`]), and nobody passes who came later in that order, however small:
//! so a large request is never starved, and those behind it wait with it. Tokens are reserved on
//! entry by what is expected and corrected by what was taken ([`Pass::settle`]). A request larger
//! than a minute's worth passes when the bucket is full and leaves it in debt, for expectations
//! are high and never serving it would be worse ([`rate`]).
//!
//! Who can't have a turn in time, by the refill that is known and the queue as it stands, is
//! refused at once and told when it could. How long open requests stay open is not known, so who
//! waits for one to end waits until its own time is over.
//!
//! Nothing here has a timer or a task of its own. The first in the order watches the time when a
//! place is free but the minute's worth is used up; it alone is woken when a place becomes free,
//! and wakes exactly those who pass with it. Whoever leaves the queue for whatever reason hands
//! that watch on.
//!
//! What bounds it: `concurrency` passes and `queue` waiting, and a caller is remembered only while
//! it waits. What it costs: a lock for some tens of nanoseconds and no allocation where nobody
//! waits; a few allocations for one who waits, and with a limit per minute a look at everyone ahead.

mod pace;
mod queue;
mod rate;
#[cfg(test)]
mod tests;

use std::{
    error, fmt, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use self::{
    pace::Pace,
    queue::{FairQueue, Ticket},
    rate::Rate,
};
use crate::{Failure, FailureKind, Fault, clock::Clock, ids::ProviderName};

/// The most tokens that one request counts as, so that no sum of them overflows.
const MOST_TOKENS: u64 = u32::MAX as u64;

/// The shortest time a refused caller is told to stay away.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// What one who doesn't fit under limits of zero is told: the limits must change first.
const RETRY_OF_NEVER: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Open requests at most. Zero closes the gate.
    pub concurrency: u32,
    /// Zero closes the gate.
    pub requests_per_minute: Option<u32>,
    /// Zero lets only requests without tokens pass.
    pub tokens_per_minute: Option<u64>,
    /// Waiting requests at most.
    pub queue: u32,
    /// The longest that one waits.
    pub wait: Duration,
}

/// Cheap to clone, and the same gate then. It lives across reloads: what changes is its limits.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

/// What people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateStatus {
    pub limits: GateLimits,
    /// More than `limits.concurrency` for a while after that was lowered.
    pub open: u32,
    pub waiting: u32,
    pub callers_waiting: u32,
    /// Whole requests that could start now. `None`: no limit.
    pub requests_left: Option<i64>,
    /// Whole tokens; below zero after a request that took more than was left. `None`: no limit.
    pub tokens_left: Option<i64>,
}

/// Why there was no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub reason: FullReason,
    /// When one that comes again would have a turn, if nobody else came: by the known refill, and
    /// by how fast the queue moved lately.
    pub retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullReason {
    /// As many wait already as may.
    Queue,
    /// Its turn doesn't come, or didn't come, within the longest wait or before its deadline.
    Wait,
    /// A limit is zero.
    Never,
}

/// The right to have one request open. Dropping it gives the place to the next; the tokens stay
/// taken as they were reserved or last settled.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Pass {
    gate: Gate,
    charge: Charge,
}

/// All that the lock protects. Functions that take `now` may let waiting requests pass; the others
/// don't know the time, so they wake the first in the order to do it.
struct State {
    limits: GateLimits,
    open: u32,
    rates: Rates,
    queue: FairQueue<Waiter>,
    waiting_tokens: u64,
    pace: Pace,
    /// The latest moment anyone has told.
    now: Option<Instant>,
    /// Whom to wake when the lock is free again.
    bells: Vec<Arc<Call>>,
}

/// What is left of each minute's worth.
#[derive(Clone)]
struct Rates {
    requests: Rate,
    tokens: Rate,
}

struct Waiter {
    call: Arc<Call>,
    /// It was woken because of a free place, or sleeps until the refill. Only the first is ever.
    watching: bool,
}

/// What the queue and the one who waits share.
struct Call {
    tokens: u64,
    until: Instant,
    bell: Notify,
    /// Set once, under the lock, when it leaves the queue because it passes.
    charge: OnceLock<Charge>,
}

/// What a request has taken of each minute's worth.
#[derive(Clone, Copy, Debug, Default)]
struct Charge {
    requests: Duration,
    tokens: Duration,
}

/// One's place in the queue. However it ends, it leaves the queue or gives back what it was given.
struct Place<'a> {
    gate: &'a Gate,
    caller: &'a Arc<str>,
    ticket: Ticket,
    call: Arc<Call>,
    done: bool,
}

enum Arrival {
    Passes(Charge),
    Waits(Ticket, Arc<Call>),
}

enum Look {
    Passes(Charge),
    Sleeps(Duration),
    Gives(Full),
}

impl Gate {
    pub fn new(limits: GateLimits) -> Self {
        let state = State {
            limits,
            open: 0,
            rates: Rates {
                requests: Rate::new(limits.requests_per_minute.map(u64::from)),
                tokens: Rate::new(limits.tokens_per_minute),
            },
            queue: FairQueue::default(),
            waiting_tokens: 0,
            pace: Pace::default(),
            now: None,
            bells: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes effect at once. Requests that are open stay so, and those that wait keep their places
    /// and the times they were given. The part of each minute's worth that is left stays the part
    /// that is left, so reloads give nothing away.
    pub fn set_limits(&self, limits: GateLimits) {
        self.with(|state| {
            state.limits = limits;
            state.rates.requests.set(limits.requests_per_minute.map(u64::from));
            state.rates.tokens.set(limits.tokens_per_minute);
            state.watch_again();
        });
    }

    /// Waits for its turn, at most until `deadline`, which is the request's own. `tokens`: what it
    /// is expected to take, prompt and answer. Cancelling it leaves nothing behind.
    ///
    /// # Errors
    /// If there is no turn for it in time: at once if that is known, otherwise when its time is
    /// over.
    pub async fn enter(
        &self,
        clock: &impl Clock,
        caller: &Arc<str>,
        tokens: u64,
        deadline: Instant,
    ) -> Result<Pass, Full> {
        let tokens = tokens.min(MOST_TOKENS);
        let now = clock.now();
        let mut place = match self.with(|state| state.arrive(now, caller, tokens, deadline))? {
            Arrival::Passes(charge) => return Ok(self.pass(charge)),
            Arrival::Waits(ticket, call) => Place { gate: self, caller, ticket, call, done: false },
        };
        loop {
            match place.look(clock.now()) {
                Look::Passes(charge) => return Ok(self.pass(charge)),
                Look::Gives(full) => return Err(full),
                Look::Sleeps(time) => tokio::select! {
                    biased;
                    () = place.call.bell.notified() => {}
                    () = clock.sleep(time) => {}
                },
            }
        }
    }

    /// How many requests are under way.
    pub fn open(&self) -> u32 {
        self.lock().open
    }

    pub fn status(&self, now: Instant) -> GateStatus {
        let state = self.lock();
        GateStatus {
            limits: state.limits,
            open: state.open,
            waiting: count(state.queue.len()),
            callers_waiting: count(state.queue.callers()),
            requests_left: state.rates.requests.left(now),
            tokens_left: state.rates.tokens.left(now),
        }
    }

    fn pass(&self, charge: Charge) -> Pass {
        Pass { gate: self.clone(), charge }
    }

    /// Runs `act` under the lock, and wakes whom it wants woken when the lock is free again: a
    /// waker is somebody else's code, and may drop what must lock.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (result, bells) = {
            let mut state = self.lock();
            let result = act(&mut state);
            (result, mem::take(&mut state.bells))
        };
        for call in bells {
            call.bell.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        formatter
            .debug_struct("Gate")
            .field("limits", &state.limits)
            .field("open", &state.open)
            .field("waiting", &state.queue.len())
            .finish()
    }
}

impl Pass {
    /// Corrects what was reserved to what was really taken. May be called again: the last one
    /// counts. What was taken beyond the reserved counts from the latest moment the gate was told,
    /// which is never before this pass began.
    pub fn settle(&mut self, tokens: u64) {
        let charged = self.charge.tokens;
        self.charge.tokens = self.gate.with(|state| {
            let Some(now) = state.now else { return charged };
            let corrected = state.rates.tokens.correct(now, charged, tokens.min(MOST_TOKENS));
            if corrected < charged {
                state.watch_again();
            }
            corrected
        });
    }

    /// Gives back all that was taken of the minute, for nothing was sent. What a vendor refused
    /// counts as a request, as it does for vendors: only its tokens are given back, by settling none.
    pub fn refund(&mut self) {
        let charge = mem::take(&mut self.charge);
        self.gate.with(|state| {
            state.rates.give_back(charge);
            state.watch_again();
        });
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.with(State::leave);
    }
}

impl Place<'_> {
    /// Looks whether it passes, and otherwise how long it may sleep.
    fn look(&mut self, now: Instant) -> Look {
        let look = self.gate.with(|state| state.look(now, self.caller, self.ticket, &self.call));
        self.done = !matches!(look, Look::Sleeps(_));
        look
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.gate.with(|state| state.cancel(self.caller, self.ticket, &self.call));
        }
    }
}

impl State {
    fn arrive(
        &mut self,
        now: Instant,
        caller: &Arc<str>,
        tokens: u64,
        deadline: Instant,
    ) -> Result<Arrival, Full> {
        let now = self.advance(now);
        if self.limits.concurrency == 0
            || !self.rates.requests.ever(1)
            || !self.rates.tokens.ever(tokens)
        {
            return Err(Full { reason: FullReason::Never, retry_after: RETRY_OF_NEVER });
        }
        self.let_pass(now);
        self.watch();
        if now >= deadline {
            return Err(self.full(FullReason::Wait, now, tokens));
        }
        if self.queue.is_empty() && self.fits(now, tokens) {
            return Ok(Arrival::Passes(self.open(now, tokens)));
        }
        if self.queue.len() >= self.limits.queue as usize {
            return Err(self.full(FullReason::Queue, now, tokens));
        }
        let until = now.checked_add(self.limits.wait).map_or(deadline, |end| end.min(deadline));
        let ready = self.ready_behind(now, caller, tokens, until);
        if let Some(ready) = ready.filter(|ready| *ready > until) {
            let retry_after = ready.saturating_duration_since(now).max(SHORTEST_RETRY);
            return Err(Full { reason: FullReason::Wait, retry_after });
        }
        let call = Arc::new(Call { tokens, until, bell: Notify::new(), charge: OnceLock::new() });
        if self.queue.is_empty() {
            self.pace.begin(now);
        }
        self.waiting_tokens += tokens;
        let ticket = self.queue.push(caller, Waiter { call: Arc::clone(&call), watching: false });
        Ok(Arrival::Waits(ticket, call))
    }

    fn look(&mut self, now: Instant, caller: &Arc<str>, ticket: Ticket, call: &Arc<Call>) -> Look {
        let now = self.advance(now);
        self.let_pass(now);
        if let Some(charge) = call.charge.get() {
            self.watch();
            return Look::Passes(*charge);
        }
        let room = self.room();
        let mut wake_at = call.until;
        let mut hopeless = now >= call.until;
        if let Some(first) = self.queue.first_mut().filter(|first| Arc::ptr_eq(&first.call, call)) {
            first.watching = room;
            if room {
                match self.rates.ready_at(now, call.tokens) {
                    Some(ready) if ready <= call.until => wake_at = ready,
                    Some(_) => hopeless = true,
                    // A limit of zero may change again.
                    None => {}
                }
            }
        }
        if hopeless {
            self.take_out(caller, ticket);
        }
        self.watch();
        if hopeless {
            return Look::Gives(self.full(FullReason::Wait, now, call.tokens));
        }
        Look::Sleeps(wake_at.saturating_duration_since(now))
    }

    fn cancel(&mut self, caller: &Arc<str>, ticket: Ticket, call: &Call) {
        if self.take_out(caller, ticket) {
            self.watch();
        } else if let Some(charge) = call.charge.get() {
            // It passed and never knew.
            self.rates.give_back(*charge);
            self.open -= 1;
            self.watch_again();
        }
    }

    fn take_out(&mut self, caller: &Arc<str>, ticket: Ticket) -> bool {
        let Some(waiter) = self.queue.remove(caller, ticket) else { return false };
        self.waiting_tokens -= waiter.call.tokens;
        if self.queue.is_empty() {
            self.pace.rest();
        }
        true
    }

    fn leave(&mut self) {
        self.open -= 1;
        self.watch();
    }

    /// Lets as many pass as fit, in order.
    fn let_pass(&mut self, now: Instant) {
        while let Some(tokens) = self.queue.first().map(|first| first.call.tokens) {
            if !self.fits(now, tokens) {
                break;
            }
            let charge = self.open(now, tokens);
            let Some(Waiter { call, .. }) = self.queue.pop() else { break };
            self.waiting_tokens -= tokens;
            self.pace.turn(now);
            // It is set nowhere else, and only while `call` is in the queue.
            let _ = call.charge.set(charge);
            self.bells.push(call);
            if self.queue.is_empty() {
                self.pace.rest();
            }
        }
    }

    /// Sees to it that the first watches the time if a place is free.
    fn watch(&mut self) {
        if self.room()
            && let Some(first) = self.queue.first_mut().filter(|first| !first.watching)
        {
            first.watching = true;
            self.bells.push(Arc::clone(&first.call));
        }
    }

    /// The same where the first may sleep too long, because more is left than it knew.
    fn watch_again(&mut self) {
        if let Some(first) = self.queue.first_mut() {
            first.watching = false;
        }
        self.watch();
    }

    fn open(&mut self, now: Instant, tokens: u64) -> Charge {
        self.open += 1;
        self.rates.take(now, tokens)
    }

    fn room(&self) -> bool {
        self.open < self.limits.concurrency
    }

    fn fits(&self, now: Instant, tokens: u64) -> bool {
        self.room() && self.rates.ready_at(now, tokens).is_some_and(|ready| ready <= now)
    }

    /// When the refill lets one pass that `caller` would add to the queue now, as exactly as it takes to
    /// tell whether that is by `until`. `None`: never under these limits, or after one for whom that
    /// holds.
    fn ready_behind(
        &self,
        now: Instant,
        caller: &Arc<str>,
        tokens: u64,
        until: Instant,
    ) -> Option<Instant> {
        if self.limits.requests_per_minute.is_none() && self.limits.tokens_per_minute.is_none() {
            return Some(now);
        }
        let ahead = self.queue.ahead(caller);
        let tokens_ahead =
            ahead.iter().map(|ahead| self.rates.tokens.clip(ahead.call.tokens)).sum();
        let requests_ahead = ahead.len() as u64;
        let (one, other) =
            self.rates.each_ready_behind(now, requests_ahead, tokens_ahead, tokens)?;
        let (first, last) = (one.min(other), one.max(other));
        // While one limit is waited for, the other refills, but not beyond the brim: so both take as
        // long as the longer of the two at least, and as both together at most.
        if last > until || last + first.saturating_duration_since(now) <= until {
            return Some(last);
        }
        let (mut rates, mut at) = (self.rates.clone(), now);
        for ahead in ahead {
            at = rates.ready_at(at, ahead.call.tokens)?;
            rates.take(at, ahead.call.tokens);
        }
        rates.ready_at(at, tokens)
    }

    /// What one is told that doesn't get a turn now: when all who wait and it have had theirs. In
    /// sum, since many may be refused at once.
    fn full(&self, reason: FullReason, now: Instant, tokens: u64) -> Full {
        let waiting = self.queue.len() as u64;
        let ready = self.rates.each_ready_behind(now, waiting, self.waiting_tokens, tokens);
        let ready = ready.map(|(by_requests, by_tokens)| by_requests.max(by_tokens));
        let refilled = ready.map_or(RETRY_OF_NEVER, |ready| ready.saturating_duration_since(now));
        let moved = self.pace.expect(now, count(self.queue.len()).saturating_add(1));
        Full { reason, retry_after: refilled.max(moved).max(SHORTEST_RETRY) }
    }

    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.now.map_or(now, |latest| latest.max(now));
        self.now = Some(now);
        now
    }
}

impl Rates {
    /// When one passes at the earliest.
    fn ready_at(&self, now: Instant, tokens: u64) -> Option<Instant> {
        let (by_requests, by_tokens) = self.each_ready_behind(now, 0, 0, tokens)?;
        Some(by_requests.max(by_tokens))
    }

    /// When each of the two limits would let one pass at the earliest that has so many requests and
    /// tokens before it, if there were no other.
    fn each_ready_behind(
        &self,
        now: Instant,
        requests_ahead: u64,
        tokens_ahead: u64,
        tokens: u64,
    ) -> Option<(Instant, Instant)> {
        let by_requests = self.requests.ready_at(now, requests_ahead, 1)?;
        let by_tokens = self.tokens.ready_at(now, tokens_ahead, tokens)?;
        Some((by_requests, by_tokens))
    }

    fn take(&mut self, now: Instant, tokens: u64) -> Charge {
        Charge { requests: self.requests.take(now, 1), tokens: self.tokens.take(now, tokens) }
    }

    fn give_back(&mut self, charge: Charge) {
        self.requests.give_back(charge.requests);
        self.tokens.give_back(charge.tokens);
    }
}

impl Full {
    /// What the caller is told.
    pub fn failure(&self, provider: &ProviderName) -> Failure {
        let message = format!("'{provider}' has as many requests as it may: {self}");
        let mut failure = Failure::new(FailureKind::RateLimited, Fault::Host, message);
        failure.retry_after = Some(self.retry_after);
        failure
    }
}

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.reason {
            FullReason::Queue => "as many requests wait for this provider as may",
            FullReason::Wait => "this provider's limits leave no turn within the time allowed",
            FullReason::Never => "this provider's limits are zero",
        })
    }
}

impl error::Error for Full {}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
