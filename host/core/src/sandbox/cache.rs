//! Compiled code on disk: keyed by what it was made from, verified before it is loaded.
//!
//! Loading machine code is as good as running it, so an entry carries a MAC under a key that only
//! this data directory has (0600), over the component's digest, the engine's own compatibility
//! hash and the code. A file from elsewhere, for another component or from another build of the
//! host doesn't verify and is compiled again. The file is read whole before it is checked, so it
//! can't change between check and use.
//!
//! Bounds: at most [`MAX_ENTRIES`] files, the oldest go first. Costs: one read and one SHA-256 over
//! about 1 MB an adapter at start, some milliseconds in all. All calls block.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::ids::Digest;

/// Enough for every bundled adapter in several versions.
const MAX_ENTRIES: usize = 256;

const MAC_LENGTH: usize = 32;

/// SHA-256 works on blocks of 64 bytes; HMAC takes a key of that length as it is.
const KEY_LENGTH: usize = 64;

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; KEY_LENGTH],
    engine: [u8; 32],
}

impl Cache {
    /// # Errors
    /// If the folder or its key can't be made or read.
    pub fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            key: read_or_make_key(&dir.join("key"))?,
            engine: tag(engine),
        })
    }

    /// The code for this component, if it is there and verifies.
    pub fn get(&self, component: &Digest) -> Option<Bytes> {
        let mut code = Bytes::from(fs::read(self.path(component)).ok()?);
        let mac = code.split_to(MAC_LENGTH.min(code.len()));
        match self.mac(component, &code).verify_slice(&mac) {
            Ok(()) => Some(code),
            Err(_) => {
                tracing::warn!(%component, "a cached compilation doesn't verify; compiling again");
                None
            }
        }
    }

    /// Keeps the code. Failing to is only a loss of time, so it is logged and forgotten.
    pub fn put(&self, component: &Digest, code: &[u8]) {
        let mac = self.mac(component, code).finalize().into_bytes();
        if let Err(error) = write_atomically(&self.path(component), &[&mac, code]) {
            tracing::warn!(%error, "compiled code could not be kept");
        }
        self.prune();
    }

    fn path(&self, component: &Digest) -> PathBuf {
        let engine: String = self.engine[..8].iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(format!("{component}-{engine}.code"))
    }

    fn mac(&self, component: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        mac.update(&component.0);
        mac.update(&self.engine);
        mac.update(code);
        mac
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "code"))
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(MAX_ENTRIES)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What the engine says of its own settings and version, as 32 bytes.
fn tag(engine: &Engine) -> [u8; 32] {
    struct Into256(Sha256);
    impl std::hash::Hasher for Into256 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Into256(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hasher.0.finalize().into()
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_LENGTH]> {
    match fs::read(path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            // A torn write: nothing the old key made will verify, which is safe.
            Err(_) => tracing::warn!("the code cache's key is damaged; making a new one"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    write_atomically(path, &[&key])?;
    Ok(key)
}

fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    for part in parts {
        io::Write::write_all(&mut file, part)?;
    }
    fs::rename(&temporary, path)
}
