//! The bracket around an attempt: reserved before it is sent, settled after.
//!
//! This is where budgets come in: a reservation will hold the estimated cost until the real one is
//! known. No budget can be configured yet, so every reservation is granted. What holds already: each
//! attempt leaves exactly one row, whatever ends it.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use keyward_contract::{
    Decimal, OperationKind,
    price::{Counts, Tariff, TooLarge},
};

use super::{
    AttemptRecord, Charge, Meter, Outcome, TokenUsage, Tokens,
    record::{MAX_UNIT_NAME, MAX_UNITS},
};
use crate::{
    contract,
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
    /// The prices that hold now. None if nobody knows any, or costs aren't tracked.
    pub tariff: Option<Arc<Tariff>>,
}

/// An attempt under way. Fill in what becomes known through [`Reservation::row`], then settle.
/// Dropped without, it is settled as cancelled with what is known.
#[must_use = "an attempt that isn't settled counts as cancelled"]
pub struct Reservation {
    meter: Meter,
    began: Instant,
    tariff: Option<Arc<Tariff>>,
    /// Requests that the vendor bills: none that it refused to serve.
    requests: u64,
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
            units: Default::default(),
            // Until the vendor says better.
            estimated: estimate.tokens != TokenUsage::default(),
            cached: false,
            charge: None,
            latency: std::time::Duration::ZERO,
            first_token: None,
            overhead: std::time::Duration::ZERO,
            outcome: Outcome::Cancelled,
            vendor_request_id: None,
        };
        Ok(Reservation {
            meter: self.clone(),
            began: Instant::now(),
            tariff: estimate.tariff.clone(),
            requests: 1,
            row: Some(row),
        })
    }
}

impl Reservation {
    /// Replaces the estimate by the vendor's numbers, which are cumulative: fields it gives count,
    /// others stay.
    pub fn usage(&mut self, usage: &contract::Usage) {
        let Some(row) = &mut self.row else { return };
        if row.estimated {
            row.tokens = TokenUsage::default();
            row.estimated = false;
        }
        let known = row.tokens;
        let newer = |given: Option<u64>, known: Option<Tokens>| given.map(Tokens).or(known);
        row.tokens = TokenUsage {
            input: newer(usage.input, known.input),
            cache_read: newer(usage.cache_read, known.cache_read),
            cache_write: newer(usage.cache_write, known.cache_write),
            output: newer(usage.output, known.output),
            reasoning: newer(usage.reasoning, known.reasoning),
        };
        for unit in &usage.units {
            let Some(amount) = Decimal::from_f64(unit.amount) else { continue };
            if let Some(known) = row.units.get_mut(&unit.name) {
                *known = amount;
            } else if row.units.len() < MAX_UNITS && unit.name.len() <= MAX_UNIT_NAME {
                row.units.insert(unit.name.clone(), amount);
            }
        }
    }

    /// More came than the vendor has counted so far.
    pub fn output_at_least(&mut self, tokens: Tokens) {
        if let Some(row) = &mut self.row
            && row.tokens.output.unwrap_or_default() < tokens
        {
            row.tokens.output = Some(tokens);
            row.estimated = true;
        }
    }

    /// What the row says of tokens now.
    pub fn token_usage(&self) -> TokenUsage {
        self.row.as_ref().map(|row| row.tokens).unwrap_or_default()
    }

    /// Tokens of prompt and answer, as far as they are known.
    pub fn tokens(&self) -> Tokens {
        let row = self.row.as_ref();
        let tokens = row.map(|row| [row.tokens.input, row.tokens.output]).unwrap_or_default();
        tokens.into_iter().flatten().sum()
    }

    /// The vendor didn't serve it, and so bills nothing.
    pub fn unserved(&mut self) {
        self.requests = 0;
        if let Some(row) = &mut self.row {
            let none = Some(Tokens(0));
            row.tokens = TokenUsage { input: none, output: none, ..TokenUsage::default() };
            row.units.clear();
            row.estimated = false;
        }
    }

    /// The vendor bills so many requests for it.
    pub fn requests(&mut self, requests: u64) {
        self.requests = requests;
    }

    /// Nothing became of it, and there is no row.
    pub fn forget(mut self) {
        self.row = None;
    }

    /// It was answered with a kept answer.
    pub fn cached(&mut self) {
        self.unserved();
        if let Some(row) = &mut self.row {
            row.cached = true;
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
            row.charge = self.tariff.as_deref().and_then(|tariff| {
                let charged = charge(tariff, &row, self.requests);
                // Counts that no vendor can mean: the row keeps them, without a price.
                charged.inspect_err(|error| tracing::warn!(%error, "a cost is unknown")).ok()
            });
            self.meter.record(row.bounded());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
    }
}

fn charge(tariff: &Tariff, row: &AttemptRecord, requests: u64) -> Result<Charge, TooLarge> {
    let count = |tokens: Option<Tokens>| tokens.map_or(0, |tokens| tokens.0);
    let cost = tariff.cost(&Counts {
        input: count(row.tokens.input),
        cache_read: count(row.tokens.cache_read),
        cache_write: count(row.tokens.cache_write),
        output: count(row.tokens.output),
        reasoning: count(row.tokens.reasoning),
        requests,
        units: row.units.iter().map(|(name, amount)| (name.as_str(), *amount)).collect(),
    })?;
    Ok(Charge {
        amount: cost.total,
        currency: cost.currency,
        prices: tariff.version().into(),
        unpriced: cost.unpriced.into_iter().map(str::to_owned).collect(),
    })
}
