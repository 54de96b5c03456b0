//! Keyward's HTTP surfaces, on top of the library's [`keyward::gateway::Gateway`].
//!
//! - [`serve`] accepts connections and bounds them: how many, how slow, how long after a shutdown.
//! - [`access`] decides who may speak at all, before anything is read.
//! - [`openai`] speaks OpenAI's dialect: a request becomes an operation, events become an answer.
//! - [`control`] is what the command line asks of a running host, over a socket in its data folder.
//!
//! A dialect is pure translation in both directions and holds no state beyond one answer, so the
//! next one is a folder beside `openai` and touches nothing here.

pub mod access;
pub mod control;
pub mod openai;
pub mod serve;
