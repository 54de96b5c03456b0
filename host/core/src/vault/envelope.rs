//! The bytes of a sealed credential, and the keys that open it.
//!
//! ```text
//! master key (256 bits) ── HMAC-SHA256, one label for each use ──▶ KEK, key id
//!
//! record:  version = 1 (1)  revision (8)  created (8)  updated (8)        the stamp
//!          nonce (24)  XChaCha20-Poly1305(KEK,      data key)  (32 + 16)
//!          nonce (24)  XChaCha20-Poly1305(data key, secret)    (n + 16)
//! ```
//!
//! Both seals authenticate a label of their own, provider, field and origin (each after its length,
//! so that no two slots share an encoding) and the stamp. Numbers are big-endian. Nonces are random:
//! 192 bits never repeat by chance. Whatever bit is changed, the record doesn't open.

use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{MasterKey, Slot};

pub(super) const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;
const VERSION: u8 = 1;

const STAMP: usize = 1 + 8 + 8 + 8;
const WRAPPED: usize = NONCE + KEY + TAG;
const OVERHEAD: usize = STAMP + WRAPPED + NONCE + TAG;

/// The key-encryption key: wraps the data keys, seals the roster, is wiped when dropped.
pub(super) struct Kek {
    key: Box<Zeroizing<[u8; KEY]>>,
    /// Tells which master key this came from, and nothing about it.
    pub id: [u8; 8],
}

impl Kek {
    pub fn derive(master: &MasterKey) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY]));
        let mut derived = derive(master, b"keyward vault 1: key-encryption key");
        key.copy_from_slice(&derived);
        derived.zeroize();
        let mut id = [0; 8];
        id.copy_from_slice(&derive(master, b"keyward vault 1: key id")[..8]);
        Self { key, id }
    }

    pub fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&**self.key).into())
    }
}

fn derive(master: &MasterKey, label: &[u8]) -> [u8; KEY] {
    // One-block HKDF-Expand: the master key is uniform already, so there is nothing to extract.
    // HMAC itself pads a short key with zeros to a whole block of the hash.
    let mut block = Zeroizing::new([0; 64]);
    block[..KEY].copy_from_slice(master.key.expose_secret());
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(label);
    mac.update(&[1]);
    mac.finalize().into_bytes().into()
}

/// What a record says of itself in the clear, under the protection of both seals.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    /// The roster's generation when this was stored.
    pub revision: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
}

impl Stamp {
    fn encode(self) -> [u8; STAMP] {
        let mut bytes = [VERSION; STAMP];
        bytes[1..9].copy_from_slice(&self.revision.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.created_ms.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.updated_ms.to_be_bytes());
        bytes
    }
}

/// A record that has the right form. Whether it opens is another question.
#[derive(Clone)]
pub(super) struct Sealed {
    bytes: Box<[u8]>,
}

impl Sealed {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.len() > OVERHEAD && bytes.first() == Some(&VERSION))
            .then(|| Self { bytes: bytes.into() })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn revision(&self) -> u64 {
        self.number(1)
    }

    pub fn created_ms(&self) -> u64 {
        self.number(9)
    }

    pub fn updated_ms(&self) -> u64 {
        self.number(17)
    }

    fn number(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_be_bytes(bytes)
    }
}

/// # Errors
/// If the system gives no random numbers.
pub(super) fn seal(
    kek: &Kek,
    slot: &Slot,
    stamp: Stamp,
    secret: &SecretString,
) -> Result<Sealed, getrandom::Error> {
    let stamp = stamp.encode();
    let mut data_key = Zeroizing::new([0; KEY]);
    getrandom::fill(&mut *data_key)?;
    let secret = secret.expose_secret().as_bytes();

    let mut bytes = Vec::with_capacity(OVERHEAD + secret.len());
    bytes.extend_from_slice(&stamp);
    encrypt(&kek.cipher(), &associated(DATA_KEY, slot, &stamp), &*data_key, &mut bytes)?;
    let cipher = XChaCha20Poly1305::new((&*data_key).into());
    encrypt(&cipher, &associated(SECRET, slot, &stamp), secret, &mut bytes)?;
    Ok(Sealed { bytes: bytes.into() })
}

/// `None` if a bit of the record was changed, or it belongs to another slot or master key.
pub(super) fn open(kek: &Kek, slot: &Slot, sealed: &Sealed) -> Option<SecretString> {
    let (stamp, rest) = sealed.bytes.split_at_checked(STAMP)?;
    let (wrapped, body) = rest.split_at_checked(WRAPPED)?;
    let data_key = decrypt(&kek.cipher(), &associated(DATA_KEY, slot, stamp), wrapped)?;
    let cipher = XChaCha20Poly1305::new_from_slice(&data_key).ok()?;
    let mut secret = decrypt(&cipher, &associated(SECRET, slot, stamp), body)?;
    // Moves the bytes without a copy: the vector has no room to spare.
    match String::from_utf8(std::mem::take(&mut *secret)) {
        Ok(secret) => Some(secret.into()),
        Err(e) => {
            e.into_bytes().zeroize();
            None
        }
    }
}

const SECRET: &[u8] = b"keyward credential 1: secret";
const DATA_KEY: &[u8] = b"keyward credential 1: data key";

