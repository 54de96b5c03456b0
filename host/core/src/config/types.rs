//! The configuration as the rest of the host sees it: checked, typed, immutable.
//!
//! The doc comments of fields are what editors show: they end in the JSON Schema. `read.rs` fills
//! these types; a test keeps its field names and the schema's the same.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use keyward_contract::{Price, ProviderKind};
use schemars::JsonSchema;
use url::Url;

use super::{
    caching::{AnswerCache, Batching, CacheSizes},
    human::ByteSize,
    read::Source,
    routing::{HealthChecks, Route, RouteTarget, Routing},
    schema::{self, OneOrObject},
};
use crate::{
    ids::{AccountName, AdapterName, KeyName, ModelName, ProviderName, RouteName},
    privacy::PrivacyRules,
};

/// Where the server listens if nothing else is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8484);

/// Keyward's configuration, `providers.yaml`. Relative paths in it are relative to its folder.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// Where callers connect, and who may.
    #[schemars(with = "Option<Server>")]
    pub server: Server,
    /// The AI vendors in use, by a name of your choice. The order is kept: it is the order of the
    /// model list, and of preference where nothing else decides.
    #[schemars(with = "Option<std::collections::BTreeMap<ProviderName, Option<Provider>>>")]
    pub providers: IndexMap<ProviderName, Provider>,
    /// Named lists of candidates, which callers name in a model's place. Without any, providers that
    /// list the same model stand in for one another.
    #[schemars(
        with = "Option<std::collections::BTreeMap<RouteName, OneOrObject<Vec<RouteTarget>, Route>>>"
    )]
    pub routes: IndexMap<RouteName, Route>,
    /// How requests are carried out.
    #[schemars(with = "Option<Routing>")]
    pub routing: Routing,
    /// How it is found out whether providers are fit.
    #[schemars(with = "Option<HealthChecks>")]
    pub health: HealthChecks,
    /// How much of kept answers is held. Whether any are kept is a provider's own `cache`.
    #[schemars(with = "Option<CacheSizes>")]
    pub cache: CacheSizes,
    /// What adapters may use.
    #[schemars(with = "Option<Plugins>")]
    pub plugins: Plugins,
    /// Where keys are kept.
    #[schemars(with = "Option<Vault>")]
    pub vault: Vault,
    /// What is recorded about requests.
    #[schemars(with = "Option<Metering>")]
    pub metering: Metering,
    /// What makes a request sensitive, so that it goes to local providers only. Without this
    /// section nothing is looked for, and only callers' marks count; `privacy: {}` looks for all
    /// that is looked for by default.
    #[schemars(with = "Option<Privacy>")]
    pub privacy: PrivacyRules,
    #[schemars(skip)]
    pub(super) source: Arc<Source>,
}

/// Where callers connect, and who may.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Server {
    /// Address and port, `127.0.0.1:8484` unless given. Anything but a loopback address needs
    /// `tokens`.
    #[schemars(with = "Option<String>", extend("examples" = ["127.0.0.1:8484", "0.0.0.0:8484", "[::1]:8484"]))]
    pub listen: SocketAddr,
    /// Who may call. With none, callers on this machine need no token and others are refused.
    #[schemars(with = "Option<Vec<Token>>")]
    pub tokens: Vec<Token>,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN, tokens: Vec::new() }
    }
}

/// One caller's token, by where it is found.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Token {
    /// The caller's name in usage and logs. A name as providers have.
    #[schemars(with = "ProviderName")]
    pub name: Arc<str>,
    /// Whether its owner operates the host: sees how providers fare and where others' requests go,
    /// and may take providers out. False unless given.
    #[schemars(with = "Option<bool>")]
    pub operator: bool,
    #[schemars(flatten)]
    pub source: TokenSource,
}

/// Where a caller's token is found: exactly one of these.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum TokenSource {
    /// The environment variable that holds the token.
    Env(VariableName),
    /// The file that holds the token, white space around it ignored.
    File(PathBuf),
    /// The token's SHA-256 in hex, for configurations that others may read. Only for long random
    /// tokens: a short one can be guessed from it.
    Sha256(#[schemars(schema_with = "schema::sha256")] [u8; 32]),
}

