//! The front door of the library: takes an operation from a caller, gives events back.
//!
//! (Signatures that the surfaces build on; bodies follow.)

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    Failure,
    contract::Event,
    ids::{ModelName, ProviderName, RequestId},
    operation::{Chat, Embed},
};

/// Who asks. Usage is kept per caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As `server.tokens` names it; "local" where no token is configured.
    pub name: Arc<str>,
}

/// Where a gateway finds its files.
#[derive(Clone, Debug)]
pub struct Paths {
    pub config: PathBuf,
    pub plugins: PathBuf,
    pub data: PathBuf,
}

/// Cheap to clone; all clones are one gateway.
#[derive(Clone)]
pub struct Gateway {}

/// A model that a caller may name.
#[derive(Clone, Debug)]
pub struct ListedModel {
    pub id: ModelName,
    pub provider: ProviderName,
    /// Seconds since 1970, if known.
    pub created: Option<u64>,
}

impl Gateway {
    /// Chooses a provider, carries the chat out up to its first events, and returns them as the
    /// head of the answer. What fails before is an `Err`; what fails later comes from
    /// [`Answer::next`].
    pub async fn chat(&self, request: Chat, caller: Caller) -> Result<Answer, Failure> {
        let _ = (request, caller);
        todo!()
    }

    pub async fn embed(&self, request: Embed, caller: Caller) -> Result<Answer, Failure> {
        let _ = (request, caller);
        todo!()
    }

    /// Every model that can be named now, providers in the order of the configuration.
    pub async fn models(&self) -> Vec<ListedModel> {
        todo!()
    }
}

/// One answer, as it comes. Dropping it cancels the vendor's request at once and settles the bill
/// with what came.
pub struct Answer {
    pub request: RequestId,
    pub provider: ProviderName,
    /// The model asked of the provider.
    pub model: ModelName,
    /// How many providers were tried, this one included.
    pub attempts: u32,
}

impl Answer {
    /// The events that have arrived together, never an empty list; `None` after the valid end.
    pub async fn next(&mut self) -> Option<Result<Vec<Event>, Failure>> {
        todo!()
    }

    /// Time spent in the host and the sandbox so far, waiting for the vendor not counted.
    pub fn overhead(&self) -> Duration {
        todo!()
    }
}
