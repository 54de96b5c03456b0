//! Where the events of an attempt come from.

use std::{sync::Arc, time::Duration};

use crate::{
    Failure, batch::Pieces, catalog::Provider, contract::Event, exchange::Exchange, ids::RequestId,
    operation::Operation, routing::keyring::KeyAt, tape::Tape,
};

pub(super) enum Source {
    /// An exchange with the vendor, under way.
    Exchange(Box<Exchange>),
    /// Several, one after the other.
    Pieces(Box<Pieces>),
    /// An answer that is there already; None once it was given.
    Given(Option<Vec<Event>>),
}

impl Source {
    /// Begins what an operation takes.
    ///
    /// # Errors
    /// If the adapter can't be started.
    pub async fn open(
        provider: &Arc<Provider>,
        operation: &Operation,
        id: RequestId,
        key: KeyAt,
        tape: Option<Tape>,
    ) -> Result<Self, Failure> {
        // What is recorded is one exchange.
        if let (Operation::Embed(embed), None) = (operation, &tape)
            && let Some(pieces) = Pieces::of(provider, embed, key)?
        {
            return Ok(Self::Pieces(Box::new(pieces)));
        }
        let exchange = Exchange::open_with(Arc::clone(provider), operation, id, key, tape).await?;
        Ok(Self::Exchange(Box::new(exchange)))
    }

    /// See [`Exchange::next`].
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        match self {
            Self::Exchange(exchange) => exchange.next().await,
            Self::Pieces(pieces) => pieces.next().await,
            Self::Given(events) => events.take().filter(|events| !events.is_empty()).map(Ok),
        }
    }

    /// See [`Exchange::busy`].
    pub fn busy(&self) -> Duration {
        match self {
            Self::Exchange(exchange) => exchange.busy(),
            Self::Pieces(pieces) => pieces.busy(),
            Self::Given(_) => Duration::ZERO,
        }
    }

    /// See [`Exchange::waited`].
    pub fn waited(&mut self, time: Duration) {
        match self {
            Self::Exchange(exchange) => exchange.waited(time),
            Self::Pieces(pieces) => pieces.waited(time),
            Self::Given(_) => {}
        }
    }

    /// See [`Exchange::usage_is_doubtful`]. A piece whose usage is dropped counts as one without.
    pub fn usage_is_doubtful(&self) -> bool {
        match self {
            Self::Exchange(exchange) => exchange.usage_is_doubtful(),
            Self::Pieces(_) | Self::Given(_) => false,
        }
    }

    /// Vendor requests that are billed.
    pub fn requests(&self) -> u64 {
        match self {
            Self::Exchange(_) => 1,
            Self::Pieces(pieces) => pieces.requests(),
            Self::Given(_) => 0,
        }
    }
}
