//! What an adapter says about itself.
//!
//! Forms, validation, documentation and egress rules are all made from this document, so every
//! field says who relies on it. The host treats all of it as a claim by a stranger: names and
//! lengths are checked, origins are granted by the operator, and nothing here gives a right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole document. See `adapter.wit`, function `describe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Lower-case letters, digits and hyphens, at most 64. The provider's name in
    /// `providers.yaml` selects the adapter of the same name.
    pub name: String,
    /// The adapter's own version, semver.
    pub version: String,
    /// The vendor's name as people write it.
    pub title: String,
    /// One sentence.
    #[serde(default)]
    pub summary: String,
    /// Where the vendor runs. Routing treats `local` as private; configuration may overrule it.
    pub kind: ProviderKind,
    /// What the adapter was written from.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// Every base URL this adapter sends to, by name. Empty for an adapter that sends nothing.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// How requests to each origin are authenticated. At most one entry per origin.
    #[serde(default)]
    pub auth: Vec<Auth>,
    /// The secrets the operator must provide.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// Header names the adapter may set, lower case. The host refuses names that authenticate.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Header names the adapter wants to see, lower case; a trailing `*` stands for any ending.
    #[serde(default)]
    pub response_headers: Vec<String>,
    #[serde(default)]
    pub settings: Vec<Setting>,
    #[serde(default)]
    pub models: Vec<Model>,
    /// What the adapter can do. The host doesn't ask it for anything else.
    pub operations: Vec<OperationKind>,
    /// What the adapter needs the operator to grant ("read-content"). It isn't served without.
    #[serde(default)]
    pub grants: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// On machines the user controls.
    Local,
    #[default]
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    Chat,
    Embed,
    ListModels,
    Probe,
    /// Of a later contract; never asked for by this host.
    #[serde(other)]
    Other,
}

/// A published document the adapter follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub title: String,
    pub url: String,
    /// The API version or the date it was read.
    #[serde(default)]
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// What `vendor-request.origin` refers to.
    pub name: String,
    /// The vendor's own base URL, without a trailing slash. A proposal: the operator's `endpoint`
    /// replaces it. Absent where every user has their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auth {
    /// The origin's name.
    pub origin: String,
    pub scheme: AuthScheme,
    /// The credential's name.
    pub credential: String,
}

/// How the host puts a credential into a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum AuthScheme {
    /// `authorization: Bearer …`
    Bearer,
    /// A header of this name with the credential as its whole value.
    Header { name: String },
    /// A query parameter of this name. Only for vendors with nothing better: URLs get logged.
    Query { name: String },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    pub name: String,
    pub label: String,
    /// How to get one; may hold a URL.
    #[serde(default)]
    pub help: String,
    /// False where the vendor also answers without.
    pub required: bool,
    /// The variables the vendor's own tools read. Information only: the host decides which
    /// variable may be read for which origin.
    #[serde(default)]
    pub environment: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The key under `settings:` in `providers.yaml`.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: SettingType,
    pub label: String,
    #[serde(default)]
    pub help: String,
    #[serde(default)]
    pub required: bool,
    /// Kept in the vault and never handed to the adapter.
    #[serde(default)]
    pub secret: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingType {
    String,
    Integer,
    Number,
    Boolean,
    /// One of these strings.
    Choice(Vec<String>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub id: String,
    /// Other ids of the same model at the same price, such as its dated versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Tokens, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// "chat", "embed", "tools", "images", "json-schema", "reasoning" and the like.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Newest last.
    #[serde(default)]
    pub prices: Vec<Price>,
}

/// What a model costs from a day on. Amounts are exact decimals as strings. What they are
/// multiplied with, and what holds for classes left out, is in [`price`](crate::price).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// The first day it holds, "2026-01-31".
    pub from: String,
    /// ISO 4217.
    pub currency: String,
    #[serde(flatten)]
    pub amounts: Amounts,
    /// What holds instead for prompts of more tokens than this, smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<PriceStep>,
    /// Per unit, by the name that usage has for it: "request", "neurons", "searches".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_unit: BTreeMap<String, String>,
    /// The unit that is the whole bill where usage reports it, tokens or not: "neurons".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bill: Option<String>,
    /// Where the figures were read.
    pub source: String,
    /// And on which day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// Prices of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    /// Per million tokens, by class: "input", "cache-read", "cache-write", "output", "reasoning".
    #[serde(default)]
    pub per_million: BTreeMap<String, String>,
    /// Tokens within a class that cost something else, by the unit that usage reports them as.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, PricePart>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PricePart {
    /// The class they are counted in.
    pub of: String,
    pub per_million: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriceStep {
    /// The largest prompt that has the price before this one.
    pub tokens: u64,
    #[serde(flatten)]
    pub amounts: Amounts,
}
