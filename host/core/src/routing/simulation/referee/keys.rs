//! What the referee knows of keys and accounts: which of them rest and until when, as far as that can be
//! told from what came back.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::super::{
    schedule::Plan,
    vendor::{KeyMood, Phase, phase},
};
use crate::{FailureKind, health::RETRY_AFTER_CAP, ids::ModelName};

/// For so long a key that was rejected is left alone.
const DEAD: Duration = Duration::from_secs(300);

/// Where a vendor names no time it is left alone for no less, the first time.
const LEAST: Duration = Duration::from_millis(800);

/// What an attempt is made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub request: usize,
    pub provider: usize,
    pub model: ModelName,
    pub key: usize,
}

pub struct Keys {
    /// By their providers.
    rings: Vec<Ring>,
    accounts: Vec<Vec<Phase<KeyMood>>>,
    /// With all models, by provider and key: rejected, and without credit.
    rejected: HashMap<(usize, usize), Span>,
    empty: HashMap<(usize, usize), Span>,
    limited: HashMap<(Holder, ModelName), Span>,
    /// Those that were rejected, as long as that round of its request lasts.
    spent: BTreeSet<Attempt>,
    /// What is to serve again.
    idle: BTreeSet<(usize, ModelName, usize)>,
    /// Not, if health is switched off.
    watched: bool,
}

struct Ring {
    keys: Vec<Vec<Phase<KeyMood>>>,
    models: Vec<ModelName>,
    account: Option<usize>,
    /// When an operator changed the keys last.
    changed: Option<Duration>,
}

impl Ring {
    fn has_several(&self) -> bool {
        self.keys.len() > 1
    }
}

/// What a limit is counted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Key(usize, usize),
    Account(usize),
}

/// It rests until `least`, and may rest until `most`.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    least: Duration,
    most: Duration,
}

impl Keys {
    pub fn new(plans: &[Plan], accounts: Vec<Vec<Phase<KeyMood>>>, watched: bool) -> Self {
        let rings = plans.iter().map(|plan| Ring {
            keys: plan.keys.clone(),
            models: plan.models.clone(),
            account: plan.account,
            changed: None,
        });
        Self {
            rings: rings.collect(),
            accounts,
            rejected: HashMap::new(),
            empty: HashMap::new(),
            limited: HashMap::new(),
            spent: BTreeSet::new(),
            idle: BTreeSet::new(),
            watched,
        }
    }

    pub fn count(&self, provider: usize) -> usize {
        self.rings[provider].keys.len()
    }

    /// Whether something else is limited than a model of the provider.
    pub fn are_kept_apart(&self, provider: usize) -> bool {
        self.rings[provider].has_several() || self.rings[provider].account.is_some()
    }

    fn holder(&self, provider: usize, key: usize) -> Option<Holder> {
        let ring = &self.rings[provider];
        let own = ring.has_several().then_some(Holder::Key(provider, key));
        ring.account.map(Holder::Account).or(own)
    }

    /// How the vendor treats a key and the account it belongs to.
    pub fn moods(&self, provider: usize, key: usize, at: Duration) -> [KeyMood; 2] {
        let ring = &self.rings[provider];
        let of_key = phase(&ring.keys[key], at).filter(|(since, _)| {
            // A new key is well until its vendor finds fault with that one.
            ring.changed.is_none_or(|changed| changed < *since)
        });
        let of_account = ring.account.and_then(|account| phase(&self.accounts[account], at));
        [of_key, of_account].map(|mood| mood.map_or(KeyMood::Fine, |(_, mood)| mood.clone()))
    }

    fn spans(&self, provider: usize, key: usize, model: &ModelName) -> impl Iterator<Item = Span> {
        let limited =
            self.holder(provider, key).and_then(|it| self.limited.get(&(it, model.clone())));
        let own = [self.rejected.get(&(provider, key)), self.empty.get(&(provider, key)), limited];
        own.into_iter().flatten().copied()
    }

    /// Whether every key may be resting.
    pub fn may_rest(&self, provider: usize, model: &ModelName, at: Duration) -> bool {
        let rests = |key| self.spans(provider, key, model).any(|span| at < span.most);
        (0..self.count(provider)).all(rests)
    }

