//! Which of a provider's keys an attempt is made with.
//!
//! Several keys are used in turn. One that its vendor limits or rejects is left alone while the others
//! serve, so what is found out about a key is kept for the key and not for the provider: limits by
//! model, as vendors count them, and rejections for all models. Where an account is named, limits are the
//! account's: of all its keys, at all providers that name it.
//!
//! Costs: one key, nothing; several or an account, a look into health for each that is passed over.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    FailureKind,
    health::{Health, Quota},
    ids::{AccountName, KeyName, ModelName, ProviderName},
};

/// Which of a provider's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyAt(usize);

impl KeyAt {
    pub(crate) fn new(index: usize) -> Self {
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// The keys of a provider, by name. None of them where it has just one, which has no name.
#[derive(Debug)]
pub(crate) struct Keyring {
    provider: ProviderName,
    names: Vec<KeyName>,
    account: Option<AccountName>,
    /// Where the next search begins.
    next: AtomicUsize,
    next_probe: AtomicUsize,
}

/// Who has keys: a provider, as far as they are concerned.
pub(crate) trait Keyed: Sync {
    fn keyring(&self) -> &Keyring;

    /// Whether this key can be used, with everything that wants one.
    fn has_key(&self, key: KeyAt) -> bool;

    /// What to do if a required key is nowhere.
    fn missing_key(&self) -> Option<String>;
}

/// What health knows one of several keys by.
#[derive(Clone, Debug)]
pub(crate) struct KeyQuotas {
    /// None where there is one key alone: what is found out about it is the provider's.
    own: Option<OwnQuotas>,
    /// The key, or the account, with one model.
    limit: Quota,
}

#[derive(Clone, Debug)]
struct OwnQuotas {
    /// Whether it is accepted.
    accepted: Quota,
    /// Whether it has credit, which no free request tells.
    credit: Quota,
}

impl KeyQuotas {
    pub fn limit(&self) -> &Quota {
        &self.limit
    }

    /// What a failure is held against, if it may be one of the key alone.
    pub fn concerned(&self, kind: FailureKind) -> Option<&Quota> {
        match kind {
            FailureKind::RateLimited => Some(&self.limit),
            FailureKind::QuotaExhausted => self.own.as_ref().map(|own| &own.credit),
            FailureKind::Authentication => self.own.as_ref().map(|own| &own.accepted),
            _ => None,
        }
    }
}

/// Why no key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// None is set.
    Nowhere,
    /// All that are set rest; the first is back after `left`. It rests because it is `limited`, or else
    /// because it was rejected.
    Resting { left: Duration, limited: bool },
}

impl Keyring {
    pub fn new(provider: &ProviderName, names: Vec<KeyName>, account: Option<AccountName>) -> Self {
        Self {
            provider: provider.clone(),
            names,
            account,
            next: AtomicUsize::new(0),
            next_probe: AtomicUsize::new(0),
        }
    }

    fn has_several(&self) -> bool {
        self.names.len() > 1
    }

    /// Whether something else rests than the provider as a whole.
    pub fn is_kept_apart(&self) -> bool {
        self.has_several() || self.account.is_some()
    }

    /// All of them; one where it has just one.
    pub fn keys(&self) -> impl Iterator<Item = KeyAt> {
        (0..self.names.len().max(1)).map(KeyAt)
    }

    /// None where there is one key alone without an account.
    pub fn quotas(&self, key: KeyAt, model: &ModelName) -> Option<KeyQuotas> {
        let own = self.accepted(key);
        let limit = match (&self.account, &own) {
            (Some(account), _) => format!("@{account}/{model}"),
            (None, Some(accepted)) => format!("{}/{model}", accepted.0),
            (None, None) => return None,
        };
        let credit = |accepted: &Quota| Quota(format!("{}$", accepted.0).into());
        Some(KeyQuotas {
            own: own.map(|accepted| OwnQuotas { credit: credit(&accepted), accepted }),
            limit: Quota(limit.into()),
        })
    }

    /// What health knows by whether the key is accepted, where there are others.
    pub fn accepted(&self, key: KeyAt) -> Option<Quota> {
        let name = self.names.get(key.0).filter(|_| self.has_several())?;
        Some(Quota(format!("{}@{name}", self.provider).into()))
    }

