//! What Keyward promises, shown from outside: the real program, real plugins, the real OpenAI SDK,
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

mod authoring;
mod cli;
mod config;
mod credentials;
mod egress;
mod openai_sdk;
mod recordings;
mod reload;
mod sandbox;
mod support;
mod usage;
mod vendors;
