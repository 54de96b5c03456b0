//! What the configuration says of kept answers, and of embeddings that are sent together or cut.

use std::time::Duration;

use schemars::JsonSchema;

use super::{human::ByteSize, schema};

/// How much of kept answers is held, over all providers that keep some.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CacheSizes {
    /// Memory for all of them, 64MiB unless given. Those that weren't asked for longest go first.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub size: Option<ByteSize>,
    /// The largest answer that is kept, 1MiB unless given.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub answer: Option<ByteSize>,
}

/// Answers of a provider that are given again to identical requests of the same caller.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AnswerCache {
    /// How long an answer is kept.
    #[schemars(schema_with = "schema::duration")]
    pub ttl: Duration,
}

/// How embeddings requests are put together, and cut to what the vendor takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Batching {
    /// How long a request waits for others of the same caller, to be sent with them as one; at most 1s.
    /// Without it, each is sent by itself.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub wait: Option<Duration>,
    /// The most inputs of one request to the vendor, 96 unless given. Requests with more are cut.
    #[schemars(range(min = 1, max = 10_000))]
    pub inputs: Option<u32>,
}
