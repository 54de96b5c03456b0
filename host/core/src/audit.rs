//! The audit log: who changed what and what was refused, in a chain that shows tampering.
//!
//! Each entry's hash covers the hash before it, so an entry that was edited, removed or put
//! elsewhere breaks the chain at its number. The head of the chain is kept beside it: a log cut off
//! at the end is noticed as well. Someone who can write the whole store can also forge the whole
//! chain; against that, keep [`AuditLog::head`] somewhere else from time to time.
//!
//! [`AuditLog::append`] returns when the entry is on the disk. Callers that arrive together share
//! one fsync. Entries never hold a secret: pass names and origins, not values. Texts are cut at
//! [`MAX_TEXT`], so an entry takes at most a few kilobytes; the log itself grows without bound.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::{Batch, KeyRange, Order, Store, StoreError, Tree};

/// The longest actor, subject or detail, in bytes. What is longer is cut.
pub const MAX_TEXT: usize = 1024;

const HEAD: &[u8] = b"audit/head";
const HASH: usize = 32;

type Hash = [u8; HASH];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    KeySet,
    KeyRemoved,
    ConfigChanged,
    ConfigRefused,
    PluginLoaded,
    PluginRefused,
    PluginRemoved,
    PluginApproved,
    EgressDenied,
    /// An operator took a provider out of use, or put it back.
    ProviderSteered,
    /// Of a later version.
    #[serde(other)]
    Other,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who did it: "cli", "config", a caller's name, or the adapter that tried.
    pub actor: String,
    pub action: Action,
    /// What it was done to: "openai/api-key", a plugin, a host.
    pub subject: String,
    pub detail: String,
}

/// What was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Counts from 1 without a gap.
    pub seq: u64,
    /// Milliseconds since 1970, by the system's clock: may jump back, `seq` doesn't.
    pub time_ms: u64,
    pub actor: String,
    pub action: Action,
    pub subject: String,
    pub detail: String,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    time_ms: u64,
    #[serde(borrow)]
    actor: std::borrow::Cow<'a, str>,
    action: Action,
    #[serde(borrow)]
    subject: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    detail: std::borrow::Cow<'a, str>,
}

/// The last entry's number and hash. Number 0 is the empty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub hash: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    pub head: Head,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit log is broken at entry {seq}: {what}")]
    Broken { seq: u64, what: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Cheap to clone; all clones are one log.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    head: Mutex<Head>,
    /// The last number known to be on the disk. Its lock is the queue for the next fsync.
    synced: Mutex<u64>,
}

impl AuditLog {
    /// Reads the head only; [`AuditLog::verify`] reads everything.
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let newest = store.page(Tree::Audit, &KeyRange::all(), Order::Descending, 1)?;
        let head = match (store.get(Tree::Meta, HEAD)?, newest.first()) {
            (Some(head), _) => decode_head(&head)?,
            (None, None) => Head { seq: 0, hash: [0; HASH] },
            // The head was taken away. Leaving out a number keeps that visible for ever.
            (None, Some((key, value))) => {
                tracing::error!("the audit log has lost its head: run `keyward doctor`");
                Head { seq: decode_seq(key)?.saturating_add(1), hash: split(value)?.0 }
            }
        };
        let synced = Mutex::new(head.seq);
        Ok(Self { inner: Arc::new(Inner { store, head: Mutex::new(head), synced }) })
    }

    /// Writes one entry and returns its number when it is safe on the disk. Blocks.
    pub fn append(&self, event: &Event) -> Result<u64, StoreError> {
        self.append_with(event, Batch::default())
    }

    /// As [`AuditLog::append`], together with the change it tells of: both are stored or neither.
    pub fn append_with(&self, event: &Event, mut change: Batch) -> Result<u64, StoreError> {
        let json = encode(event)?;
        let seq = {
            let mut head = self.inner.head.lock().unwrap_or_else(PoisonError::into_inner);
            let seq = head.seq.saturating_add(1);
            let hash = link(&head.hash, seq, &json);
            let next = Head { seq, hash };
            change.put(Tree::Audit, seq.to_be_bytes(), [&hash[..], &json].concat());
            change.put(Tree::Meta, HEAD, encode_head(next));
            self.inner.store.write(change)?;
            *head = next;
            seq
        };
        self.sync_up_to(seq)?;
        Ok(seq)
    }

    /// [`AuditLog::append`] for async callers: waits without blocking their thread.
    pub async fn record(&self, event: Event) -> Result<u64, StoreError> {
        let log = self.clone();
        match tokio::task::spawn_blocking(move || log.append(&event)).await {
            Ok(result) => result,
            Err(e) => Err(StoreError::Unreadable {
                tree: Tree::Audit,
                detail: format!("not written: {e}"),
            }),
        }
    }

    fn sync_up_to(&self, seq: u64) -> Result<(), StoreError> {
        let mut synced = self.inner.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= seq {
            return Ok(());
        }
        // Everything appended while we waited for the lock is covered by this one fsync.
        let newest = self.head().seq;
        self.inner.store.sync()?;
        *synced = newest;
        Ok(())
    }

    pub fn head(&self) -> Head {
        *self.inner.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries from number `from` on, at most `limit`. Blocks.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let range = KeyRange::starting_at(from.to_be_bytes());
        let page = self.inner.store.page(Tree::Audit, &range, Order::Ascending, limit)?;
        page.iter().map(|(key, value)| decode(key, value)).collect()
    }

    /// Walks the whole chain, in constant memory. Blocks for as long as reading it all takes.
    ///
    /// # Errors
    /// [`AuditError::Broken`] with the number of the first entry that isn't what was written.
    pub fn verify(&self) -> Result<Verified, AuditError> {
        // Entries appended meanwhile are left for the next time.
        let head = self.head();
        let mut last = Head { seq: 0, hash: [0; HASH] };
        let mut broken = None;
        let range = match head.seq.checked_add(1) {
            Some(end) => KeyRange::between([], end.to_be_bytes()),
            None => KeyRange::all(),
        };
        self.inner.store.scan(
            Tree::Audit,
            &range,
            Order::Ascending,
            &mut |key, value| match follow(last, key, value) {
                Ok(next) => {
                    last = next;
                    ControlFlow::Continue(())
                }
                Err(what) => {
                    broken = Some(what);
                    ControlFlow::Break(())
                }
            },
        )?;
        let seq = last.seq.saturating_add(1);
        if let Some(what) = broken {
            return Err(AuditError::Broken { seq, what });
        }
        if last.seq != head.seq {
            return Err(AuditError::Broken { seq, what: "the end of the log is missing" });
        }
        if last != head {
            return Err(AuditError::Broken {
                seq: head.seq,
                what: "it isn't what was written last",
            });
        }
        Ok(Verified { entries: last.seq, head })
    }
}

