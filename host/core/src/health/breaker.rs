//! One circuit breaker: lets through, shuts, tries with one attempt, lets more and more through.
//!
//! Closed, it counts. It opens after so many failures in a row, or when half of what came lately
//! failed. Open past its time is probation: one attempt at a time gets a place, and what becomes of
//! it decides; there is no timer. After probation it is closed with a ramp: one attempt under way
//! at a time, one more for each that succeeds (so the number doubles with each round), and in any
//! case twice as many every [`RAMP_STEP`], until [`RAMP_FULL`]. A vendor that has just got up isn't
//! knocked over by everyone who waited.
//!
//! Every change of state has a new epoch, and an attempt carries the one it began in. What was on its
//! way when the breaker opened neither opens it again nor closes it.

use std::time::{Duration, Instant};

use super::{
    HealthOptions, Symptom, Why,
    backoff::{Source, doubled},
};
use crate::FailureKind;

/// The window is counted in so many slots: what falls out of it falls out a fifth at a time.
const SLOTS: usize = 6;
/// Attempts under way at which a ramp ends: beyond it a jump to any number is no longer a
/// multiple that a vendor would notice.
pub const RAMP_FULL: u32 = 64;
/// A ramp lasts at most six of these, 30 s, even if every answer takes minutes.
pub const RAMP_STEP: Duration = Duration::from_secs(5);
/// When to ask again where that can't be known: a place in probation or in a ramp is taken.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Closed for so long at least, a breaker that opens again begins with the shortest time.
const SETTLED: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    epoch: u64,
    /// Openings that followed on each other, less one.
    repeats: u32,
    /// How long it was open last.
    lasted: Duration,
    closed_at: Option<Instant>,
    streak: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { ramp: Option<Ramp> },
    Open { until: Instant, symptom: Symptom, trying: bool },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { ramp: None }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    since: Instant,
    allowed: u32,
    under_way: u32,
}

impl Ramp {
    fn allowed(&self, now: Instant) -> u32 {
        let steps = now.saturating_duration_since(self.since).as_secs() / RAMP_STEP.as_secs();
        self.allowed.saturating_mul(1 << steps.min(16))
    }
}

/// What an attempt holds of a breaker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    epoch: u64,
    place: bool,
}

pub(super) enum Stand {
    Clear,
    /// One attempt may be made.
    Trial,
    Shut {
        until: Instant,
        why: Why,
    },
}

impl Breaker {
    pub fn stand(&self, now: Instant) -> Stand {
        match &self.state {
            State::Open { until, symptom, .. } if now < *until => {
                Stand::Shut { until: *until, why: Why::Failing(*symptom) }
            }
            State::Open { trying: true, .. } => {
                Stand::Shut { until: now + ASK_AGAIN, why: Why::Trying }
            }
            State::Open { trying: false, .. } => Stand::Trial,
            State::Closed { ramp: Some(ramp) } => {
                let allowed = ramp.allowed(now);
                if allowed >= RAMP_FULL || ramp.under_way < allowed {
                    Stand::Clear
                } else {
                    Stand::Shut { until: now + ASK_AGAIN, why: Why::Recovering }
                }
            }
            State::Closed { ramp: None } => Stand::Clear,
        }
    }

    /// Takes what [`Breaker::stand`] offered. True if it is the one attempt of a probation.
    pub fn enter(&mut self, now: Instant) -> (Hold, bool) {
        let mut hold = Hold { epoch: self.epoch, place: false };
        let mut trial = false;
        match &mut self.state {
            State::Open { until, trying, .. } if now >= *until && !*trying => {
                *trying = true;
                (hold.place, trial) = (true, true);
            }
            State::Open { .. } => {}
            State::Closed { ramp } => {
                if ramp.is_some_and(|ramp| ramp.allowed(now) >= RAMP_FULL) {
                    *ramp = None;
                }
                if let Some(ramp) = ramp {
                    ramp.under_way += 1;
                    hold.place = true;
                }
            }
        }
        (hold, trial)
    }

    /// For an attempt that was let through by nobody: it counts, but decides no probation.
    pub fn unheld(&self) -> Hold {
        Hold { epoch: self.epoch, place: false }
    }

    /// Frees the place; says nothing about the vendor.
    pub fn leave(&mut self, hold: Hold) {
        if hold.epoch != self.epoch || !hold.place {
            return;
        }
        match &mut self.state {
            State::Open { trying, .. } => *trying = false,
            State::Closed { ramp: Some(ramp) } => ramp.under_way -= ramp.under_way.min(1),
            State::Closed { ramp: None } => {}
        }
    }

    /// True if that closed it.
    pub fn succeeded(
        &mut self,
        hold: Hold,
        now: Instant,
        options: &HealthOptions,
        source: &mut Source,
    ) -> bool {
        if hold.epoch != self.epoch {
            return false;
        }
        self.leave(hold);
        match &mut self.state {
            State::Open { .. } => {
                self.close(now, source);
                true
            }
            State::Closed { ramp } => {
                if let Some(ramp) = ramp {
                    ramp.allowed = ramp.allowed.saturating_add(1);
                }
                self.streak = 0;
                self.window.slot(now, options.window).0 += 1;
                false
            }
        }
    }

