//! What the referee writes down.

use std::time::Duration;

use super::super::schedule::Act;
use crate::{FailureKind, ids::ModelName};

/// What happened, when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Came {
        request: usize,
        candidates: usize,
    },
    Sent {
        request: usize,
        number: u32,
        provider: usize,
        model: ModelName,
        key: usize,
    },
    /// It isn't asked for now, because something is known against it.
    Refused {
        request: usize,
        provider: usize,
        model: ModelName,
    },
    Began {
        request: usize,
    },
    Failed {
        request: usize,
        kind: FailureKind,
    },
    BrokeOff {
        request: usize,
        kind: FailureKind,
    },
    /// The first content is its caller's, or why there is none.
    Carried {
        request: usize,
        attempts: u32,
        failure: Option<FailureKind>,
    },
    /// What is left of a broken answer is asked for.
    GoesOn {
        request: usize,
        candidates: usize,
    },
    /// It has its last word.
    Over {
        request: usize,
        failure: Option<FailureKind>,
    },
    Cancelled {
        request: usize,
    },
    Probed {
        provider: usize,
        key: usize,
        failure: Option<FailureKind>,
    },
    Steered {
        provider: usize,
        act: Act,
    },
    Health {
        provider: usize,
        model: Option<ModelName>,
        change: String,
    },
}

/// What is counted over all schedules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub requests: usize,
    pub answered: usize,
    pub failed: usize,
    /// Of those that failed: nobody was asked.
    pub unasked: usize,
    pub cancelled: usize,
    pub sends: usize,
    pub openings: usize,
    pub trials: usize,
    /// Sent with another key after one failed.
    pub other_keys: usize,
    /// Answers that broke and were gone on with.
    pub gone_on: usize,
    pub cool_downs: usize,
    /// Sent to a sick model in the first second after it was let through again.
    pub most_at_once: u32,
    pub longest_recovery: Duration,
}

impl Score {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.failed += other.failed;
        self.unasked += other.unasked;
        self.cancelled += other.cancelled;
        self.sends += other.sends;
        self.openings += other.openings;
        self.trials += other.trials;
        self.other_keys += other.other_keys;
        self.gone_on += other.gone_on;
        self.cool_downs += other.cool_downs;
        self.most_at_once = self.most_at_once.max(other.most_at_once);
        self.longest_recovery = self.longest_recovery.max(other.longest_recovery);
    }
}
