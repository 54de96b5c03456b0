//! What Keyward promises, shown from outside: the real program, real plugins, the real SDKs,
//! and vendors that do as they are told.
//!
//! Each module specifies one thing and its tests read as sentences. `tests/README.md` tells how to
//! run one of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod anthropic_sdk;
mod authoring;
mod caching;
mod callers;
mod cli;
mod config;
mod conservation;
mod credentials;
mod dns;
mod egress;
mod faults;
mod frozen;
mod languages;
mod local_server;
mod node_sdk;
mod ollama_sdk;
mod openai_sdk;
mod probes;
mod recordings;
mod reload;
mod responses_sdk;
mod routing;
mod sandbox;
mod soak;
mod support;
mod telling;
mod usage;
mod vendors;
mod wasi;
