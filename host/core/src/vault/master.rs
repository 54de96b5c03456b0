//! Where the master key comes from.
//!
//! The first source that is there counts; one that is there but can't be used is an error, never
//! passed over:
//!
//! 1. the file the configuration names,
//! 2. the variable `KEYWARD_MASTER_KEY`: 64 hex digits,
//! 3. a passphrase, typed in or in the variable `KEYWARD_PASSPHRASE`,
//! 4. the file `master.key` in the data directory.
//!
//! A key file holds 64 hex digits and may be readable by its owner only. No key is ever made by
//! itself: [`MasterKey::create_file`] does it when told to.
//!
//! A passphrase is stretched with argon2id ([`KDF_MEMORY_KIB`], [`KDF_PASSES`]): about a quarter of
//! a second and 64 MiB, once at start, given back at once. Salt and parameters are in the store.

use std::{
    ffi::OsString,
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::KEY;

/// Where the stretching of the passphrase is described in the store.
pub(super) const KDF: &[u8] = b"vault/kdf";

/// RFC 9106's second recommended choice, for machines that can't spare 2 GiB. One lane, because
/// only one is computed at a time here.
const KDF_MEMORY_KIB: u32 = 64 * 1024;
const KDF_PASSES: u32 = 3;
const KDF_LANES: u32 = 1;

/// What a changed record in the store may at most make this machine spend.
const MAX_KDF_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_KDF_PASSES: u32 = 16;
const MAX_KDF_LANES: u32 = 16;

/// Below this a passphrase is guessed whatever it is stretched with.
const MIN_PASSPHRASE: usize = 8;

/// Larger than any key file, small enough to read whatever is found there.
const MAX_KEY_FILE: u64 = 4096;

/// The 256-bit key that all else is derived from. Wiped when dropped, never shown.
pub struct MasterKey {
    pub(super) key: SecretBox<[u8; KEY]>,
    pub(super) origin: KeyOrigin,
    /// The description of how a passphrase was stretched, as stored.
    pub(super) kdf: Option<Vec<u8>>,
}

/// Where a master key was found, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    File(PathBuf),
    Environment,
    Passphrase,
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Environment => f.write_str("KEYWARD_MASTER_KEY"),
            Self::Passphrase => f.write_str("the passphrase"),
        }
    }
}

/// What there is to choose from.
#[derive(Clone)]
pub struct MasterKeySources {
    /// Named by the configuration: it has to be there.
    pub file: Option<PathBuf>,
    /// Hex digits.
    pub environment: Option<SecretString>,
    pub passphrase: Option<SecretString>,
    /// Used if it exists.
    pub default_file: PathBuf,
}

impl MasterKeySources {
    /// Reads the two variables; an empty one counts as not set. `passphrase` was typed in and goes
    /// before the variable; `file` comes from the configuration.
    ///
    /// # Errors
    /// [`MasterKeyError::NotText`] if a variable isn't UTF-8.
    pub fn from_environment(
        data: &Path,
        file: Option<PathBuf>,
        passphrase: Option<SecretString>,
    ) -> Result<Self, MasterKeyError> {
        let passphrase = match passphrase {
            Some(passphrase) => Some(passphrase),
            None => text(std::env::var_os("KEYWARD_PASSPHRASE"), "KEYWARD_PASSPHRASE")?,
        };
        let environment = text(std::env::var_os("KEYWARD_MASTER_KEY"), "KEYWARD_MASTER_KEY")?;
        Ok(Self { file, environment, passphrase, default_file: data.join("master.key") })
    }
}

