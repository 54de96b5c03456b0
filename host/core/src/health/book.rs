//! What is kept of each provider and model, and what each finding does to it.
//!
//! Everything here runs under the one lock of [`Health`](super::Health).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Change, HealthOptions, Holds, Quota, Reach, Refused, Report, Standing, Symptom, Transition,
    Trouble, Why,
    backoff::{Source, share},
    breaker::{Breaker, Hold, Stand},
    cooldown::{CoolDown, CoolDowns},
    latency::{Latencies, Took},
};
use crate::{
    FailureKind, Fault,
    ids::{ModelName, ProviderName},
};

/// Models of all providers that something is kept of: more than are configured anywhere, and at
/// some 400 bytes each no weight. Callers can make names up, so it needs a bound.
pub const MAX_PAIRS: usize = 4_096;
/// Providers are configured by people. This bounds what years of renaming leave behind.
pub const MAX_PROVIDERS: usize = 1_024;
/// What wasn't used for so long is forgotten. Longer than any time here lasts.
pub const KEPT: Duration = Duration::from_secs(3_600);
/// What is thrown out at once when full, so that the scan is paid for once in so many.
const THROWN_OUT: usize = MAX_PAIRS / 8;
const SWEEP: Duration = Duration::from_secs(60);
/// A provider isn't probed more often.
const PROBE_LEAST: Duration = Duration::from_secs(1);
/// How much sooner a failing provider is probed.
const PROBE_SOONER: u32 = 4;

pub(super) type Listener = Box<dyn Fn(&Transition) + Send>;

pub(super) struct Book {
    pub options: HealthOptions,
    pub source: Source,
    pub providers: HashMap<ProviderName, Known>,
    /// Over all providers.
    pub pairs: usize,
    pub quotas: CoolDowns,
    /// Off, only what operators said counts.
    pub watching: bool,
    /// Counts all that a restart would be told differently about.
    pub changes: u64,
    listener: Listener,
    swept: Option<Instant>,
}

/// A provider.
pub(super) struct Known {
    pub manual: Manual,
    pub breaker: Breaker,
    /// What opened the breaker last.
    pub cause: Cause,
    suspects: Suspects,
    probe_failures: u32,
    /// Counts how often its keys were changed.
    keys: u64,
    /// Of its own quota; see `quota`.
    pub cool: CoolDown,
    pub models: HashMap<ModelName, Pair>,
    next_probe: Option<Instant>,
    served: Option<Instant>,
    used: Instant,
}

/// A model of a provider.
pub(super) struct Pair {
    pub breaker: Breaker,
    pub cool: CoolDown,
    pub latency: Latencies,
    served: Option<Instant>,
    used: Instant,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Manual {
    #[default]
    Auto,
    Disabled(Arc<str>),
    Forced(Arc<str>),
}

/// What opened a provider's breaker, and so what a probe can say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    /// Connections, probes, or the credential: what a probe tries too.
    #[default]
    Probable,
    /// Its models, which no probe asks.
    Models,
}

/// Failures since the provider last served anything: are they one model's?
#[derive(Default)]
struct Suspects {
    streak: u32,
    first: Option<ModelName>,
    several: bool,
}

impl Suspects {
    fn add(&mut self, model: &ModelName, provider_wide: bool) {
        self.streak = self.streak.saturating_add(1);
        let other = self.first.as_ref().is_some_and(|first| first != model);
        self.several |= other || provider_wide;
        self.first.get_or_insert_with(|| model.clone());
    }
}

impl Known {
    pub fn new(now: Instant) -> Self {
        Self {
            manual: Manual::Auto,
            breaker: Breaker::default(),
            cause: Cause::default(),
            suspects: Suspects::default(),
            probe_failures: 0,
            keys: 0,
            cool: CoolDown::default(),
            models: HashMap::new(),
            next_probe: None,
            served: None,
            used: now,
        }
    }

    /// The next probe at this time, if it would be later.
    fn sooner(&mut self, at: Instant) {
        self.next_probe = self.next_probe.map(|next| next.min(at));
    }

