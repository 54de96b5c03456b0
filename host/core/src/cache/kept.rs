//! The answers themselves: found by key, freed by age and by how long nobody asked for them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::key::Key;
use crate::{attempt::gathered, contract::Event};

/// What an answer costs besides its events: its places in the tables here.
const ENTRY: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Kept {
    answers: HashMap<Key, Answer>,
    /// By when they were last asked for, counted up.
    used: BTreeMap<u64, Key>,
    /// By when they become too old.
    aging: BTreeSet<(Instant, Key)>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Answer {
    events: Arc<[Event]>,
    bytes: u64,
    until: Instant,
    /// Its place in `used`.
    used: u64,
}

/// What was taken out, to be dropped where nobody waits.
pub(super) type Freed = Vec<Arc<[Event]>>;

impl Kept {
    pub fn find(&mut self, key: &Key, now: Instant) -> Option<Arc<[Event]>> {
        let answer = self.answers.get_mut(key).filter(|answer| now < answer.until)?;
        self.used.remove(&answer.used);
        self.uses += 1;
        answer.used = self.uses;
        self.used.insert(answer.used, *key);
        Some(Arc::clone(&answer.events))
    }

    /// Keeps an answer, and makes room for it.
    pub fn put(
        &mut self,
        key: Key,
        events: Vec<Event>,
        now: Instant,
        ttl: Duration,
        total: u64,
    ) -> Freed {
        let bytes = gathered::bytes(&events) + ENTRY;
        // An answer that alone is too much would drive all others out first.
        let Some(until) = now.checked_add(ttl).filter(|_| bytes <= total) else {
            return Freed::new();
        };
        let mut freed = Freed::new();
        freed.extend(self.remove(&key));
        self.uses += 1;
        let answer = Answer { events: events.into(), bytes, until, used: self.uses };
        self.used.insert(answer.used, key);
        self.aging.insert((until, key));
        self.bytes += bytes;
        self.answers.insert(key, answer);
        freed.append(&mut self.tidy(total, now));
        freed
    }

    pub fn tidy(&mut self, total: u64, now: Instant) -> Freed {
        let mut freed = Freed::new();
        while let Some((until, key)) = self.aging.first().copied()
            && until <= now
        {
            freed.extend(self.remove(&key));
        }
        while self.bytes > total
            && let Some(key) = self.used.first_key_value().map(|(_, key)| *key)
        {
            freed.extend(self.remove(&key));
        }
        freed
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<[Event]>> {
        let answer = self.answers.remove(key)?;
        self.used.remove(&answer.used);
        self.aging.remove(&(answer.until, *key));
        self.bytes -= answer.bytes;
        Some(answer.events)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        debug_assert_eq!(self.answers.len(), self.used.len());
        debug_assert_eq!(self.answers.len(), self.aging.len());
        self.answers.len()
    }
}