fn follow(last: Head, key: &[u8], value: &[u8]) -> Result<Head, &'static str> {
    let seq = decode_seq(key).map_err(|_| "its number can't be read")?;
    if Some(seq) != last.seq.checked_add(1) {
        return Err("it is missing");
    }
    let (hash, json) = split(value).map_err(|_| "it is cut short")?;
    if link(&last.hash, seq, json) != hash {
        return Err("its content, or an entry before it, was changed");
    }
    Ok(Head { seq, hash })
}

fn link(before: &Hash, seq: u64, json: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(b"keyward audit 1\0");
    hasher.update(before);
    hasher.update(seq.to_be_bytes());
    hasher.update(json);
    hasher.finalize().into()
}

fn encode(event: &Event) -> Result<Vec<u8>, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stored = Stored {
        time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        actor: cut(&event.actor).into(),
        action: event.action,
        subject: cut(&event.subject).into(),
        detail: cut(&event.detail).into(),
    };
    serde_json::to_vec(&stored).map_err(|e| unreadable(e.to_string()))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

fn decode(key: &[u8], value: &[u8]) -> Result<Entry, StoreError> {
    let stored: Stored<'_> =
        serde_json::from_slice(split(value)?.1).map_err(|e| unreadable(e.to_string()))?;
    Ok(Entry {
        seq: decode_seq(key)?,
        time_ms: stored.time_ms,
        actor: stored.actor.into_owned(),
        action: stored.action,
        subject: stored.subject.into_owned(),
        detail: stored.detail.into_owned(),
    })
}

