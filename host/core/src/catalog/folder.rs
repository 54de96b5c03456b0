//! The plugins folder: which file holds which bytes, and what became of them.
//!
//! What an operator allows a file is part of what it is: under other limits or grants it is loaded
//! anew, and without the grant it runs by it is no longer served.
//!
//! A scan reads what may have changed and compares content, not times: a file whose size, inode
//! and time are as they were is trusted only if it was already old when it was read, because a
//! file system's clock is coarser than two writes. A file that doesn't load leaves what it served
//! before in place. A file that has gone is forgotten after [`GRACE`], so that "delete, then
//! copy" isn't a gap.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::StreamExt as _;

use super::{PluginStatus, Problem};
use crate::{
    ids::Digest,
    sandbox::{Compiler, Limits, LoadError, Plugin},
};

/// The most component files in the folder.
const MAX_FILES: usize = 256;

/// Components loaded at once. The compiler has its own bound; this one is for memory.
const LOADING: usize = 8;

/// How long a missing file is still served.
const GRACE: Duration = Duration::from_millis(1_500);

/// After a failure that may pass, such as a machine too busy to compile in time, a file is tried
/// again after this time, then after twice as long each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// A file this old when it was read can't have been written again without its time telling.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) struct Folder {
    dir: PathBuf,
    files: BTreeMap<PathBuf, File>,
}

#[derive(Default)]
struct File {
    stamp: Option<Stamp>,
    digest: Option<Digest>,
    /// What `digest` was loaded under, or refused under.
    limits: Option<Limits>,
    serving: Option<Arc<Plugin>>,
    problem: Option<Problem>,
    missing_since: Option<Instant>,
    /// Refused for a reason that may pass: when to try again, and how long after that.
    again: Option<(Instant, Duration)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    settled: bool,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        Self {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            settled: age.is_some_and(|age| age > SETTLED),
        }
    }
}

/// The limits for a component file.
pub(super) type LimitsOf = Arc<dyn Fn(&Path) -> Limits + Send + Sync>;

type Known = BTreeMap<PathBuf, Option<Stamp>>;

/// A file's bytes, or why they couldn't be read.
struct Reading {
    path: PathBuf,
    read: io::Result<(Stamp, Option<Arc<[u8]>>)>,
}

/// What a look at a file came to.
enum Taken {
    Known { changed: bool },
    New(Load),
}

/// Bytes to be made an adapter of.
struct Load {
    path: PathBuf,
    bytes: Arc<[u8]>,
    digest: Digest,
    /// How long was waited since the same bytes were refused for a passing reason.
    waited: Option<Duration>,
}

