//! One meaning across vendors: what every bundled adapter must show.
//!
//! Several things are held against all adapters at once. [`cases`]: each has a recording of every case
//! in the same list, and what comes out of it means the same as with the others. [`features`]: each
//! is asked for one thing after another, and either the request carries it or the caller is told;
//! what they do becomes the table `docs/vendors.md`, so that it can't say anything else.
//!
//! [`costs`]: what a recorded exchange costs.
//!
//! The recordings themselves are replayed by each adapter's own test. Native, without the sandbox,
//! and without a network: a few seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod cases;
mod costs;
mod estimates;
mod features;
mod schemas;
mod table;
mod vendors;

use std::path::{Path, PathBuf};

/// A path in the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
