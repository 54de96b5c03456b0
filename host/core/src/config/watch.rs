//! Serves the configuration as it is saved.
//!
//! Looks at the file whenever [`DirWatch`] ticks, waits until its writer is done, and compares
//! content, never times. What can't be used doesn't replace what works: the last good configuration
//! stays in force, with what is wrong with the file beside it. A change is served after some 60 ms,
//! or within half a second more where the system reported nothing.
//!
//! A file half-written looks broken, or worse, whole. So a file still open for writing is waited
//! for, a broken one is read again before anybody hears of it, and an empty one never replaces a
//! configuration with providers.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::Digest as _;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    error::{ConfigError, Problem},
    read::{MAX_FILE, too_large},
    types::Config,
};
use crate::watch::DirWatch;

/// A save is over when nothing happens for this long: editors take a few milliseconds.
const QUIET: Duration = Duration::from_millis(50);
/// Changes without end are looked at this often.
const UNREST: Duration = Duration::from_millis(200);
/// How long a writer that keeps the file open is waited for.
const WRITING: Duration = Duration::from_millis(500);
/// How long what looks broken gets to become whole.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// Within this time after a change, an unchanged time stamp proves nothing: the coarsest file
/// systems count in steps of two seconds.
const STAMP_GRAIN: Duration = Duration::from_secs(2);
/// Links that are followed, as in the kernel.
const MAX_LINKS: usize = 40;

/// SHA-256 of a configuration file's bytes: what is in force, for logs and for comparing hosts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// A configuration that can be served.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Arc<Config>,
    pub digest: Digest,
}

/// What is in force, and what is wrong with the file now, if anything.
#[derive(Clone, Debug)]
pub struct State {
    pub loaded: Loaded,
    pub broken: Option<Arc<ConfigError>>,
}

/// Follows one file until dropped.
pub struct Watcher {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins with `loaded`, as [`Config::load`] gave it. A change made in between isn't missed.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn start(file: PathBuf, loaded: Loaded) -> Self {
        Self::start_with(file, loaded, DirWatch::new())
    }

    pub(super) fn start_with(file: PathBuf, loaded: Loaded, directories: DirWatch) -> Self {
        let (sender, state) = watch::channel(State { loaded, broken: None });
        let task = tokio::spawn(follow(file, sender, directories));
        Self { state, task }
    }

    /// Sees each new state; the present one counts as seen.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        let mut state = self.state.clone();
        state.mark_unchanged();
        state
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Config {
    /// Reads a file. Blocks.
    ///
    /// # Errors
    /// If it can't be read or anything is wrong with it.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        let bytes = read(file)?;
        let config = Self::parse(&bytes, file)?;
        Ok(Loaded { config: Arc::new(config), digest: Digest::of(&bytes) })
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What tells that a file isn't the one looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The last look at the file.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// `None` if it couldn't be found out.
    stamp: Option<Stamp>,
    /// Whether `stamp` is old enough to be believed.
    settled: bool,
    /// Of the content, if it could be read.
    digest: Option<Digest>,
}

enum Look {
    /// As before.
    Same,
    /// Read, and found the same as before.
    Unchanged(Seen),
    New(Seen, Result<Arc<Config>, ConfigError>),
}

async fn follow(file: PathBuf, state: watch::Sender<State>, mut directories: DirWatch) {
    let mut seen = Seen { digest: Some(state.borrow().loaded.digest), ..Seen::default() };
    loop {
        let places = blocking({
            let file = file.clone();
            move || Places::of(&file)
        });
        let Some(places) = places.await else { return };
        directories.watch(places.directories).await;
        if has_changed(&file, seen).await {
            settle(&mut directories, &places.target).await;
            let mut look = look(&file, seen, &state).await;
            if let Look::New(_, Err(_)) = look {
                tokio::time::sleep(SECOND_LOOK).await;
                settle(&mut directories, &places.target).await;
                look = self::look(&file, seen, &state).await;
            }
            match look {
                Look::Same => {}
                Look::Unchanged(now) => seen = now,
                Look::New(now, outcome) => {
                    seen = now;
                    publish(&state, seen, outcome);
                }
            }
        }
        directories.changed().await;
    }
}

/// Waits until the file is as its writer wants it, or for as long as is reasonable.
async fn settle(directories: &mut DirWatch, target: &Path) {
    let begun = Instant::now();
    loop {
        let quiet = timeout(QUIET, directories.changed()).await.is_err();
        let patience = if directories.is_being_written(target) { WRITING } else { UNREST };
        let over = begun.elapsed() >= patience;
        if over || (quiet && !directories.is_being_written(target)) {
            return;
        }
    }
}

fn publish(state: &watch::Sender<State>, seen: Seen, outcome: Result<Arc<Config>, ConfigError>) {
    state.send_if_modified(|state| match (outcome, seen.digest) {
        (Ok(config), Some(digest)) => {
            let back = state.broken.take().is_some();
            if state.loaded.digest == digest {
                // Mended by going back to what is in force.
                return back;
            }
            tracing::info!(file = %config.file().display(), %digest, "configuration is in force");
            state.loaded = Loaded { config, digest };
            true
        }
        (Ok(_), None) => false,
        (Err(error), _) => {
            if state.broken.as_deref() == Some(&error) {
                return false;
            }
            tracing::warn!("the last good configuration stays in force: {error}");
            state.broken = Some(Arc::new(error));
            true
        }
    });
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}

