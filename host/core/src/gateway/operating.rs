//! What operators do with a running gateway: steer providers, try and change keys, read usage.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::SecretString;

use super::{Gateway, blocking, disk, watching};
use crate::{
    Failure, FailureKind, Fault,
    audit::{self, Action},
    catalog::{KeyStatus, Provider, ProviderState},
    exchange::Exchange,
    ids::{ProviderName, RequestId},
    metering::{self, AttemptRecord, RowQuery, Summary, SummaryQuery},
    operation::Operation,
    routing::keyring::KeyAt,
    store::{KeyValue, StoreError},
    vault::Slot,
};

/// What an operator does with a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Nothing is sent to it.
    Disable,
    /// It is asked whatever its health says.
    Force,
    /// Its health decides.
    Enable,
}

impl Steer {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Force => "force",
            Self::Enable => "enable",
        }
    }
}

impl std::str::FromStr for Steer {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let all = [Self::Disable, Self::Force, Self::Enable];
        all.into_iter().find(|steer| steer.as_str() == text).ok_or_else(|| {
            Failure::invalid("verb", format!("'{text}' isn't disable, force or enable"))
        })
    }
}

impl Gateway {
    /// Takes a provider out of use, has it asked whatever its health says, or ends both. Kept over
    /// restarts, and in the audit log.
    ///
    /// # Errors
    /// If the disk fails: what was asked for is in force, but is forgotten at the next start.
    pub async fn steer(
        &self,
        provider: &ProviderName,
        steer: Steer,
        actor: &str,
    ) -> Result<(), Failure> {
        let (health, now) = (&self.inner.health, Instant::now());
        match steer {
            Steer::Disable => health.disable(provider, actor, now),
            Steer::Force => health.force(provider, actor, now),
            Steer::Enable => health.enable(provider, now),
        }
        let event = audit::Event {
            actor: actor.to_owned(),
            action: Action::ProviderSteered,
            subject: provider.to_string(),
            detail: steer.as_str().to_owned(),
        };
        let inner = Arc::clone(&self.inner);
        let kept =
            blocking(move || inner.audit.append_with(&event, watching::saved(&inner.health)));
        let kept = kept.await.map_err(disk)?;
        let failed = |error: StoreError| disk(std::io::Error::other(error));
        kept.map(drop).map_err(failed)
    }

    /// Sees whether a provider answers and accepts its key, by a request that costs nothing.
    ///
    /// # Errors
    /// If there is no such provider, it isn't available, or it fails.
    pub async fn probe(&self, provider: &str) -> Result<Duration, Failure> {
        let provider = self.provider(provider)?;
        let key = provider.first_key();
        self.probe_with(provider, key).await
    }

    pub(super) async fn probe_with(
        &self,
        provider: Arc<Provider>,
        key: KeyAt,
    ) -> Result<Duration, Failure> {
        let began = Instant::now();
        let id = RequestId::random()?;
        let mut exchange = Exchange::open_with(provider, &Operation::Probe, id, key, None).await?;
        while let Some(events) = exchange.next().await {
            events?;
        }
        Ok(began.elapsed())
    }

    /// Sums of what was used, everything recorded up to now included.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn usage(&self, query: SummaryQuery) -> Result<Summary, Failure> {
        self.with_usage(move |store| metering::summarize(store, &query)).await
    }

    /// Single attempts.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn usage_rows(&self, query: RowQuery) -> Result<Vec<AttemptRecord>, Failure> {
        self.with_usage(move |store| metering::rows(store, &query)).await
    }

    async fn with_usage<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn KeyValue) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (meter, store) = (self.inner.meter.clone(), Arc::clone(&self.inner.store));
        let work = move || {
            if let Err(error) = meter.flush() {
                tracing::warn!(%error, "the newest usage isn't written yet");
            }
            read(&*store)
        };
        blocking(work)
            .await
            .map_err(disk)?
            .map_err(|error| Failure::new(FailureKind::Other, Fault::Host, error.to_string()))
    }

    /// Writes what is still queued. For the end of a program.
    pub async fn flush(&self) {
        let inner = Arc::clone(&self.inner);
        let flush = move || {
            if let Err(error) = inner.meter.flush() {
                tracing::error!(%error, "the last usage rows could not be written");
            }
            if let Err(error) = inner.store.write(watching::saved(&inner.health)) {
                tracing::error!(%error, "how providers fared could not be written");
            }
        };
        if let Err(error) = blocking(flush).await {
            tracing::error!(%error, "the last state could not be written");
        }
    }

    /// Which credentials the providers use, and where each comes from.
    pub fn keys(&self) -> Vec<KeyStatus> {
        let snapshot = self.snapshot();
        let ready = snapshot.providers.values().filter_map(ProviderState::ready);
        ready.flat_map(|provider| provider.key_status()).collect()
    }

    /// Encrypts and stores a provider's credential, bound to where it may go.
    ///
    /// # Errors
    /// If there is no such provider or field, the vault is sealed, or the disk fails: then nothing
    /// has changed.
    pub async fn set_key(
        &self,
        provider: &str,
        field: Option<&str>,
        secret: SecretString,
        actor: &'static str,
    ) -> Result<Slot, Failure> {
        let slot = self.provider(provider)?.key_slot(field)?;
        let (vault, place) = (self.vault().clone(), slot.clone());
        blocking(move || vault.set(&place, &secret, actor)).await.map_err(disk)??;
        self.inner.health.credential_changed(slot.provider(), Instant::now());
        Ok(slot)
    }

    /// Removes a stored credential; false if there was none.
    ///
    /// # Errors
    /// As [`Gateway::set_key`].
    pub async fn remove_key(
        &self,
        provider: &str,
        field: Option<&str>,
        actor: &'static str,
    ) -> Result<bool, Failure> {
        let slot = self.provider(provider)?.key_slot(field)?;
        let vault = self.vault().clone();
        Ok(blocking(move || vault.remove(&slot, actor)).await.map_err(disk)??)
    }
}
