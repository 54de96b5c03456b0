//! Compiled code on disk: keyed by what it was made from, verified before it is loaded.
//!
//! Loading machine code is as good as running it, so each entry has a MAC beside it under a key that
//! only this folder has (0600, in a folder of 0700), over the component's digest, the engine's own
//! compatibility hash and the code. A file from elsewhere, for another component or from another
//! build of the host doesn't verify and is compiled again. Code is verified and mapped through one
//! open file, and entries are only ever replaced by renaming, so what is mapped is what was
//! verified, against everyone but the user whose folder it is.
//!
//! Code is never held in memory beside its mapping: buffers of its size would stay with the
//! allocator after each reload.
//!
//! Bounds: at most [`MAX_ENTRIES`] entries, the oldest go first. Costs: one read and one SHA-256
//! over 1 to 3 MB an adapter at start, some milliseconds in all. All calls block.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::ids::Digest;

/// Enough for every bundled adapter in several versions.
const MAX_ENTRIES: usize = 256;

/// Endings of an entry's two files.
const CODE: &str = "code";
const MAC: &str = "mac";

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

    /// The code for this component, open for reading, if it is there and verifies.
    pub fn get(&self, component: &Digest) -> Option<fs::File> {
        let path = self.path(component);
        let mut code = fs::File::open(&path).ok()?;
        let mac = fs::read(path.with_extension(MAC)).unwrap_or_default();
        if self.mac(component, &mut code).ok()?.verify_slice(&mac).is_ok() {
            return Some(code);
        }
        tracing::warn!(%component, "a cached compilation doesn't verify; compiling again");
        None
    }

    /// A new file for code to be written to. Nobody else has its name, and it is gone if it is
    /// dropped before [`Cache::keep`].
    ///
    /// # Errors
    /// If it can't be made.
    pub fn begin(&self) -> io::Result<Unfinished> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{}-{number}.unfinished", std::process::id()));
        let file = options().read(true).open(&path)?;
        Ok(Unfinished { path, file })
    }

    /// Keeps what was written as the code for this component, and opens it.
    ///
    /// # Errors
    /// If it can't be read or kept.
    pub fn keep(&self, component: &Digest, mut code: Unfinished) -> io::Result<fs::File> {
        let mac = self.mac(component, &mut code.file)?.finalize().into_bytes();
        let path = self.path(component);
        write_atomically(&path.with_extension(MAC), &mac)?;
        fs::rename(&code.path, &path)?;
        self.prune();
        code.file.try_clone()
    }

    fn path(&self, component: &Digest) -> PathBuf {
        let engine: String = self.engine[..8].iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(format!("{component}-{engine}.{CODE}"))
    }

    /// Over the whole file, from its beginning; leaves it there again.
    fn mac(&self, component: &Digest, code: &mut fs::File) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        mac.update(&component.0);
        mac.update(&self.engine);
        code.rewind()?;
        let mut buffer = [0; 16 * 1024];
        loop {
            match code.read(&mut buffer)? {
                0 => break,
                read => mac.update(&buffer[..read]),
            }
        }
        code.rewind()?;
        Ok(mac)
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == CODE))
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(MAX_ENTRIES)) {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(path.with_extension(MAC));
        }
    }
}

/// Code that isn't in the cache yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    pub file: fs::File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once kept it has another name, and there is nothing to remove.
        let _ = fs::remove_file(&self.path);
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
    write_atomically(path, &key)?;
    Ok(key)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    options().open(&temporary)?.write_all(bytes)?;
    fs::rename(&temporary, path)
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    options
}
