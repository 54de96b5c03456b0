//! One attempt: an exchange on its way, and the reservation that becomes its row.
//!
//! Whatever becomes of an attempt, it leaves exactly one row: when it ends, when it fails, or when
//! it is dropped because the caller went away. What the row says is counted here, from the events
//! that come by, so that an adapter can't report more or less than the caller got.
//!
//! Costs: a few comparisons an event and one row in the meter's queue.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Failure,
    catalog::Provider,
    contract::{self, Event},
    exchange::Exchange,
    ids::RequestId,
    metering::{Outcome, Reservation, TokenUsage, Tokens},
    operation::Operation,
    tape::Tape,
};

/// Bytes of an answer a token stands for, where the vendor hasn't counted: English prose in common
/// tokenizers. Prompts are counted better, in [`crate::metering::estimate`]; answers come in pieces.
const BYTES_PER_TOKEN: u64 = 4;

/// What a vendor bills for a request it refused.
const NOTHING: TokenUsage = TokenUsage {
    input: Some(Tokens(0)),
    cache_read: None,
    cache_write: None,
    output: Some(Tokens(0)),
    reasoning: None,
};

/// What is expected of an attempt whose prompt takes so many tokens by the host's own count.
pub(crate) fn estimate(prompt: Tokens) -> TokenUsage {
    TokenUsage { input: Some(prompt), ..TokenUsage::default() }
}

fn tokens(bytes: u64) -> Tokens {
    Tokens(bytes.div_ceil(BYTES_PER_TOKEN))
}

/// An exchange whose events are counted as they pass.
pub(crate) struct Attempt {
    exchange: Exchange,
    /// Taken when settled.
    reservation: Option<Reservation>,
    /// When the last events were handed out; the time until more are asked for is the caller's.
    handed_out: Option<Instant>,
    /// The host's own count of the prompt.
    prompt: Tokens,
    answer_bytes: u64,
    vendor_counted: bool,
    _place: OwnedSemaphorePermit,
}

impl Attempt {
    /// Takes a place at the provider and opens the exchange.
    ///
    /// # Errors
    /// If the provider is at its limit, or its adapter can't be started; the reservation is
    /// settled with that.
    pub async fn open(
        provider: &Arc<Provider>,
        operation: &Operation,
        id: RequestId,
        prompt: Tokens,
        reservation: Reservation,
        tape: Option<Tape>,
    ) -> Result<Self, Failure> {
        let opened = async {
            let place = provider.place().await?;
            let exchange = Exchange::open_with(Arc::clone(provider), operation, id, tape).await?;
            Ok((place, exchange))
        };
        match opened.await {
            Ok((place, exchange)) => Ok(Self {
                exchange,
                reservation: Some(reservation),
                handed_out: None,
                prompt,
                answer_bytes: 0,
                vendor_counted: false,
                _place: place,
            }),
            Err(failure) => {
                let mut reservation = reservation;
                reservation.usage(NOTHING);
                reservation.settle(outcome(&failure));
                Err(failure)
            }
        }
    }

    /// See [`Exchange::next`].
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        if let Some(since) = self.handed_out.take() {
            self.exchange.waited(since.elapsed());
        }
        let next = self.exchange.next().await;
        match &next {
            Some(Ok(events)) => {
                self.count(events);
                self.handed_out = Some(Instant::now());
            }
            Some(Err(failure)) => self.settle(outcome(failure)),
            None => self.settle(Outcome::Ok),
        }
        next
    }

    /// Host and sandbox time so far.
    pub fn busy(&self) -> Duration {
        let theirs = self.handed_out.map(|at| at.elapsed()).unwrap_or_default();
        self.exchange.busy().saturating_sub(theirs)
    }

    fn count(&mut self, events: &[Event]) {
        let Some(reservation) = &mut self.reservation else { return };
        for event in events {
            match event {
                Event::Text(d) | Event::Thinking(d) | Event::Refusal(d) => {
                    self.answer_bytes += d.text.len() as u64;
                }
                Event::ToolArguments(piece) => self.answer_bytes += piece.fragment.len() as u64,
                Event::Usage(usage) => {
                    self.vendor_counted = true;
                    reservation.usage(counted(usage));
                }
                Event::Started(started) => {
                    if let Some(id) = &started.id {
                        reservation.vendor_request_id(id);
                    }
                }
                _ => {}
            }
        }
        if events.iter().any(is_content) {
            reservation.first_token();
        }
    }

    /// Writes the row, once.
    fn settle(&mut self, outcome: Outcome) {
        let busy = self.busy();
        let Some(mut reservation) = self.reservation.take() else { return };
        let failed = matches!(outcome, Outcome::Failed { .. });
        if failed && self.answer_bytes == 0 && !self.vendor_counted {
            reservation.usage(NOTHING);
        } else if !self.vendor_counted {
            reservation.estimate(TokenUsage {
                output: Some(tokens(self.answer_bytes)),
                ..estimate(self.prompt)
            });
        }
        reservation.overhead(busy);
        reservation.settle(outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.settle(Outcome::Cancelled);
    }
}

/// True for what a caller would miss: after it, the answer can't be begun anew elsewhere.
pub(crate) fn is_content(event: &Event) -> bool {
    !matches!(
        event,
        Event::Started(_)
            | Event::Usage(_)
            | Event::RateLimit(_)
            | Event::Warning(_)
            | Event::Attribute(_)
            | Event::Other(_)
    )
}

fn outcome(failure: &Failure) -> Outcome {
    Outcome::Failed { kind: failure.kind, fault: failure.fault }
}

fn counted(usage: &contract::Usage) -> TokenUsage {
    TokenUsage {
        input: usage.input.map(Tokens),
        cache_read: usage.cache_read.map(Tokens),
        cache_write: usage.cache_write.map(Tokens),
        output: usage.output.map(Tokens),
        reasoning: usage.reasoning.map(Tokens),
    }
}
