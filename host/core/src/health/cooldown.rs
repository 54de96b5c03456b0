//! Rate limits: who was told to wait waits, and everyone who draws on the same quota with it.
//!
//! A limit is no sign of illness, so it is kept apart from the breakers. A vendor's `retry-after`
//! is honoured up to a cap and never shortened; a little is added, so that several hosts that were
//! told the same don't return together. Where the vendor says nothing, or zero, the wait doubles
//! from one limit to the next. Answers that were on their way when a cool-down began can only make
//! it longer on the vendor's word: a hundred of them are one limit, not a hundred.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    HealthOptions,
    backoff::{Source, doubled, share},
};
use crate::ids::ProviderName;

/// So long after a cool-down has ended the next limit is a new story.
const FORGIVEN: Duration = Duration::from_secs(300);
/// More than there are keys; beyond it the cool-down that ends first is forgotten.
pub const MAX_QUOTAS: usize = 4_096;

/// What a vendor counts against: an account or a key, under any name that isn't the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Quota(pub Arc<str>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CoolDown {
    pub until: Option<Instant>,
    /// Limits since the last answer that was served.
    pub streak: u32,
}

impl CoolDown {
    /// The end, while it isn't reached.
    pub fn shut(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// A limit was told. True if it begins a cool-down; false if one was on already.
    pub fn limited(
        &mut self,
        retry_after: Option<Duration>,
        now: Instant,
        options: &HealthOptions,
        source: &mut Source,
    ) -> bool {
        let asked = retry_after.filter(|asked| !asked.is_zero());
        let asked = asked.map(|asked| asked.min(options.retry_after_cap));
        if let Some(until) = self.shut(now) {
            self.until = Some(asked.map_or(until, |asked| until.max(now + asked)));
            return false;
        }
        if self.until.is_some_and(|until| now.saturating_duration_since(until) >= FORGIVEN) {
            self.streak = 0;
        }
        let wait = match asked {
            Some(asked) => asked + share(asked / 10, source.random()),
            None => {
                let most = options.retry_after_cap;
                source.jittered(doubled(options.cool_down, self.streak, most))
            }
        };
        self.streak = self.streak.saturating_add(1);
        self.until = Some(now + wait);
        true
    }

    /// The vendor asks for time, but not because of a limit. True if that begins a cool-down.
    pub fn asked(
        &mut self,
        time: Duration,
        now: Instant,
        options: &HealthOptions,
        source: &mut Source,
    ) -> bool {
        let streak = self.streak;
        let begins = self.limited(Some(time), now, options, source);
        self.streak = streak;
        begins
    }

    pub fn served(&mut self, now: Instant) {
        if self.shut(now).is_none() {
            *self = Self::default();
        }
    }
}

/// The quotas that are cooling down.
#[derive(Debug, Default)]
pub(super) struct CoolDowns {
    quotas: HashMap<Quota, CoolDown>,
}

impl CoolDowns {
    pub fn get(&self, quota: &Quota) -> Option<&CoolDown> {
        self.quotas.get(quota)
    }

    pub fn entry(&mut self, quota: &Quota) -> &mut CoolDown {
        if self.quotas.len() >= MAX_QUOTAS && !self.quotas.contains_key(quota) {
            let first = self.quotas.iter().min_by_key(|(_, cool)| cool.until);
            if let Some(first) = first.map(|(quota, _)| quota.clone()) {
                self.quotas.remove(&first);
            }
        }
        self.quotas.entry(quota.clone()).or_default()
    }

    pub fn served(&mut self, quota: &Quota, now: Instant) {
        if let Some(cool) = self.quotas.get_mut(quota) {
            cool.served(now);
        }
    }

    /// What is known of a provider's keys, by whatever model.
    pub fn forget_keys_of(&mut self, provider: &ProviderName) {
        let of_it = |quota: &Quota| {
            quota.0.strip_prefix(provider.as_str()).is_some_and(|rest| rest.starts_with('@'))
        };
        self.quotas.retain(|quota, _| !of_it(quota));
    }

