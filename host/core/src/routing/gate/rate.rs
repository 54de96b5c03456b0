//! One limit per minute: a bucket that holds a minute's worth and refills continuously.
//!
//! The bucket is kept as one moment, the one at which it will be full again. What is taken moves it
//! into the future, what is given back moves it to the past, and refilling is time going by. So
//! nothing is added up in fractions, nothing drifts, and a changed limit keeps the part of the
//! minute that is left: half a bucket stays half a bucket, a debt of a minute stays one.
//!
//! In any window of `w` at most one bucket and the refill of `w` are taken, apart from requests
//! larger than the bucket: they pass when it is full and leave it in debt.

use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// The longest that refilling a debt may take, in minutes. An expected or reported number that is
/// absurd must not close a provider for a day.
const LONGEST_DEBT: u32 = 10;

#[derive(Clone, Debug)]
pub(super) struct Rate {
    per_minute: Option<u64>,
    /// `None`: full since ever. Kept while there is no limit, in case there is one again.
    full_at: Option<Instant>,
}

impl Rate {
    pub fn new(per_minute: Option<u64>) -> Self {
        Self { per_minute, full_at: None }
    }

    pub fn set(&mut self, per_minute: Option<u64>) {
        self.per_minute = per_minute;
    }

    /// Whether `amount` can pass at all under this limit.
    pub fn ever(&self, amount: u64) -> bool {
        self.per_minute != Some(0) || amount == 0
    }

    /// What `amount` counts as: a debt has a longest.
    pub fn clip(&self, amount: u64) -> u64 {
        self.per_minute.map_or(0, |limit| amount.min(limit.saturating_mul(LONGEST_DEBT.into())))
    }

    /// When `amount` can be taken if `ahead` is taken before it, as early as possible. `None`:
    /// never under this limit.
    pub fn ready_at(&self, now: Instant, ahead: u64, amount: u64) -> Option<Instant> {
        if !self.ever(amount) {
            return None;
        }
        let Some(limit) = self.per_minute else { return Some(now) };
        let refill = self.refill(now) + refill_of(ahead, limit);
        // More than a whole bucket waits for a full one and no longer.
        let room = MINUTE.saturating_sub(refill_of(self.clip(amount), limit));
        now.checked_add(refill.saturating_sub(room))
    }

    /// Takes `amount`, into debt if it must be. Returns the time that this needs to refill.
    pub fn take(&mut self, now: Instant, amount: u64) -> Duration {
        let charged = self.price(amount).unwrap_or_default();
        self.push(now, charged);
        charged
    }

    /// Makes of `charged`, which [`take`](Self::take) returned, what `amount` costs today.
    pub fn correct(&mut self, now: Instant, charged: Duration, amount: u64) -> Duration {
        let Some(price) = self.price(amount) else { return charged };
        if price < charged {
            self.give_back(charged - price);
        } else {
            self.push(now, price - charged);
        }
        price
    }

    /// What was taken before the last refill to the brim is not given back: that time is over.
    pub fn give_back(&mut self, charged: Duration) {
        self.full_at = self.full_at.and_then(|full_at| full_at.checked_sub(charged));
    }

    /// How many whole ones are left; below zero in debt. `None`: there is no limit.
    pub fn left(&self, now: Instant) -> Option<i64> {
        let limit = self.per_minute?;
        let refill = self.refill(now).as_nanos();
        let used = (u128::from(limit) * refill).div_ceil(MINUTE.as_nanos());
        Some(i64::try_from(i128::from(limit).saturating_sub_unsigned(used)).unwrap_or(i64::MAX))
    }

    /// The time until it is full.
    fn refill(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now))
    }

    fn push(&mut self, now: Instant, charged: Duration) {
        if charged.is_zero() {
            return;
        }
        // The debts of several that took more than expected have the same longest together.
        let refill = (self.refill(now) + charged).min(MINUTE * LONGEST_DEBT);
        self.full_at = now.checked_add(refill);
    }

    fn price(&self, amount: u64) -> Option<Duration> {
        self.per_minute.filter(|limit| *limit > 0).map(|limit| refill_of(self.clip(amount), limit))
    }
}

/// Rounded down to a nanosecond, so that exactly `limit` single ones make a minute.
fn refill_of(amount: u64, limit: u64) -> Duration {
    let nanoseconds = u128::from(amount) * MINUTE.as_nanos() / u128::from(limit.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
