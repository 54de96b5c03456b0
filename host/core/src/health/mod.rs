//! How providers and models fare, from what real traffic and free probes find.
//!
//! Routing reads [`Health::standing`] to choose; an attempt takes a [`Ticket`] before it is sent and
//! hands it back with what became of it. From that come: a [`breaker`] for each model of a provider
//! and one for the provider, [`cooldown`]s for rate limits, and the [`latency`] by which equals are
//! balanced. [`backoff`] says how long one request waits between its own attempts.
//!
//! What a failure means hangs on its kind. What the request asks for (invalid, too long, blocked,
//! unsupported) and the host's own trouble say nothing about a vendor. A wrong key or an empty
//! account is the provider's at once; a missing or forbidden model is that model's at once, and
//! only its own, so that a caller who makes names up takes nothing away from others. A rate limit
//! is a cool-down. The rest counts against the model, and against the provider if the
//! connection can't be made, or if several of its models fail with nothing served in between.
//!
//! An operator's word stands above all of that: [`Health::disable`] and [`Health::force`]. Where nobody
//! wants to be told ([`Health::watch`]) it is all that counts, and what failed isn't even noted.
//!
//! Pure and without a clock: every function takes `now`, and the randomness comes from a seed, so a
//! simulation drives it and replays exactly. Nothing is waited for, nothing runs in the background:
//! states change when they are asked about or told.
//!
//! Bounds: [`MAX_PAIRS`] models over all providers, [`MAX_PROVIDERS`] providers, what isn't used
//! for [`KEPT`] is forgotten. When full, names that never served anything go first. One lock,
//! held for some hash look-ups; a scan only when an eighth is thrown out, and once a minute.

mod backoff;
mod book;
mod breaker;
mod cooldown;
mod latency;
mod saved;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use self::{book::Book, breaker::Hold};
use crate::{
    Failure, FailureKind, Fault,
    ids::{ModelName, ProviderName},
};

pub use self::{
    backoff::Backoff,
    book::{KEPT, MAX_PAIRS, MAX_PROVIDERS},
    breaker::{ASK_AGAIN, RAMP_FULL, RAMP_STEP},
    cooldown::{MAX_QUOTAS, Quota},
    latency::Took,
    saved::Saved,
};

/// A vendor's `retry-after` is honoured up to this. Most limits are per minute; who asks for hours
/// is asked again each minute until, after some such, the breaker takes over.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(60);

/// No configured time is longer: an instant can always be added to it.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// When a breaker opens and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthOptions {
    /// Failures in a row that open a breaker. A good vendor fails one time in a hundred: five in a
    /// row aren't chance.
    pub failures: u32,
    /// The share of failures within `window` that opens it: every second attempt wasted.
    pub ratio_percent: u32,
    /// Attempts within `window` below which the share says nothing.
    pub ratio_of: u32,
    /// As long as a probe's interval.
    pub window: Duration,
    /// How long it is open the first time: a restart behind a vendor's load balancer.
    pub open: Duration,
    /// Doubled with each failed probation up to this: a vendor that has come back is noticed within
    /// five minutes without any probe.
    pub open_most: Duration,
    /// For what only people put right: a wrong key, no credit, a missing model.
    pub dead: Duration,
    /// The first cool-down where the vendor names no time.
    pub cool_down: Duration,
    /// See [`RETRY_AFTER_CAP`].
    pub retry_after_cap: Duration,
    /// Cool-downs in a row that are nothing but limits; each further one is also a failure.
    pub limits: u32,
    /// Probes in a row that must fail to open a provider's breaker. Less than `failures`, for they
    /// are rare: three at 30 s take a minute.
    pub probe_failures: u32,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            ratio_percent: 50,
            ratio_of: 10,
            window: Duration::from_secs(30),
            open: Duration::from_secs(5),
            open_most: Duration::from_secs(300),
            dead: Duration::from_secs(300),
            cool_down: Duration::from_secs(1),
            retry_after_cap: RETRY_AFTER_CAP,
            limits: 3,
            probe_failures: 3,
        }
    }
}

