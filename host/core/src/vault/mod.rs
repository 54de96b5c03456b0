//! Credentials at rest: encrypted, bound to where they may be used, and never read back.
//!
//! Each credential is sealed under a data key of its own, which is wrapped by a key derived from
//! the [`MasterKey`] (see `envelope.rs` for the exact bytes). The seal covers provider, field,
//! origin and version: a record copied to another [`Slot`] doesn't open. A sealed roster of all
//! records and their versions shows when one was removed, or put back from an older copy; it also
//! tells a wrong master key from damage. A whole store put back from an older copy is not noticed.
//!
//! Without a master key, or with the wrong one, the vault is *sealed*: it says why and what to do,
//! lists what it holds, gives nothing out and overwrites nothing. Nothing is written before the first
//! [`Vault::set`].
//!
//! What it costs: [`Vault::get`] decrypts from memory in about 5 µs, without a lock or the disk, and
//! may be called from async code. A credential is in the clear only while someone uses it. All else
//! blocks: [`Vault::set`] and [`Vault::remove`] for two or three fsyncs, [`Vault::open`] with a
//! passphrase for the time argon2id takes (see `master.rs`).

mod envelope;
mod master;
mod roster;
mod source;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use self::{
    envelope::{Kek, Sealed},
    roster::{Roster, RosterError},
};
use crate::{
    audit::{Action, AuditLog, Event},
    failure::{Failure, FailureKind, Fault},
    ids::{MAX_NAME, ProviderName},
    store::{Batch, KeyRange, Order, Store, StoreError, Tree},
};

pub use master::{KeyOrigin, MasterKey, MasterKeyError, MasterKeySources};
pub use source::{KeyError, KeyResolver, KeySource};

/// The largest credential, in bytes: a service account's JSON is below 4 KiB, a token below 8 KiB.
pub const MAX_SECRET: usize = 16 * 1024;

/// The most credentials a vault holds, so that its roster fits one record.
pub const MAX_KEYS: usize = 1000;

/// The longest base URL a credential is bound to, in bytes.
pub const MAX_ORIGIN: usize = 512;

/// Where a credential belongs: a provider, the adapter's name for the credential, and the base URL
/// it may travel to. Scheme, host, port and path are all part of it, in the one spelling that URL
/// parsing gives them: `https://API.vendor.test:443/v1/` and `https://api.vendor.test/v1` are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Slot {
    provider: ProviderName,
    field: Arc<str>,
    origin: Arc<str>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSlot {
    #[error(
        "'{0}' can't name a credential: 1 to {MAX_NAME} printable ASCII characters without spaces"
    )]
    Field(String),
    #[error(
        "a credential can't be bound to this URL: {0}. Give a base URL like https://api.vendor.test/v1"
    )]
    Origin(&'static str),
}

impl Slot {
    /// # Errors
    /// [`BadSlot`] if `field` isn't a name, or `origin` isn't an http(s) base URL without user,
    /// password, query and fragment.
    pub fn new(provider: ProviderName, field: &str, origin: &Url) -> Result<Self, BadSlot> {
        if !is_field(field) {
            return Err(BadSlot::Field(field.escape_debug().take(2 * MAX_NAME).collect()));
        }
        Ok(Self { provider, field: field.into(), origin: canonical(origin)?.into() })
    }

    pub fn provider(&self) -> &ProviderName {
        &self.provider
    }

    pub fn field(&self) -> &str {
        &self.field
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key in the store. None of the three parts can hold a zero byte.
    fn key(&self) -> Vec<u8> {
        [self.provider.as_str(), &self.field, &self.origin].join("\0").into_bytes()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(key).ok()?.split('\0');
        let provider = ProviderName::new(parts.next()?).ok()?;
        let (field, origin) = (parts.next()?, parts.next()?);
        (is_field(field) && parts.next().is_none()).then(|| Self {
            provider,
            field: field.into(),
            origin: origin.into(),
        })
    }

    fn subject(&self) -> String {
        format!("{}/{}", self.provider, self.field)
    }
}

fn is_field(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn canonical(url: &Url) -> Result<String, BadSlot> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadSlot::Origin("its scheme isn't http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadSlot::Origin("it holds a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BadSlot::Origin("it holds a query or fragment"));
    }
    let origin = format!("{}{}", url.origin().ascii_serialization(), url.path());
    let origin = origin.trim_end_matches('/');
    if origin.len() > MAX_ORIGIN {
        return Err(BadSlot::Origin("it is too long"));
    }
    Ok(origin.to_owned())
}

