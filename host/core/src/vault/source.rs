//! Where one provider's credential comes from: the vault, a variable or a file.
//!
//! [`KeyResolver::resolve`] is on the request path. The vault and variables answer from memory. A
//! file is read on a blocking thread the first time and looked at again at most once in
//! [`RECHECK`]; in between, its content is kept in memory. So a changed file is used within a
//! second, and one that was deleted or spoiled fails requests within a second as well.

use std::{
    collections::HashMap,
    fs::{Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::{BadSecret, MAX_SECRET, Slot, Vault, VaultError, check_secret};
use crate::failure::{Failure, FailureKind, Fault};

/// How long a file's content is used without looking at the file.
pub const RECHECK: Duration = Duration::from_secs(1);

/// The most files kept. Their names come from the configuration; this only bounds what a long
/// history of configurations leaves behind.
const MAX_FILES: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    Vault,
    /// The variable's name.
    Environment(Arc<str>),
    File(Arc<Path>),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "no key is stored for {provider}/{field} and {origin}: set one with `keyward key set {provider}`"
    )]
    NotStored { provider: String, field: String, origin: String },
    #[error(
        "the key stored for {provider}/{field} is bound to {bound_to}, and the provider now uses {origin}: \
         set it again with `keyward key set {provider}` if it may go there"
    )]
    BoundElsewhere { provider: String, field: String, origin: String, bound_to: String },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the variable {0} isn't set")]
    NotSet(Arc<str>),
    #[error("the variable {name}: {reason}")]
    BadVariable { name: Arc<str>, reason: BadText },
    #[error("can't read the key file {}: {source}", .path.display())]
    Unreadable { path: Arc<Path>, source: Arc<io::Error> },
    #[error("the key file {}: {reason}", .path.display())]
    BadFile { path: Arc<Path>, reason: BadText },
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadText {
    #[error("the key isn't UTF-8 text")]
    NotText,
    #[error(transparent)]
    BadSecret(#[from] BadSecret),
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Vault(error) => error.into(),
            other => Self::new(FailureKind::Authentication, Fault::Host, other.to_string()),
        }
    }
}

/// Cheap to clone; all clones share what they read.
#[derive(Clone)]
pub struct KeyResolver {
    vault: Vault,
    files: Arc<Mutex<HashMap<Arc<Path>, Cached>>>,
}

struct Cached {
    secret: SecretString,
    identity: Identity,
    checked: Instant,
}

/// Changes whenever the file is written or another takes its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl KeyResolver {
    pub fn new(vault: Vault) -> Self {
        Self { vault, files: Arc::default() }
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The credential for a slot. Values that could not stand in a header are refused; a line break
    /// at the end of a file is left out.
    pub async fn resolve(&self, source: &KeySource, slot: &Slot) -> Result<SecretString, KeyError> {
        match source {
            KeySource::Vault => match self.vault.get(slot)? {
                Some(secret) => Ok(secret),
                None => Err(self.not_stored(slot)),
            },
            KeySource::Environment(name) => from_variable(name),
            KeySource::File(path) => self.read_file(path).await,
        }
    }

    fn not_stored(&self, slot: &Slot) -> KeyError {
        let (provider, field) = (slot.provider().to_string(), slot.field().to_owned());
        let origin = slot.origin().to_owned();
        let elsewhere = self.vault.list().into_iter().find(|info| {
            info.slot.provider() == slot.provider() && info.slot.field() == slot.field()
        });
        match elsewhere {
            Some(info) => {
                let bound_to = info.slot.origin().to_owned();
                KeyError::BoundElsewhere { provider, field, origin, bound_to }
            }
            None => KeyError::NotStored { provider, field, origin },
        }
    }

    async fn read_file(&self, path: &Arc<Path>) -> Result<SecretString, KeyError> {
        let known = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            match files.get_mut(path) {
                Some(cached) if cached.checked.elapsed() < RECHECK => {
                    return Ok(cached.secret.clone());
                }
                Some(cached) => Some(cached.identity),
                None => None,
            }
        };
        let blocking = tokio::task::spawn_blocking({
            let path = path.clone();
            move || read(&path, known)
        });
        let read = match blocking.await {
            Ok(read) => read,
            Err(e) => Err(unreadable(path, io::Error::other(e))),
        };

        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Some((secret, identity))) => {
                if files.len() >= MAX_FILES {
                    files.clear();
                }
                let cached = Cached { secret: secret.clone(), identity, checked: Instant::now() };
                files.insert(path.clone(), cached);
                Ok(secret)
            }
            Ok(None) => match files.get_mut(path) {
                Some(cached) => {
                    cached.checked = Instant::now();
                    Ok(cached.secret.clone())
                }
                // Someone else found it gone meanwhile.
                None => Err(unreadable(path, io::ErrorKind::NotFound.into())),
            },
            Err(e) => {
                files.remove(path);
                Err(e)
            }
        }
    }
}

fn from_variable(name: &Arc<str>) -> Result<SecretString, KeyError> {
    let bad = |reason| KeyError::BadVariable { name: name.clone(), reason };
    let Some(value) = std::env::var_os(&**name) else { return Err(KeyError::NotSet(name.clone())) };
    match value.into_string() {
        Ok(text) => {
            let secret = SecretString::from(text);
            check_secret(secret.expose_secret()).map_err(|e| bad(e.into()))?;
            Ok(secret)
        }
        Err(_) => Err(bad(BadText::NotText)),
    }
}

/// Reads the file, or returns `None` if it is still the one known.
fn read(
    path: &Arc<Path>,
    known: Option<Identity>,
) -> Result<Option<(SecretString, Identity)>, KeyError> {
    let io = |e| unreadable(path, e);
    let bad = |reason| KeyError::BadFile { path: path.clone(), reason };
    if known.is_some() && known == std::fs::metadata(path).ok().map(|m| Identity::of(&m)) {
        return Ok(None);
    }
    // Opening a pipe must not hang.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(io(io::Error::other("it isn't a file")));
    }
    // Room for a line break, and for one byte too many to show. Reserved at once, so that no
    // half-filled copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 3));
    file.take(MAX_SECRET as u64 + 3).read_to_end(&mut bytes).map_err(io)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| bad(BadText::NotText))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    check_secret(text).map_err(|e| bad(e.into()))?;
    let secret = SecretString::from(text);
    bytes.zeroize();
    Ok(Some((secret, Identity::of(&metadata))))
}

fn unreadable(path: &Arc<Path>, source: io::Error) -> KeyError {
    KeyError::Unreadable { path: path.clone(), source: Arc::new(source) }
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path.into())
    }
}
