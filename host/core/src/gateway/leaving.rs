//! Tells of requests whose caller leaves before the first content.
//!
//! Such a request ends by being dropped, and everything that would have told of it with it. So who
//! carries a request out holds a [`Pending`], which notes it as left, with what was tried by then,
//! unless it is told that the request is over.

use std::{sync::Arc, time::Instant};

use super::Way;
use crate::routing::{
    carry::{Carried, Carrier, Carry},
    journal::{Ended, Journal, Routed},
};

/// A request on its way to its first content.
pub(super) struct Pending<'a> {
    way: &'a Way<'a>,
    journal: &'a Journal,
    began: Instant,
    carry: Carry<'a>,
    over: bool,
}

impl<'a> Pending<'a> {
    pub fn new(way: &'a Way<'a>, journal: &'a Journal, began: Instant, carry: Carry<'a>) -> Self {
        Self { way, journal, began, carry, over: false }
    }

    /// Carries it out. Whoever gets what came of it tells of it.
    pub async fn run<C: Carrier>(mut self, carrier: &C) -> Carried<C::Answer> {
        let carried = self.carry.run(carrier).await;
        self.over = true;
        carried
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (tried, attempts) = self.carry.leave(Instant::now());
        let Way { call, ask, decision, streamed, .. } = *self.way;
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request = %call.id, caller = &*call.caller.name, model = %ask.model, streamed, attempts, ms,
            "left by its caller"
        );
        self.journal.routed(Routed {
            request: call.id,
            when: jiff::Timestamp::now(),
            caller: Arc::clone(&call.caller.name),
            operation: ask.operation,
            streamed,
            decision: decision.clone(),
            tried,
            attempts,
            ended: Ended::Left,
            continued: Vec::new(),
        });
    }
}