    /// What is wrong with the key of an attempt. `before`: so many keys failed in this round.
    pub fn sent(&mut self, attempt: &Attempt, before: usize, at: Duration) -> Option<&'static str> {
        let Attempt { request, provider, ref model, key } = *attempt;
        if before == 0 {
            let same = |it: &Attempt| {
                it.request == request && it.provider == provider && it.model == *model
            };
            self.spent.retain(|it| !same(it));
        }
        let rests = self.spans(provider, key, model).any(|span| at < span.least);
        let again = self.spent.contains(attempt) && self.watched;
        if again {
            Some("a key that was rejected in this round")
        } else if rests {
            Some("a key that rests")
        } else {
            None
        }
    }

    pub fn served(&mut self, attempt: &Attempt) {
        let Attempt { provider, ref model, key, .. } = *attempt;
        self.idle.remove(&(provider, model.clone(), key));
    }

    /// `sent`: when it was.
    pub fn failed(
        &mut self,
        attempt: &Attempt,
        kind: FailureKind,
        asked: Option<Duration>,
        sent: Duration,
        at: Duration,
    ) {
        let Attempt { provider, ref model, key, .. } = *attempt;
        let Some(holder) = self.holder(provider, key).filter(|_| self.watched) else { return };
        let ring = &self.rings[provider];
        // What is said of the key before says nothing of this one.
        let of_this = ring.changed.is_none_or(|changed| changed <= sent);
        let dead = ring.has_several() && of_this;
        let span = Span { least: at + DEAD, most: at + DEAD };
        match kind {
            FailureKind::Authentication if dead => {
                self.rejected.insert((provider, key), span);
            }
            FailureKind::QuotaExhausted if dead => {
                self.empty.insert((provider, key), span);
            }
            FailureKind::RateLimited => {
                let span = self.limited.entry((holder, model.clone())).or_default();
                span.limited(asked.filter(|asked| !asked.is_zero()), at);
            }
            _ => return,
        }
        // A limit may be over when it has its turn.
        if dead && kind != FailureKind::RateLimited {
            self.spent.insert(attempt.clone());
        }
    }

    /// `began`: when the probe did.
    pub fn probed(
        &mut self,
        provider: usize,
        key: usize,
        failure: Option<FailureKind>,
        began: Duration,
        at: Duration,
    ) {
        let ring = &self.rings[provider];
        if !self.watched || !ring.has_several() {
            return;
        }
        match failure {
            None => {
                self.rejected.remove(&(provider, key));
                self.spent.retain(|it| it.provider != provider || it.key != key);
            }
            Some(FailureKind::Authentication)
                if ring.changed.is_none_or(|changed| changed <= began) =>
            {
                self.rejected.insert((provider, key), Span { least: at + DEAD, most: at + DEAD });
            }
            Some(_) => {}
        }
    }

    /// An operator changed the keys of a provider.
    pub fn changed(&mut self, provider: usize, at: Duration) {
        self.rings[provider].changed = Some(at);
        self.rejected.retain(|(of, _), _| *of != provider);
        self.empty.retain(|(of, _), _| *of != provider);
        self.limited.retain(|(of, _), _| !matches!(of, Holder::Key(of, _) if *of == provider));
        self.spent.retain(|it| it.provider != provider);
    }

    /// All that went wrong is over: from here on every key is to serve again what it failed.
    pub fn recover(&mut self) {
        for (provider, ring) in self.rings.iter().enumerate() {
            for model in &ring.models {
                let failed = |key: &usize| self.spans(provider, *key, model).next().is_some();
                let keys = (0..ring.keys.len()).filter(failed);
                let idle: Vec<_> = keys.map(|key| (provider, model.clone(), key)).collect();
                self.idle.extend(idle);
            }
        }
    }

    /// Who doesn't serve what with all keys again.
    pub fn idle(&self) -> BTreeSet<(usize, ModelName)> {
        self.idle.iter().map(|(provider, model, _)| (*provider, model.clone())).collect()
    }
}

impl Span {
    fn limited(&mut self, asked: Option<Duration>, at: Duration) {
        let asked = asked.map(|asked| asked.min(RETRY_AFTER_CAP));
        let (least, most) = match asked {
            Some(asked) => (asked, asked + asked / 10),
            // It may be one of those who were told at the same time, which change nothing.
            None if at < self.most => (Duration::ZERO, RETRY_AFTER_CAP),
            None => (LEAST, RETRY_AFTER_CAP),
        };
        self.least = self.least.max(at + least);
        self.most = self.most.max(at + most);
    }
}