    pub fn forget(&mut self, quota: &Quota) {
        self.quotas.remove(quota);
    }

    pub fn sweep(&mut self, now: Instant) {
        self.quotas.retain(|_, cool| {
            cool.until.is_some_and(|until| now.saturating_duration_since(until) < FORGIVEN)
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Quota, &CoolDown)> {
        self.quotas.iter()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.quotas.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limited(cool: &mut CoolDown, retry_after: Option<Duration>, now: Instant) -> Duration {
        cool.limited(retry_after, now, &HealthOptions::default(), &mut Source::new(1));
        cool.shut(now).unwrap() - now
    }

    #[test]
    fn those_who_were_told_the_same_do_not_return_together() {
        let now = Instant::now();
        for asked in [Some(20 * SECOND), None] {
            let waits: std::collections::BTreeSet<Duration> = (0..50)
                .map(|seed| {
                    let mut cool = CoolDown::default();
                    cool.limited(asked, now, &HealthOptions::default(), &mut Source::new(seed));
                    cool.shut(now).unwrap() - now
                })
                .collect();
            assert!(waits.len() > 40, "{asked:?}: {waits:?}");
        }
    }

    #[test]
    fn what_the_vendor_asks_is_never_shortened_and_absurd_times_are_capped() {
        for (asked, least) in [(1, 1), (20, 20), (1_000_000_000, 60)] {
            let wait = limited(&mut CoolDown::default(), Some(asked * SECOND), Instant::now());
            assert!(
                wait >= least * SECOND && wait <= least * SECOND * 11 / 10,
                "{asked}: {wait:?}"
            );
        }
        let wait = limited(&mut CoolDown::default(), Some(Duration::MAX), Instant::now());
        assert!(wait <= 66 * SECOND);
    }

    #[test]
    fn without_a_time_or_with_zero_each_wait_is_about_twice_the_last() {
        for asked in [None, Some(Duration::ZERO)] {
            let (mut cool, mut now) = (CoolDown::default(), Instant::now());
            for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
                let wait = limited(&mut cool, asked, now);
                let most = expected * SECOND;
                assert!(wait <= most && wait >= most * 4 / 5, "{expected}: {wait:?}");
                now += wait;
            }
        }
    }

    #[test]
    fn a_hundred_answers_on_their_way_are_one_limit() {
        let (mut cool, now) = (CoolDown::default(), Instant::now());
        let first = limited(&mut cool, None, now);
        for _ in 0..100 {
            assert_eq!(limited(&mut cool, None, now), first);
        }
        assert_eq!(cool.streak, 1);
        assert_eq!(limited(&mut cool, Some(30 * SECOND), now), 30 * SECOND);
        assert_eq!(limited(&mut cool, Some(2 * SECOND), now), 30 * SECOND);
    }

    #[test]
    fn an_answer_served_ends_the_story_and_so_does_time() {
        let (mut cool, now) = (CoolDown::default(), Instant::now());
        let wait = limited(&mut cool, None, now);
        cool.served(now);
        assert!(cool.shut(now).is_some(), "an answer from before the limit says nothing");
        cool.served(now + wait);
        assert_eq!(cool, CoolDown::default());
        limited(&mut cool, None, now);
        limited(&mut cool, None, now + 2 * FORGIVEN);
        assert_eq!(cool.streak, 1);
    }

    #[test]
    fn quotas_are_bounded_and_forgotten() {
        let (mut quotas, now) = (CoolDowns::default(), Instant::now());
        for n in 0..MAX_QUOTAS + 10 {
            limited(quotas.entry(&Quota(n.to_string().into())), None, now);
        }
        assert_eq!(quotas.len(), MAX_QUOTAS);
        quotas.sweep(now + 2 * FORGIVEN);
        assert_eq!(quotas.len(), 0);
    }
}
