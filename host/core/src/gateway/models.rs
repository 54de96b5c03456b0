//! Which models there are, and what is known of them.
//!
//! Providers whose models nobody listed are asked for their own list, at most once in
//! [`MODEL_LIST_AGE`]; one that doesn't answer within [`MODEL_LIST_WAIT`] has none for that long. Of a
//! list [`MAX_LISTED`] models are taken.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keyward_contract::OperationKind;

use super::Gateway;
use crate::{
    Failure, Fault,
    catalog::{Provider, ProviderState, Snapshot},
    contract::{self, Event},
    exchange::Exchange,
    ids::{ModelName, ProviderName, RequestId},
    models::ModelFacts,
    operation::Operation,
};

/// How long a provider's own list of models is believed.
const MODEL_LIST_AGE: Duration = Duration::from_secs(60);

/// How long `GET /v1/models` waits for a provider's list.
const MODEL_LIST_WAIT: Duration = Duration::from_secs(2);

/// Models taken from a provider's own list.
const MAX_LISTED: usize = 10_000;

/// The models that a vendor lists.
pub(super) type Listing = Arc<[contract::Model]>;

/// A model that a caller may name.
#[derive(Clone, Debug)]
pub struct ListedModel {
    pub id: ModelName,
    pub provider: ProviderName,
    /// Seconds since 1970, if known.
    pub created: Option<u64>,
}

impl Gateway {
    /// Every model that can be named now, providers in the order of the configuration.
    pub async fn models(&self) -> Vec<ListedModel> {
        let snapshot = self.snapshot();
        let ready = snapshot.providers.values().filter_map(ProviderState::ready);
        let models = ready.map(async |provider| {
            let models = match provider.models_are_open() {
                true if self.inner.health.is_disabled(&provider.name) => Vec::new(),
                true => {
                    let list = self.model_list(provider).await;
                    list.iter().filter_map(|model| ModelName::new(&model.id).ok()).collect()
                }
                false => provider.models().to_vec(),
            };
            let of_it = |id| ListedModel { id, provider: provider.name.clone(), created: None };
            models.into_iter().map(of_it).collect::<Vec<_>>()
        });
        futures_util::future::join_all(models).await.concat()
    }

    /// What is known of each model of a provider: the operator's word, the vendor's own list, the
    /// adapter's data. The vendor is asked if it has a list and wasn't asked lately.
    ///
    /// # Errors
    /// If there is no such provider or it isn't available.
    pub async fn model_facts(&self, provider: &str) -> Result<Vec<ModelFacts>, Failure> {
        let provider = self.provider(provider)?;
        let listed = if provider.plugin.can(OperationKind::ListModels) {
            self.model_list(&provider).await
        } else {
            Listing::default()
        };
        Ok(provider.model_facts(&listed))
    }

    /// The provider's own list, at most [`MODEL_LIST_AGE`] old; empty if it can't be had.
    pub(super) async fn model_list(&self, provider: &Arc<Provider>) -> Listing {
        let known = self.inner.model_lists.lock().await.get(&provider.name).cloned();
        if let Some((at, models)) = known
            && at.elapsed() < MODEL_LIST_AGE
        {
            return models;
        }
        let listing = tokio::time::timeout(MODEL_LIST_WAIT, self.list_models(provider)).await;
        let models = match listing {
            Ok(Ok(models)) => models,
            Ok(Err(failure)) if failure.fault == Fault::Plugin => {
                tracing::warn!(provider = %provider.name, %failure, "its adapter can't list its models");
                Listing::default()
            }
            Ok(Err(failure)) => {
                tracing::debug!(provider = %provider.name, %failure, "no list of models");
                Listing::default()
            }
            Err(_) => Listing::default(),
        };
        let mut lists = self.inner.model_lists.lock().await;
        lists.insert(provider.name.clone(), (Instant::now(), models.clone()));
        models
    }

    async fn list_models(&self, provider: &Arc<Provider>) -> Result<Listing, Failure> {
        let id = RequestId::random()?;
        let mut exchange = Exchange::open(Arc::clone(provider), &Operation::ListModels, id).await?;
        let mut models = Vec::new();
        while let Some(events) = exchange.next().await {
            models.extend(events?.into_iter().filter_map(|event| match event {
                Event::Model(model) => Some(model),
                _ => None,
            }));
            models.truncate(MAX_LISTED);
        }
        Ok(models.into())
    }

    /// Which of these models the providers have that tell theirs themselves. They are asked all at once,
    /// but for those that an operator took out.
    pub(super) async fn told(
        &self,
        snapshot: &Snapshot,
        names: &[&ModelName],
    ) -> Vec<(ModelName, ProviderName)> {
        let asked = self.open_lists(snapshot).map(async |provider| {
            let list = self.model_list(provider).await;
            (&provider.name, list)
        });
        let lists = futures_util::future::join_all(asked).await;
        let has = |list: &Listing, name: &ModelName| list.iter().any(|it| it.id == name.as_str());
        let told = lists.iter().flat_map(|(provider, list)| {
            let known = names.iter().filter(|name| has(list, name));
            known.map(|name| (ModelName::clone(name), ProviderName::clone(provider)))
        });
        told.collect()
    }

    /// The providers that are asked for their models.
    fn open_lists<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Provider>> {
        let ready = snapshot.providers.values().filter_map(ProviderState::ready);
        let open = |provider: &&Arc<Provider>| {
            provider.models_are_open() && !self.inner.health.is_disabled(&provider.name)
        };
        ready.filter(open)
    }
}
