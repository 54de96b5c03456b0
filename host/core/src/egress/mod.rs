//! Bytes to and from vendors: the only place of the library that opens a connection.
//!
//! A request passes these checks in this order, and none can be skipped, because each hands on a
//! type that only it can make:
//!
//! 1. [`target`] joins a configured base URL and an adapter's path into a [`GrantedUrl`].
//! 2. [`headers`] turns what an adapter may set into a header map, and refuses the rest.
//! 3. [`credential`] holds the secret as an [`Injection`], ready to be put into a request.
//! 4. [`client`] sends. [`address`] decides which addresses it may connect to, after the name has
//!    been resolved, and `connections` which are used again. Redirects are reported, never followed; no proxy is used.
//! 5. [`redact`] takes the secrets out of the answer before anyone reads it.
//! 6. [`framing`] cuts the answer into frames. [`retry_after`] reads how long to wait.
//!
//! What bounds it: every wait has a deadline ([`Timeouts`]), every answer a size
//! ([`BodyLimits`], [`FrameLimits`]). A streamed token costs one pass of a substring search, one
//! pass of a line search and the allocation of its frame: below a microsecond in all.

pub mod address;
pub mod client;
mod connections;
pub mod credential;
pub mod framing;
pub mod headers;
pub mod redact;
pub mod retry_after;
pub mod target;
mod transport;

pub use address::{Dns, Lookup, SystemDns};
pub use client::{BodyLimits, Client, ClientOptions, Outgoing, Response, Timeouts};
pub use connections::{ClientError, IDLE_CONNECTION, MAX_IDLE};
pub use credential::{BadCredential, Injection};
pub use framing::{Decoder, FrameLimits, FramingError};
pub use headers::{BadHeaderRule, RequestHeaders, ResponseHeaders};
pub use redact::{Redactor, Secrets};
pub use retry_after::retry_after;
pub use target::{BadTarget, GrantedUrl, Target};