fn associated(label: &[u8], slot: &Slot, stamp: &[u8]) -> Vec<u8> {
    let parts = [
        label,
        slot.provider.as_str().as_bytes(),
        slot.field.as_bytes(),
        slot.origin.as_bytes(),
        stamp,
    ];
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Appends nonce, ciphertext and tag to `out`.
pub(super) fn encrypt(
    cipher: &XChaCha20Poly1305,
    associated: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), getrandom::Error> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce)?;
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let sealed =
        cipher.encrypt_inout_detached(&XNonce::from(nonce), associated, (&mut out[start..]).into());
    match sealed {
        Ok(tag) => out.extend_from_slice(&tag),
        // Only for more than 256 GiB. Leaves a record that is too short to parse.
        Err(_) => out[start..].zeroize(),
    }
    Ok(())
}

/// The reverse of [`encrypt`]. The vector's capacity is its length.
pub(super) fn decrypt(
    cipher: &XChaCha20Poly1305,
    associated: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (body, tag) = rest.split_last_chunk::<TAG>()?;
    let mut plain = Zeroizing::new(body.to_vec());
    cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            associated,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::ids::ProviderName;

    fn kek(byte: u8) -> Kek {
        Kek::derive(&MasterKey::of_bytes([byte; KEY]))
    }

    fn slot(provider: &str, field: &str, origin: &str) -> Slot {
        let provider = ProviderName::new(provider).unwrap();
        Slot::new(provider, field, &Url::parse(origin).unwrap()).unwrap()
    }

    fn home() -> Slot {
        slot("openai", "api-key", "https://api.openai.test/v1")
    }

    const STAMP_1: Stamp = Stamp { revision: 1, created_ms: 2, updated_ms: 3 };

    fn sealed(secret: &str) -> Sealed {
        seal(&kek(1), &home(), STAMP_1, &secret.into()).unwrap()
    }

    #[test]
    fn a_record_opens_only_in_its_own_slot_and_with_its_own_key() {
        let record = sealed("sk-canary");
        assert_eq!(open(&kek(1), &home(), &record).unwrap().expose_secret(), "sk-canary");
        assert!(open(&kek(2), &home(), &record).is_none());
        for (provider, field, origin) in [
            ("openai2", "api-key", "https://api.openai.test/v1"),
            ("openai", "admin-key", "https://api.openai.test/v1"),
            ("openai", "api-key", "https://api.evil.test/v1"),
            ("openai", "api-key", "http://api.openai.test/v1"),
            ("openai", "api-key", "https://api.openai.test:8443/v1"),
            ("openai", "api-key", "https://api.openai.test/echo"),
            ("openai", "api-key", "https://api.openai.test"),
        ] {
            let elsewhere = slot(provider, field, origin);
            assert!(open(&kek(1), &elsewhere, &record).is_none(), "{elsewhere:?}");
        }
    }

    #[test]
    fn slots_that_read_the_same_in_a_row_have_different_seals() {
        let record =
            seal(&kek(1), &slot("ab", "c", "http://x.test"), STAMP_1, &"s".into()).unwrap();
        assert!(open(&kek(1), &slot("a", "bc", "http://x.test"), &record).is_none());
    }

    #[test]
    fn the_secret_is_nowhere_in_the_record_and_no_two_records_are_alike() {
        let (one, two) = (sealed("sk-canary-0123456789"), sealed("sk-canary-0123456789"));
        assert!(!one.as_bytes().windows(9).any(|w| w == b"sk-canary"));
        assert_ne!(one.as_bytes()[STAMP..], two.as_bytes()[STAMP..]);
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let record = sealed("sk-canary-0123456789");
        for bit in 0..record.bytes.len() * 8 {
            let mut bad = record.bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = Sealed::parse(&bad).and_then(|bad| open(&kek(1), &home(), &bad));
            assert!(opened.is_none(), "bit {bit}");
        }
    }

    #[test]
    fn no_truncated_or_extended_record_opens() {
        let record = sealed("sk-canary");
        for length in 0..record.bytes.len() {
            let cut = Sealed::parse(&record.bytes[..length]);
            assert!(cut.and_then(|cut| open(&kek(1), &home(), &cut)).is_none(), "{length}");
        }
        let longer = Sealed::parse(&[&record.bytes, &b"x"[..]].concat()).unwrap();
        assert!(open(&kek(1), &home(), &longer).is_none());
    }

    #[test]
    fn the_wrapped_key_of_another_record_of_the_same_slot_does_not_fit() {
        let (one, two) = (sealed("first"), sealed("other"));
        let mut mixed = one.bytes.to_vec();
        mixed[STAMP..STAMP + WRAPPED].copy_from_slice(&two.bytes[STAMP..STAMP + WRAPPED]);
        assert!(open(&kek(1), &home(), &Sealed::parse(&mixed).unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same(
            secret in "\\PC{1,200}",
            provider in "[a-z][a-z0-9._-]{0,20}",
            field in "[!-~]{1,20}",
            host in "[a-z]{1,20}",
            key in any::<u8>(),
        ) {
            let slot = slot(&provider, &field, &format!("https://{host}.test/v1"));
            let record = seal(&kek(key), &slot, STAMP_1, &secret.as_str().into()).unwrap();
            let parsed = Sealed::parse(record.as_bytes()).unwrap();
            let opened = open(&kek(key), &slot, &parsed).unwrap();
            prop_assert_eq!(opened.expose_secret(), secret);
            prop_assert_eq!(Slot::from_key(&slot.key()), Some(slot));
        }

        #[test]
        fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let opened = Sealed::parse(&bytes).and_then(|sealed| open(&kek(1), &home(), &sealed));
            prop_assert!(opened.is_none());
        }
    }
}
