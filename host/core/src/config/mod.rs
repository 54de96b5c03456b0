//! The configuration: `providers.yaml`, read, checked, watched.
//!
//! [`Config`] is an immutable snapshot with everything typed. [`Config::parse`] reads a file with
//! all its problems told at once, each with line, column and remedy; it costs under a millisecond
//! for real files, is bounded for hostile ones, never panics and never shows a credential.
//! [`Watcher`] serves saved changes while the last good configuration stays in force. What a
//! provider's adapter thinks of its settings is the catalog's to check: it reports through
//! [`Config::problem`], with the same places.
//!
//! Variables in the file aren't replaced: a file means the same wherever it is read.

mod caching;
mod error;
mod guard;
mod human;
mod read;
mod routing;
mod schema;
mod tree;
mod types;
mod watch;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod watch_tests;

pub use caching::{AnswerCache, Batching, CacheSizes};
pub use error::{ConfigError, Excerpt, Problem};
pub use human::{ByteSize, DURATION_FORM, SIZE_FORM};
pub use read::MAX_FILE;
pub use routing::{Broken, HealthChecks, Hedge, Order, Route, RouteTarget, Routing, Streams};
pub use tree::Position;
pub use types::{
    Config, DEFAULT_LISTEN, Grant, KeySource, LARGEST_MEMORY, Limits, Metering, Model, PluginGrant,
    Plugins, Provider, STACKS, SandboxLimits, Server, Timeouts, Token, TokenSource, VariableName,
    Vault,
};
pub use watch::{Digest, Loaded, State, Watcher};