impl HealthOptions {
    /// Every number brought to where the arithmetic holds.
    fn sane(mut self) -> Self {
        let times = [
            &mut self.window,
            &mut self.open,
            &mut self.open_most,
            &mut self.dead,
            &mut self.cool_down,
            &mut self.retry_after_cap,
        ];
        for time in times {
            *time = (*time).clamp(Duration::from_millis(1), LONGEST);
        }
        self.failures = self.failures.max(1);
        self.probe_failures = self.probe_failures.max(1);
        self.ratio_of = self.ratio_of.max(1);
        self
    }
}

/// How a model of a provider stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    Healthy,
    /// One attempt may be made to see whether it is back. As good as healthy when choosing: who
    /// always prefers others never finds out, and [`Health::admit`] lets only one through.
    Probation,
    Down {
        /// When to ask again; before that nothing is admitted.
        until: Instant,
        why: Why,
    },
    Disabled {
        by: Arc<str>,
    },
}

/// What a breaker was opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symptom {
    pub kind: FailureKind,
    /// Egress's own code, as `tls_error`, where it wasn't the vendor that said something.
    pub code: Option<&'static str>,
}

impl From<FailureKind> for Symptom {
    fn from(kind: FailureKind) -> Self {
        Self { kind, code: None }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.unwrap_or(self.kind.as_str()))
    }
}

/// Why nothing is let through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A breaker is open.
    Failing(Symptom),
    /// A rate limit.
    CoolingDown,
    /// Another attempt is finding out whether it is back.
    Trying,
    /// It is back, and let through what it may have at once for now.
    Recovering,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing(symptom) => symptom.fmt(f),
            Self::CoolingDown => f.write_str("rate limit"),
            Self::Trying => f.write_str("being tried"),
            Self::Recovering => f.write_str("recovering"),
        }
    }
}

/// No leave to send.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("it was taken out of use by {by}")]
    Disabled { by: Arc<str> },
    #[error("it is down: {why}")]
    Down { until: Instant, why: Why },
}

/// What a failure concerns beyond the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Model,
    /// The whole provider.
    Provider,
    /// One key of a provider that has several, or an account that several providers have: a limit, or that
    /// the key is rejected.
    Key(Quota),
}

/// A failure as far as health is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub symptom: Symptom,
    pub fault: Fault,
    pub retry_after: Option<Duration>,
    pub reach: Reach,
}

/// Egress's codes for a connection that never came to be: no model has a part in it.
const UNREACHED: [&str; 5] =
    ["connect_failed", "connect_timeout", "dns_error", "egress_denied", "tls_error"];

/// Its codes for one that broke.
const BROKEN: [&str; 4] =
    ["connection_lost", "connection_timeout", "first_byte_timeout", "idle_timeout"];

impl From<&Failure> for Trouble {
    fn from(failure: &Failure) -> Self {
        // What a vendor says itself has a status.
        let known = |codes: &[&'static str]| {
            let code = failure.code.as_deref().filter(|_| failure.status.is_none())?;
            codes.iter().copied().find(|known| *known == code)
        };
        let unreached = known(&UNREACHED);
        let (kind, fault) = match unreached {
            // Its name leads elsewhere for now, which people needn't put right.
            Some("egress_denied") => (FailureKind::Unavailable, Fault::Transport),
            _ => (failure.kind, failure.fault),
        };
        Self {
            symptom: Symptom { kind, code: unreached.or_else(|| known(&BROKEN)) },
            fault,
            retry_after: failure.retry_after,
            reach: if unreached.is_some() { Reach::Provider } else { Reach::Model },
        }
    }
}

/// Something an operator may want to know. Also what `GET /events` and the log tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub at: Instant,
    pub provider: ProviderName,
    /// None for the provider as a whole.
    pub model: Option<ModelName>,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Opened {
        symptom: Symptom,
        until: Instant,
    },
    /// One attempt was let through to see.
    Probation,
    Closed,
    CooledDown {
        until: Instant,
    },
    Disabled {
        by: Arc<str>,
    },
    Forced {
        by: Arc<str>,
    },
    /// Neither disabled nor forced any more.
    Released,
}