    /// The key for a free probe, in turn: one that was rejected is tried again by these.
    pub fn to_probe(&self, present: impl Fn(KeyAt) -> bool) -> KeyAt {
        let first = self.next_probe.fetch_add(1, Ordering::Relaxed);
        let keys = (0..self.names.len()).map(|turn| KeyAt((first + turn) % self.names.len()));
        keys.into_iter().find(|key| present(*key)).unwrap_or_default()
    }

    /// The next key in turn that may be used.
    ///
    /// # Errors
    /// If there is none.
    pub fn choose(
        &self,
        health: &Health,
        model: &ModelName,
        present: impl Fn(KeyAt) -> bool,
        now: Instant,
    ) -> Result<KeyAt, NoKey> {
        let first = match self.is_kept_apart() {
            true => self.next.fetch_add(1, Ordering::Relaxed),
            false => return Ok(KeyAt::default()),
        };
        self.choose_from(first, health, model, present, now)
    }

    /// As [`Keyring::choose`], without taking a turn.
    ///
    /// # Errors
    /// As [`Keyring::choose`].
    pub fn has_one(
        &self,
        health: &Health,
        model: &ModelName,
        present: impl Fn(KeyAt) -> bool,
        now: Instant,
    ) -> Result<(), NoKey> {
        if !self.is_kept_apart() {
            return Ok(());
        }
        self.choose_from(0, health, model, present, now).map(drop)
    }