    fn ails(&self) -> bool {
        self.breaker.opened().is_some() || self.suspects.streak > 0 || self.probe_failures > 0
    }
}

impl Pair {
    pub fn new(now: Instant) -> Self {
        Self {
            breaker: Breaker::default(),
            cool: CoolDown::default(),
            latency: Latencies::default(),
            served: None,
            used: now,
        }
    }

    /// The least worth keeping first.
    fn worth(&self) -> (bool, bool, Instant) {
        (self.breaker.trying(), self.latency.is_known(), self.used)
    }
}

/// What several states amount to: the longest wait, else a trial, else health.
#[derive(Default)]
struct Sum {
    shut: Option<(Instant, Why)>,
    trial: bool,
}

impl Sum {
    fn shut(&mut self, until: Instant, why: Why) {
        if self.shut.is_none_or(|(longest, _)| until > longest) {
            self.shut = Some((until, why));
        }
    }

    fn cool(&mut self, cool: &CoolDown, now: Instant) {
        if let Some(until) = cool.shut(now) {
            self.shut(until, Why::CoolingDown);
        }
    }

    fn breaker(&mut self, breaker: &Breaker, now: Instant) {
        match breaker.stand(now) {
            Stand::Clear => {}
            Stand::Trial => self.trial = true,
            Stand::Shut { until, why } => self.shut(until, why),
        }
    }

    fn standing(self) -> Standing {
        match (self.shut, self.trial) {
            (Some((until, why)), _) => Standing::Down { until, why },
            (None, true) => Standing::Probation,
            (None, false) => Standing::Healthy,
        }
    }
}

/// What a failure says about the vendor.
enum Verdict {
    /// Nothing: it is the request's or the host's.
    Nothing,
    Limited,
    /// The provider is of no use until people change something.
    ProviderDead,
    ModelDead,
    Counts,
}

fn verdict(trouble: &Trouble) -> Verdict {
    match trouble.symptom.kind {
        FailureKind::InvalidRequest
        | FailureKind::ContextTooLong
        | FailureKind::ContentBlocked
        | FailureKind::Unsupported
        | FailureKind::HostBusy
        | FailureKind::Sealed => Verdict::Nothing,
        FailureKind::RateLimited => Verdict::Limited,
        FailureKind::Authentication | FailureKind::QuotaExhausted => Verdict::ProviderDead,
        FailureKind::Permission | FailureKind::ModelNotFound => Verdict::ModelDead,
        FailureKind::Overloaded
        | FailureKind::Unavailable
        | FailureKind::Timeout
        | FailureKind::MalformedAnswer
        | FailureKind::Plugin
        | FailureKind::Other => match trouble.fault {
            Fault::Caller | Fault::Host => Verdict::Nothing,
            Fault::Vendor | Fault::Transport | Fault::Plugin => Verdict::Counts,
        },
    }
}

impl Book {
    pub fn new(options: HealthOptions, seed: u64, listener: Listener) -> Self {
        Self {
            options,
            source: Source::new(seed),
            providers: HashMap::new(),
            pairs: 0,
            quotas: CoolDowns::default(),
            watching: true,
            changes: 0,
            listener,
            swept: None,
        }
    }

    fn tell(
        &self,
        provider: &ProviderName,
        model: Option<&ModelName>,
        at: Instant,
        change: Change,
    ) {
        let (provider, model) = (provider.clone(), model.cloned());
        (self.listener)(&Transition { at, provider, model, change });
    }

    pub fn standing(
        &self,
        provider: &ProviderName,
        model: Option<&ModelName>,
        now: Instant,
    ) -> Standing {
        let Some(known) = self.providers.get(provider) else { return Standing::Healthy };
        self.stands(known, model.and_then(|model| known.models.get(model)), now)
    }

