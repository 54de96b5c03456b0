//! What can only be told at the end.

use std::{collections::HashMap, time::Duration};

use super::{Act, Mood, Referee, SECOND, Send, What};
use crate::ids::ModelName;

/// A storm of 429 is answered by no more than so many sends per request that could have gone there,
/// in percent, and [`STORM_TRIES`] besides: each cool-down that ends is tried once.
const STORM_PERCENT: usize = 120;
const STORM_TRIES: usize = 8;

impl Referee {
    /// What can only be told of the whole.
    pub fn whole(&mut self) {
        let lost: Vec<usize> = (0..self.requests.len())
            .filter(|&at| self.requests[at].ended.is_none() && !self.requests[at].cancelled)
            .collect();
        self.rule(lost.is_empty(), || format!("requests {lost:?} were lost"));
        for provider in 0..self.providers.len() {
            self.rate(provider);
            self.storms(provider);
        }
        let open: Vec<u32> = self.providers.iter().map(|watched| watched.open).collect();
        self.rule(open.iter().all(|&open| open == 0), || format!("attempts are left: {open:?}"));
    }

    /// In no stretch of time more begin than a minute's worth and what comes in within it.
    fn rate(&mut self, provider: usize) {
        let watched = &self.providers[provider];
        let (first, until) = watched.first;
        let Some(limit) = first.requests_per_minute else { return };
        let own =
            self.sends.iter().filter(|send| send.attempt.provider == provider && send.at < until);
        let mut spare = f64::from(limit);
        let (mut last, mut worst) = (Duration::ZERO, f64::MAX);
        for send in own {
            let refill = (send.at - last).as_secs_f64() * f64::from(limit) / 60.0;
            spare = (spare + refill).min(f64::from(limit)) - 1.0;
            (last, worst) = (send.at, worst.min(spare));
        }
        self.rule(worst > -1e-3, || format!("p{provider} gets more than {limit} a minute"));
    }

    /// Under a storm of 429 there are hardly more sends than requests.
    fn storms(&mut self, provider: usize) {
        let watched = &self.providers[provider];
        let keys = self.keys.count(provider);
        let mut began = Duration::ZERO;
        let mut worst = None;
        for phase in &watched.phases {
            let storm = began..phase.until;
            began = phase.until;
            if !matches!(phase.mood, Mood::Limited(_)) {
                continue;
            }
            let mut models: HashMap<&ModelName, (usize, usize)> = HashMap::new();
            for account in &self.requests {
                let Some(came) = account.came else { continue };
                if came >= storm.end || account.ended.is_some_and(|at| at < storm.start) {
                    continue;
                }
                for (_, model) in account.candidates.iter().filter(|(at, _)| *at == provider) {
                    models.entry(model).or_default().0 += 1;
                }
            }
            for send in &self.sends {
                if send.attempt.provider == provider && storm.contains(&send.at) {
                    models.entry(&send.attempt.model).or_default().1 += 1;
                }
            }
            // A request that came before anything was known may try each key.
            let most = |offered: usize| (offered * STORM_PERCENT / 100 + STORM_TRIES) * keys;
            let over = models.values().find(|(offered, sent)| *sent > most(*offered));
            worst = worst.or(over.copied());
        }
        let forced = self.trace.iter().any(|event| {
            matches!(&event.what, What::Steered { provider: at, act: Act::Force | Act::Rekey } if *at == provider)
        });
        self.rule(worst.is_none() || forced || !self.watched, || {
            format!("a storm at p{provider} is fed (offered, sent): {worst:?}")
        });
    }

    /// To the first provider, within a second after its first phase, of those who waited for that.
    pub fn sent_after_the_fault(&self) -> usize {
        let back = self.providers[0].phases[0].until;
        let waited =
            |send: &Send| self.requests[send.attempt.request].came.is_some_and(|came| came < back);
        let first = |send: &&Send| (back..back + SECOND).contains(&send.at) && waited(send);
        self.sends.iter().filter(first).count()
    }

    /// Requests that came, and all that was sent for them, while anything went wrong.
    pub fn offered_and_sent(&self) -> (usize, usize) {
        let end = self.providers[0].phases[0].until;
        let came = self.requests.iter().filter(|account| account.came.is_some_and(|at| at < end));
        (came.count(), self.sends.iter().filter(|send| send.at < end).count())
    }
}
