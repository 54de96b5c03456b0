//! What survives a restart.
//!
//! Times are written as what is left of them, in milliseconds, since an instant means nothing to
//! another process. The wall clock tells only how much of them has passed meanwhile, and none is ever
//! longer than the options allow, whatever a file or a clock says. What was open and is over
//! comes back in probation: a restart is no proof of health.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    HealthOptions, MAX_PAIRS, MAX_PROVIDERS, MAX_QUOTAS, Quota,
    book::{Book, Cause, Manual},
    breaker::Breaker,
    cooldown::CoolDown,
    latency::{Latencies, Latency},
};
use crate::{
    FailureKind,
    ids::{ModelName, ProviderName},
};

/// The states of a [`Health`](super::Health), to be kept as JSON or the like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Milliseconds since 1970.
    at: u64,
    providers: Vec<SavedProvider>,
    quotas: Vec<(Quota, SavedCoolDown)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedProvider {
    name: ProviderName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_by: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced_by: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<SavedOpen>,
    #[serde(default)]
    cause: Cause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cool_down: Option<SavedCoolDown>,
    models: Vec<SavedModel>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedModel {
    name: ModelName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<SavedOpen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cool_down: Option<SavedCoolDown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_latency_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct SavedOpen {
    kind: FailureKind,
    left_ms: u64,
    repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct SavedCoolDown {
    left_ms: u64,
    streak: u32,
}

fn left_ms(until: Instant, now: Instant) -> u64 {
    // Rounded up: a restart never shortens a wait.
    let left = until.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
    u64::try_from(left).unwrap_or(u64::MAX)
}

fn wall_ms(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn open(breaker: &Breaker, now: Instant) -> Option<SavedOpen> {
    let (symptom, until) = breaker.opened()?;
    Some(SavedOpen { kind: symptom.kind, left_ms: left_ms(until, now), repeats: breaker.repeats() })
}

fn cool_down(cool: &CoolDown, now: Instant) -> Option<SavedCoolDown> {
    let until = cool.shut(now)?;
    Some(SavedCoolDown { left_ms: left_ms(until, now), streak: cool.streak })
}

impl Book {
    pub(super) fn save(&self, now: Instant, wall: SystemTime) -> Saved {
        let ms = |latency: Option<Latency>| {
            latency?.at(now).and_then(|latency| u64::try_from(latency.as_millis()).ok())
        };
        let model = |(name, pair): (&ModelName, &super::book::Pair)| {
            let saved = SavedModel {
                name: name.clone(),
                open: open(&pair.breaker, now),
                cool_down: cool_down(&pair.cool, now),
                latency_ms: ms(pair.latency.first),
                whole_latency_ms: ms(pair.latency.whole),
            };
            let timed = saved.latency_ms.or(saved.whole_latency_ms).is_some();
            let known = saved.open.is_some() || saved.cool_down.is_some() || timed;
            known.then_some(saved)
        };
        let providers = self.providers.iter().map(|(name, known)| {
            let (mut disabled_by, mut forced_by) = (None, None);
            match &known.manual {
                Manual::Auto => {}
                Manual::Disabled(by) => disabled_by = Some(Arc::clone(by)),
                Manual::Forced(by) => forced_by = Some(Arc::clone(by)),
            }
            SavedProvider {
                name: name.clone(),
                disabled_by,
                forced_by,
                open: open(&known.breaker, now),
                cause: known.cause,
                cool_down: cool_down(&known.cool, now),
                models: known.models.iter().filter_map(model).collect(),
            }
        });
        let quotas = self.quotas.iter();
        Saved {
            at: wall_ms(wall),
            providers: providers.collect(),
            quotas: quotas
                .filter_map(|(quota, cool)| Some((quota.clone(), cool_down(cool, now)?)))
                .collect(),
        }
    }

    pub(super) fn restore(&mut self, saved: Saved, now: Instant, wall: SystemTime) {
        let passed = Duration::from_millis(wall_ms(wall).saturating_sub(saved.at));
        let options = self.options.clone();
        let until = |left_ms: u64, most: Duration| {
            now + Duration::from_millis(left_ms).min(most).saturating_sub(passed)
        };
        let cooled = |cool: SavedCoolDown| CoolDown {
            until: Some(until(cool.left_ms, longest_cool_down(&options))),
            streak: cool.streak,
        };
        let most = options.open_most.max(options.dead);
        for saved in saved.providers.into_iter().take(MAX_PROVIDERS) {
            if self.providers.contains_key(&saved.name) {
                continue;
            }
            self.know(&saved.name, now);
            match (saved.disabled_by, saved.forced_by) {
                (Some(by), _) => self.disable(&saved.name, by, now),
                (None, Some(by)) => self.force(&saved.name, by, now),
                (None, None) => {}
            }
            let Self { providers, source, .. } = self;
            if let Some(known) = providers.get_mut(&saved.name) {
                known.cause = saved.cause;
                if let Some(open) = saved.open {
                    let until = until(open.left_ms, most);
                    known.breaker.reopen(open.kind.into(), until, open.repeats, source);
                }
                if let Some(cool) = saved.cool_down {
                    known.cool = cooled(cool);
                    known.breaker.slow_start(known.cool.until.unwrap_or(now), source);
                }
            }
            for model in saved.models {
                if self.pairs >= MAX_PAIRS {
                    break;
                }
                let pair = self.know_pair(&saved.name, &model.name, now);
                // It fades while nobody is asked, a restart or not.
                let faded = |ms: Option<u64>| {
                    let saved = Latency::first(Duration::from_millis(ms?), now);
                    Some(Latency::first(saved.at(now.checked_add(passed)?)?, now))
                };
                pair.latency = Latencies {
                    first: faded(model.latency_ms),
                    whole: faded(model.whole_latency_ms),
                };
                if let Some(cool) = model.cool_down {
                    pair.cool = cooled(cool);
                }
                let cool_until = pair.cool.until;
                let Self { providers, source, .. } = self;
                let known = providers.get_mut(&saved.name);
                let Some(pair) = known.and_then(|known| known.models.get_mut(&model.name)) else {
                    continue;
                };
                if let Some(open) = model.open {
                    let until = until(open.left_ms, most);
                    pair.breaker.reopen(open.kind.into(), until, open.repeats, source);
                }
                if let Some(until) = cool_until {
                    pair.breaker.slow_start(until, source);
                }
            }
        }
        for (quota, cool) in saved.quotas.into_iter().take(MAX_QUOTAS) {
            if self.quotas.get(&quota).is_none() {
                *self.quotas.entry(&quota) = cooled(cool);
            }
        }
    }
}

fn longest_cool_down(options: &HealthOptions) -> Duration {
    options.retry_after_cap + options.retry_after_cap / 10
}