/// What may be known about a stored credential. Not a single character of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    #[serde(flatten)]
    pub slot: Slot,
    /// Milliseconds since 1970 when the slot was first filled.
    pub created_ms: u64,
    /// Milliseconds since 1970 when the present credential was set.
    pub updated_ms: u64,
}

/// Why the vault gives nothing out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SealReason {
    #[error(
        "there is no master key. Make one with `keyward key init`, or set KEYWARD_MASTER_KEY (64 \
         hex digits) or KEYWARD_PASSPHRASE; {} was looked for as well", .default_file.display()
    )]
    NoMasterKey { default_file: PathBuf },
    #[error(
        "{found} isn't the master key this vault was made with. Nothing was changed: give the right \
         one and start again"
    )]
    WrongMasterKey { found: KeyOrigin },
    #[error("the master key can't be used: {0}")]
    Unusable(Arc<MasterKeyError>),
    #[error("the vault's roster is damaged. Restore the data directory from a backup")]
    RosterDamaged,
}

#[derive(Clone, Debug)]
pub enum VaultState {
    Open { key: KeyOrigin },
    Sealed(SealReason),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the vault is sealed: {0}")]
    Sealed(SealReason),
    #[error(
        "the key stored for {slot} {what}: it was damaged or put there by something other than \
         Keyward. Set it again"
    )]
    Tampered { slot: String, what: &'static str },
    #[error(transparent)]
    BadSecret(#[from] BadSecret),
    #[error("the vault is full: it holds {MAX_KEYS} keys. Remove one first")]
    Full,
    #[error("the system gave no random numbers: {0}")]
    NoEntropy(getrandom::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let kind = match &error {
            VaultError::Sealed(_) => FailureKind::Sealed,
            VaultError::Tampered { .. } | VaultError::BadSecret(_) => FailureKind::Authentication,
            VaultError::Full | VaultError::NoEntropy(_) | VaultError::Store(_) => {
                FailureKind::Other
            }
        };
        Self::new(kind, Fault::Host, error.to_string())
    }
}

/// Why a text can't be a credential. Never shows the text.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSecret {
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than {MAX_SECRET} bytes")]
    TooLong,
    #[error(
        "the key holds a control character, such as a line break: it couldn't stand in a header"
    )]
    ControlCharacter,
    #[error("the key begins or ends with a space")]
    OuterSpace,
}

/// # Errors
/// [`BadSecret`] for what could not be sent as a credential.
fn check_secret(secret: &str) -> Result<(), BadSecret> {
    if secret.is_empty() {
        Err(BadSecret::Empty)
    } else if secret.len() > MAX_SECRET {
        Err(BadSecret::TooLong)
    } else if secret.chars().any(char::is_control) {
        Err(BadSecret::ControlCharacter)
    } else if secret.trim() != secret {
        Err(BadSecret::OuterSpace)
    } else {
        Ok(())
    }
}

/// Cheap to clone; all clones are one vault.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    audit: AuditLog,
    seal: Result<Opened, SealReason>,
    records: ArcSwap<Records>,
    /// Held while the store is changed.
    writer: Mutex<()>,
}

struct Opened {
    kek: Kek,
    key: KeyOrigin,
    /// How the passphrase was stretched, to be stored with the first credential.
    unsaved_kdf: Option<Vec<u8>>,
}

/// The sealed records as of the last change.
#[derive(Default)]
struct Records {
    found: BTreeMap<Slot, Record>,
    /// Slots the roster names and the store lacks.
    missing: BTreeSet<roster::SlotHash>,
}

