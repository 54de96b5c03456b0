//! Watches how providers fare: probes that cost nothing, and states that survive a restart.
//!
//! One task looks every [`TICK`] whom to probe, and which kept answers are too old. A probe asks what is
//! free, such as the list of models, and only providers that have their key; those whose traffic was
//! served lately aren't probed.
//! States are saved every [`SAVE`] if something happened, and when the host ends. The task also tells
//! health whether the configuration wants it, and by which thresholds. Dropping the gateway ends it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use keyward_contract::OperationKind;

use super::{Gateway, Inner, random};
use crate::{
    FailureKind, Fault,
    catalog::ProviderState,
    config::HealthChecks,
    health::{Health, HealthOptions, Saved, Trouble},
    ids::ModelName,
    routing::{
        journal::{HealthNotice, Journal, Notice},
        keyring::Keyed,
    },
    store::{Batch, KeyValue, Tree},
};

/// How often it is looked whom to probe.
const TICK: Duration = Duration::from_secs(1);

/// How often states are saved, at most. What a crash loses is found out again by the next requests.
const SAVE: Duration = Duration::from_secs(30);

/// How long a probe may take: what lists its models later isn't fit for anybody.
const PROBE_WAIT: Duration = Duration::from_secs(5);

const KEY: &[u8] = b"health/states";

/// Health whose changes are logged and told to those who watch.
pub(super) fn health(journal: &Journal, checks: &HealthChecks) -> Health {
    let journal = journal.clone();
    Health::new(thresholds(checks), random(), move |transition| {
        let notice = HealthNotice::from(transition);
        let HealthNotice { provider, model, change, kind, code, for_ms, .. } = &notice;
        let model = model.as_ref().map(ModelName::as_str);
        tracing::info!(%provider, model, change, ?kind, code, for_ms, "health changed");
        journal.notify(Notice::Health(notice));
    })
}

/// By what health judges, as it is configured.
fn thresholds(checks: &HealthChecks) -> HealthOptions {
    let usual = HealthOptions::default();
    HealthOptions {
        failures: checks.failures,
        ratio_percent: checks.share,
        ratio_of: checks.of,
        window: checks.within,
        open: checks.rest,
        open_most: checks.longest_rest,
        // They are rarer than requests, so no more of them are waited for.
        probe_failures: usual.probe_failures.min(checks.failures),
        ..usual
    }
}

/// Takes up what the last process saved. What can't be read is found out again.
pub(super) fn restore(health: &Health, store: &dyn KeyValue) {
    let saved = match store.get(Tree::Meta, KEY) {
        Ok(Some(bytes)) => serde_json::from_slice::<Saved>(&bytes).map_err(|e| e.to_string()),
        Ok(None) => return,
        Err(error) => Err(error.to_string()),
    };
    match saved {
        Ok(saved) => health.restore(saved, Instant::now(), SystemTime::now()),
        Err(error) => tracing::warn!(error, "how providers fared can't be read; starting anew"),
    }
}

/// The change that saves the states.
pub(super) fn saved(health: &Health) -> Batch {
    let saved = health.save(Instant::now(), SystemTime::now());
    let mut batch = Batch::default();
    // Names and numbers: they always have a JSON form.
    batch.put(Tree::Meta, KEY, serde_json::to_vec(&saved).unwrap_or_default());
    batch
}

/// Probes and saves until the gateway is gone.
pub(super) async fn watch(gateway: Weak<Inner>) {
    let mut last = Instant::now();
    let mut saved_at = None;
    while let Some(inner) = gateway.upgrade() {
        let gateway = Gateway { inner };
        let (health, snapshot) = (&gateway.inner.health, gateway.snapshot());
        let checks = &snapshot.config.health;
        health.watch(checks.enabled);
        health.judge_by(thresholds(checks));
        gateway.probe_those_due().await;
        gateway.inner.cache.tidy(&gateway.snapshot().config.cache, Instant::now());
        // What was restored at first is saved already.
        let changes = health.changes();
        let before = *saved_at.get_or_insert(changes);
        if changes != before && last.elapsed() >= SAVE {
            last = Instant::now();
            if gateway.save_health().await {
                saved_at = Some(changes);
            }
        }
        drop(gateway);
        tokio::time::sleep(TICK).await;
    }
}

impl Gateway {
    /// False if that failed.
    async fn save_health(&self) -> bool {
        let inner = Arc::clone(&self.inner);
        let saving = super::blocking(move || inner.store.write(saved(&inner.health))).await;
        if let Ok(Err(error)) = &saving {
            tracing::warn!(%error, "how providers fare could not be saved");
        }
        matches!(saving, Ok(Ok(())))
    }

    /// Starts a probe of everyone who is due; each ends by itself.
    async fn probe_those_due(&self) {
        let snapshot = self.snapshot();
        let options = &snapshot.config.health;
        if !options.enabled {
            return;
        }
        let able = |state: &ProviderState| {
            state.ready().is_some_and(|provider| {
                provider.plugin.can(OperationKind::Probe) && provider.missing_key().is_none()
            })
        };
        let able = snapshot.providers.iter().filter(|(_, state)| able(state)).map(|(name, _)| name);
        for name in self.inner.health.due(able, options.interval, Instant::now()) {
            let weak = Arc::downgrade(&self.inner);
            let health = self.inner.health.clone();
            tokio::spawn(async move {
                let Some(inner) = weak.upgrade() else { return };
                let gateway = Self { inner };
                let Ok(provider) = gateway.provider(name.as_str()) else { return };
                let key = provider.keyring().to_probe(|key| provider.has_key(key));
                let quota = provider.keyring().accepted(key);
                let keys = health.keys_changed(&name);
                let probe = tokio::time::timeout(PROBE_WAIT, gateway.probe_with(provider, key));
                let found = match probe.await {
                    Ok(Ok(took)) => Ok(took),
                    Ok(Err(failure)) => {
                        // Nothing of the vendor, so health doesn't show it.
                        if failure.fault == Fault::Plugin {
                            tracing::warn!(provider = %name, %failure, "its adapter can't probe it");
                        }
                        Err(Trouble::from(&failure).symptom)
                    }
                    Err(_) => Err(FailureKind::Timeout.into()),
                };
                // What was found with a key that was changed since is nothing.
                if health.keys_changed(&name) == keys {
                    health.probed(&name, quota.as_ref(), found, Instant::now());
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_as_health_has_it() {
        assert_eq!(thresholds(&HealthChecks::default()), HealthOptions::default());
        let few = HealthChecks { failures: 2, ..HealthChecks::default() };
        assert_eq!(thresholds(&few).probe_failures, 2);
        assert_eq!(HealthChecks::LONGEST, crate::health::KEPT);
    }
}