    fn stands(&self, known: &Known, pair: Option<&Pair>, now: Instant) -> Standing {
        match &known.manual {
            Manual::Disabled(by) => return Standing::Disabled { by: Arc::clone(by) },
            Manual::Forced(_) => return Standing::Healthy,
            Manual::Auto if !self.watching => return Standing::Healthy,
            Manual::Auto => {}
        }
        let mut sum = Sum::default();
        sum.cool(&known.cool, now);
        sum.breaker(&known.breaker, now);
        if let Some(pair) = pair {
            sum.cool(&pair.cool, now);
            sum.breaker(&pair.breaker, now);
        }
        sum.standing()
    }

    pub fn fares(
        &self,
        provider: &ProviderName,
        models: &[&ModelName],
        now: Instant,
    ) -> Vec<(Standing, Option<Duration>)> {
        let Some(known) = self.providers.get(provider) else {
            return vec![(Standing::Healthy, None); models.len()];
        };
        let fares = |model: &&ModelName| {
            let pair = known.models.get(*model);
            let latency = pair.and_then(|pair| pair.latency.at(now));
            (self.stands(known, pair, now), latency)
        };
        models.iter().map(fares).collect()
    }

    pub fn fit(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Result<(), Refused> {
        match self.standing(provider, Some(model), now) {
            Standing::Down { until, why } => Err(Refused::Down { until, why }),
            Standing::Disabled { by } => Err(Refused::Disabled { by }),
            Standing::Healthy | Standing::Probation => Ok(()),
        }
    }

    pub fn admit(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Result<Holds, Refused> {
        self.fit(provider, model, now)?;
        let (mut holds, mut trials) = (Holds::default(), (false, false));
        if !self.watching {
            return Ok(holds);
        }
        // Of a name never heard of nothing is kept until something is known of it.
        if let Some(known) = self.providers.get_mut(provider) {
            known.used = known.used.max(now);
            holds.keys = known.keys;
            (holds.provider, trials.0) = known.breaker.enter(now);
            if let Some(pair) = known.models.get_mut(model) {
                pair.used = pair.used.max(now);
                (holds.model, trials.1) = pair.breaker.enter(now);
            }
        }
        if trials.0 {
            self.tell(provider, None, now, Change::Probation);
        }
        if trials.1 {
            self.tell(provider, Some(model), now, Change::Probation);
        }
        Ok(holds)
    }

    pub fn latency(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Option<Duration> {
        self.providers.get(provider)?.models.get(model)?.latency.at(now)
    }

    pub fn first_content(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Option<Duration> {
        self.providers.get(provider)?.models.get(model)?.latency.first?.mean(now)
    }

    pub fn left(&mut self, provider: &ProviderName, model: &ModelName, holds: Holds) {
        let Some(known) = self.providers.get_mut(provider) else { return };
        known.breaker.leave(holds.provider);
        if let Some(pair) = known.models.get_mut(model) {
            pair.breaker.leave(holds.model);
        }
    }

    pub fn succeeded(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Holds,
        took: Took,
        now: Instant,
    ) {
        self.changes += 1;
        let known = self.providers.get(provider);
        if known.is_none_or(|known| !known.models.contains_key(model)) {
            self.know_pair(provider, model, now);
        }
        let Self { providers, options, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        known.suspects = Suspects::default();
        known.used = known.used.max(now);
        known.served = known.served.max(Some(now));
        known.probe_failures = 0;
        known.cool.served(now);
        let provider_closed = known.breaker.succeeded(holds.provider, now, options, source);
        let mut model_closed = false;
        if let Some(pair) = known.models.get_mut(model) {
            pair.used = pair.used.max(now);
            pair.served = pair.served.max(Some(now));
            pair.cool.served(now);
            pair.latency.add(took, now);
            model_closed = pair.breaker.succeeded(holds.model, now, options, source);
        }
        if provider_closed {
            self.tell(provider, None, now, Change::Closed);
        }
        if model_closed {
            self.tell(provider, Some(model), now, Change::Closed);
        }
    }

    /// `holds`: None where the attempt had given its ticket back already.
    pub fn failed(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Option<Holds>,
        trouble: &Trouble,
        now: Instant,
    ) {
        let verdict = verdict(trouble);
        if matches!(verdict, Verdict::Nothing) || !self.watching {
            return self.left(provider, model, holds.unwrap_or_default());
        }
        self.changes += 1;
        self.know_pair(provider, model, now);
        let holds = holds.unwrap_or_else(|| self.unheld(provider, model));
        match verdict {
            Verdict::Nothing => {}
            Verdict::Limited => self.limited(provider, model, holds, trouble, now),
            // With a key that was changed since.
            Verdict::ProviderDead if holds.keys != self.keys_changed(provider) => {
                self.left(provider, model, holds);
            }
            Verdict::ProviderDead if matches!(trouble.reach, Reach::Key(_)) => {
                self.key_is_dead(provider, model, holds, trouble, now);
            }
            Verdict::ProviderDead => {
                let hold = Some(holds.provider);
                self.open_provider(provider, hold, trouble.symptom, now);
                self.left(provider, model, holds);
            }
            Verdict::ModelDead => self.open_model(provider, model, holds, trouble.symptom, now),
            Verdict::Counts => self.count(provider, model, holds, trouble, now),
        }
    }

    fn unheld(&self, provider: &ProviderName, model: &ModelName) -> Holds {
        let Some(known) = self.providers.get(provider) else { return Holds::default() };
        let pair = known.models.get(model);
        Holds {
            provider: known.breaker.unheld(),
            keys: known.keys,
            model: pair.map(|pair| pair.breaker.unheld()).unwrap_or_default(),
        }
    }

    /// At once, by an attempt or by a probe. A hundred answers on their way with a dead key are one
    /// finding, and those with the key before say nothing about a new one.
    fn open_provider(
        &mut self,
        provider: &ProviderName,
        hold: Option<Hold>,
        symptom: Symptom,
        now: Instant,
    ) {
        let Self { providers, options, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        let shut = known
            .breaker
            .opened()
            .is_some_and(|(was, until)| was.kind == symptom.kind && now < until);
        if shut || hold.is_some_and(|hold| !known.breaker.is_current(hold)) {
            return;
        }
        known.cause = Cause::Probable;
        let until = known.breaker.open(symptom, now, options, source);
        known.sooner(until);
        self.changes += 1;
        self.tell(provider, None, now, Change::Opened { symptom, until });
    }

    /// One of several: the others go on.
    fn key_is_dead(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Holds,
        trouble: &Trouble,
        now: Instant,
    ) {
        self.left(provider, model, holds);
        if let Reach::Key(quota) = &trouble.reach {
            self.rest_key(provider, quota, now);
        }
    }

    fn rest_key(&mut self, provider: &ProviderName, key: &Quota, now: Instant) {
        let until = now + self.options.dead;
        let key = self.quotas.entry(key);
        let rests = key.shut(now).is_some();
        key.until = Some(until);
        if !rests {
            self.tell(provider, None, now, Change::CooledDown { until });
        }
    }

    fn open_model(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Holds,
        symptom: Symptom,
        now: Instant,
    ) {
        let Self { providers, options, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        known.breaker.leave(holds.provider);
        let Some(pair) = known.models.get_mut(model) else { return };
        let shut = pair
            .breaker
            .opened()
            .is_some_and(|(was, until)| was.kind == symptom.kind && now < until);
        if shut || !pair.breaker.is_current(holds.model) {
            return;
        }
        let until = pair.breaker.open(symptom, now, options, source);
        self.tell(provider, Some(model), now, Change::Opened { symptom, until });
    }

    fn limited(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Holds,
        trouble: &Trouble,
        now: Instant,
    ) {
        let Self { providers, quotas, options, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        known.breaker.leave(holds.provider);
        let Some(pair) = known.models.get_mut(model) else { return };
        let cool = match &trouble.reach {
            Reach::Model => &mut pair.cool,
            Reach::Provider => &mut known.cool,
            Reach::Key(quota) => quotas.entry(quota),
        };
        let begins = cool.limited(trouble.retry_after, now, options, source);
        let (until, streak) = (cool.until.unwrap_or(now), cool.streak);
        // Over and over again it is more than a limit.
        let mut opened = None;
        if begins && streak > options.limits && trouble.reach == Reach::Model {
            opened = pair.breaker.failed(holds.model, trouble.symptom, now, options, source);
        }
        pair.breaker.leave(holds.model);
        let breaker = match &trouble.reach {
            Reach::Model => Some(&mut pair.breaker),
            Reach::Provider => Some(&mut known.breaker),
            // Which attempts come next with that key is for those who choose among the keys.
            Reach::Key(_) => None,
        };
        match breaker {
            Some(breaker) if begins => breaker.slow_start(until, source),
            Some(breaker) => breaker.slow_start_later(until),
            None => {}
        }
        let cooled_model = (trouble.reach == Reach::Model).then_some(model);
        if begins {
            self.tell(provider, cooled_model, now, Change::CooledDown { until });
        }
        if let Some(until) = opened {
            let symptom = trouble.symptom;
            self.tell(provider, Some(model), now, Change::Opened { symptom, until });
        }
    }

    fn count(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        holds: Holds,
        trouble: &Trouble,
        now: Instant,
    ) {
        let Self { providers, options, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        let symptom = trouble.symptom;
        let provider_wide = trouble.reach == Reach::Provider;
        if known.breaker.is_current(holds.provider) {
            known.suspects.add(model, provider_wide);
        }
        let all_ill = known.suspects.several && known.suspects.streak >= options.failures;

        let (mut provider_opened, mut model_opened) = (None, None);
        if provider_wide || known.breaker.opened().is_some() {
            provider_opened = known.breaker.failed(holds.provider, symptom, now, options, source);
        } else if all_ill {
            provider_opened = Some(known.breaker.open(symptom, now, options, source));
        } else {
            known.breaker.leave(holds.provider);
        }
        let mut cooled = None;
        if let Some(pair) = known.models.get_mut(model) {
            if provider_wide {
                pair.breaker.leave(holds.model);
            } else {
                model_opened = pair.breaker.failed(holds.model, symptom, now, options, source);
            }
            // Busy for so long, by its vendor's word.
            if let Some(asked) = trouble.retry_after.filter(|asked| !asked.is_zero())
                && pair.cool.asked(asked, now, options, source)
            {
                cooled = pair.cool.until;
                pair.breaker.slow_start(cooled.unwrap_or(now), source);
            }
        }
        if provider_opened.is_some() {
            known.cause = if provider_wide { Cause::Probable } else { Cause::Models };
        }
        let soon = now + PROBE_LEAST;
        known.sooner(provider_opened.unwrap_or(soon));
        if let Some(until) = provider_opened {
            self.tell(provider, None, now, Change::Opened { symptom, until });
        }
        if let Some(until) = model_opened {
            self.tell(provider, Some(model), now, Change::Opened { symptom, until });
        } else if let Some(until) = cooled {
            self.tell(provider, Some(model), now, Change::CooledDown { until });
        }
    }

    pub fn disable(&mut self, provider: &ProviderName, by: Arc<str>, now: Instant) {
        self.set_manual(provider, Manual::Disabled(by), now);
    }

    pub fn is_disabled(&self, provider: &ProviderName) -> bool {
        let known = self.providers.get(provider);
        known.is_some_and(|known| matches!(known.manual, Manual::Disabled(_)))
    }

    pub fn force(&mut self, provider: &ProviderName, by: Arc<str>, now: Instant) {
        self.set_manual(provider, Manual::Forced(by), now);
    }

    pub fn enable(&mut self, provider: &ProviderName, now: Instant) {
        if self.providers.contains_key(provider) {
            self.set_manual(provider, Manual::Auto, now);
        }
    }

    pub fn set_manual(&mut self, provider: &ProviderName, manual: Manual, now: Instant) {
        let known = self.know(provider, now);
        if known.manual == manual {
            return;
        }
        known.manual = manual.clone();
        self.changes += 1;
        let change = match manual {
            Manual::Auto => Change::Released,
            Manual::Disabled(by) => Change::Disabled { by },
            Manual::Forced(by) => Change::Forced { by },
        };
        self.tell(provider, None, now, change);
    }

    pub fn cooled(&self, quota: &Quota, now: Instant) -> Option<Instant> {
        self.quotas.get(quota).filter(|_| self.watching)?.shut(now)
    }

    pub fn keys_changed(&self, provider: &ProviderName) -> u64 {
        self.providers.get(provider).map_or(0, |known| known.keys)
    }

    pub fn credential_changed(&mut self, provider: &ProviderName, now: Instant) {
        self.know(provider, now);
        let Self { providers, quotas, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        self.changes += 1;
        known.keys += 1;
        let keyed = |kind| {
            matches!(
                kind,
                FailureKind::Authentication
                    | FailureKind::Permission
                    | FailureKind::QuotaExhausted
                    | FailureKind::RateLimited
            )
        };
        let pairs = known.models.values_mut().map(|pair| (&mut pair.breaker, &mut pair.cool));
        for (breaker, cool) in pairs.chain([(&mut known.breaker, &mut known.cool)]) {
            if breaker.opened().is_some_and(|(symptom, _)| keyed(symptom.kind)) {
                breaker.try_now(now, source);
            }
            if cool.until.is_some() {
                *cool = CoolDown::default();
                breaker.slow_start(now, source);
            }
        }
        quotas.forget_keys_of(provider);
        known.next_probe = Some(now);
    }

    pub fn probed(
        &mut self,
        provider: &ProviderName,
        key: Option<&Quota>,
        result: Result<Duration, Symptom>,
        now: Instant,
    ) {
        if !self.watching {
            return;
        }
        self.know(provider, now);
        if let (Some(key), Err(Symptom { kind: FailureKind::Authentication, .. })) = (key, &result)
        {
            return self.rest_key(provider, key, now);
        }
        let Self { providers, quotas, options, source, changes, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return };
        let change = match result {
            Ok(_) => {
                if let Some(key) = key {
                    quotas.forget(key);
                }
                known.probe_failures = 0;
                let Some((symptom, _)) = known.breaker.opened() else { return };
                match known.cause {
                    _ if symptom.kind == FailureKind::QuotaExhausted => None,
                    Cause::Models => {
                        known.breaker.try_now(now, source);
                        *changes += 1;
                        None
                    }
                    Cause::Probable => {
                        known.breaker.close(now, source);
                        known.suspects = Suspects::default();
                        Some(Change::Closed)
                    }
                }
            }
            Err(symptom @ Symptom { kind: FailureKind::Authentication, .. }) => {
                return self.open_provider(provider, None, symptom, now);
            }
            Err(symptom)
                if matches!(
                    symptom.kind,
                    FailureKind::Overloaded
                        | FailureKind::Unavailable
                        | FailureKind::Timeout
                        | FailureKind::MalformedAnswer
                ) =>
            {
                known.probe_failures = known.probe_failures.saturating_add(1);
                let due = match known.breaker.opened() {
                    // In probation a probe's failure spares a caller's.
                    Some((_, until)) => now >= until && !known.breaker.trying(),
                    None => known.probe_failures >= options.probe_failures,
                };
                due.then(|| {
                    known.cause = Cause::Probable;
                    let until = known.breaker.open(symptom, now, options, source);
                    known.sooner(until);
                    Change::Opened { symptom, until }
                })
            }
            Err(_) => None,
        };
        if let Some(change) = change {
            self.changes += 1;
            self.tell(provider, None, now, change);
        }
    }

    pub fn due(&mut self, provider: &ProviderName, interval: Duration, now: Instant) -> bool {
        let interval = interval.clamp(PROBE_LEAST, super::LONGEST);
        self.know(provider, now);
        let Self { providers, source, .. } = self;
        let Some(known) = providers.get_mut(provider) else { return false };
        if matches!(known.manual, Manual::Disabled(_)) {
            return false;
        }
        let Some(next) = known.next_probe else {
            // The first round is spread over the interval.
            known.next_probe = Some(now + share(interval, source.random()));
            return false;
        };
        if now < next {
            return false;
        }
        let pause =
            if known.ails() { (interval / PROBE_SOONER).max(PROBE_LEAST) } else { interval };
        let fresh = known.served.is_some_and(|at| now.saturating_duration_since(at) < interval);
        known.next_probe = Some(now + source.jittered(pause));
        known.ails() || !fresh
    }

    /// Forgets what wasn't used for [`KEPT`]. Manual states stay.
    pub fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let old = |used: Instant| now.saturating_duration_since(used) >= KEPT;
        let before = (self.providers.len(), self.pairs);
        for known in self.providers.values_mut() {
            known.models.retain(|_, pair| !old(pair.used));
        }
        self.providers.retain(|_, known| {
            known.manual != Manual::Auto || !known.models.is_empty() || !old(known.used)
        });
        self.pairs = self.providers.values().map(|known| known.models.len()).sum();
        self.changes += u64::from(before != (self.providers.len(), self.pairs));
        self.quotas.sweep(now);
    }

    pub fn know(&mut self, provider: &ProviderName, now: Instant) -> &mut Known {
        if self.providers.len() >= MAX_PROVIDERS && !self.providers.contains_key(provider) {
            let worth = |known: &Known| (known.manual != Manual::Auto, known.used);
            let least = self.providers.iter().min_by_key(|(_, known)| worth(known));
            if let Some(least) = least.map(|(name, _)| name.clone())
                && let Some(gone) = self.providers.remove(&least)
            {
                self.pairs -= gone.models.len();
            }
        }
        let known = self.providers.entry(provider.clone()).or_insert_with(|| Known::new(now));
        known.used = known.used.max(now);
        known
    }

    pub fn know_pair(
        &mut self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> &mut Pair {
        let known = self.providers.get(provider);
        if known.is_none_or(|known| !known.models.contains_key(model)) {
            if self.pairs >= MAX_PAIRS {
                self.throw_out();
            }
            self.know(provider, now);
            self.pairs += 1;
        }
        let known = self.providers.entry(provider.clone()).or_insert_with(|| Known::new(now));
        known.used = known.used.max(now);
        let pair = known.models.entry(model.clone()).or_insert_with(|| Pair::new(now));
        pair.used = pair.used.max(now);
        pair
    }

    fn throw_out(&mut self) {
        let models = self.providers.values().flat_map(|known| known.models.values());
        let mut worths: Vec<_> = models.map(Pair::worth).collect();
        if worths.len() <= THROWN_OUT {
            return;
        }
        let (_, limit, _) = worths.select_nth_unstable(THROWN_OUT - 1);
        let (limit, mut left) = (*limit, THROWN_OUT);
        for known in self.providers.values_mut() {
            known.models.retain(|_, pair| {
                let goes = left > 0 && pair.worth() <= limit;
                left -= usize::from(goes);
                !goes
            });
        }
        self.pairs = self.providers.values().map(|known| known.models.len()).sum();
    }

    pub fn report(&self, now: Instant) -> Vec<Report> {
        let window = self.options.window;
        let mut lines = Vec::with_capacity(self.providers.len() + self.pairs);
        for (provider, known) in &self.providers {
            let forced_by = match &known.manual {
                Manual::Forced(by) => Some(Arc::clone(by)),
                _ => None,
            };
            lines.push(Report {
                provider: provider.clone(),
                model: None,
                standing: self.standing(provider, None, now),
                forced_by: forced_by.clone(),
                streak: known.suspects.streak.max(known.breaker.streak()),
                recent: known.breaker.counts(now, window),
                latency: None,
                served: known.served,
            });
            lines.extend(known.models.iter().map(|(model, pair)| Report {
                provider: provider.clone(),
                model: Some(model.clone()),
                standing: self.standing(provider, Some(model), now),
                forced_by: forced_by.clone(),
                streak: pair.breaker.streak(),
                recent: pair.breaker.counts(now, window),
                latency: pair.latency.at(now),
                served: pair.served,
            }));
        }
        lines.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        lines
    }
}
