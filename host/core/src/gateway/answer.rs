//! One answer on its way to the caller.

use std::time::Duration;

use super::{carrying::Begun, relay::Relay};
use crate::{
    Failure,
    attempt::Attempt,
    cache::CacheUse,
    contract::Event,
    ids::{ModelName, ProviderName, RequestId},
    routing::carry::Tried,
};

/// One answer, as it comes. Dropping it cancels the vendor's request at once and settles the bill
/// with what came.
pub struct Answer {
    pub request: RequestId,
    pub provider: ProviderName,
    /// The model asked of the provider.
    pub model: ModelName,
    /// How many attempts were made before its first content, this one included.
    pub attempts: u32,
    /// Everything that was tried until then, in its order.
    pub tried: Vec<Tried>,
    pub(super) first: Option<Vec<Event>>,
    /// Host time before this attempt: the choice, and attempts that failed.
    pub(super) before: Duration,
    pub(super) attempt: Attempt,
    /// Where a broken stream is to be gone on with elsewhere.
    pub(super) relay: Option<Box<Relay>>,
}

impl Answer {
    /// The events that have arrived together, never an empty list; `None` after the valid end.
    ///
    /// Not to be cancelled halfway: keep the future, or drop the whole answer.
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        loop {
            let next = match self.first.take() {
                Some(first) if !first.is_empty() => Some(Ok(first)),
                _ => self.attempt.next().await,
            };
            let Some(relay) = &mut self.relay else { return next };
            match next {
                Some(Ok(events)) => {
                    let events = relay.pass(events);
                    if !events.is_empty() {
                        return Some(Ok(events));
                    }
                }
                Some(Err(failure)) => match relay.go_on(self.attempt.spent(), failure).await {
                    Ok(Begun { attempt, first, .. }) => {
                        self.attempt = attempt;
                        self.first = Some(first);
                    }
                    Err(failure) => return Some(Err(failure)),
                },
                None => return None,
            }
        }
    }

    /// What became of it where answers are kept.
    pub fn cache(&self) -> Option<CacheUse> {
        self.attempt.cache()
    }

    /// Time spent in the host and the sandbox so far, waiting for the vendor not counted.
    pub fn overhead(&self) -> Duration {
        self.before + self.attempt.busy()
    }
}
