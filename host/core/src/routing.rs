//! Which providers may serve a request, in which order, and why.
//!
//! A decision is a value: made from one snapshot without a network, so it can be explained, logged
//! and tested. Today it knows names only: `provider/model` means that provider, a listed model
//! means every provider that lists it, in the order of the configuration. Privacy, cost and
//! performance order the same list of candidates later; nothing else needs to move for that.
//!
//! What it costs: one look through the providers' model lists.

use std::sync::Arc;

use keyward_contract::OperationKind;

use crate::{
    Failure, FailureKind, Fault,
    catalog::{Provider, ProviderState, Snapshot},
    ids::ModelName,
};

/// The most providers one request is tried on.
pub const MAX_ATTEMPTS: usize = 4;

/// Where a request may go, best first.
#[derive(Clone, Debug)]
pub struct Decision {
    pub candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
pub struct Candidate {
    pub provider: Arc<Provider>,
    /// The model to ask it for.
    pub model: ModelName,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller named the provider.
    Named,
    /// The provider lists the model.
    Listed,
}

/// Decides from what the caller named.
///
/// # Errors
/// If no provider can serve it: the failure says which part of the name is unknown, or why the
/// provider that has it isn't available.
pub fn decide(
    snapshot: &Snapshot,
    wanted: &ModelName,
    operation: OperationKind,
) -> Result<Decision, Failure> {
    if let Some((state, model)) = split(snapshot, wanted) {
        let provider = match state {
            ProviderState::Ready(provider) => Arc::clone(provider),
            ProviderState::Unavailable { reason, .. } => return Err(unavailable(wanted, reason)),
        };
        if !provider.plugin.can(operation) {
            return Err(cannot(&provider, operation));
        }
        if let Some(advice) = provider.missing_key() {
            return Err(keyless(advice));
        }
        // Any model of a named provider goes, listed or not.
        let model = provider.listed(&model).cloned().unwrap_or(model);
        let reason = Reason::Named;
        return Ok(Decision { candidates: vec![Candidate { provider, model, reason }] });
    }
    let mut candidates = Vec::new();
    let mut refused = None;
    for state in snapshot.providers.values() {
        match state {
            ProviderState::Ready(provider) => {
                let Some(model) = provider.listed(wanted) else { continue };
                if let Some(advice) = provider.missing_key() {
                    refused.get_or_insert_with(|| keyless(advice));
                } else if provider.plugin.can(operation) {
                    candidates.push(Candidate {
                        provider: Arc::clone(provider),
                        model: model.clone(),
                        reason: Reason::Listed,
                    });
                } else {
                    refused.get_or_insert_with(|| cannot(provider, operation));
                }
            }
            ProviderState::Unavailable { reason, models, .. } if models.contains(wanted) => {
                refused.get_or_insert_with(|| unavailable(wanted, reason));
            }
            _ => {}
        }
    }
    candidates.truncate(MAX_ATTEMPTS);
    if candidates.is_empty() {
        return Err(refused.unwrap_or_else(|| unknown(snapshot, wanted)));
    }
    Ok(Decision { candidates })
}

/// The provider and the rest, if the name begins with a provider's.
fn split<'a>(snapshot: &'a Snapshot, wanted: &ModelName) -> Option<(&'a ProviderState, ModelName)> {
    let (provider, model) = wanted.as_str().split_once('/')?;
    let state = snapshot.providers.get(provider)?;
    Some((state, ModelName::new(model).ok()?))
}

fn cannot(provider: &Provider, operation: OperationKind) -> Failure {
    let what = match operation {
        OperationKind::Chat => "chat",
        OperationKind::Embed => "make embeddings",
        OperationKind::ListModels => "list models",
        OperationKind::Probe => "be probed",
        OperationKind::Other => "do this",
    };
    let message = format!("the provider '{}' can't {what}", provider.name);
    Failure::new(FailureKind::Unsupported, Fault::Caller, message)
}

fn keyless(advice: String) -> Failure {
    Failure::new(FailureKind::Authentication, Fault::Host, advice)
}

fn unavailable(wanted: &ModelName, reason: &str) -> Failure {
    Failure::new(
        FailureKind::Unavailable,
        Fault::Host,
        format!("'{wanted}' can't be served: {reason}"),
    )
}

fn unknown(snapshot: &Snapshot, wanted: &ModelName) -> Failure {
    let names = snapshot.providers.values().flat_map(ProviderState::models);
    let near = names
        .map(|name| (strsim::damerau_levenshtein(name.as_str(), wanted.as_str()), name))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    let advice = match near {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None => {
            "GET /v1/models lists what there is; 'provider/model' names any model of a provider"
                .into()
        }
    };
    let mut failure = Failure::new(
        FailureKind::ModelNotFound,
        Fault::Caller,
        format!("no provider lists the model '{wanted}': {advice}"),
    );
    failure.param = Some("model".into());
    failure.code = Some("model_not_found".into());
    failure
}