enum Record {
    Good(Sealed),
    Bad(&'static str),
}

impl Vault {
    /// Finds the master key (see [`MasterKeySources`] for the order), checks it and loads the
    /// sealed records. Blocks; writes nothing.
    ///
    /// A missing or wrong master key is no error here: the vault is then sealed, as [`Vault::state`]
    /// tells, and everything that needs no stored credential goes on.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub fn open(
        store: Store,
        audit: AuditLog,
        sources: &MasterKeySources,
    ) -> Result<Self, StoreError> {
        let seal = unseal(&store, sources)?;
        let kek = seal.as_ref().ok().map(|opened| &opened.kek);
        let (_, records) = load(&store, kek)?;
        let records = ArcSwap::from_pointee(records);
        Ok(Self { inner: Arc::new(Inner { store, audit, seal, records, writer: Mutex::new(()) }) })
    }

    pub fn state(&self) -> VaultState {
        match &self.inner.seal {
            Ok(opened) => VaultState::Open { key: opened.key.clone() },
            Err(reason) => VaultState::Sealed(reason.clone()),
        }
    }

    /// The credential of a slot, decrypted from memory. `None` if there is none for exactly this
    /// provider, field and origin. Doesn't block.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], or [`VaultError::Tampered`] for a record that isn't what was stored.
    pub fn get(&self, slot: &Slot) -> Result<Option<SecretString>, VaultError> {
        let opened = self.opened()?;
        let records = self.inner.records.load();
        let tampered = |what| VaultError::Tampered { slot: slot.subject(), what };
        match records.found.get(slot) {
            Some(Record::Good(sealed)) => match envelope::open(&opened.kek, slot, sealed) {
                Some(secret) => Ok(Some(secret)),
                None => Err(tampered("doesn't open")),
            },
            Some(Record::Bad(what)) => Err(tampered(what)),
            None if records.missing.is_empty() => Ok(None),
            None if records.missing.contains(&roster::hash(slot)) => Err(tampered("is missing")),
            None => Ok(None),
        }
    }

    /// True if a record for exactly this slot is stored, whether or not it opens. Doesn't block.
    pub fn contains(&self, slot: &Slot) -> bool {
        self.inner.records.load().found.contains_key(slot)
    }

    /// Seals and stores a credential, in place of an earlier one, and notes it in the audit log as
    /// done by `actor`. Both are on the disk when this returns. Blocks.
    pub fn set(&self, slot: &Slot, secret: &SecretString, actor: &str) -> Result<(), VaultError> {
        check_secret(secret.expose_secret())?;
        self.change(slot, actor, Action::KeySet, |kek, roster, batch| {
            let now = now_ms();
            let records = self.inner.records.load();
            let created = match records.found.get(slot) {
                Some(Record::Good(old)) => old.created_ms(),
                _ => now,
            };
            let revision = roster.insert(slot).ok_or(VaultError::Full)?;
            let stamp = envelope::Stamp { revision, created_ms: created, updated_ms: now };
            let sealed = envelope::seal(kek, slot, stamp, secret).map_err(VaultError::NoEntropy)?;
            batch.put(Tree::Keys, slot.key(), sealed.as_bytes());
            Ok(true)
        })
        .map(drop)
    }

    /// Removes a credential and says whether there was one. Blocks, as [`Vault::set`].
    pub fn remove(&self, slot: &Slot, actor: &str) -> Result<bool, VaultError> {
        self.change(slot, actor, Action::KeyRemoved, |_, roster, batch| {
            let listed = roster.remove(slot);
            let stored = self.inner.records.load().found.contains_key(slot);
            batch.remove(Tree::Keys, slot.key());
            Ok(listed || stored)
        })
    }

    /// What is stored, by provider, field and origin; also while the vault is sealed.
    pub fn list(&self) -> Vec<KeyInfo> {
        let records = self.inner.records.load();
        let info = |(slot, record): (&Slot, &Record)| {
            let (created_ms, updated_ms) = match record {
                Record::Good(sealed) => (sealed.created_ms(), sealed.updated_ms()),
                Record::Bad(_) => (0, 0),
            };
            KeyInfo { slot: slot.clone(), created_ms, updated_ms }
        };
        records.found.iter().map(info).collect()
    }

    fn opened(&self) -> Result<&Opened, VaultError> {
        self.inner.seal.as_ref().map_err(|reason| VaultError::Sealed(reason.clone()))
    }

