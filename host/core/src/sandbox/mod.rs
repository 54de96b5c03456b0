//! Where adapters run: a fresh instance for every exchange, no way out.
//!
//! A component comes in through [`admission`], which reads its bytes and refuses what has imports
//! or isn't the contract. One that imports WASI runs where its operator grants that, in the empty
//! world of [`wasi`]. [`compile`] turns it into machine code in a child process with limits of
//! its own, or takes it from the verified [`cache`]. The result is a [`Plugin`], from which
//! [`Instance`]s are made: a store and an instance that live for one exchange, so that nothing an
//! adapter does to its own state outlives the request, and a trap ends one exchange only.
//!
//! What bounds it: [`Limits`], all of them set, because wasmtime's defaults are unlimited memory
//! and 10,000 instances. Guest code runs on fibers and yields to its neighbours at every tick, so a
//! looping adapter costs others one tick, not its whole allowance.
//!
//! What it costs, on one 2-core machine: see `docs/architecture.md`, where each figure stands with
//! the command that measures it.

pub mod admission;
mod cache;
mod compile;
mod engine;
mod exports;
mod instance;
mod limits;
mod plugin;
mod wasi;

pub use compile::{CompileError, Compiler, Worker, run_compile_worker};
pub use engine::{EngineError, Sandbox};
pub use instance::{Instance, Trap};
pub use limits::Limits;
pub use plugin::{LoadError, Plugin};