/// One line of a status page.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub provider: ProviderName,
    /// None for the provider as a whole.
    pub model: Option<ModelName>,
    pub standing: Standing,
    pub forced_by: Option<Arc<str>>,
    /// Failures in a row.
    pub streak: u32,
    /// Good and bad within the window.
    pub recent: (u32, u32),
    pub latency: Option<Duration>,
    /// The last time something was served.
    pub served: Option<Instant>,
}

/// All providers and models of a host. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Health {
    book: Arc<Mutex<Book>>,
}

impl Health {
    /// `listener` is called under the lock, so that what it hears is in order: it must be quick, and
    /// must not call back.
    pub fn new(
        options: HealthOptions,
        seed: u64,
        listener: impl Fn(&Transition) + Send + 'static,
    ) -> Self {
        let book = Book::new(options.sane(), seed, Box::new(listener));
        Self { book: Arc::new(Mutex::new(book)) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is complete before anything of it can panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is found counts. Off, whoever isn't disabled is healthy: breakers and cool-downs
    /// say nothing and hear nothing. Latencies are learned all the same.
    pub fn watch(&self, on: bool) {
        self.book().watching = on;
    }

    /// Judges by other thresholds from now on. What was counted stays, and so does what is open, for
    /// the time that it was opened for.
    pub fn judge_by(&self, options: HealthOptions) {
        self.book().options = options.sane();
    }

    /// Counts up with all that a restart would be told differently about.
    pub fn changes(&self) -> u64 {
        self.book().changes
    }

    /// [`Health::standing`] and [`Health::latency`] of several models, in their order.
    pub fn fares(
        &self,
        provider: &ProviderName,
        models: &[&ModelName],
        now: Instant,
    ) -> Vec<(Standing, Option<Duration>)> {
        self.book().fares(provider, models, now)
    }

    /// How it stands now. Changes nothing; a name never heard of is healthy.
    pub fn standing(&self, provider: &ProviderName, model: &ModelName, now: Instant) -> Standing {
        self.book().standing(provider, Some(model), now)
    }

    /// Leave to send one attempt now.
    ///
    /// # Errors
    /// Where [`Health::standing`] isn't healthy or probation.
    pub fn admit(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Result<Ticket, Refused> {
        let holds = self.book().admit(provider, model, now)?;
        Ok(Ticket {
            health: self.clone(),
            provider: provider.clone(),
            model: model.clone(),
            holds: Some(holds),
        })
    }

    /// Whether [`Health::admit`] would give leave now. Changes nothing.
    ///
    /// # Errors
    /// As [`Health::admit`].
    pub fn fit(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Result<(), Refused> {
        self.book().fit(provider, model, now)
    }

    /// The mean time to first content of late, of streams if there were any, if anything was served in the last half hour.
    pub fn latency(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Option<Duration> {
        self.book().latency(provider, model, now)
    }

    /// The mean time to what can't come sooner: the first piece of a stream, not a whole answer. It
    /// doesn't fade before it is forgotten.
    pub fn first_content(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        now: Instant,
    ) -> Option<Duration> {
        self.book().first_content(provider, model, now)
    }

    /// A failure after the first content, when the ticket was already given back as a success.
    pub fn broke_off(
        &self,
        provider: &ProviderName,
        model: &ModelName,
        trouble: impl Into<Trouble>,
        now: Instant,
    ) {
        self.book().failed(provider, model, None, &trouble.into(), now);
    }

    /// Takes a provider out of use until [`Health::enable`].
    pub fn disable(&self, provider: &ProviderName, by: &str, now: Instant) {
        self.book().disable(provider, by.into(), now);
    }

    /// Whether an operator took it out of use.
    pub fn is_disabled(&self, provider: &ProviderName) -> bool {
        self.book().is_disabled(provider)
    }

    /// Treats a provider as healthy, whatever is found, until [`Health::enable`]. What is found is
    /// counted all the same and holds afterwards.
    pub fn force(&self, provider: &ProviderName, by: &str, now: Instant) {
        self.book().force(provider, by.into(), now);
    }

    /// Ends [`Health::disable`] and [`Health::force`].
    pub fn enable(&self, provider: &ProviderName, now: Instant) {
        self.book().enable(provider, now);
    }

    /// Something was served on this quota.
    pub fn served_on(&self, quota: &Quota, now: Instant) {
        self.book().quotas.served(quota, now);
    }

    /// The end of a quota's cool-down, while it lasts. For choosing among several keys.
    pub fn cooled(&self, quota: &Quota, now: Instant) -> Option<Instant> {
        self.book().cooled(quota, now)
    }

    /// A key was changed: what the old one's death and limits shut is tried again, by one attempt.
    pub fn credential_changed(&self, provider: &ProviderName, now: Instant) {
        self.book().credential_changed(provider, now);
    }

    /// Counts the changes of a provider's keys: what was found with those before says nothing of those
    /// that it has now.
    pub fn keys_changed(&self, provider: &ProviderName) -> u64 {
        self.book().keys_changed(provider)
    }

    /// What a free probe found. A probe that answers closes what a broken connection, a dead key or
    /// failed probes opened; where models failed it only brings probation forward, since listing
    /// models isn't serving them; an empty account it doesn't even notice.
    ///
    /// `key` is the one it was made with, where the provider has several: rejected, it rests, and
    /// accepted, it serves again.
    pub fn probed(
        &self,
        provider: &ProviderName,
        key: Option<&Quota>,
        result: Result<Duration, impl Into<Symptom>>,
        now: Instant,
    ) {
        self.book().probed(provider, key, result.map_err(Into::into), now);
    }

    /// Which of the providers to probe now, each about once in an `interval` (at least a second),
    /// spread out; the failing ones four times as often; not those whose traffic was served
    /// within the interval. Each one returned counts as probed: it isn't due again before its time.
    /// Forgets what is old on the way.
    pub fn due<'a>(
        &self,
        providers: impl IntoIterator<Item = &'a ProviderName>,
        interval: Duration,
        now: Instant,
    ) -> Vec<ProviderName> {
        let mut book = self.book();
        book.sweep(now);
        providers.into_iter().filter(|name| book.due(name, interval, now)).cloned().collect()
    }

    /// What is to survive a restart: manual states, open breakers, cool-downs, latencies.
    pub fn save(&self, now: Instant, wall: SystemTime) -> Saved {
        self.book().save(now, wall)
    }

    /// Takes up what was saved. Times are what was left of them, less what the wall clock says has
    /// passed since; one that goes back takes nothing off, one that jumps forward makes
    /// probation of what was open, never health. Providers of which something is known keep what
    /// they have: call it before anything else.
    pub fn restore(&self, saved: Saved, now: Instant, wall: SystemTime) {
        self.book().restore(saved, now, wall);
    }

    /// Every provider and model that something is known of, sorted by name.
    pub fn report(&self, now: Instant) -> Vec<Report> {
        self.book().report(now)
    }
}

/// Leave for one attempt. Hand it back with what became of it; dropped, it says nothing (the caller
/// went away) and frees its place.
#[must_use = "dropping it says that the attempt was given up"]
pub struct Ticket {
    health: Health,
    provider: ProviderName,
    model: ModelName,
    /// Taken when handed back.
    holds: Option<Holds>,
}

/// Places at the provider's breaker and the model's.
#[derive(Clone, Copy, Debug, Default)]
struct Holds {
    provider: Hold,
    model: Hold,
    /// As many times the provider's keys had been changed when it began.
    keys: u64,
}

impl Ticket {
    /// The first content came.
    pub fn succeeded(mut self, took: Took, now: Instant) {
        if let Some(holds) = self.holds.take() {
            let mut book = self.health.book();
            book.succeeded(&self.provider, &self.model, holds, took, now);
        }
    }

    pub fn failed(mut self, trouble: impl Into<Trouble>, now: Instant) {
        if let Some(holds) = self.holds.take() {
            let mut book = self.health.book();
            book.failed(&self.provider, &self.model, Some(holds), &trouble.into(), now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(holds) = self.holds.take() {
            self.health.book().left(&self.provider, &self.model, holds);
        }
    }
}
