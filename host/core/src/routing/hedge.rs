//! How often a second candidate may be asked while the first is being asked.
//!
//! Hedging pays where a few requests are slow by chance. Where a vendor is slow with all of them it
//! would double what everyone sends, just when there is least room for it. So each request earns a
//! share of a hedge, and what was earned is kept up to [`MOST`].

use std::sync::atomic::{AtomicU32, Ordering};

/// What one hedge takes: requests earn hundredths.
const HEDGE: u32 = 100;

/// Hedges that can be saved up: a few slow requests at a time, and no crowd.
const MOST: u32 = 10;

/// What all requests of a gateway have earned.
#[derive(Debug)]
pub(crate) struct Allowance(AtomicU32);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicU32::new(MOST * HEDGE))
    }
}

impl Allowance {
    /// A request came, of which `percent` may be hedged.
    pub fn earn(&self, percent: u32) {
        let more = |kept: u32| Some(kept.saturating_add(percent).min(MOST * HEDGE));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one hedge; false if there is none.
    pub fn spend(&self) -> bool {
        let less = |kept: u32| kept.checked_sub(HEDGE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_slow_requests_only_the_share_is_hedged_however_many_there_are() {
        let allowance = Allowance::default();
        let hedged = |requests: u32| {
            (0..requests)
                .filter(|_| {
                    allowance.earn(5);
                    allowance.spend()
                })
                .count()
        };
        // The first one finds nothing missing, so that its share isn't kept.
        assert_eq!(hedged(10_000), 10_000 * 5 / 100 + MOST as usize - 1);
        assert_eq!(hedged(1_000), 50, "nothing is left of what was saved");
    }

    #[test]
    fn no_more_is_saved_than_there_is_room_for() {
        let allowance = Allowance::default();
        (0..1_000).for_each(|_| allowance.earn(100));
        assert_eq!((0..1_000).filter(|_| allowance.spend()).count(), MOST as usize);
    }
}
