//! Carries an operation out once, outside of routing, and keeps what went over the wire.

use std::sync::Arc;

use keyward_contract::OperationKind;

use super::{Gateway, today};
use crate::{
    Failure,
    attempt::{self, Attempt},
    catalog::Provider,
    contract::Event,
    egress::Secrets,
    exchange::Exchange,
    ids::RequestId,
    metering::Estimate,
    operation::Operation,
    tape::{Tape, Taped},
};

/// An exchange that was carried out to be recorded.
pub struct Recorded {
    pub provider: Arc<Provider>,
    pub taped: Taped,
    pub events: Vec<Event>,
    /// The provider's keys. What leaves this program must be searched for them.
    pub secrets: Secrets,
}

impl Gateway {
    /// Carries an operation out against one provider as for a caller, metered if it costs, and keeps
    /// what went over the wire. Nothing is tried again or elsewhere.
    ///
    /// # Errors
    /// If the provider isn't there, or the exchange ended otherwise than the adapter said: what
    /// broke then can't be replayed. A failure that the adapter told is on the tape.
    pub async fn record(&self, provider: &str, operation: &Operation) -> Result<Recorded, Failure> {
        let provider = self.provider(provider)?;
        let tape = Tape::default();
        let mut events = Vec::new();
        let ended = self.carry_out(&provider, operation, &tape, &mut events).await;
        let taped = tape.take();
        match ended {
            Err(failure) if taped.failure.is_none() => return Err(failure),
            _ => {}
        }
        let secrets = provider.secrets().await;
        Ok(Recorded { provider, taped, events, secrets })
    }

    async fn carry_out(
        &self,
        provider: &Arc<Provider>,
        operation: &Operation,
        tape: &Tape,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let id = RequestId::random()?;
        let (model, kind, streamed, prompt) = match operation {
            Operation::Chat(chat) => {
                (&chat.model, OperationKind::Chat, chat.stream, chat.expected_tokens())
            }
            Operation::Embed(embed) => {
                (&embed.model, OperationKind::Embed, false, embed.expected_tokens())
            }
            Operation::ListModels | Operation::Probe | Operation::CountTokens(_) => {
                let provider = Arc::clone(provider);
                let tape = Some(tape.clone());
                let key = provider.first_key();
                let mut exchange = Exchange::open_with(provider, operation, id, key, tape).await?;
                while let Some(more) = exchange.next().await {
                    events.append(&mut more?);
                }
                return Ok(());
            }
        };
        let reservation = self.inner.meter.reserve(&Estimate {
            request: id,
            attempt: 1,
            caller: "local".into(),
            provider: provider.name.clone(),
            model: model.clone(),
            operation: kind,
            streamed,
            tokens: attempt::estimate(prompt),
            tariff: provider.tariff(model, today()).cloned(),
        })?;
        let tape = Some(tape.clone());
        let mut attempt =
            Attempt::open(provider, operation, id, prompt, reservation, None, tape).await?;
        while let Some(more) = attempt.next().await {
            events.append(&mut more?);
        }
        Ok(())
    }
}
