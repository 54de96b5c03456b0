//! The bracket around an attempt: reserved before it is sent, settled after.
//!
//! This is where budgets come in: a reservation will hold the estimated cost until the real one is
//! known. No budget can be configured yet, so every reservation is granted. What holds already: each
//! attempt leaves exactly one row, whatever ends it.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use keyward_contract::OperationKind;

use super::{AttemptRecord, Meter, Outcome, TokenUsage};
use crate::{
    failure::Failure,
    ids::{ModelName, ProviderName, RequestId},
};

/// What is known of an attempt before it is sent.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub request: RequestId,
    /// Counts from 1 within the request.
    pub attempt: u32,
    pub caller: Arc<str>,
    pub provider: ProviderName,
    pub model: ModelName,
    pub operation: OperationKind,
    pub streamed: bool,
    /// Tokens the attempt is expected to take, the host's own count.
    pub tokens: TokenUsage,
}

/// An attempt under way. Fill in what becomes known through [`Reservation::row`], then settle.
/// Dropped without, it is settled as cancelled with what is known.
#[must_use = "an attempt that isn't settled counts as cancelled"]
pub struct Reservation {
    meter: Meter,
    began: Instant,
    /// Taken when settled.
    row: Option<AttemptRecord>,
}

impl Meter {
    /// Asks for leave to make an attempt, and starts its clock.
    ///
    /// # Errors
    /// None yet. Later [`Failure`] where a budget is spent.
    #[allow(clippy::result_large_err, reason = "a failure is rare and moved once")]
    pub fn reserve(&self, estimate: &Estimate) -> Result<Reservation, Failure> {
        let row = AttemptRecord {
            request: estimate.request,
            attempt: estimate.attempt,
            started: Timestamp::now(),
            caller: estimate.caller.clone(),
            provider: estimate.provider.clone(),
            model: estimate.model.clone(),
            operation: estimate.operation,
            streamed: estimate.streamed,
            tokens: estimate.tokens,
            // Until the vendor says better.
            estimated: estimate.tokens != TokenUsage::default(),
            latency: std::time::Duration::ZERO,
            first_token: None,
            overhead: std::time::Duration::ZERO,
            outcome: Outcome::Cancelled,
            vendor_request_id: None,
        };
        Ok(Reservation { meter: self.clone(), began: Instant::now(), row: Some(row) })
    }
}

impl Reservation {
    /// Replaces the estimate by the vendor's numbers, which are cumulative: fields it gives count,
    /// others stay.
    pub fn usage(&mut self, usage: TokenUsage) {
        if let Some(row) = &mut self.row {
            if row.estimated {
                row.tokens = TokenUsage::default();
                row.estimated = false;
            }
            let known = row.tokens;
            row.tokens = TokenUsage {
                input: usage.input.or(known.input),
                cache_read: usage.cache_read.or(known.cache_read),
                cache_write: usage.cache_write.or(known.cache_write),
                output: usage.output.or(known.output),
                reasoning: usage.reasoning.or(known.reasoning),
            };
        }
    }

    /// The host's own count, where the vendor gave none.
    pub fn estimate(&mut self, usage: TokenUsage) {
        if let Some(row) = &mut self.row {
            row.tokens = usage;
            row.estimated = true;
        }
    }

    /// Content has arrived. Only the first call counts.
    pub fn first_token(&mut self) {
        let since = self.began.elapsed();
        if let Some(row) = &mut self.row {
            row.first_token.get_or_insert(since);
        }
    }

    /// Time spent in the host and the sandbox so far.
    pub fn overhead(&mut self, overhead: std::time::Duration) {
        if let Some(row) = &mut self.row {
            row.overhead = overhead;
        }
    }

    pub fn vendor_request_id(&mut self, id: &str) {
        if let Some(row) = &mut self.row {
            row.vendor_request_id = Some(id.to_owned());
        }
    }

    /// Ends the attempt and records its row. Doesn't block.
    pub fn settle(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(mut row) = self.row.take() {
            row.latency = self.began.elapsed();
            row.outcome = outcome;
            self.meter.record(row.bounded());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
    }
}