impl Folder {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, files: BTreeMap::new() }
    }

    /// Looks at every file and loads what is new, several at a time. `changed` is called whenever
    /// what others see has changed, so that a file that compiles slowly holds up no other.
    pub async fn scan(
        &mut self,
        compiler: &Compiler,
        limits: LimitsOf,
        mut changed: impl FnMut(Vec<PluginStatus>),
    ) {
        let mut seen = self.apply(&limits);
        let known: Known =
            self.files.iter().map(|(p, f)| (p.clone(), f.stamp.filter(|_| !f.is_due()))).collect();
        let (dir, limits_of) = (self.dir.clone(), Arc::clone(&limits));
        let read = move || {
            let cap = |path: &Path| limits_of(path).component_size;
            list(&dir).into_iter().map(|path| read(&path, &known, cap(&path))).collect()
        };
        let readings: Vec<Reading> = match tokio::task::spawn_blocking(read).await {
            Ok(readings) => readings,
            Err(error) => {
                tracing::error!(%error, "the plugins folder could not be read");
                return;
            }
        };
        seen |= self.forget_missing(&readings);
        let mut loads = Vec::new();
        for reading in readings {
            match self.take(reading, &limits) {
                Taken::Known { changed } => seen |= changed,
                Taken::New(load) => loads.push(load),
            }
        }
        if seen {
            changed(self.status());
        }
        let mut loading = futures_util::stream::iter(loads)
            .map(|load| async {
                let limits = limits(&load.path);
                let loaded = Plugin::load(compiler, Arc::clone(&load.bytes), &limits).await;
                (load, loaded)
            })
            .buffer_unordered(LOADING);
        while let Some((load, loaded)) = loading.next().await {
            if self.loaded(&load, loaded) {
                changed(self.status());
            }
        }
    }

    /// Has every file read and loaded again that is allowed other things than it was loaded under.
    /// A grant that is gone ends what was served by it; other limits replace it once it is loaded.
    /// True if others see a difference.
    fn apply(&mut self, limits_of: &LimitsOf) -> bool {
        let mut revoked = false;
        for (path, file) in &mut self.files {
            let limits = limits_of(path);
            if file.limits.as_ref() == Some(&limits) {
                continue;
            }
            if !limits.wasi && file.serving.take_if(|plugin| plugin.wasi).is_some() {
                tracing::info!(file = %path.display(), "the plugin's grant has gone; draining it");
                revoked = true;
            }
            file.limits = Some(limits);
            file.stamp = None;
            file.digest = None;
        }
        revoked
    }

    fn forget_missing(&mut self, readings: &[Reading]) -> bool {
        let before = self.files.len();
        self.files.retain(|path, file| {
            if readings.iter().any(|reading| reading.path == *path) {
                file.missing_since = None;
                return true;
            }
            let since = *file.missing_since.get_or_insert_with(Instant::now);
            let keep = since.elapsed() < GRACE;
            if !keep {
                tracing::info!(file = %path.display(), "the plugin's file has gone; draining it");
            }
            keep
        });
        self.files.len() != before
    }

    fn take(&mut self, reading: Reading, limits: &LimitsOf) -> Taken {
        let file = self.files.entry(reading.path.clone()).or_default();
        file.limits.get_or_insert_with(|| limits(&reading.path));
        let bytes = match reading.read {
            Ok((stamp, bytes)) => {
                file.stamp = Some(stamp);
                match bytes {
                    Some(bytes) => bytes,
                    None => return Taken::Known { changed: false },
                }
            }
            Err(error) => {
                file.stamp = None;
                file.digest = None;
                let reason = format!("it can't be read: {error}");
                return Taken::Known { changed: file.refuse(&reading.path, None, reason) };
            }
        };
        let digest = Digest::of(&bytes);
        if file.digest == Some(digest) && !file.is_due() {
            return Taken::Known { changed: false };
        }
        let waited = file.again.take().filter(|_| file.digest == Some(digest));
        file.digest = Some(digest);
        let served = file.serving.as_ref().filter(|plugin| plugin.digest == digest);
        if served.is_some_and(|plugin| Some(plugin.limits()) == file.limits.as_ref()) {
            return Taken::Known { changed: file.problem.take().is_some() };
        }
        let waited = waited.map(|(_, wait)| wait);
        Taken::New(Load { path: reading.path, bytes, digest, waited })
    }

    /// Puts a loaded component in its file's place; true if others see a difference.
    fn loaded(&mut self, load: &Load, loaded: Result<Plugin, LoadError>) -> bool {
        let Some(file) = self.files.get_mut(&load.path) else { return false };
        match loaded {
            Ok(plugin) => {
                tracing::info!(
                    file = %load.path.display(), plugin = %plugin.name, digest = %load.digest,
                    "plugin loaded"
                );
                file.serving = Some(Arc::new(plugin));
                file.problem = None;
                true
            }
            Err(error) => {
                if error.is_passing() {
                    let wait = load.waited.map_or(AGAIN.0, |wait| (wait * 2).min(AGAIN.1));
                    file.again = Some((Instant::now() + wait, wait));
                }
                file.refuse(&load.path, Some(load.digest), error.to_string())
            }
        }
    }

    /// What others see of the folder. Where two files hold the same adapter, the first by name
    /// serves and the others say so.
    pub fn status(&self) -> Vec<PluginStatus> {
        let mut taken: BTreeMap<_, &Path> = BTreeMap::new();
        self.files
            .iter()
            .map(|(path, file)| {
                let mut status = PluginStatus {
                    path: path.clone(),
                    serving: file.serving.clone(),
                    problem: file.problem.clone(),
                };
                if let Some(plugin) = &file.serving {
                    if let Some(first) = taken.get(&plugin.name) {
                        status.problem = Some(Problem {
                            digest: Some(plugin.digest),
                            reason: format!(
                                "the adapter '{}' is already served from {}: remove one of the two",
                                plugin.name,
                                first.display()
                            ),
                        });
                        status.serving = None;
                    } else {
                        taken.insert(plugin.name.clone(), path);
                    }
                }
                status
            })
            .collect()
    }
}

impl File {
    fn is_due(&self) -> bool {
        self.again.is_some_and(|(at, _)| Instant::now() >= at)
    }

    fn refuse(&mut self, path: &Path, digest: Option<Digest>, reason: String) -> bool {
        let problem = Some(Problem { digest, reason });
        if self.problem == problem {
            return false;
        }
        if let Some(Problem { reason, .. }) = &problem {
            let kept =
                if self.serving.is_some() { "; the version before goes on serving" } else { "" };
            tracing::warn!(file = %path.display(), "plugin refused: {reason}{kept}");
        }
        self.problem = problem;
        true
    }
}

/// Component files, by name. A folder that isn't there is an empty one.
fn list(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|x| x == "wasm" || x == "cwasm"))
        .collect();
    files.sort();
    files.truncate(MAX_FILES);
    files
}

/// Reads a file unless it surely is what it was.
fn read(path: &Path, known: &Known, cap: usize) -> Reading {
    let before = known.get(path).copied().flatten();
    let read = || {
        let stamp = Stamp::of(&fs::metadata(path)?);
        if before.is_some_and(|before| before.settled && before == stamp) {
            return Ok((stamp, None));
        }
        // One byte more than allowed is enough to be refused for its size.
        let mut bytes = Vec::new();
        let mut file = io::Read::take(fs::File::open(path)?, cap as u64 + 1);
        io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok((stamp, Some(bytes.into())))
    };
    Reading { path: path.to_owned(), read: read() }
}
