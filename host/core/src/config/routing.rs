//! What the configuration says of routing: named routes, and how attempts are made.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;

use super::schema;
use crate::ids::{ModelName, ProviderName};

/// A named list of candidates. Callers name it in a model's place.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// Who may serve it: `provider/model`, or a model, which means every provider that lists it.
    #[schemars(with = "Vec<RouteTarget>", length(min = 1))]
    pub candidates: Vec<RouteTarget>,
    /// Whether the cheapest candidate is first (`cost`, unless given) or the first one written
    /// (`listed`).
    #[schemars(with = "Option<Order>")]
    pub order: Order,
    /// Whether every request on this route counts as sensitive, so that only local providers may
    /// serve it. False unless given.
    #[schemars(with = "Option<bool>")]
    pub sensitive: bool,
}

/// A candidate of a route: `provider/model`, or a model of whoever lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    pub provider: Option<ProviderName>,
    pub model: ModelName,
}

impl std::fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.provider {
            Some(provider) => write!(f, "{provider}/{}", self.model),
            None => write!(f, "{}", self.model),
        }
    }
}

impl JsonSchema for RouteTarget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RouteTarget".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ModelName::json_schema(generator)
    }
}

/// What comes first among candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Order {
    /// The cheapest for the request at hand; of equals, the one that answered faster lately.
    #[default]
    Cost,
    /// The first one written.
    Listed,
}

/// How requests are carried out.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Routing {
    /// What comes first among providers that list the same model: `cost` unless given.
    #[schemars(with = "Option<Order>")]
    pub order: Order,
    /// Attempts of one request over all providers and retries together, 4 unless given.
    #[schemars(with = "Option<u32>", range(min = 1, max = 16))]
    pub attempts: u32,
    /// How many times those whose failure may pass are asked again, once nobody else is left; 2 unless
    /// given.
    #[schemars(with = "Option<u32>", range(min = 0, max = 16))]
    pub retries: u32,
    /// No further attempt begins later than so long after the request came; 30s unless given.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub time: Duration,
    /// How long a request waits for an answer to begin before another candidate is asked as well; 3s
    /// unless given. A model that lately took longer has twice its usual time.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub patience: Duration,
    /// Whether whole answers are asked for as streams while another candidate is left, so that
    /// `patience` holds for them as well: nobody can tell a long answer from a lost one otherwise. True
    /// unless given.
    #[schemars(with = "Option<bool>")]
    pub watch: bool,
    /// The longest wait for a provider that asks to be left alone, where nobody else can serve; 10s
    /// unless given. Longer ones are handed on to the caller.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub longest_wait: Duration,
    /// What stands in for a model that is missing or fails everywhere, in this order.
    #[schemars(with = "Option<std::collections::BTreeMap<ModelName, Vec<RouteTarget>>>")]
    pub fallback: IndexMap<ModelName, Vec<RouteTarget>>,
    /// Whether a model that no provider lists, but an adapter knows, may be served by the cheapest
    /// listed one that can do as much. False unless given.
    #[schemars(with = "Option<bool>")]
    pub comparable: bool,
    /// What happens to a stream that breaks after its first content.
    #[schemars(with = "Option<Streams>")]
    pub streams: Streams,
    /// Whether another candidate is asked as well when one takes its time: the first that begins
    /// answers. Both may bill it. Off unless given.
    pub hedge: Option<Hedge>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            order: Order::default(),
            attempts: 4,
            retries: 2,
            time: Duration::from_secs(30),
            patience: Duration::from_secs(3),
            watch: true,
            longest_wait: Duration::from_secs(10),
            fallback: IndexMap::new(),
            comparable: false,
            streams: Streams::default(),
            hedge: None,
        }
    }
}

/// When another candidate is asked while one is being asked.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hedge {
    /// After so long without content: longer than nearly all requests take to begin.
    #[schemars(schema_with = "schema::duration")]
    pub after: Duration,
    /// Of a hundred requests, so many may ask a second candidate; 10 unless given.
    #[schemars(with = "Option<u32>", range(min = 1, max = 100))]
    pub share: u32,
}

impl Hedge {
    /// Unless configured: the slowest tenth is what hedging is for.
    pub const SHARE: u32 = 10;
}

/// How it is found out whether providers are fit.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HealthChecks {
    /// Whether providers and models that fail are left alone for a while, and those that weren't used
    /// lately are asked, by requests that cost nothing. True unless given.
    #[schemars(with = "Option<bool>")]
    pub enabled: bool,
    /// How often, 30s unless given; those that fail four times as often.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub interval: Duration,
    /// After so many failures in a row a model is left alone; 5 unless given.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1000))]
    pub failures: u32,
    /// Also if so many in a hundred fail, in a row or not; 50 unless given.
    #[schemars(with = "Option<u32>", range(min = 1, max = 100))]
    pub share: u32,
    /// The fewest attempts of which `share` says anything; 10 unless given.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1000))]
    pub of: u32,
    /// Attempts count towards `share` for so long; 30s unless given, 1h at most.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub within: Duration,
    /// How long it is left alone the first time; 5s unless given, 1h at most.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub rest: Duration,
    /// What `rest` grows to, doubled each time that it still fails; 5m unless given, 1h at most.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub longest_rest: Duration,
}

impl HealthChecks {
    /// Nothing is counted or left alone for longer: what isn't used for so long is forgotten.
    pub const LONGEST: Duration = Duration::from_secs(3_600);
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(30),
            failures: 5,
            share: 50,
            of: 10,
            within: Duration::from_secs(30),
            rest: Duration::from_secs(5),
            longest_rest: Duration::from_secs(300),
        }
    }
}

/// What happens to a stream that breaks after its first content. Whatever it is, the caller gets one
/// answer, one valid end and one bill: without more it ends with a typed error.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Streams {
    /// So long is the beginning of a stream held back, so that one that breaks in this time is begun
    /// anew elsewhere without the caller's noticing. Nothing is held back unless given.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub hold: Option<Duration>,
    /// What happens where a stream breaks that the caller has seen the beginning of: `end` unless
    /// given.
    #[schemars(with = "Option<Broken>")]
    pub broken: Broken,
}

/// What happens to a broken stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Broken {
    /// It ends with an error.
    #[default]
    End,
    /// Another candidate is given what came so far and asked to go on, where it is plain text: not
    /// within a tool call, a JSON schema, or one of several choices. Both bill it.
    Continue,
}