    /// Applies one change to record and roster, together with its audit entry.
    fn change(
        &self,
        slot: &Slot,
        actor: &str,
        action: Action,
        apply: impl FnOnce(&Kek, &mut Roster, &mut Batch) -> Result<bool, VaultError>,
    ) -> Result<bool, VaultError> {
        let opened = self.opened()?;
        let _writing = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // From the store, not from memory: an earlier change may have been written and not synced.
        let (roster, _) = load(&self.inner.store, Some(&opened.kek))?;
        let mut roster = roster.ok_or(VaultError::Sealed(SealReason::RosterDamaged))?;
        let mut batch = Batch::default();
        if !apply(&opened.kek, &mut roster, &mut batch)? {
            return Ok(false);
        }
        if let Some(kdf) = &opened.unsaved_kdf {
            batch.put(Tree::Meta, master::KDF, kdf.as_slice());
        }
        let sealed = roster.seal(&opened.kek).map_err(VaultError::NoEntropy)?;
        batch.put(Tree::Meta, roster::KEY, sealed);
        let event = Event {
            actor: actor.to_owned(),
            action,
            subject: slot.subject(),
            detail: format!("for {}", slot.origin),
        };
        self.inner.audit.append_with(&event, batch)?;
        let (_, records) = load(&self.inner.store, Some(&opened.kek))?;
        self.inner.records.store(Arc::new(records));
        Ok(true)
    }
}

fn unseal(
    store: &Store,
    sources: &MasterKeySources,
) -> Result<Result<Opened, SealReason>, StoreError> {
    let stored_kdf = store.get(Tree::Meta, master::KDF)?;
    let master = match MasterKey::find(sources, stored_kdf.as_deref()) {
        Ok(Some(master)) => master,
        Ok(None) => {
            let default_file = sources.default_file.clone();
            return Ok(Err(SealReason::NoMasterKey { default_file }));
        }
        Err(e) => return Ok(Err(SealReason::Unusable(Arc::new(e)))),
    };
    let kek = Kek::derive(&master);
    Ok(match read_roster(store, &kek)? {
        Ok(_) => {
            let unsaved_kdf = if stored_kdf.is_none() { master.kdf } else { None };
            Ok(Opened { kek, key: master.origin, unsaved_kdf })
        }
        Err(RosterError::OtherKey) => Err(SealReason::WrongMasterKey { found: master.origin }),
        Err(RosterError::Damaged) => Err(SealReason::RosterDamaged),
    })
}

fn read_roster(store: &Store, kek: &Kek) -> Result<Result<Roster, RosterError>, StoreError> {
    match store.get(Tree::Meta, roster::KEY)? {
        Some(sealed) => Ok(Roster::open(kek, &sealed)),
        // Records without a roster: it was taken away.
        None if !store.page(Tree::Keys, &KeyRange::all(), Order::Ascending, 1)?.is_empty() => {
            Ok(Err(RosterError::Damaged))
        }
        None => Ok(Ok(Roster::default())),
    }
}

/// Reads every record and, given the key, holds it against the roster.
fn load(store: &Store, kek: Option<&Kek>) -> Result<(Option<Roster>, Records), StoreError> {
    let roster = match kek {
        Some(kek) => read_roster(store, kek)?.ok(),
        None => None,
    };
    let mut records = Records::default();
    let mut missing = roster.as_ref().map(Roster::slots).unwrap_or_default();
    store.scan(Tree::Keys, &KeyRange::all(), Order::Ascending, &mut |key, value| {
        let Some(slot) = Slot::from_key(key) else {
            tracing::warn!("a record in the vault has a name that makes no sense: left alone");
            return ControlFlow::Continue(());
        };
        missing.remove(&roster::hash(&slot));
        let record = match Sealed::parse(value) {
            None => Record::Bad("can't be read"),
            Some(sealed) => match roster.as_ref().map(|roster| roster.revision(&slot)) {
                Some(None) => Record::Bad("isn't in the vault's roster"),
                Some(Some(revision)) if revision != sealed.revision() => {
                    Record::Bad("isn't the one last set")
                }
                _ => Record::Good(sealed),
            },
        };
        records.found.insert(slot, record);
        ControlFlow::Continue(())
    })?;
    records.missing = missing;
    Ok((roster, records))
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
