//! Which providers may serve a request, in which order and why; and what happens when one fails.
//!
//! A request is decided on once: [`Roster::decide`] looks its name up, takes out who may not serve
//! it, and puts the rest in the order privacy, cost, performance. Privacy comes first in that a
//! sensitive request's candidates are local, whatever else holds. Of those left the cheapest for this
//! very request is first, by the host's count of its tokens and the prices that hold today; equals are
//! told apart by how fast they answered lately. The [`Decision`] is a value: nothing in it needs a
//! network, so it can be explained, logged, returned and tested.
//!
//! [`carry`] then tries the candidates within one budget of attempts and time, and [`journal`] keeps
//! what became of the latest requests.
//!
//! What it costs: a few lookups and one sort of the candidates. A request that may go to any model
//! ([`AUTO`]) looks from the cheapest on until it has enough. `cargo bench --bench routing` has both for
//! twenty providers with two hundred models.

pub mod carry;
mod cost;
pub mod gate;
pub(crate) mod hedge;
pub mod journal;
pub mod keyring;
pub(crate) mod leave;
mod listing;
mod roster;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use keyward_contract::{Decimal, OperationKind, ProviderKind, price::Day};
use serde::Serialize;

pub use roster::{Entry, Roster, RouteState, Serves};

use self::keyring::NoKey;
use crate::{
    Failure, FailureKind, Fault, health,
    ids::{ModelName, ProviderName, RouteName},
    metering::Tokens,
};

/// The name that means "whatever is best": all models that are listed, unless a route has it.
pub const AUTO: &str = "auto";

/// What routing needs to know of a request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// As the caller wrote it.
    pub model: ModelName,
    pub operation: OperationKind,
    pub needs: Needs,
    /// The host's own count of the prompt.
    pub tokens: Tokens,
    /// The most tokens the caller lets the answer have.
    pub max_output: Option<u32>,
    /// Why it may not leave the user's machines, if so.
    pub sensitive: Option<Sensitive>,
    /// Models that nobody configured, and providers that say themselves that they have them.
    pub told: Vec<(ModelName, ProviderName)>,
}

/// What a request asks of a model beyond text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub tools: bool,
    pub images: bool,
    pub json_schema: bool,
}

impl Needs {
    /// The names of capabilities, as adapters and vendors spell them.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let all =
            [(self.tools, "tools"), (self.images, "images"), (self.json_schema, "json-schema")];
        all.into_iter().filter_map(|(needed, name)| needed.then_some(name))
    }
}

/// Why a request is sensitive. Never holds what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitive {
    /// The caller said so.
    Marked,
    /// The route it came by is for sensitive requests.
    Route(RouteName),
    /// A detector of this name found something.
    Detected(Arc<str>),
}

impl fmt::Display for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marked => f.write_str("the caller marked it as sensitive"),
            Self::Route(route) => write!(f, "the route '{route}' is for sensitive requests"),
            Self::Detected(detector) => write!(f, "'{detector}' was detected in it"),
        }
    }
}

/// How a provider and its model fare, as routing is told by whoever keeps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Fit,
    /// It failed; nothing is sent there for so long.
    Down {
        left: Duration,
    },
    /// It asked to be left alone for so long.
    Limited {
        left: Duration,
    },
    /// An operator took it out.
    Disabled,
}

impl Standing {
    /// How it fares by health's word, where `rests` says of one that is well whether its keys rest.
    pub(crate) fn of(
        standing: &health::Standing,
        rests: impl FnOnce() -> Option<NoKey>,
        now: Instant,
    ) -> Self {
        match standing {
            health::Standing::Healthy | health::Standing::Probation => match rests() {
                // That none is set is for [`Outlook::missing_key`] to say.
                None | Some(NoKey::Nowhere) => Self::Fit,
                Some(NoKey::Resting { left, limited: true }) => Self::Limited { left },
                Some(NoKey::Resting { left, limited: false }) => Self::Down { left },
            },
            health::Standing::Down { until, why } => {
                let left = until.saturating_duration_since(now);
                match why {
                    health::Why::CoolingDown => Self::Limited { left },
                    _ => Self::Down { left },
                }
            }
            health::Standing::Disabled { .. } => Self::Disabled,
        }
    }
}

/// See [`Outlook::fares`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fares {
    pub standing: Standing,
    pub latency: Option<Duration>,
}

/// What routing looks at that changes from one moment to the next.
pub trait Outlook {
    fn standing(&self, provider: &ProviderName, model: &ModelName) -> Standing;
    /// How long it lately took to the first content.
    fn latency(&self, provider: &ProviderName, model: &ModelName) -> Option<Duration>;
    /// Both for several models of one provider, in their order.
    fn fares(&self, provider: &ProviderName, models: &[&ModelName]) -> Vec<Fares> {
        let fares = |model: &&ModelName| Fares {
            standing: self.standing(provider, model),
            latency: self.latency(provider, model),
        };
        models.iter().map(fares).collect()
    }
    /// Requests that are under way at a provider.
    fn open(&self, _: &ProviderName) -> u32 {
        0
    }
    /// What to do before the provider can be used, if a required key is nowhere.
    fn missing_key(&self, provider: &ProviderName) -> Option<String>;
    /// The day whose prices hold.
    fn today(&self) -> Day;
    /// A number that nobody can tell beforehand.
    fn random(&self) -> u64;
}

