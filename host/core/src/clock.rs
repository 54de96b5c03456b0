//! Time, as the system has it or as a simulation wants it.
//!
//! What waits, times out or counts per minute asks a [`Clock`] and never the system. So a test can
//! run hours of it in milliseconds, always in the same order. The gateway's one clock is
//! [`SystemClock`]; it costs what tokio's timers cost.

#[cfg(test)]
pub mod simulated;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub trait Clock: Send + Sync {
    /// Never goes back.
    fn now(&self) -> Instant;

    /// Ends `time` after it was called, not after it was first polled. Dropping it costs nothing
    /// and leaves nothing.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// The system's time. Its sleep needs a tokio runtime with timers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        // Not `Instant::now`, so that both agree where a test has paused tokio's time.
        tokio::time::Instant::now().into_std()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}