async fn has_changed(file: &Path, seen: Seen) -> bool {
    let file = file.to_owned();
    let stamp = blocking(move || Stamp::of(&file)).await.flatten();
    !seen.settled || stamp != seen.stamp
}

async fn look(file: &Path, seen: Seen, state: &watch::Sender<State>) -> Look {
    let file = file.to_owned();
    let loaded = state.borrow().loaded.clone();
    blocking(move || look_now(&file, seen, &loaded)).await.unwrap_or(Look::Same)
}

fn look_now(file: &Path, seen: Seen, loaded: &Loaded) -> Look {
    let before = Stamp::of(file);
    let read = read(file);
    let stamp = Stamp::of(file).filter(|after| Some(*after) == before);
    let now = Seen {
        stamp,
        settled: stamp.is_some_and(|stamp| stamp.is_settled())
            || (stamp.is_none() && before.is_none()),
        digest: read.as_ref().ok().map(|bytes| Digest::of(bytes)),
    };
    let outcome = match read {
        Err(error) => Err(error),
        Ok(_) if now.digest == seen.digest && now.digest.is_some() => return Look::Unchanged(now),
        Ok(_) if now.digest == Some(loaded.digest) => Ok(loaded.config.clone()),
        Ok(bytes) if bytes.trim_ascii().is_empty() && !loaded.config.providers.is_empty() => {
            let problem = Problem::of_file("the file is empty")
                .help("To serve no provider at all, write `providers: {}`.");
            Err(ConfigError::of_file(file, problem))
        }
        Ok(bytes) => Config::parse(&bytes, file).map(Arc::new),
    };
    Look::New(now, outcome)
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// False if a change right now could go unnoticed. A clock that jumps back makes it false for
    /// longer, which costs a reading at each poll.
    fn is_settled(&self) -> bool {
        let latest = self.modified.0.max(self.changed.0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(latest)
            .is_ok_and(|latest| latest.saturating_add(STAMP_GRAIN.as_secs()) < now.as_secs())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |error: io::Error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => Problem::of_file("there is no such file")
                .help("Create it, or name another with `--config FILE`."),
            io::ErrorKind::PermissionDenied => Problem::of_file("may not be read")
                .help("Make it readable for the user that this program runs as."),
            _ => Problem::of_file(format!("can't be read: {error}")),
        };
        ConfigError::of_file(file, problem)
    };
    let found = fs::metadata(file).map_err(unreadable)?;
    // Opening a pipe would wait for its writer.
    if !found.is_file() {
        return Err(ConfigError::of_file(file, Problem::of_file("isn't a file")));
    }
    let mut bytes = Vec::new();
    let limit = MAX_FILE as u64 + 1;
    fs::File::open(file)
        .and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > MAX_FILE {
        return Err(ConfigError::of_file(file, too_large()));
    }
    Ok(bytes)
}

/// Where a change can give a path another content.
#[derive(Debug)]
struct Places {
    /// That of the file, and those of each link on the way to it.
    directories: BTreeSet<PathBuf>,
    /// The file itself, all links followed.
    target: PathBuf,
}

impl Places {
    /// Follows `file` one component at a time, as far as it exists.
    fn of(file: &Path) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let mut directories = BTreeSet::new();
        let mut target = PathBuf::from("/");
        let mut ahead = reversed(&file);
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                target.pop();
                continue;
            }
            let next = target.join(&part);
            match fs::read_link(&next) {
                Ok(link) if links < MAX_LINKS => {
                    links += 1;
                    directories.insert(target.clone());
                    if link.is_absolute() {
                        target = PathBuf::from("/");
                    }
                    ahead.extend(reversed(&link));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    directories.insert(target.clone());
                    target = next;
                    target.extend(ahead.into_iter().rev());
                    return Self { directories, target };
                }
                _ => target = next,
            }
        }
        directories.extend(target.parent().map(Path::to_owned));
        Self { directories, target }
    }
}

/// The parts of a path, the last first; the root and `.` left out.
fn reversed(path: &Path) -> Vec<std::ffi::OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_places_that_decide_over_a_path_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let at = |path: &str| root.join(path);
        fs::create_dir_all(at("etc/..v1")).unwrap();
        fs::create_dir(at("links")).unwrap();
        fs::write(at("etc/..v1/p.yaml"), "").unwrap();
        symlink("..v1", at("etc/..data")).unwrap();
        symlink("..data/p.yaml", at("etc/p.yaml")).unwrap();
        symlink(at("links/../etc"), at("links/here")).unwrap();

        let places = Places::of(&at("links/here/p.yaml"));
        assert_eq!(places.target, at("etc/..v1/p.yaml"));
        assert!(places.directories.is_superset(&[at("links"), at("etc"), at("etc/..v1")].into()));

        // What isn't there is waited for where it would appear.
        let places = Places::of(&at("etc/new/p.yaml"));
        assert_eq!(places.target, at("etc/new/p.yaml"));
        assert!(places.directories.contains(&at("etc")), "{places:?}");

        symlink("loop", at("loop")).unwrap();
        assert!(Places::of(&at("loop")).directories.contains(&root));
    }

    #[test]
    fn a_fresh_time_stamp_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        fs::write(&file, "").unwrap();
        let fresh = Stamp::of(&file).unwrap();
        assert!(!fresh.is_settled());
        let old = Stamp { modified: (1, 0), changed: (1, 0), ..fresh };
        assert!(old.is_settled());
        // A clock that was set back: a time in the future proves nothing.
        assert!(!Stamp { modified: (i64::MAX, 0), ..old }.is_settled());
    }
}