fn decode_seq(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.try_into().map_err(|_| unreadable("a key isn't a number".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn split(value: &[u8]) -> Result<(Hash, &[u8]), StoreError> {
    let (hash, json) =
        value.split_first_chunk().ok_or_else(|| unreadable("an entry is cut short".into()))?;
    Ok((*hash, json))
}

fn encode_head(head: Head) -> Vec<u8> {
    [&head.seq.to_be_bytes()[..], &head.hash].concat()
}

fn decode_head(bytes: &[u8]) -> Result<Head, StoreError> {
    let parse = || {
        let (seq, hash) = bytes.split_first_chunk()?;
        Some(Head { seq: u64::from_be_bytes(*seq), hash: hash.try_into().ok()? })
    };
    parse().ok_or_else(|| unreadable("the head isn't a number and a hash".into()))
}

fn unreadable(detail: String) -> StoreError {
    StoreError::Unreadable { tree: Tree::Audit, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DataDir, SledStore};

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = SledStore::open(&DataDir::open(temp.path()).unwrap()).unwrap();
        (temp, Arc::new(store))
    }

    fn event(detail: &str) -> Event {
        Event {
            actor: "cli".into(),
            action: Action::KeySet,
            subject: "openai/api-key".into(),
            detail: detail.into(),
        }
    }

    fn filled(store: &Store, entries: usize) -> AuditLog {
        let log = AuditLog::open(store.clone()).unwrap();
        for n in 0..entries {
            log.append(&event(&format!("entry {n}"))).unwrap();
        }
        log
    }

    fn broken_at(log: &AuditLog) -> u64 {
        match log.verify() {
            Err(AuditError::Broken { seq, .. }) => seq,
            other => panic!("expected a broken chain, got {other:?}"),
        }
    }

    #[test]
    fn entries_read_back_in_order_and_verify_also_after_reopening() {
        let (_temp, store) = store();
        let log = filled(&store, 5);
        assert_eq!(log.verify().unwrap().entries, 5);
        let again = AuditLog::open(store).unwrap();
        again.append(&event("after")).unwrap();
        assert_eq!(again.verify().unwrap().entries, 6);
        let read = again.read(2, 2).unwrap();
        assert_eq!(read.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(read[0].detail, "entry 1");
        assert_eq!(read[0].action, Action::KeySet);
        assert!(read[0].time_ms > 1_700_000_000_000);
    }

    #[test]
    fn an_empty_log_verifies() {
        let (_temp, store) = store();
        assert_eq!(AuditLog::open(store).unwrap().verify().unwrap().entries, 0);
    }

    #[test]
    fn any_changed_bit_of_an_entry_breaks_the_chain_there() {
        let (_temp, store) = store();
        let log = filled(&store, 3);
        let key = 2_u64.to_be_bytes();
        let good = store.get(Tree::Audit, &key).unwrap().unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            store.put(Tree::Audit, &key, &bad).unwrap();
            assert_eq!(broken_at(&log), 2, "bit {bit}");
        }
        store.put(Tree::Audit, &key, &good).unwrap();
        log.verify().unwrap();
    }

    #[test]
    fn an_entry_forged_with_a_hash_of_its_own_breaks_the_next_one() {
        let (_temp, store) = store();
        let log = filled(&store, 3);
        let get = |n: u64| store.get(Tree::Audit, &n.to_be_bytes()).unwrap().unwrap();
        let json = encode(&event("forged")).unwrap();
        let hash = link(&split(&get(1)).unwrap().0, 2, &json);
        let forged = [&hash[..], &json].concat();
        store.put(Tree::Audit, &2_u64.to_be_bytes(), &forged).unwrap();
        assert_eq!(broken_at(&log), 3);
    }

    #[test]
    fn a_removed_entry_is_named() {
        let (_temp, store) = store();
        let log = filled(&store, 4);
        store.remove(Tree::Audit, &3_u64.to_be_bytes()).unwrap();
        assert_eq!(broken_at(&log), 3);
    }

    #[test]
    fn entries_that_changed_places_are_noticed() {
        let (_temp, store) = store();
        let log = filled(&store, 4);
        let get = |n: u64| store.get(Tree::Audit, &n.to_be_bytes()).unwrap().unwrap();
        let (two, three) = (get(2), get(3));
        store.put(Tree::Audit, &2_u64.to_be_bytes(), &three).unwrap();
        store.put(Tree::Audit, &3_u64.to_be_bytes(), &two).unwrap();
        assert_eq!(broken_at(&log), 2);
    }

    #[test]
    fn a_log_cut_off_at_the_end_stays_broken_whatever_is_appended() {
        let (_temp, store) = store();
        drop(filled(&store, 4));
        store.remove(Tree::Audit, &4_u64.to_be_bytes()).unwrap();
        let log = AuditLog::open(store.clone()).unwrap();
        assert_eq!(broken_at(&log), 4);
        log.append(&event("later")).unwrap();
        assert_eq!(broken_at(&log), 4);
    }

    #[test]
    fn a_removed_head_stays_noticed() {
        let (_temp, store) = store();
        drop(filled(&store, 2));
        store.remove(Tree::Meta, HEAD).unwrap();
        let log = AuditLog::open(store).unwrap();
        log.append(&event("later")).unwrap();
        assert_eq!(broken_at(&log), 3);
    }

    #[test]
    fn the_change_and_its_entry_are_stored_together() {
        let (_temp, store) = store();
        let log = filled(&store, 0);
        let mut change = Batch::default();
        change.put(Tree::Meta, "test/change", "made");
        log.append_with(&event("changed"), change).unwrap();
        assert_eq!(store.get(Tree::Meta, b"test/change").unwrap().as_deref(), Some(&b"made"[..]));

        let mut refused = Batch::default();
        refused.put(Tree::Meta, "test/large", vec![0; crate::store::MAX_VALUE + 1]);
        log.append_with(&event("refused"), refused).unwrap_err();
        assert_eq!(log.verify().unwrap().entries, 1);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let (_temp, store) = store();
        let log = filled(&store, 0);
        log.append(&event(&"ä".repeat(MAX_TEXT))).unwrap();
        assert_eq!(log.read(1, 1).unwrap()[0].detail, "ä".repeat(MAX_TEXT / 2));
    }

    #[test]
    fn many_writers_make_one_chain() {
        let (_temp, store) = store();
        let log = filled(&store, 0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10).for_each(|n| drop(log.append(&event(&n.to_string())))));
            }
        });
        assert_eq!(log.verify().unwrap().entries, 80);
    }

    #[tokio::test]
    async fn async_callers_wait_for_the_disk_without_blocking() {
        let (_temp, store) = store();
        let log = filled(&store, 0);
        assert_eq!(log.record(event("denied")).await.unwrap(), 1);
        assert_eq!(log.verify().unwrap().entries, 1);
    }
}
