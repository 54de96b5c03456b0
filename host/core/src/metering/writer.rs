//! The queue between requests and the disk, and the thread that empties it.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{AttemptRecord, chunk::Chunks};
use crate::store::{Batch, Store, StoreError};

/// How long rows are gathered before they are written and synced: what a crash may lose.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

/// The most rows that wait. At half of it the thread is woken early, so the limit is met only when
/// the disk is slower than the traffic.
pub const QUEUE_LIMIT: usize = 8192;

/// How long to leave a store alone that refused a batch.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long [`Meter::flush`] waits for a disk that doesn't answer.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Cheap to clone; all clones are one meter. When the last one is dropped, what is queued is written
/// and the thread ends: that drop blocks for one commit.
#[derive(Clone)]
pub struct Meter {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those who wait for a commit.
    commits: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<AttemptRecord>,
    /// Rows there was no room for, not yet noted in the store.
    lost_since_commit: u64,
    /// The same, since the start.
    lost: u64,
    /// Rows queued since the start, and how many of them are on the disk.
    queued: u64,
    committed: u64,
    /// Counts commits that failed; the last one's reason.
    failures: u64,
    failure: Option<StoreError>,
    /// Commit now, don't gather.
    urgent: bool,
    closing: bool,
}

/// Why rows are not on the disk yet.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlushError {
    #[error("usage could not be written, it is kept in memory and tried again: {0}")]
    Store(#[from] StoreError),
    #[error("the disk has not taken the usage rows after {} s", FLUSH_PATIENCE.as_secs())]
    TimedOut,
}

impl Meter {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// If the system gives no thread, or no random number.
    pub fn start(store: Store) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: Vec::with_capacity(QUEUE_LIMIT), ..State::default() }),
            work: Condvar::new(),
            commits: Condvar::new(),
        });
        let thread = thread::Builder::new().name("keyward-meter".to_owned()).spawn({
            let shared = shared.clone();
            let chunks = Chunks::new(getrandom::u64()?);
            move || shared.write_until_closed(&store, chunks)
        })?;
        Ok(Self { handle: Arc::new(Handle { shared, thread: Some(thread) }) })
    }

    /// Queues a row. Never blocks on the disk; a full queue counts the row as lost.
    pub fn record(&self, record: AttemptRecord) {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        if state.queue.len() >= QUEUE_LIMIT {
            state.lost_since_commit = state.lost_since_commit.saturating_add(1);
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.queue.push(record);
        state.queued += 1;
        // Waking a thread costs a hundred times what the push does, so the thread looks by itself.
        if state.queue.len() == QUEUE_LIMIT / 2 {
            drop(state);
            shared.work.notify_one();
        }
    }

    /// Waits until everything recorded before is on the disk. Blocks, milliseconds as a rule.
    pub fn flush(&self) -> Result<(), FlushError> {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let (target, failures) = (state.queued, state.failures);
        let deadline = Instant::now() + FLUSH_PATIENCE;
        state.urgent = true;
        shared.work.notify_one();
        while state.committed < target {
            if state.failures != failures
                && let Some(failure) = &state.failure
            {
                return Err(failure.clone().into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FlushError::TimedOut);
            }
            state =
                shared.commits.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Rows that were lost since the start, because the disk could not follow.
    pub fn lost(&self) -> u64 {
        self.handle.shared.lock().lost
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the metering thread panicked: usage rows may be lost");
        }
    }
}

impl Shared {
    /// Held for a push or a swap only, never over a write.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_closed(&self, store: &Store, mut chunks: Chunks) {
        let mut spare = Vec::with_capacity(QUEUE_LIMIT);
        loop {
            let (mut rows, lost, closing) = self.gather(mem::take(&mut spare));
            let count = rows.len() as u64;
            let changes = chunks.add(&rows, lost);
            // A closing host tries once more and doesn't wait for a broken disk.
            let mut last_try = closing;
            while let Err(e) = changes.as_ref().map_err(Clone::clone).and_then(|c| commit(store, c))
            {
                if last_try {
                    tracing::error!(error = %e, rows = count, "usage rows are lost");
                    return;
                }
                tracing::error!(error = %e, rows = count, "can't write usage: trying again");
                let mut state = self.lock();
                state.failures += 1;
                state.failure = Some(e);
                self.commits.notify_all();
                let wait = self.work.wait_timeout_while(state, RETRY_INTERVAL, |s| !s.closing);
                last_try = wait.unwrap_or_else(PoisonError::into_inner).0.closing;
            }
            if lost > 0 {
                tracing::warn!(lost, "usage rows were lost: the disk could not follow");
            }
            rows.clear();
            spare = rows;
            let mut state = self.lock();
            state.committed += count;
            self.commits.notify_all();
            if closing && state.queue.is_empty() {
                return;
            }
        }
    }

    /// Waits out the interval and takes what has come. `spare` becomes the queue.
    fn gather(&self, spare: Vec<AttemptRecord>) -> (Vec<AttemptRecord>, u64, bool) {
        let gathering = |s: &mut State| !s.urgent && !s.closing && s.queue.len() < QUEUE_LIMIT / 2;
        let wait = self.work.wait_timeout_while(self.lock(), COMMIT_INTERVAL, gathering);
        let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
        state.urgent = false;
        let rows = mem::replace(&mut state.queue, spare);
        (rows, mem::take(&mut state.lost_since_commit), state.closing)
    }
}

fn commit(store: &Store, changes: &[Batch]) -> Result<(), StoreError> {
    for batch in changes {
        store.write(batch.clone())?;
    }
    if changes.is_empty() { Ok(()) } else { store.sync() }
}
