//! Answers to identical requests, kept where the operator says so.
//!
//! Off unless a provider has `cache:`. Then an answer that ended in order is kept for so long, and the
//! very same request of the same caller is answered with it: without a turn, without the vendor, at no
//! cost. What "the same" means is in [`key`]: every field that reaches the vendor, the caller, and
//! whether the request is sensitive. So nobody is ever told what was said to another caller, and no
//! sensitive request is answered with what an external provider said. A provider that is configured
//! anew, or whose adapter is replaced, is another one and begins with nothing.
//!
//! Kept are answers that came whole and stopped by themselves; never one that was cancelled, cut, refused
//! or failed, and nothing that only held then, such as rate limits and the vendor's id of the answer.
//!
//! Bounds: everything is in memory, none of it on a disk. [`Limits`] bound an answer and all of them; the
//! one that wasn't asked for longest goes first, and what is too old goes within a second. Answers that are
//! still coming may take as much again. Requests beyond [`key::MAX_KEYED`] aren't looked up. Two requests
//! that come at the same time both ask the vendor.
//!
//! Costs: nothing where it is off; else a hash of the request (about 1 ms a MiB) and a lookup under
//! a lock.

mod gather;
mod kept;
pub(crate) mod key;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use keyward_contract::ProviderKind;

use self::{gather::Gathered, kept::Kept};
use crate::{catalog::Provider, config, contract::Event, gateway::Call, operation::Operation};

/// What a caller says about kept answers to this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheControl {
    /// It may be answered with one.
    pub look: bool,
    /// Its answer may be kept.
    pub keep: bool,
}

impl Default for CacheControl {
    fn default() -> Self {
        Self { look: true, keep: true }
    }
}

/// What became of a request where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// It was answered with a kept answer.
    Hit,
    /// The vendor was asked.
    Miss,
}

impl CacheUse {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// Memory for all kept answers, unless configured: some ten thousand of them.
const DEFAULT_SIZE: u64 = 64 << 20;

/// The largest answer that is kept, unless configured: beyond the longest text that a model writes, or
/// a hundred vectors.
const DEFAULT_ANSWER: u64 = 1 << 20;

/// How much is kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub total: u64,
    pub answer: u64,
}

impl From<&config::CacheSizes> for Limits {
    fn from(sizes: &config::CacheSizes) -> Self {
        Self {
            total: sizes.size.map_or(DEFAULT_SIZE, config::ByteSize::bytes),
            answer: sizes.answer.map_or(DEFAULT_ANSWER, config::ByteSize::bytes),
        }
    }
}

/// The answers of a gateway. Cheap to clone; all clones are one cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    kept: Arc<Mutex<Kept>>,
    /// Bytes of answers that are still coming.
    coming: Arc<AtomicU64>,
}

/// What the cache says to a request.
pub(crate) enum Found {
    Hit(Vec<Event>),
    /// The vendor's answer may be kept.
    Miss(Keeping),
    /// Nothing is kept for this provider or this request.
    Off,
}

impl Cache {
    /// Looks for an answer of this provider. `sensitive` requests are only ever answered with what a
    /// local provider said to a sensitive one.
    pub fn look(
        &self,
        provider: &Provider,
        call: &Call,
        sensitive: bool,
        operation: &Operation,
        sizes: &config::CacheSizes,
    ) -> Found {
        let Some(ttl) = provider.cache.as_ref().map(|cache| cache.ttl) else { return Found::Off };
        let abroad = sensitive && provider.kind != ProviderKind::Local;
        if abroad || !(call.cache.look || call.cache.keep) {
            return Found::Off;
        }
        let asker = key::Asker { provider: provider.binding, caller: &call.caller.name, sensitive };
        let Some(key) = key::of(&asker, operation) else { return Found::Off };
        if call.cache.look
            && let Some(events) = self.find(&key, Instant::now())
        {
            return Found::Hit(events.to_vec());
        }
        if !call.cache.keep {
            return Found::Off;
        }
        Found::Miss(Keeping {
            cache: self.clone(),
            key,
            ttl,
            limits: sizes.into(),
            gathered: Some(Gathered::new(operation)),
            counted: 0,
        })
    }

    fn find(&self, key: &key::Key, now: Instant) -> Option<Arc<[Event]>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).find(key, now)
    }

    /// Frees what is too old, or too much since the limits were changed.
    pub fn tidy(&self, sizes: &config::CacheSizes, now: Instant) {
        let total = Limits::from(sizes).total;
        let freed = self.kept.lock().unwrap_or_else(PoisonError::into_inner).tidy(total, now);
        // Freed outside of the lock.
        drop(freed);
    }
}

/// Gathers an answer as it comes, to be kept when it has ended in order. Dropped before, nothing is
/// kept.
pub(crate) struct Keeping {
    cache: Cache,
    key: key::Key,
    ttl: Duration,
    limits: Limits,
    /// None once it has become too large.
    gathered: Option<Gathered>,
    /// Bytes counted as coming.
    counted: u64,
}

impl Keeping {
    pub fn see(&mut self, events: &[Event]) {
        let Some(gathered) = &mut self.gathered else { return };
        gathered.add(events);
        let more = gathered.bytes() - self.counted;
        self.counted += more;
        let coming = self.cache.coming.fetch_add(more, Ordering::Relaxed) + more;
        if self.counted > self.limits.answer || coming > self.limits.total {
            self.give_up();
        }
    }

    /// The answer has ended in order.
    pub fn keep(mut self, now: Instant) {
        let gathered = self.gathered.take();
        let Some(events) = gathered.and_then(Gathered::finish) else { return };
        let mut kept = self.cache.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let freed = kept.put(self.key, events, now, self.ttl, self.limits.total);
        drop(kept);
        drop(freed);
    }

    fn give_up(&mut self) {
        self.gathered = None;
        self.cache.coming.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = 0;
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.give_up();
    }
}