/// One AI vendor account or server: an adapter with an endpoint, a key, models and limits.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Provider {
    /// False keeps the entry but doesn't use it. True unless given.
    #[schemars(with = "Option<bool>")]
    pub enabled: bool,
    /// The adapter that speaks this vendor's protocol, where it isn't named like the provider.
    #[schemars(with = "Option<AdapterName>")]
    pub adapter: AdapterName,
    /// Whether this runs on machines you control (`local`) or elsewhere (`external`), where it
    /// isn't what the adapter says of itself. Sensitive requests only ever go to local providers.
    #[schemars(default, schema_with = "schema::kind")]
    pub kind: Option<ProviderKind>,
    /// The base URL, where it isn't the vendor's own: `https://host/path`, without user, query or
    /// fragment.
    #[schemars(default, schema_with = "schema::optional_url")]
    pub endpoint: Option<Url>,
    /// Base URLs by origin name, for adapters that send to several. Instead of `endpoint`.
    #[schemars(default, schema_with = "schema::urls")]
    pub endpoints: IndexMap<String, Url>,
    /// Where the API key is found, if not in the vault (`keyward key set NAME`) or in the vendor's
    /// usual environment variable. The key itself never stands in this file.
    pub key: Option<KeySource>,
    /// Several keys, used in turn; one that is limited or rejected is left alone while the others serve.
    /// Instead of `key`. One without a place is in the vault: `keyward key set NAME --field KEY`.
    #[schemars(with = "Option<Vec<OneOrObject<KeyName, NamedKey>>>")]
    pub keys: Vec<NamedKey>,
    /// The account that the vendor counts against. Providers that name the same one share its limits: what
    /// is limited at one is left alone at all of them.
    pub account: Option<AccountName>,
    /// The models to offer. Without any: those the adapter knows.
    #[schemars(with = "Option<Vec<OneOrObject<ModelName, Model>>>")]
    pub models: Vec<Model>,
    /// Whether `auto` may choose its models. True unless given.
    #[schemars(with = "Option<bool>")]
    pub auto: bool,
    /// Whether costs are counted. True unless given.
    #[schemars(with = "Option<bool>")]
    pub cost_tracking: bool,
    /// The adapter's own settings; `keyward plugin inspect NAME` lists them.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// How long to wait.
    #[schemars(with = "Option<Timeouts>")]
    pub timeouts: Timeouts,
    /// How much at once.
    #[schemars(with = "Option<Limits>")]
    pub limits: Limits,
    /// Whether answers are kept and given again to identical requests of the same caller. Without it,
    /// none are.
    pub cache: Option<AnswerCache>,
    /// Whether embeddings requests with many inputs are cut, and small ones of the same caller sent
    /// together. Without it, each is sent as it is.
    pub batch: Option<Batching>,
    /// What the adapter may do beyond translating.
    #[schemars(with = "Option<Vec<Grant>>")]
    pub grants: Vec<Grant>,
    /// A PEM file with the certificate authority of this endpoint, where the public ones don't
    /// know it.
    pub ca_file: Option<PathBuf>,
}

impl Provider {
    /// A provider of which nothing is said but its adapter.
    pub fn new(adapter: AdapterName) -> Self {
        Self {
            enabled: true,
            adapter,
            kind: None,
            endpoint: None,
            endpoints: IndexMap::new(),
            key: None,
            keys: Vec::new(),
            models: Vec::new(),
            account: None,
            auto: true,
            cost_tracking: true,
            settings: serde_json::Map::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            cache: None,
            batch: None,
            grants: Vec::new(),
            ca_file: None,
        }
    }
}

/// Where an API key is found: exactly one of these.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum KeySource {
    /// The environment variable that holds the key.
    Env(VariableName),
    /// The file that holds the key, white space around it ignored.
    File(PathBuf),
}

/// One of several keys of a provider.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NamedKey {
    /// What it is called, here, in the vault and where the operator is told of it.
    pub name: KeyName,
    /// Where it is, if not in the vault.
    #[schemars(flatten)]
    pub source: Option<KeySource>,
}

/// One model of a provider.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Model {
    /// The vendor's name for it.
    pub id: ModelName,
    /// Another name by which callers may ask for it.
    pub alias: Option<ModelName>,
    /// Tokens that fit into it, prompt and answer together, where the adapter doesn't know or is wrong.
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// Tokens it answers at most.
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u32>,
    /// What it costs, instead of what the adapter knows: one price, or several in the order of the
    /// days they hold from. An empty list says that it has no price.
    #[schemars(with = "Option<OneOrObject<Prices, Vec<Prices>>>")]
    pub prices: Option<Vec<Price>>,
}

impl Model {
    /// A model of which nothing is said but its name.
    pub fn new(id: ModelName) -> Self {
        Self { id, alias: None, context_window: None, max_output_tokens: None, prices: None }
    }
}

