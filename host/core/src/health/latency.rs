//! How long until the first content, as one number that follows what happens.
//!
//! What a stream takes to begin and what a whole answer takes are two things: a model that begins
//! within half a second may write for a minute. So there is a number of each ([`Latencies`]), and which
//! of the two a provider is known by is that of its streams, if it had any. What patience is measured by doesn't fade: a slow model that is
//! seldom asked is no faster for it.
//!
//! An exponentially weighted mean: a sample counts for at least [`WEIGHT`], and for the more the
//! longer ago the last one was, because an old mean says little. What isn't used is forgotten
//! gently: the number halves every [`HALF_LIFE`] without a sample, so that a provider that was slow
//! once and has been avoided since gets another chance.

use std::time::{Duration, Instant};

/// What one sample counts for at least: the mean stands for about the last ten answers, so one
/// outlier doesn't move the traffic.
pub const WEIGHT: f64 = 0.1;
/// After so long without a sample a new one counts for nearly two thirds.
pub const MEMORY: Duration = Duration::from_secs(30);
/// A provider ten times slower than its equal is tried again after about seven minutes.
pub const HALF_LIFE: Duration = Duration::from_secs(120);
/// A mean this old is no knowledge.
pub const FORGOTTEN: Duration = Duration::from_secs(1_800);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latency {
    /// Seconds.
    mean: f64,
    at: Instant,
}

impl Latency {
    pub fn first(sample: Duration, now: Instant) -> Self {
        Self { mean: sample.as_secs_f64(), at: now }
    }

    pub fn add(&mut self, sample: Duration, now: Instant) {
        let idle = now.saturating_duration_since(self.at);
        if idle >= FORGOTTEN {
            *self = Self::first(sample, now);
            return;
        }
        let old = (1.0 - WEIGHT) * (-idle.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.mean = self.mean * old + sample.as_secs_f64() * (1.0 - old);
        self.at = self.at.max(now);
    }

    /// The mean as it was when it was added to last.
    pub fn mean(&self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.at);
        (idle < FORGOTTEN).then(|| Duration::try_from_secs_f64(self.mean).ok()).flatten()
    }

    /// The mean, faded.
    pub fn at(&self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.at);
        let halvings = idle.as_secs_f64() / HALF_LIFE.as_secs_f64();
        (idle < FORGOTTEN)
            .then(|| Duration::try_from_secs_f64(self.mean * (-halvings).exp2()).ok())
            .flatten()
    }
}

/// What an answer took until its first content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// Nothing can come sooner: the first piece of a stream, or an embedding.
    First(Duration),
    /// The whole of what could have come in pieces.
    Whole(Duration),
}

/// Of one model of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latencies {
    pub first: Option<Latency>,
    pub whole: Option<Latency>,
}

impl Latencies {
    pub fn add(&mut self, took: Took, now: Instant) {
        let (mean, sample) = match took {
            Took::First(sample) => (&mut self.first, sample),
            Took::Whole(sample) => (&mut self.whole, sample),
        };
        match mean {
            Some(mean) => mean.add(sample, now),
            none => *none = Some(Latency::first(sample, now)),
        }
    }

    /// By which equals are told apart.
    pub fn at(&self, now: Instant) -> Option<Duration> {
        self.first.and_then(|first| first.at(now)).or_else(|| self.whole?.at(now))
    }

    pub fn is_known(&self) -> bool {
        self.first.is_some() || self.whole.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_follows_a_change_within_some_ten_answers_and_no_outlier() {
        let now = Instant::now();
        let mut latency = Latency::first(200 * MS, now);
        latency.add(2_000 * MS, now);
        assert_eq!(latency.at(now).map(|d| d.as_millis()), Some(380));
        let mut latency = Latency::first(200 * MS, now);
        for n in 1..=30 {
            latency.add(2_000 * MS, now + n * 10 * MS);
        }
        assert!(latency.at(now + 300 * MS).unwrap() > 1_900 * MS);
    }

    #[test]
    fn after_a_pause_one_answer_says_more_than_the_old_mean() {
        let now = Instant::now();
        let mut latency = Latency::first(200 * MS, now);
        latency.add(2_000 * MS, now + MEMORY);
        assert!(latency.at(now + MEMORY).unwrap() > 1_200 * MS);
    }

    #[test]
    fn whole_answers_say_nothing_of_how_soon_a_stream_begins() {
        let now = Instant::now();
        let mut latencies = Latencies::default();
        assert!(!latencies.is_known());
        latencies.add(Took::Whole(9_000 * MS), now);
        assert_eq!((latencies.at(now), latencies.first), (Some(9_000 * MS), None));
        latencies.add(Took::First(300 * MS), now);
        latencies.add(Took::Whole(20_000 * MS), now);
        let first = latencies.first.and_then(|first| first.at(now));
        assert_eq!((latencies.at(now), first), (Some(300 * MS), Some(300 * MS)));
    }

    #[test]
    fn what_is_not_used_fades_and_is_forgotten() {
        let now = Instant::now();
        let latency = Latency::first(800 * MS, now);
        assert_eq!(latency.at(now + HALF_LIFE).map(|d| d.as_millis()), Some(400));
        assert_eq!(latency.at(now + FORGOTTEN), None);
    }

    #[test]
    fn a_clock_that_goes_back_and_absurd_samples_do_no_harm() {
        let now = Instant::now() + FORGOTTEN;
        let mut latency = Latency::first(Duration::MAX, now);
        latency.add(Duration::MAX, now - MEMORY);
        let _ = latency.at(now - MEMORY);
        for _ in 0..1_000 {
            latency.add(MS, now);
        }
        assert!(latency.at(now).unwrap() < Duration::from_secs(1));
    }
}