    /// The end of the open time, if that opened it.
    pub fn failed(
        &mut self,
        hold: Hold,
        symptom: Symptom,
        now: Instant,
        options: &HealthOptions,
        source: &mut Source,
    ) -> Option<Instant> {
        if hold.epoch != self.epoch {
            return None;
        }
        match &mut self.state {
            State::Open { .. } if !hold.place => return None,
            State::Open { .. } => {}
            State::Closed { ramp } => {
                if let Some(ramp) = ramp {
                    ramp.under_way -= ramp.under_way.min(u32::from(hold.place));
                    ramp.allowed = (ramp.allowed / 2).max(1);
                }
                self.streak += 1;
                self.window.slot(now, options.window).1 += 1;
                let (good, bad) = self.window.sum(now, options.window);
                let all = good + bad;
                let half = all >= options.ratio_of && bad * 100 >= all * options.ratio_percent;
                if self.streak < options.failures && !half {
                    return None;
                }
            }
        }
        Some(self.open(symptom, now, options, source))
    }

    /// Opens whatever it counted; returns until when.
    pub fn open(
        &mut self,
        symptom: Symptom,
        now: Instant,
        options: &HealthOptions,
        source: &mut Source,
    ) -> Instant {
        let whole = if stays_dead(symptom.kind) {
            options.dead
        } else {
            let settled = (self.lasted * 2).max(SETTLED);
            let again = match self.state {
                State::Open { symptom, .. } => !stays_dead(symptom.kind),
                State::Closed { .. } => self
                    .closed_at
                    .is_some_and(|closed| now.saturating_duration_since(closed) < settled),
            };
            self.repeats = if again { (self.repeats + 1).min(31) } else { 0 };
            doubled(options.open, self.repeats, options.open_most)
        };
        self.lasted = source.jittered(whole);
        let until = now + self.lasted;
        self.state = State::Open { until, symptom, trying: false };
        self.epoch = source.serial();
        until
    }

    pub fn close(&mut self, now: Instant, source: &mut Source) {
        self.state = State::Closed { ramp: None };
        (self.streak, self.window, self.closed_at) = (0, Window::default(), Some(now));
        self.slow_start(now, source);
    }

    /// Closed, it begins with one at a time from `since`; open, it stays so.
    pub fn slow_start(&mut self, since: Instant, source: &mut Source) {
        if let State::Closed { ramp } = &mut self.state {
            *ramp = Some(Ramp { since, allowed: 1, under_way: 0 });
            self.epoch = source.serial();
        }
    }

    /// A cool-down grew: its ramp begins later.
    pub fn slow_start_later(&mut self, since: Instant) {
        if let State::Closed { ramp: Some(ramp) } = &mut self.state {
            ramp.since = ramp.since.max(since);
        }
    }

    /// Shut, it comes to probation now.
    pub fn try_now(&mut self, now: Instant, source: &mut Source) {
        if let State::Open { until, .. } = &mut self.state
            && now < *until
        {
            *until = now;
            self.epoch = source.serial();
        }
    }

    /// Whether an attempt began in the state that holds now.
    pub fn is_current(&self, hold: Hold) -> bool {
        hold.epoch == self.epoch
    }

    /// Open, whether its time is over or not.
    pub fn opened(&self) -> Option<(Symptom, Instant)> {
        match self.state {
            State::Open { until, symptom, .. } => Some((symptom, until)),
            State::Closed { .. } => None,
        }
    }

    /// Takes a state up again that was kept elsewhere.
    pub fn reopen(&mut self, symptom: Symptom, until: Instant, repeats: u32, source: &mut Source) {
        self.state = State::Open { until, symptom, trying: false };
        self.repeats = repeats.min(31);
        self.epoch = source.serial();
    }

    /// True while someone holds the place of a probation.
    pub fn trying(&self) -> bool {
        matches!(self.state, State::Open { trying: true, .. })
    }

    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Good and bad within the window.
    pub fn counts(&self, now: Instant, window: Duration) -> (u32, u32) {
        self.window.clone().sum(now, window)
    }
}

/// True where only people change anything: credentials, credit, the list of models.
pub(super) fn stays_dead(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Authentication
            | FailureKind::Permission
            | FailureKind::QuotaExhausted
            | FailureKind::ModelNotFound
    )
}

/// Good and bad, by the slot of time they fell in.
#[derive(Clone, Debug, Default)]
struct Window {
    began: Option<Instant>,
    /// Of the window that the slots were cut for.
    whole: Duration,
    newest: u64,
    slots: [(u32, u32); SLOTS],
}

impl Window {
    fn slot(&mut self, now: Instant, window: Duration) -> &mut (u32, u32) {
        if self.whole != window {
            self.cut_anew(now, window);
        }
        let began = *self.began.get_or_insert(now);
        let width = (window.as_nanos() / SLOTS as u128).max(1);
        let passed = now.saturating_duration_since(began).as_nanos() / width;
        let slot = u64::try_from(passed).unwrap_or(u64::MAX).max(self.newest);
        let behind = slot - self.newest;
        for gone in 0..behind.min(SLOTS as u64) {
            self.slots[((slot - gone) % SLOTS as u64) as usize] = (0, 0);
        }
        self.newest = slot;
        &mut self.slots[(slot % SLOTS as u64) as usize]
    }

    fn sum(&mut self, now: Instant, window: Duration) -> (u32, u32) {
        self.slot(now, window);
        self.total()
    }

    fn total(&self) -> (u32, u32) {
        let add = |sum: (u32, u32), slot: &(u32, u32)| (sum.0 + slot.0, sum.1 + slot.1);
        self.slots.iter().fold((0, 0), add)
    }

    /// For another window: what was in the old one counts as of now, since slots of one length can't be
    /// told apart by another.
    fn cut_anew(&mut self, now: Instant, window: Duration) {
        if self.began.is_some() {
            let old = self.whole;
            let total = self.sum(now, old);
            *self = Self { began: Some(now), ..Self::default() };
            self.slots[0] = total;
        }
        self.whole = window;
    }
}