/// What a model costs from a day on: decimals, per million tokens where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the form of the file; read into the contract's price")]
pub struct Prices {
    /// The first day it holds, as 2026-01-31. The first price may leave it out and holds always.
    #[schemars(default, schema_with = "schema::optional_day")]
    from: (),
    /// ISO 4217, `USD` unless given.
    #[schemars(default, schema_with = "schema::optional_currency")]
    currency: (),
    /// Tokens of the prompt.
    #[schemars(default, schema_with = "schema::optional_amount")]
    input: (),
    /// Of the prompt, tokens read from the vendor's cache. As `input` unless given.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_read: (),
    /// Of the prompt, tokens written to the vendor's cache. As `input` unless given.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_write: (),
    /// Of those, what is written for an hour where the vendor tells it apart. As `cache_write`
    /// unless given.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_write_1h: (),
    /// Tokens of the answer.
    #[schemars(default, schema_with = "schema::optional_amount")]
    output: (),
    /// Of the answer, tokens of reasoning. As `output` unless given.
    #[schemars(default, schema_with = "schema::optional_amount")]
    reasoning: (),
    /// A request.
    #[schemars(default, schema_with = "schema::optional_amount")]
    request: (),
    /// One of each unit that the vendor counts besides, by its name: `searches`, `neurons`.
    #[schemars(default, schema_with = "schema::amounts")]
    units: (),
    /// The unit that is the whole bill where the vendor tells it.
    #[schemars(default)]
    bill: Option<String>,
    /// What holds instead for prompts beyond a number of tokens.
    #[schemars(default)]
    above: Option<Vec<LongPrompt>>,
}

/// Prices per million tokens for prompts beyond a size, for the whole request.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the form of the file; read into the contract's price")]
pub struct LongPrompt {
    /// The largest prompt that has the price before this one.
    #[schemars(range(min = 1))]
    tokens: u32,
    /// Tokens of the prompt.
    #[schemars(default, schema_with = "schema::optional_amount")]
    input: (),
    /// Of the prompt, tokens read from the vendor's cache.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_read: (),
    /// Of the prompt, tokens written to the vendor's cache.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_write: (),
    /// Of those, what is written for an hour.
    #[schemars(default, schema_with = "schema::optional_amount")]
    cache_write_1h: (),
    /// Tokens of the answer.
    #[schemars(default, schema_with = "schema::optional_amount")]
    output: (),
    /// Of the answer, tokens of reasoning.
    #[schemars(default, schema_with = "schema::optional_amount")]
    reasoning: (),
}

/// How long to wait. What isn't given has the host's default.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub connect: Option<Duration>,
    /// From the request sent to the first byte of the answer.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub first_byte: Option<Duration>,
    /// In place of `routing: {patience}`: how long an answer may take to begin before another candidate
    /// is asked as well. Longer for models that think before they speak, or have to be loaded first.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub patience: Option<Duration>,
    /// Between two pieces of an answer.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub idle: Option<Duration>,
    /// For a whole vendor request.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub total: Option<Duration>,
}

/// How much at once.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Requests to this provider at the same time.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// Requests to this provider a minute.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens of this provider a minute, prompts and answers together.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u32>,
    /// Requests that wait for their turn at the same time, 256 unless given. Further ones go to the next
    /// candidate, or are refused with the time after which to ask again.
    #[schemars(range(min = 1, max = 100_000))]
    pub queue: Option<u32>,
    /// The longest that a request waits for its turn, 5s unless given.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub wait: Option<Duration>,
}

/// A right that an operator gives an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Grant {
    /// See prompts, images and files. Without it the adapter handles marks in their place.
    ReadContent,
}

impl Grant {
    pub const ALL: [Self; 1] = [Self::ReadContent];

    /// As written in configuration and descriptors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadContent => "read-content",
        }
    }
}

/// What adapters may use.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Plugins {
    /// For every adapter.
    #[schemars(with = "Option<SandboxLimits>")]
    pub limits: SandboxLimits,
    /// For single adapters, by the adapter's name. What isn't given there is as in `limits`.
    #[schemars(with = "Option<std::collections::BTreeMap<AdapterName, Option<SandboxLimits>>>")]
    pub overrides: IndexMap<AdapterName, SandboxLimits>,
    /// What single adapters may do beyond computing, by the adapter's name.
    #[schemars(with = "Option<std::collections::BTreeMap<AdapterName, Option<Vec<PluginGrant>>>>")]
    pub grants: IndexMap<AdapterName, Vec<PluginGrant>>,
}

/// A right that an operator gives an adapter's component, whoever uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum PluginGrant {
    /// Import WASI, as the tools of some languages make components do. It sees an empty world: no
    /// files, no network, no environment, a clock that stands still.
    Wasi,
}

impl PluginGrant {
    pub const ALL: [Self; 1] = [Self::Wasi];

    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wasi => "wasi",
        }
    }
}

