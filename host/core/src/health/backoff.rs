//! How long to wait before trying again: exponential, with full jitter, never beyond a cap.
//!
//! Full jitter (anything between nothing and the ceiling) spreads callers that failed together
//! best. What a vendor asks for is waited out first, and only then the jitter, so that those who
//! were told the same second don't return in the same millisecond.
//!
//! Pure: the caller brings the randomness, so a simulation replays exactly.

use std::time::Duration;

/// Between attempts of one request. A request lives for seconds, so its waits are short; longer
/// ones are a cool-down's or a breaker's, and the request goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait. 100 ms is about one round trip to a vendor: less asks again
    /// before anything there can have changed.
    pub base: Duration,
    /// No ceiling is above it. 2 s leaves room for two waits in the 5 s in which a request must
    /// have found a provider.
    pub cap: Duration,
    /// A vendor's `retry-after` is honoured up to this.
    pub retry_after_cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(2),
            retry_after_cap: super::RETRY_AFTER_CAP,
        }
    }
}

impl Backoff {
    /// The wait before retry number `attempt`, counted from 1. At most
    /// `retry_after_cap + cap`. A `retry_after` of zero is the same as none.
    pub fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: u64) -> Duration {
        let asked = retry_after.unwrap_or_default().min(self.retry_after_cap);
        asked.saturating_add(share(self.ceiling(attempt), random))
    }

    /// The most that jitter makes of retry number `attempt`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        doubled(self.base, attempt.saturating_sub(1), self.cap)
    }
}

/// `base` doubled so many times, at most `cap`.
pub(super) fn doubled(base: Duration, times: u32, cap: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(cap)
}

/// The part of `whole` that `random` is of 2^64: less than `whole`, unless that is zero.
pub(super) fn share(whole: Duration, random: u64) -> Duration {
    // Below 2^64 seconds in nanoseconds a Duration has at most 94 bits: the top is cut to 64 first.
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

/// The randomness and the serial numbers of one [`Health`](super::Health): a seed makes every
/// choice repeatable. Not fit for secrets.
#[derive(Debug)]
pub(super) struct Source {
    random: u64,
    serial: u64,
}

impl Source {
    pub fn new(seed: u64) -> Self {
        Self { random: seed, serial: 0 }
    }

    /// The next of SplitMix64.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Never the same twice, never zero.
    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Between four fifths of `whole` and all of it: enough that those who began together don't
    /// end together, and no longer than what was asked for.
    pub fn jittered(&mut self, whole: Duration) -> Duration {
        whole - share(whole / 5, self.random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let ceilings: Vec<_> = (1..=6).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.cap);
    }

    #[test]
    fn jitter_is_full_and_even() {
        let backoff = Backoff::default();
        let mut source = Source::new(7);
        let waits: Vec<_> = (0..4_000).map(|_| backoff.delay(3, None, source.random())).collect();
        let below = |ms| waits.iter().filter(|w| w.as_millis() < ms).count();
        assert_eq!(below(400), 4_000);
        for quarter in 1..4 {
            let share = below(u128::from(quarter * 100_u32)) as u32;
            assert!(share.abs_diff(quarter * 1_000) < 150, "{quarter}: {share}");
        }
    }

    proptest! {
        #[test]
        fn what_the_vendor_asks_is_waited_out_up_to_the_cap(
            attempt in any::<u32>(), asked in any::<u64>(), random in any::<u64>(),
        ) {
            let backoff = Backoff::default();
            let asked = Duration::from_secs(asked);
            let wait = backoff.delay(attempt, Some(asked), random);
            prop_assert!(wait >= asked.min(backoff.retry_after_cap));
            prop_assert!(wait <= backoff.retry_after_cap + backoff.cap);
        }

        #[test]
        fn without_a_word_of_the_vendor_no_wait_is_beyond_the_cap(
            attempt in any::<u32>(), random in any::<u64>(),
        ) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(attempt, None, random) <= backoff.cap);
            let (zero, none) = (Some(Duration::ZERO), None);
            prop_assert_eq!(
                backoff.delay(attempt, zero, random), backoff.delay(attempt, none, random)
            );
        }

        #[test]
        fn a_jittered_time_is_four_fifths_to_all_of_it(seed in any::<u64>(), ms in 0_u64..1 << 40) {
            let whole = Duration::from_millis(ms);
            let jittered = Source::new(seed).jittered(whole);
            prop_assert!(jittered <= whole && jittered >= whole / 5 * 4);
        }
    }
}