fn text(
    value: Option<OsString>,
    name: &'static str,
) -> Result<Option<SecretString>, MasterKeyError> {
    match value {
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => match value.into_string() {
            Ok(value) => Ok(Some(value.into())),
            Err(_) => Err(MasterKeyError::NotText(name)),
        },
        None => Ok(None),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error("can't {doing} {}: {source}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} can be read by others (mode {mode:03o}): chmod 600 it, and make a new key if they might have",
        .path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} isn't a file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} exists already and is left as it is: a new key could not open what is stored", .0.display())]
    Exists(PathBuf),
    #[error("{0} isn't 64 hex digits")]
    NotHex(KeyOrigin),
    #[error("{0} isn't UTF-8 text")]
    NotText(&'static str),
    #[error("the passphrase is shorter than {MIN_PASSPHRASE} bytes")]
    ShortPassphrase,
    #[error("the store's note on how the passphrase was stretched can't be used: {0}")]
    BadKdf(String),
    #[error("the system gave no random numbers: {0}")]
    NoEntropy(getrandom::Error),
}

/// How a passphrase becomes a key; stored as JSON.
#[derive(Serialize, Deserialize)]
struct Kdf {
    algorithm: String,
    version: u32,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Hex.
    salt: String,
}

impl MasterKey {
    /// Takes the first source that is there, in the order this module's documentation gives.
    /// `stored_kdf` is what the store says on the passphrase, if it was used before. Blocks.
    pub(super) fn find(
        sources: &MasterKeySources,
        stored_kdf: Option<&[u8]>,
    ) -> Result<Option<Self>, MasterKeyError> {
        if let Some(path) = &sources.file {
            return Self::from_file(path).map(Some);
        }
        if let Some(hex) = &sources.environment {
            return Self::from_hex(hex.expose_secret(), KeyOrigin::Environment).map(Some);
        }
        if let Some(passphrase) = &sources.passphrase {
            return Self::from_passphrase(passphrase, stored_kdf).map(Some);
        }
        match Self::from_file(&sources.default_file) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// Makes a new random key and writes it to a new file, mode 0600. Blocks until it is on the disk.
    ///
    /// # Errors
    /// [`MasterKeyError::Exists`] if there is such a file: it is never overwritten.
    pub fn create_file(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |doing| move |source| MasterKeyError::Io { doing, path: path.to_owned(), source };
        let mut key = SecretBox::new(Box::new([0; KEY]));
        getrandom::fill(key.expose_secret_mut()).map_err(MasterKeyError::NoEntropy)?;
        let mut hex = Zeroizing::new(String::with_capacity(2 * KEY + 1));
        for byte in key.expose_secret() {
            let _ = write!(hex, "{byte:02x}");
        }
        hex.push('\n');

        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = match created {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(MasterKeyError::Exists(path.to_owned()));
            }
            created => created.map_err(io("create"))?,
        };
        let written = file.write_all(hex.as_bytes()).and_then(|()| file.sync_all());
        if let Err(e) = written {
            // Half a key is no key, and would stand in the way of the next attempt.
            let _ = fs::remove_file(path);
            return Err(io("write")(e));
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync"))?;
        Ok(Self { key, origin: KeyOrigin::File(path.to_owned()), kdf: None })
    }

    fn from_file(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |doing| move |source| MasterKeyError::Io { doing, path: path.to_owned(), source };
        // Checked on the open file, so that it can't be exchanged in between. Opening must not hang
        // on a pipe either.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open(path)
            .map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read"))?;
        if !metadata.is_file() {
            return Err(MasterKeyError::NotAFile(path.to_owned()));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE as usize));
        file.take(MAX_KEY_FILE).read_to_end(&mut bytes).map_err(io("read"))?;
        let origin = KeyOrigin::File(path.to_owned());
        match std::str::from_utf8(&bytes) {
            Ok(hex) => Self::from_hex(hex, origin),
            Err(_) => Err(MasterKeyError::NotHex(origin)),
        }
    }

    fn from_hex(hex: &str, origin: KeyOrigin) -> Result<Self, MasterKeyError> {
        let digits = hex.trim_ascii().as_bytes();
        let mut key = SecretBox::new(Box::new([0; KEY]));
        let fits = digits.len() == 2 * KEY
            && key.expose_secret_mut().iter_mut().zip(digits.chunks_exact(2)).all(
                |(byte, pair)| match (hex_digit(pair[0]), hex_digit(pair[1])) {
                    (Some(high), Some(low)) => {
                        *byte = high << 4 | low;
                        true
                    }
                    _ => false,
                },
            );
        if fits { Ok(Self { key, origin, kdf: None }) } else { Err(MasterKeyError::NotHex(origin)) }
    }

    fn from_passphrase(
        passphrase: &SecretString,
        stored: Option<&[u8]>,
    ) -> Result<Self, MasterKeyError> {
        let passphrase = passphrase.expose_secret().as_bytes();
        if passphrase.len() < MIN_PASSPHRASE {
            return Err(MasterKeyError::ShortPassphrase);
        }
        let kdf = match stored {
            Some(stored) => serde_json::from_slice(stored).map_err(bad_kdf)?,
            None => Kdf::new()?,
        };
        let mut key = SecretBox::new(Box::new([0; KEY]));
        kdf.stretch(passphrase, key.expose_secret_mut())?;
        let kdf = serde_json::to_vec(&kdf).map_err(bad_kdf)?;
        Ok(Self { key, origin: KeyOrigin::Passphrase, kdf: Some(kdf) })
    }

    #[cfg(test)]
    pub(super) fn of_bytes(key: [u8; KEY]) -> Self {
        Self { key: SecretBox::new(Box::new(key)), origin: KeyOrigin::Environment, kdf: None }
    }
}

fn bad_kdf(error: impl fmt::Display) -> MasterKeyError {
    MasterKeyError::BadKdf(error.to_string())
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl Kdf {
    fn new() -> Result<Self, MasterKeyError> {
        let mut salt = [0_u8; 16];
        getrandom::fill(&mut salt).map_err(MasterKeyError::NoEntropy)?;
        Ok(Self {
            algorithm: "argon2id".to_owned(),
            version: Version::V0x13.into(),
            memory_kib: KDF_MEMORY_KIB,
            passes: KDF_PASSES,
            lanes: KDF_LANES,
            salt: salt.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn stretch(&self, passphrase: &[u8], key: &mut [u8; KEY]) -> Result<(), MasterKeyError> {
        if self.algorithm != "argon2id" {
            return Err(bad_kdf("its algorithm isn't argon2id"));
        }
        if self.memory_kib > MAX_KDF_MEMORY_KIB
            || self.passes > MAX_KDF_PASSES
            || self.lanes > MAX_KDF_LANES
        {
            return Err(bad_kdf("it asks for more memory or time than any version of Keyward"));
        }
        let version = Version::try_from(self.version).map_err(bad_kdf)?;
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY)).map_err(bad_kdf)?;
        Argon2::new(Algorithm::Argon2id, version, params)
            .hash_password_into(passphrase, self.salt.as_bytes(), key)
            .map_err(bad_kdf)
    }
}
