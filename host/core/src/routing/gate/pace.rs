//! How fast the queue moves, for the time that refused callers are told.
//!
//! How long an open request stays open can't be known, but how often places became free lately
//! was seen: the moving average of the time between two turns while somebody waited.

use std::time::{Duration, Instant};

/// One in so many is the weight of the latest turn.
const WEIGHT: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// `None` until the first turn.
    between: Option<Duration>,
    /// The last turn, or when somebody began to wait. `None` while nobody waits.
    since: Option<Instant>,
}

impl Pace {
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub fn rest(&mut self) {
        self.since = None;
    }

    pub fn turn(&mut self, now: Instant) {
        let took = self.stalled(now);
        self.between = Some(match self.between {
            Some(between) => (between * (WEIGHT - 1) + took) / WEIGHT,
            None => took,
        });
        self.since = Some(now);
    }

    /// How long `turns` turns will take, if it goes on as it went.
    pub fn expect(&self, now: Instant, turns: u32) -> Duration {
        self.between.unwrap_or_default().max(self.stalled(now)).saturating_mul(turns)
    }

    fn stalled(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_queue_that_moves_once_a_second_is_expected_to_go_on_so() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        pace.begin(start);
        for turn in 1..=5 {
            pace.turn(start + SECOND * turn);
        }
        assert_eq!(pace.expect(start + SECOND * 5, 4), SECOND * 4);
    }

    #[test]
    fn a_queue_that_stands_still_is_expected_to_do_so_for_each() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        pace.begin(start);
        assert_eq!(pace.expect(start + SECOND * 7, 2), SECOND * 14);
        pace.rest();
        assert_eq!(pace.expect(start + SECOND * 9, 2), Duration::ZERO);
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        pace.begin(start);
        pace.turn(start + SECOND);
        pace.rest();
        pace.begin(start + SECOND * 100);
        pace.turn(start + SECOND * 101);
        assert_eq!(pace.expect(start + SECOND * 101, 1), SECOND);
    }
}
