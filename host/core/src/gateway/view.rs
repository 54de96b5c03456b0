//! What routing sees of this moment: who is fit, how fast, and who has no key.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use keyward_contract::price::Day;

use super::today;
use crate::{
    catalog::{Provider, ProviderState, Snapshot},
    health::{self, Health},
    ids::{ModelName, ProviderName},
    routing::{Fares, Outlook, Standing, keyring::Keyed},
};

pub(super) struct View<'a> {
    snapshot: &'a Snapshot,
    health: &'a Health,
    now: Instant,
    today: Day,
    /// The last provider whose key was looked for: its models follow one another.
    key: RefCell<Option<(ProviderName, Option<String>)>>,
}

impl<'a> View<'a> {
    pub fn new(snapshot: &'a Snapshot, health: &'a Health) -> Self {
        Self { snapshot, health, now: Instant::now(), today: today(), key: RefCell::default() }
    }

    /// The provider, if it rests with its keys or its account.
    fn kept_apart(&self, provider: &ProviderName) -> Option<&Provider> {
        let ready = self.snapshot.providers.get(provider).and_then(ProviderState::ready)?;
        Some(&**ready).filter(|provider| provider.keyring().is_kept_apart())
    }

    /// As routing is told.
    fn seen(
        &self,
        standing: &health::Standing,
        apart: Option<&Provider>,
        model: &ModelName,
    ) -> Standing {
        let rests = || {
            let provider = apart?;
            let has = |key| provider.has_key(key);
            provider.keyring().has_one(self.health, model, has, self.now).err()
        };
        Standing::of(standing, rests, self.now)
    }
}

impl Outlook for View<'_> {
    fn standing(&self, provider: &ProviderName, model: &ModelName) -> Standing {
        let standing = self.health.standing(provider, model, self.now);
        self.seen(&standing, self.kept_apart(provider), model)
    }

    fn latency(&self, provider: &ProviderName, model: &ModelName) -> Option<Duration> {
        self.health.latency(provider, model, self.now)
    }

    fn fares(&self, provider: &ProviderName, models: &[&ModelName]) -> Vec<Fares> {
        let apart = self.kept_apart(provider);
        let fares = self.health.fares(provider, models, self.now).into_iter().zip(models);
        let seen = |((standing, latency), model): (_, &&ModelName)| Fares {
            standing: self.seen(&standing, apart, model),
            latency,
        };
        fares.map(seen).collect()
    }

    fn open(&self, provider: &ProviderName) -> u32 {
        let ready = self.snapshot.providers.get(provider).and_then(ProviderState::ready);
        ready.map_or(0, |provider| provider.gate().open())
    }

    fn missing_key(&self, provider: &ProviderName) -> Option<String> {
        let mut last = self.key.borrow_mut();
        if let Some((name, missing)) = &*last
            && name == provider
        {
            return missing.clone();
        }
        let ready = self.snapshot.providers.get(provider).and_then(ProviderState::ready);
        let missing = ready.and_then(|provider| provider.missing_key());
        *last = Some((provider.clone(), missing.clone()));
        missing
    }

    fn today(&self) -> Day {
        self.today
    }

    fn random(&self) -> u64 {
        super::random()
    }
}
