//! What survives a restart: the data directory and the embedded key-value store in it.
//!
//! One process owns a data directory at a time ([`DataDir`] holds the lock). Everything stored goes
//! through the narrow [`KeyValue`] trait, so that another database can take sled's place without the
//! vault, the meter or the audit log noticing.
//!
//! Every call here blocks on a disk: call it from a thread of your own or from
//! `tokio::task::spawn_blocking`, never from an async task. Nothing on a request's path reads the
//! store: the vault keeps its sealed records in memory, the meter has a queue and a writer thread.
//!
//! What it costs: a write takes microseconds and is lost by a crash; it is safe once [`KeyValue::sync`]
//! has returned, which takes one fsync (a millisecond on a solid-state disk, ten on a spinning one).
//! See [`SledStore`] for memory and start-up time.

mod data_dir;
mod key_value;
mod sled_store;

#[cfg(test)]
mod kill_tests;

use std::{io, path::PathBuf, sync::Arc};

pub use data_dir::DataDir;
pub use key_value::{Batch, KeyRange, KeyValue, MAX_KEY, MAX_VALUE, Order, Pair, Tree, Visit};
pub use sled_store::SledStore;

/// A store shared by those who keep something in it.
pub type Store = Arc<dyn KeyValue>;

/// Why something could not be stored or read. Cheap to clone, because one failed write is reported
/// to everyone who waits for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the data directory {path} is in use by {}: stop that process, or choose another \
         directory with --data", owner(*.pid)
    )]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("can't {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error(
        "the store in {path} is damaged: {detail}. Keep a copy of the directory, then restore it \
         from a backup or move it away to start with an empty one"
    )]
    Damaged { path: PathBuf, detail: String },
    #[error("{what} of {size} bytes is larger than the {limit} bytes the store takes")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("a record in '{}' can't be read: {detail}", .tree.as_str())]
    Unreadable { tree: Tree, detail: String },
}

fn owner(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { doing, path: path.into(), source: Arc::new(source) }
    }
}
