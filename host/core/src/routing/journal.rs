//! What became of the latest requests, to be explained and watched.
//!
//! Keeps the last [`KEPT`] requests in memory with their decisions and attempts, and passes each on to
//! whoever watches. It holds names and numbers, no prompt, no answer and no key. A watcher that reads
//! too slowly misses entries and is told how many; nobody waits for it.
//!
//! Costs: about half a microsecond and 1 KB a request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use keyward_contract::OperationKind;
use serde::Serialize;
use tokio::sync::broadcast;

use super::{
    Decision,
    carry::{Tried, TriedOutcome},
};
use crate::{
    FailureKind, Fault,
    health::{Change, Transition},
    ids::{ModelName, ProviderName, RequestId},
};

/// Requests that can be explained later: some minutes of busy traffic, below 10 MB.
pub const KEPT: usize = 1_000;

/// Entries a watcher may be behind.
const WATCHED: usize = 1_024;

/// One request, as it was decided on and carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Routed {
    #[serde(serialize_with = "as_text")]
    pub request: RequestId,
    pub when: Timestamp,
    pub caller: Arc<str>,
    pub operation: OperationKind,
    pub streamed: bool,
    pub decision: Decision,
    /// In the order in which they were tried.
    pub tried: Vec<Tried>,
    pub attempts: u32,
    #[serde(flatten)]
    pub ended: Ended,
    /// Where its stream broke later, and who went on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continued: Vec<Continued>,
}

/// A stream that broke after its first content, and who went on with it.
#[derive(Clone, Debug, Serialize)]
pub struct Continued {
    pub broken: Broken,
    /// Bytes of text that the caller had got by then.
    #[serde(rename = "said_bytes")]
    pub said: usize,
    /// None if nobody did: the stream ended with an error.
    pub by: Option<ProviderName>,
    pub tried: Vec<Tried>,
    pub attempts: u32,
}

/// Who broke off, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    pub provider: ProviderName,
    pub model: ModelName,
    pub kind: FailureKind,
    pub fault: Fault,
}

/// How the routing of a request ended. What came of the answer later is in its usage row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "ended")]
pub enum Ended {
    Answered,
    Failed {
        kind: FailureKind,
        fault: Fault,
    },
    /// Its caller went away before the first content.
    Left,
}

fn as_text<S: serde::Serializer>(id: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// What operators can watch.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Notice {
    Request(Arc<Routed>),
    /// A provider or a model began or ceased to be fit.
    Health(HealthNotice),
    /// A stream broke after its first content.
    Continued(Seam),
}

/// A seam in a stream, for those who watch.
#[derive(Clone, Debug, Serialize)]
pub struct Seam {
    #[serde(serialize_with = "as_text")]
    pub request: RequestId,
    #[serde(flatten)]
    pub continued: Continued,
}

/// A change in how a provider or a model fares, for those who watch.
#[derive(Clone, Debug, Serialize)]
pub struct HealthNotice {
    pub provider: ProviderName,
    /// None for the provider as a whole.
    pub model: Option<ModelName>,
    pub change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<FailureKind>,
    /// What egress found, as `tls_error`, where the vendor said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// How long nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
}

impl From<&Transition> for HealthNotice {
    fn from(transition: &Transition) -> Self {
        let left = |until: Instant| {
            let left = until.saturating_duration_since(transition.at);
            Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        };
        let (change, symptom, for_ms, by) = match &transition.change {
            Change::Opened { symptom, until } => ("opened", Some(*symptom), left(*until), None),
            Change::Probation => ("probation", None, None, None),
            Change::Closed => ("closed", None, None, None),
            Change::CooledDown { until } => ("cooled-down", None, left(*until), None),
            Change::Disabled { by } => ("disabled", None, None, Some(by.clone())),
            Change::Forced { by } => ("forced", None, None, Some(by.clone())),
            Change::Released => ("released", None, None, None),
        };
        let (provider, model) = (transition.provider.clone(), transition.model.clone());
        let (kind, code) = (symptom.map(|it| it.kind), symptom.and_then(|it| it.code));
        Self { provider, model, change, kind, code, for_ms, by }
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub requests: u64,
    pub answered: u64,
    pub failed: u64,
    /// Requests whose caller left before the first content.
    pub left: u64,
    pub attempts: u64,
    /// Requests that another attempt answered than the first.
    pub failovers: u64,
    /// Streams that broke after their first content and were gone on with.
    pub continued: u64,
    /// Candidates that weren't asked because they rested or were full.
    pub skipped: u64,
    /// Requests that were answered with a kept answer.
    pub cached: u64,
    pub sensitive: u64,
}

/// See the module. Cheap to clone; all clones are one journal.
#[derive(Clone, Debug)]
pub struct Journal {
    kept: Arc<Mutex<Kept>>,
    watchers: broadcast::Sender<Notice>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Arc<Routed>>,
    counters: Counters,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Arc::default(), watchers: broadcast::Sender::new(WATCHED) }
    }
}

impl Counters {
    fn count(&mut self, routed: &Routed) {
        let answered = routed.ended == Ended::Answered;
        let skipped = |tried: &&Tried| matches!(tried.outcome, TriedOutcome::Skipped { .. });
        let skipped = routed.tried.iter().filter(skipped).count() as u64;
        self.requests += 1;
        self.answered += u64::from(answered);
        self.failed += u64::from(matches!(routed.ended, Ended::Failed { .. }));
        self.left += u64::from(routed.ended == Ended::Left);
        self.attempts += u64::from(routed.attempts);
        self.failovers += u64::from(answered && routed.attempts > 1);
        self.skipped += skipped;
        let cached = |tried: &&Tried| tried.outcome == TriedOutcome::Cached;
        self.cached += routed.tried.iter().filter(cached).count() as u64;
        self.sensitive += u64::from(routed.decision.sensitive.is_some());
    }
}

impl Journal {
    pub fn routed(&self, routed: Routed) {
        let routed = Arc::new(routed);
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.counters.count(&routed);
            if kept.latest.len() >= KEPT {
                kept.latest.pop_front();
            }
            kept.latest.push_back(Arc::clone(&routed));
        }
        self.notify(Notice::Request(routed));
    }

    /// A stream of a request that was told of before broke.
    pub fn continued(&self, request: RequestId, continued: Continued) {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.counters.continued += u64::from(continued.by.is_some());
            kept.counters.attempts += u64::from(continued.attempts);
            let known = kept.latest.iter_mut().rev().find(|routed| routed.request == request);
            if let Some(routed) = known {
                Arc::make_mut(routed).continued.push(continued.clone());
            }
        }
        self.notify(Notice::Continued(Seam { request, continued }));
    }

    pub fn notify(&self, notice: Notice) {
        // An error says that nobody watches.
        let _ = self.watchers.send(notice);
    }

    /// A request of the latest ones.
    pub fn find(&self, request: RequestId) -> Option<Arc<Routed>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.iter().rev().find(|routed| routed.request == request).cloned()
    }

    pub fn counters(&self) -> Counters {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).counters
    }

    /// Everything from now on.
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.watchers.subscribe()
    }
}
