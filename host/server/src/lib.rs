//! Keyward's HTTP surfaces, on top of the library's [`keyward::gateway::Gateway`].
//!
//! - [`serve`] accepts connections and bounds them: how many, how slow, how long after a shutdown.
//! - [`access`] decides who may speak at all, before anything is read.
//! - [`surface`] gives every request an id and puts all dialects behind one door;
//! - [`openai`], [`anthropic`] and [`ollama`] speak a dialect each: a request becomes an operation,
//!   events become an answer; [`dialect`] is what they share.
//! - [`control`] is what the command line asks of a running host, over a socket in its data folder.
//!
//! A dialect is pure translation in both directions and holds no state beyond one answer, so the
//! next one is a folder beside `openai` and touches nothing here.

// A failure is moved a few times on the one path that ends a request; a box would cost every
// place that reads it more than that.
#![allow(clippy::result_large_err)]

pub mod access;
pub mod anthropic;
pub mod body;
pub mod control;
pub mod dialect;
mod heads;
pub mod ollama;
pub mod openai;
pub mod operator;
pub mod serve;
pub mod surface;
