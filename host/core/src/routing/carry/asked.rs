//! An attempt as those see it who carry it out: what is expected of it, and whom it tells how it goes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// In the middle of an answer a model may be silent for so many times the patience that it has to begin.
pub(crate) const GAP: u32 = 3;

/// How soon a candidate begins, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Its own patience, where the operator gave it one.
    pub own: Option<Duration>,
    /// How long it lately took.
    pub known: Option<Duration>,
}

/// An attempt, as it is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// So many of the provider's keys failed in this round.
    pub keys: usize,
    /// Whether it refused to stream, and is to answer all at once.
    pub whole: bool,
    /// How long it may take to begin before another one is asked beside it. None where it is waited for in
    /// any case, because there is no other or nothing follows from its silence.
    pub patience: Option<Duration>,
    heard: Mutex<Heard>,
    shared: Arc<Shared>,
    /// See [`Asked::verdict`].
    silent: Arc<AtomicBool>,
}

/// What the attempts of a request have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Those that were sent.
    sent: Mutex<u32>,
    /// Something happened that changes what is waited for.
    pub news: Notify,
}

/// How an attempt goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Which of the request's attempts it is, from 1, once it counts.
    number: Option<u32>,
    /// Since when the vendor has it.
    pub since: Option<Instant>,
    /// When content came first, and last.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

impl Asked {
    pub(super) fn new(
        keys: usize,
        whole: bool,
        patience: Option<Duration>,
        shared: Arc<Shared>,
    ) -> Self {
        let (heard, silent) = (Mutex::default(), Arc::default());
        Self { keys, whole, patience, heard, shared, silent }
    }

    /// From here on it counts, whatever becomes of it: as which of the request's attempts, from 1.
    pub fn sends(&self) -> u32 {
        let mut heard = lock(&self.heard);
        *heard.number.get_or_insert_with(|| {
            let mut sent = lock(&self.shared.sent);
            *sent += 1;
            *sent
        })
    }

    /// The vendor has it from now on: until then nothing follows from its silence.
    pub fn opened(&self, now: Instant) {
        lock(&self.heard).since.get_or_insert(now);
        self.shared.news.notify_one();
    }

    /// Content came of which the caller sees nothing yet, because it wants all of it or the beginning is
    /// held back. From here on it is waited for, unless it falls silent again.
    pub fn hears(&self, now: Instant) {
        let late = self.is_late(now);
        let mut heard = lock(&self.heard);
        if heard.first.is_none() || late {
            self.shared.news.notify_one();
        }
        heard.first.get_or_insert(now);
        heard.last = Some(now);
    }

    /// It isn't sent after all: its number is free again, unless a later one was given.
    pub(super) fn unsent(&self) {
        let number = lock(&self.heard).number.take();
        let mut sent = lock(&self.shared.sent);
        if number == Some(*sent) {
            *sent -= 1;
        }
    }

    /// How long it may say nothing. One that has begun may pause, to look something up for instance.
    pub(super) fn silence(&self) -> Option<Duration> {
        let begun = self.heard().first.is_some();
        self.patience.map(|patience| if begun { patience * GAP } else { patience })
    }

    /// Whether it has said nothing for as long as it may.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let silent_for = self.heard().silent_for(now);
        silent_for.zip(self.silence()).is_some_and(|(silent, most)| silent >= most)
    }

    /// Whether it has failed by its silence, to be asked when it is dropped: then another one has begun.
    pub fn verdict(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.silent)
    }

    pub(super) fn fails_by_silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> Heard {
        *lock(&self.heard)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    pub fn is_sent(&self) -> bool {
        self.number.is_some()
    }

    /// How long it has said nothing.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.last.or(self.since)?))
    }

    /// How long it took to begin.
    pub fn took(&self, now: Instant) -> Duration {
        let begun = self.first.unwrap_or(now);
        begun.saturating_duration_since(self.since.unwrap_or(begun))
    }
}
