//! Metering: one row for every attempt, written beside the request, never in its way.
//!
//! [`Meter::reserve`] comes before an attempt is sent, [`Reservation::settle`] after it. A row holds
//! numbers and names, no prompt and no answer.
//!
//! [`Meter::record`] puts the row into a bounded queue and returns: below 1 µs, without waiting for
//! the disk. One thread takes the queue every [`COMMIT_INTERVAL`], writes and syncs it; idle, it looks and sleeps.
//! So a crash loses at most the rows of the last interval and of the commit under way: a row is safe
//! after [`COMMIT_INTERVAL`] and two commits. An attempt that was under way leaves none. When the disk
//! can't follow, [`QUEUE_LIMIT`] rows wait in memory (about 3 MB) and as many more in the batch being
//! retried; what comes after is counted as lost, in the log and in every summary over that time.
//!
//! A row is JSON of 300 to 400 bytes: readable by whatever comes later. On the disk it takes
//! about twice that. Reading ([`rows`], [`summarize`]) blocks, goes by time, takes constant memory and
//! a few microseconds a row. Nothing is deleted here.

mod chunk;
pub mod estimate;
mod record;
mod report;
mod reservation;
mod writer;

#[cfg(test)]
mod tests;

pub use record::{AttemptRecord, Charge, Outcome, TokenUsage, Tokens};
pub use report::{
    Distribution, Filter, Group, GroupBy, RowQuery, Span, Summary, SummaryQuery, Totals, rows,
    summarize,
};
pub use reservation::{Estimate, Reservation};
pub use writer::{COMMIT_INTERVAL, FlushError, Meter, QUEUE_LIMIT};
