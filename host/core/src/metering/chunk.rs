//! How rows lie in the store: three or four to a record, as lines of JSON.
//!
//! sled keeps 400 bytes in memory for every page of 16 records. With a record for each row a million
//! rows would cost 35 MB, so a record is written anew with each commit until it holds [`CHUNK_BYTES`]
//! or is [`CHUNK_AGE`] old. Its key is the time it was begun; rows are in it in the order their
//! attempts ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::AttemptRecord;
use crate::store::{Batch, StoreError, Tree};

/// A record is closed when it holds this much. Smaller ones cost memory for the pages, larger ones
/// for the cache: of the sizes tried, this leaves a busy gateway smallest.
const CHUNK_BYTES: usize = 1024;

/// A record is closed when it is this old, so that a span of time is found by its keys.
pub(super) const CHUNK_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Rows are looked for by when their attempts began and lie by when they ended. No attempt lasts
/// longer than this, and if one did, only spans that end before it would miss it.
pub(super) const LONGEST_ATTEMPT: Duration = Duration::from_secs(24 * 3600);

/// How many bytes make one atomic change in the store. sled holds such a change in memory.
const BATCH_BYTES: usize = 128 * 1024;

/// The first byte of the key of a record of rows.
pub(super) const ROWS: u8 = 1;
/// The first byte of the key of a count of lost rows.
pub(super) const GAPS: u8 = 2;

/// `kind`, then microseconds since 1970, big-endian. Times before 1970 count as 1970.
pub(super) fn time_key(kind: u8, time: Timestamp) -> Vec<u8> {
    let micros = u64::try_from(time.as_microsecond()).unwrap_or(0);
    let mut key = Vec::with_capacity(1 + 8 + 8 + 8);
    key.push(kind);
    key.extend_from_slice(&micros.to_be_bytes());
    key
}

/// The rows of a record, each as JSON.
pub(super) fn lines(record: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    record.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Turns rows into changes of the store, and remembers the record that is still open.
pub(super) struct Chunks {
    /// Random, so that two runs never share a key, whatever the clock does.
    run: u64,
    opened: u64,
    open: Option<Chunk>,
}

struct Chunk {
    begun: Timestamp,
    key: Vec<u8>,
    lines: Vec<u8>,
}

impl Chunks {
    pub fn new(run: u64) -> Self {
        Self { run, opened: 0, open: None }
    }

    /// The changes that store these rows. Making them twice does no harm.
    pub fn add(&mut self, rows: &[AttemptRecord], lost: u64) -> Result<Vec<Batch>, StoreError> {
        let now = Timestamp::now();
        let mut batches = vec![Batch::default()];
        let mut bytes = 0;
        let mut put = |key: &[u8], value: &[u8]| {
            if bytes > BATCH_BYTES {
                batches.push(Batch::default());
                bytes = 0;
            }
            if let Some(batch) = batches.last_mut() {
                batch.put(Tree::Usage, key, value);
            }
            bytes += value.len();
        };
        for row in rows {
            let mut chunk = match self.open.take() {
                // Not after a clock that was set back either.
                Some(chunk) if (chunk.begun..chunk.begun + CHUNK_AGE).contains(&now) => chunk,
                // An older one was stored by an earlier commit as it is.
                _ => self.begin(now),
            };
            serde_json::to_writer(&mut chunk.lines, row)
                .map_err(|e| StoreError::Unreadable { tree: Tree::Usage, detail: e.to_string() })?;
            chunk.lines.push(b'\n');
            if chunk.lines.len() < CHUNK_BYTES {
                self.open = Some(chunk);
            } else {
                put(&chunk.key, &chunk.lines);
            }
        }
        if let Some(open) = self.open.as_ref().filter(|_| !rows.is_empty()) {
            put(&open.key, &open.lines);
        }
        if lost > 0 {
            put(&self.key(GAPS, now), &lost.to_be_bytes());
            self.opened += 1;
        }
        batches.retain(|batch| !batch.is_empty());
        Ok(batches)
    }

    fn begin(&mut self, now: Timestamp) -> Chunk {
        let key = self.key(ROWS, now);
        self.opened += 1;
        Chunk { begun: now, key, lines: Vec::with_capacity(CHUNK_BYTES + 512) }
    }

    fn key(&self, kind: u8, now: Timestamp) -> Vec<u8> {
        let mut key = time_key(kind, now);
        key.extend_from_slice(&self.run.to_be_bytes());
        key.extend_from_slice(&self.opened.to_be_bytes());
        key
    }
}