/// Where a request may go, best first, and where not, as far as anybody looked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// What the caller named.
    pub model: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<Sensitive>,
    pub candidates: Vec<Candidate>,
    pub refused: Vec<Refused>,
    /// Why there is no candidate, where it isn't because all were refused.
    #[serde(skip)]
    pub(crate) failure: Option<Box<Failure>>,
}

impl Decision {
    /// Asks this one after all others.
    pub(crate) fn put_last(&mut self, provider: &ProviderName, model: &ModelName) {
        self.candidates.sort_by_key(|other| other.provider == *provider && other.model == *model);
    }
}

/// A provider's model that may serve the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    pub provider: ProviderName,
    /// The model to ask it for.
    pub model: ModelName,
    #[serde(serialize_with = "kind")]
    pub kind: ProviderKind,
    pub reason: Reason,
    /// What the request is expected to cost, in dollars. None if nobody knows a price.
    pub cost: Option<Decimal>,
    /// How long it lately took to the first content.
    #[serde(rename = "latency_us", serialize_with = "micros")]
    pub latency: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The caller named the provider.
    Named,
    /// The provider lists the model.
    Listed,
    /// The route names it.
    Route,
    /// It stands in for a model that is missing, as configured.
    Fallback,
    /// It can do what a model that is missing could.
    Comparable,
}

/// A provider's model that may not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    pub provider: ProviderName,
    pub model: ModelName,
    #[serde(flatten)]
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "detail")]
pub enum Why {
    /// It isn't local, and the request is sensitive.
    External,
    /// It can't be used as it is configured: what to do about it.
    Unavailable(String),
    Keyless(String),
    /// Its adapter can't do this operation.
    Unable(String),
    Disabled,
    /// It failed lately.
    Down {
        #[serde(rename = "for_ms", serialize_with = "millis")]
        left: Duration,
    },
    /// It asked to be left alone.
    Limited {
        #[serde(rename = "for_ms", serialize_with = "millis")]
        left: Duration,
    },
    /// The model can't do this, and another one can.
    Lacks(&'static str),
    /// The prompt doesn't fit into this many tokens, and another model has more.
    TooLong {
        context_window: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("it isn't local"),
            Self::Unavailable(why) | Self::Keyless(why) | Self::Unable(why) => f.write_str(why),
            Self::Disabled => f.write_str("an operator disabled it"),
            Self::Down { left } => {
                write!(f, "it failed lately and is left alone for {} ms", left.as_millis())
            }
            Self::Limited { left } => {
                write!(f, "it limits how often it is asked, for {} ms more", left.as_millis())
            }
            Self::Lacks(what) => write!(f, "the model has no {what}"),
            Self::TooLong { context_window } => {
                write!(f, "the prompt doesn't fit into its {context_window} tokens")
            }
        }
    }
}

impl Decision {
    /// Why nobody may serve the request, where nobody may.
    pub fn failure(&self) -> Option<Failure> {
        if !self.candidates.is_empty() {
            return None;
        }
        if let Some(failure) = &self.failure {
            return Some(Failure::clone(failure));
        }
        let model = &self.model;
        if let Some(because) = &self.sensitive
            && self.refused.iter().any(|refused| refused.why == Why::External)
        {
            let mut failure = Failure::new(
                FailureKind::Permission,
                Fault::Caller,
                format!(
                    "'{model}' was not asked: {because}, so only local providers may serve it, and \
                     none can{}",
                    self.locals()
                ),
            );
            failure.code = Some("sensitive".into());
            return Some(failure);
        }
        // The one that comes back soonest says when to ask again.
        let left = |refused: &Refused| match refused.why {
            Why::Down { left } => Some((left, FailureKind::Unavailable)),
            Why::Limited { left } => Some((left, FailureKind::RateLimited)),
            _ => None,
        };
        if let Some((soonest, kind)) =
            self.refused.iter().filter_map(left).min_by_key(|(left, _)| *left)
        {
            let message =
                format!("'{model}' can't be served right now: {}", self.reasons().join("; "));
            let mut failure = Failure::new(kind, Fault::Vendor, message);
            failure.retry_after = Some(soonest);
            return Some(failure);
        }
        let refused = self.refused.first()?;
        Some(match &refused.why {
            Why::Keyless(advice) => {
                Failure::new(FailureKind::Authentication, Fault::Host, advice.clone())
            }
            Why::Unable(what) => Failure::new(
                FailureKind::Unsupported,
                Fault::Caller,
                format!("the provider '{}' {what}", refused.provider),
            ),
            why => Failure::new(
                FailureKind::Unavailable,
                Fault::Host,
                format!("'{model}' can't be served: {why}"),
            ),
        })
    }

    /// What keeps the local ones from it, if there are any.
    fn locals(&self) -> String {
        let others = self.refused.iter().filter(|refused| refused.why != Why::External);
        let others: Vec<String> =
            others.map(|refused| format!("{}: {}", refused.provider, refused.why)).collect();
        if others.is_empty() { String::new() } else { format!(" ({})", others.join("; ")) }
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |r: &Refused| format!("{}/{}: {}", r.provider, r.model, r.why);
        self.refused.iter().map(reason).collect()
    }
}

fn kind<S: serde::Serializer>(kind: &ProviderKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        ProviderKind::Local => "local",
        ProviderKind::External => "external",
    })
}

fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn micros<S: serde::Serializer>(time: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => s.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        None => s.serialize_none(),
    }
}