    fn choose_from(
        &self,
        first: usize,
        health: &Health,
        model: &ModelName,
        present: impl Fn(KeyAt) -> bool,
        now: Instant,
    ) -> Result<KeyAt, NoKey> {
        let mut soonest: Option<(Instant, bool)> = None;
        let keys = self.keys().count();
        for turn in 0..keys {
            let key = KeyAt(first.wrapping_add(turn) % keys);
            if !present(key) {
                continue;
            }
            let Some(quotas) = self.quotas(key, model) else { return Ok(key) };
            let own = quotas.own.iter().flat_map(|own| [&own.accepted, &own.credit]);
            let rejected = own.filter_map(|quota| health.cooled(quota, now));
            let limited = health.cooled(&quotas.limit, now).map(|end| (end, true));
            match rejected.map(|end| (end, false)).chain(limited).max() {
                None => return Ok(key),
                Some(end) => soonest = Some(soonest.map_or(end, |soonest| soonest.min(end))),
            }
        }
        Err(soonest.map_or(NoKey::Nowhere, |(end, limited)| NoKey::Resting {
            left: end.saturating_duration_since(now),
            limited,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Fault,
        health::{HealthOptions, Reach, Trouble},
        routing::tests::{model, provider},
    };

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        health: Health,
        ring: Keyring,
        now: Instant,
    }

    impl Scene {
        fn new(names: &[&str]) -> Self {
            let names = names.iter().map(|name| KeyName::new(name).unwrap()).collect();
            Self {
                health: Health::new(HealthOptions::default(), 1, |_| {}),
                ring: Keyring::new(&provider("p"), names, None),
                now: Instant::now(),
            }
        }

        fn fails(&self, key: usize, name: &str, kind: FailureKind, after: Option<Duration>) {
            let quotas = self.ring.quotas(KeyAt(key), &model(name)).unwrap();
            let reach = Reach::Key(quotas.concerned(kind).unwrap().clone());
            let trouble =
                Trouble { symptom: kind.into(), fault: Fault::Vendor, retry_after: after, reach };
            let ticket = self.health.admit(&provider("p"), &model(name), self.now).unwrap();
            ticket.failed(trouble, self.now);
        }

        /// The keys of so many attempts.
        fn chosen(&self, name: &str, attempts: usize) -> Vec<usize> {
            let choose = |_| {
                let chosen = self.ring.choose(&self.health, &model(name), |_| true, self.now);
                chosen.unwrap().index()
            };
            (0..attempts).map(choose).collect()
        }
    }

    #[test]
    fn keys_are_used_in_turn() {
        assert_eq!(Scene::new(&["a", "b", "c"]).chosen("m", 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(Scene::new(&[]).chosen("m", 3), [0, 0, 0]);
        assert_eq!(Scene::new(&["a"]).chosen("m", 3), [0, 0, 0]);
    }

    #[test]
    fn a_limit_keeps_a_key_from_its_model_alone_and_the_provider_from_nothing() {
        let scene = Scene::new(&["a", "b"]);
        scene.fails(0, "m", FailureKind::RateLimited, Some(10 * SECOND));
        assert_eq!(scene.chosen("m", 3), [1, 1, 1]);
        assert_eq!(scene.chosen("other", 2), [1, 0], "in turn, as ever");
        assert!(scene.health.fit(&provider("p"), &model("m"), scene.now).is_ok());
    }

    #[test]
    fn a_rejected_key_is_left_alone_for_all_models_until_a_key_changes() {
        for kind in [FailureKind::Authentication, FailureKind::QuotaExhausted] {
            let scene = Scene::new(&["a", "b"]);
            scene.fails(1, "m", kind, None);
            assert_eq!(scene.chosen("m", 2), [0, 0]);
            assert_eq!(scene.chosen("other", 2), [0, 0]);
            assert!(scene.health.fit(&provider("p"), &model("m"), scene.now).is_ok());
            scene.health.credential_changed(&provider("p"), scene.now);
            assert_eq!(scene.chosen("m", 2), [0, 1]);
        }
    }

    #[test]
    fn when_all_rest_the_soonest_says_when() {
        let scene = Scene::new(&["a", "b"]);
        scene.fails(0, "m", FailureKind::RateLimited, Some(10 * SECOND));
        scene.fails(1, "m", FailureKind::RateLimited, Some(20 * SECOND));
        let none = scene.ring.has_one(&scene.health, &model("m"), |_| true, scene.now);
        let Err(NoKey::Resting { left, limited: true }) = none else { panic!("{none:?}") };
        // A tenth more, so that not all come back at once.
        assert!((10 * SECOND..=11 * SECOND).contains(&left), "{left:?}");
    }

    #[test]
    fn a_limit_of_an_account_rests_its_model_at_every_provider_that_names_it() {
        let scene = Scene::new(&[]);
        let account = AccountName::new("team").unwrap();
        let ring = |name: &str, keys: &[&str]| {
            let keys = keys.iter().map(|key| KeyName::new(key).unwrap()).collect();
            Keyring::new(&provider(name), keys, Some(account.clone()))
        };
        let (one, other) = (ring("p", &[]), ring("q", &["a", "b"]));
        let quotas = one.quotas(KeyAt(0), &model("m")).unwrap();
        assert!(quotas.concerned(FailureKind::Authentication).is_none(), "it is the provider's");
        let reach = Reach::Key(quotas.concerned(FailureKind::RateLimited).unwrap().clone());
        let symptom = FailureKind::RateLimited.into();
        let retry_after = Some(10 * SECOND);
        let trouble = Trouble { symptom, fault: Fault::Vendor, retry_after, reach };
        let ticket = scene.health.admit(&provider("p"), &model("m"), scene.now).unwrap();
        ticket.failed(trouble, scene.now);
        for ring in [&one, &other] {
            let has = |name: &str| ring.has_one(&scene.health, &model(name), |_| true, scene.now);
            assert!(matches!(has("m"), Err(NoKey::Resting { limited: true, .. })), "{ring:?}");
            assert_eq!(has("n"), Ok(()));
        }
    }

    #[test]
    fn each_key_that_is_somewhere_is_probed_in_turn_whether_it_rests_or_not() {
        let scene = Scene::new(&["a", "b", "c"]);
        scene.fails(2, "m", FailureKind::Authentication, None);
        let present = |key: KeyAt| key.index() != 1;
        let probed: Vec<_> = (0..6).map(|_| scene.ring.to_probe(present).index()).collect();
        assert!(probed.contains(&0) && probed.contains(&2) && !probed.contains(&1), "{probed:?}");
        assert_eq!(Scene::new(&[]).ring.to_probe(present).index(), 0);
    }

    #[test]
    fn a_key_that_is_nowhere_has_no_turn() {
        let scene = Scene::new(&["a", "b", "c"]);
        let here = |key: KeyAt| key.index() == 1;
        for _ in 0..4 {
            let chosen = scene.ring.choose(&scene.health, &model("m"), here, scene.now);
            assert_eq!(chosen.unwrap().index(), 1);
        }
        let none = scene.ring.choose(&scene.health, &model("m"), |_| false, scene.now);
        assert_eq!(none, Err(NoKey::Nowhere));
    }
}