impl Plugins {
    pub fn grants_of(&self, adapter: &AdapterName) -> &[PluginGrant] {
        self.grants.get(adapter).map_or(&[], Vec::as_slice)
    }

    /// What holds for one adapter: its own figures before those for all.
    pub fn limits_of(&self, adapter: &AdapterName) -> SandboxLimits {
        let all = &self.limits;
        let Some(own) = self.overrides.get(adapter) else { return all.clone() };
        SandboxLimits {
            memory: own.memory.or(all.memory),
            stack: own.stack.or(all.stack),
            cpu: own.cpu.or(all.cpu),
            exchange_cpu: own.exchange_cpu.or(all.exchange_cpu),
            output: own.output.or(all.output),
            handles: own.handles.or(all.handles),
            steps: own.steps.or(all.steps),
            requests: own.requests.or(all.requests),
            waits: own.waits.or(all.waits),
            outputs: own.outputs.or(all.outputs),
            component_size: own.component_size.or(all.component_size),
            compile_time: own.compile_time.or(all.compile_time),
            compile_memory: own.compile_memory.or(all.compile_memory),
        }
    }
}

/// The most memory any adapter can be given, in bytes: what the sandbox's slots are laid out for.
pub const LARGEST_MEMORY: usize = 1 << 30;

/// The least and the most stack of an adapter, in bytes: below, a serializer doesn't run; above, each
/// deep recursion that still runs would keep more than its memory.
pub const STACKS: RangeInclusive<usize> = 64 * 1024..=16 * 1024 * 1024;

/// Limits of the sandbox. What isn't given has the host's default.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SandboxLimits {
    /// Memory of one exchange, all of it together; at most 1 GiB.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub memory: Option<ByteSize>,
    /// Stack of its code, from 64 KiB to 16 MiB. At most six sizes are in use at once.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub stack: Option<ByteSize>,
    /// Processor time of one step.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub cpu: Option<Duration>,
    /// Processor time of a whole exchange, all its steps together.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub exchange_cpu: Option<Duration>,
    /// What one step may return.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub output: Option<ByteSize>,
    /// Resources held at the same time.
    #[schemars(range(min = 1))]
    pub handles: Option<u32>,
    /// Steps of one exchange.
    #[schemars(range(min = 1))]
    pub steps: Option<u32>,
    /// Requests to the vendor in one exchange.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// Times one exchange may ask to wait.
    #[schemars(range(min = 1))]
    pub waits: Option<u32>,
    /// Events and requests between two pieces of the vendor's answer.
    #[schemars(range(min = 1))]
    pub outputs: Option<u32>,
    /// The largest component file that is loaded.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub component_size: Option<ByteSize>,
    /// How long compiling a component may take.
    #[schemars(default, schema_with = "schema::optional_duration")]
    pub compile_time: Option<Duration>,
    /// Memory for compiling a component.
    #[schemars(default, schema_with = "schema::optional_size")]
    pub compile_memory: Option<ByteSize>,
}

/// Where keys are kept.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Vault {
    /// The file with the master key, 64 hex digits. Otherwise `KEYWARD_MASTER_KEY` or a passphrase.
    pub master_key_file: Option<PathBuf>,
}

/// What is recorded about requests.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Metering {
    /// Whether tokens, time and outcome of each attempt are recorded. True unless given.
    #[schemars(with = "Option<bool>")]
    pub enabled: bool,
}

impl Default for Metering {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What makes a request sensitive.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the form of the file; read into the rules of privacy")]
pub struct Privacy {
    /// Whether texts are looked into at all. True unless given.
    #[schemars(default)]
    detect: Option<bool>,
    /// Built-in detectors to switch on or off, by name. All are on but `ip-address`.
    #[schemars(default, schema_with = "schema::detectors")]
    detectors: (),
    /// Regular expressions of your own, by a name of your choice.
    #[schemars(
        with = "Option<std::collections::BTreeMap<ProviderName, OneOrObject<String, PrivacyPattern>>>"
    )]
    patterns: (),
    /// Words that make a text sensitive wherever they stand as a whole, in upper or lower case.
    #[schemars(default)]
    words: Option<Vec<String>>,
}

/// A regular expression of your own.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the form of the file; read into the rules of privacy")]
pub struct PrivacyPattern {
    /// In the syntax of the Rust crate `regex`.
    pattern: String,
    /// Words of which one must stand near a match. Without any, every match counts.
    #[schemars(default)]
    context: Option<Vec<String>>,
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableName(Arc<str>);

impl VariableName {
    /// `None` unless `name` is 1 to 128 ASCII letters, digits and `_`, not beginning with a digit.
    pub fn new(name: &str) -> Option<Self> {
        let good = (1..=128).contains(&name.len())
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        good.then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for VariableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
