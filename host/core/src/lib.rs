//! Keyward as a library: AI vendors as sandboxed plugins, with everything around them.
//!
//! One request goes down this list and its events come back up:
//!
//! 1. [`gateway`] takes an [`operation`] from a caller and asks [`routing`] for candidates.
//!    [`privacy`] tells whether it may leave the user's machines; [`health`] who failed lately.
//!    [`cache`] may have the answer already; `batch` sends small ones together.
//! 2. [`metering`] reserves, and later settles and records, every attempt.
//! 3. [`exchange`] carries one attempt out: it steps the adapter and moves bytes.
//! 4. [`sandbox`] holds the adapter: a fresh instance, no imports, hard limits. It sees
//!    [`content`] as marks only.
//! 5. [`egress`] joins origin and path, injects the credential from the [`vault`], sends, frames.
//!
//! [`catalog`] and [`config`] make the immutable snapshot that an exchange holds from beginning to
//! end; [`store`] keeps what must survive. Nothing here speaks HTTP to callers or reads a command
//! line: that is `keyward-server` and `keyward-cli`.

mod attempt;
pub mod audit;
mod batch;
pub mod cache;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod content;
pub mod contract;
mod echo;
pub mod egress;
pub mod exchange;
pub mod failure;
pub mod gateway;
pub mod health;
pub mod ids;
pub mod metering;
pub mod models;
pub mod operation;
pub mod privacy;
pub mod routing;
pub mod sandbox;
pub mod store;
pub mod tape;
pub mod vault;
pub mod watch;

pub use failure::{Failure, FailureKind, Fault};
