//! What is kept of one attempt.

use std::{collections::BTreeMap, iter::Sum, ops::Add, sync::Arc, time::Duration};

use jiff::Timestamp;
use keyward_contract::{Decimal, OperationKind, price::Currency};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{FailureKind, Fault},
    ids::{ModelName, ProviderName, RequestId},
};

/// The longest vendor request id kept, in bytes: vendors' are below 64. The rest is cut.
pub const MAX_VENDOR_REQUEST_ID: usize = 128;

/// The most units kept of one attempt, and the longest of their names in bytes. Vendors report a
/// handful with short names; more is an adapter's flood and is left out.
pub const MAX_UNITS: usize = 16;
pub const MAX_UNIT_NAME: usize = 64;

/// A number of tokens. Adding saturates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl Add for Tokens {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::default(), Self::add)
    }
}

/// Tokens of one attempt, as the contract's `usage` defines them. `None` means unknown, not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// All of the prompt, cached ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Tokens>,
    /// Of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Tokens>,
    /// Of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Tokens>,
    /// All of the answer, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Tokens>,
    /// Of `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Tokens>,
}

/// What one attempt cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub amount: Decimal,
    pub currency: Currency,
    /// The version of the prices, as [`keyward_contract::price::Tariff::version`] names it.
    pub prices: Arc<str>,
    /// What was counted and has no price: if any, the amount is too low.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpriced: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    Failed {
        kind: FailureKind,
        fault: Fault,
    },
    /// The caller left, or the host dropped the attempt.
    Cancelled,
}

/// One attempt. Its JSON form is what is stored and what `--json` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    #[serde(with = "request_id")]
    pub request: RequestId,
    /// Counts from 1 within the request.
    pub attempt: u32,
    pub started: Timestamp,
    pub caller: Arc<str>,
    pub provider: ProviderName,
    pub model: ModelName,
    pub operation: OperationKind,
    pub streamed: bool,
    pub tokens: TokenUsage,
    /// Other units by the vendor's names for them, at most [`MAX_UNITS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, Decimal>,
    /// The vendor gave no usage; the host counted itself.
    pub estimated: bool,
    /// Answered with a kept answer: no vendor was asked, and nothing was billed. Rows from before there
    /// were any don't say it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// None where no price is known, or where costs aren't tracked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<Charge>,
    /// From the start of the attempt to its end.
    #[serde(rename = "latency_us", with = "micros")]
    pub latency: Duration,
    /// From the start of the attempt to the first piece of content.
    #[serde(
        rename = "first_token_us",
        with = "optional_micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub first_token: Option<Duration>,
    /// Of `latency`: spent in the host and the sandbox, not waiting for the vendor.
    #[serde(rename = "overhead_us", with = "micros")]
    pub overhead: Duration,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_request_id: Option<String>,
}

impl AttemptRecord {
    /// Cuts what a vendor could have made long.
    pub(super) fn bounded(mut self) -> Self {
        if let Some(id) = &mut self.vendor_request_id {
            id.truncate(id.floor_char_boundary(MAX_VENDOR_REQUEST_ID));
        }
        self
    }
}

/// A duration as whole microseconds.
pub(super) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}

mod optional_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::micros::serialize(time, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_micros))
    }
}

/// As it is shown everywhere: `kw-` and 32 hex digits.
mod request_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::ids::RequestId;

    pub fn serialize<S: Serializer>(id: &RequestId, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RequestId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(D::Error::custom)
    }
}
