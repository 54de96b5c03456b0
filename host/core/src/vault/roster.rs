//! The sealed list of all records and their versions: one record in the store.
//!
//! It proves the master key before any credential is touched, and shows what a record alone can't:
//! that one was removed, or replaced by an older one of the same slot.
//!
//! ```text
//! version = 1 (1)  key id (8)  nonce (24)
//! XChaCha20-Poly1305(KEK, generation (8), then SHA-256 of the slot (32) and revision (8) of each)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{MAX_KEYS, Slot, envelope, envelope::Kek};

/// Where the roster is in the store.
pub(super) const KEY: &[u8] = b"vault/roster";

const VERSION: u8 = 1;
const HEADER: usize = 1 + 8;
const LABEL: &[u8] = b"keyward vault 1: roster";

pub(super) type SlotHash = [u8; 32];

pub(super) fn hash(slot: &Slot) -> SlotHash {
    Sha256::digest(slot.key()).into()
}

#[derive(Default)]
pub(super) struct Roster {
    /// Counts changes. A record's revision is the generation that stored it, so no revision is used
    /// twice, not even after a removal.
    generation: u64,
    revisions: BTreeMap<SlotHash, u64>,
}

pub(super) enum RosterError {
    /// Made with another master key.
    OtherKey,
    Damaged,
}

impl Roster {
    pub fn revision(&self, slot: &Slot) -> Option<u64> {
        self.revisions.get(&hash(slot)).copied()
    }

    pub fn slots(&self) -> BTreeSet<SlotHash> {
        self.revisions.keys().copied().collect()
    }

    /// Lists the slot with a new revision, or returns `None` if there is no room.
    pub fn insert(&mut self, slot: &Slot) -> Option<u64> {
        let slot = hash(slot);
        if self.revisions.len() >= MAX_KEYS && !self.revisions.contains_key(&slot) {
            return None;
        }
        self.generation += 1;
        self.revisions.insert(slot, self.generation);
        Some(self.generation)
    }

    /// True if the slot was listed.
    pub fn remove(&mut self, slot: &Slot) -> bool {
        self.generation += 1;
        self.revisions.remove(&hash(slot)).is_some()
    }

    pub fn seal(&self, kek: &Kek) -> Result<Vec<u8>, getrandom::Error> {
        let mut plain = Vec::with_capacity(8 + self.revisions.len() * 40);
        plain.extend_from_slice(&self.generation.to_be_bytes());
        for (slot, revision) in &self.revisions {
            plain.extend_from_slice(slot);
            plain.extend_from_slice(&revision.to_be_bytes());
        }
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&kek.id);
        let associated = [LABEL, &bytes].concat();
        envelope::encrypt(&kek.cipher(), &associated, &plain, &mut bytes)?;
        Ok(bytes)
    }

    pub fn open(kek: &Kek, bytes: &[u8]) -> Result<Self, RosterError> {
        let (header, sealed) = bytes.split_at_checked(HEADER).ok_or(RosterError::Damaged)?;
        if header.first() != Some(&VERSION) {
            return Err(RosterError::Damaged);
        }
        let associated = [LABEL, header].concat();
        match envelope::decrypt(&kek.cipher(), &associated, sealed) {
            Some(plain) => Self::parse(&plain).ok_or(RosterError::Damaged),
            None if header[1..] != kek.id => Err(RosterError::OtherKey),
            None => Err(RosterError::Damaged),
        }
    }

    fn parse(plain: &[u8]) -> Option<Self> {
        let (generation, entries) = plain.split_first_chunk()?;
        let mut revisions = BTreeMap::new();
        let mut rest = entries;
        while !rest.is_empty() {
            let (slot, tail) = rest.split_first_chunk()?;
            let (revision, tail) = tail.split_first_chunk()?;
            revisions.insert(*slot, u64::from_be_bytes(*revision));
            rest = tail;
        }
        Some(Self { generation: u64::from_be_bytes(*generation), revisions })
    }
}
