//! Notices that something in a directory may have changed.
//!
//! A [`DirWatch`] ticks: on what the system reports (inotify on Linux), and at an interval, because
//! reports get lost: a queue overflows, a directory is deleted and made again, a network file
//! system reports nothing. A tick is a hint and says nothing about what changed; who waits compares
//! content. Ticks don't queue up: any number of changes between two waits are one tick.
//!
//! Directories are watched, never files: an editor that saves by renaming leaves a watched file
//! behind. Costs one thread and, between changes, a few `stat` calls a second. Without the
//! system's reports, as where a limit on watches is reached, polling goes on alone and faster.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RemoveKind},
};
use tokio::{sync::Notify, time::Instant};

/// A change that wasn't reported is found after this time: half of the second that is promised.
pub const POLL: Duration = Duration::from_millis(500);
/// The same where nothing is reported at all.
pub const POLL_ALONE: Duration = Duration::from_millis(250);
/// How often the system is asked again after it refused to report.
const RETRY: Duration = Duration::from_secs(30);
/// Files that are remembered as being written. A folder has few writers; beyond this all are
/// forgotten, which only makes readers less patient.
const MAX_WRITTEN: usize = 1_024;

/// Watches a set of directories, without what is below them. Dropping it ends the watch.
pub struct DirWatch {
    watches: Arc<Mutex<Watches>>,
    signal: Arc<Signal>,
    next_poll: Instant,
}

/// What the reporting thread tells the waiting task.
#[derive(Default)]
struct Signal {
    changed: Notify,
    /// A watch may be gone, or not be in place yet.
    lost: AtomicBool,
    /// Written to, and not closed since.
    written: Mutex<HashSet<PathBuf>>,
}

type Open = fn(Arc<Signal>) -> notify::Result<RecommendedWatcher>;

/// Only used on blocking threads: each call waits for the reporting thread or the disk.
struct Watches {
    open: Open,
    watcher: Option<RecommendedWatcher>,
    wanted: BTreeSet<PathBuf>,
    /// With what stood under that path when the watch was set, by device and number.
    watched: HashMap<PathBuf, (u64, u64)>,
    refused: Option<std::time::Instant>,
    /// Why polling is alone.
    problem: Option<String>,
}

impl Default for DirWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl DirWatch {
    /// Watches nothing yet, but ticks at the interval.
    pub fn new() -> Self {
        Self::opened_by(open)
    }

    /// As where the system's limit on watches is reached.
    #[cfg(test)]
    pub(crate) fn without_reports() -> Self {
        Self::opened_by(|_| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)))
    }

    fn opened_by(open: Open) -> Self {
        let watches = Watches {
            open,
            watcher: None,
            wanted: BTreeSet::new(),
            watched: HashMap::new(),
            refused: None,
            problem: None,
        };
        Self {
            watches: Arc::new(Mutex::new(watches)),
            signal: Arc::default(),
            next_poll: Instant::now(),
        }
    }

    /// Watches exactly these directories from now on. One that doesn't exist is watched as soon as
    /// it does. Paths should be canonical, so that [`DirWatch::is_being_written`] finds them.
    pub async fn watch(&mut self, directories: BTreeSet<PathBuf>) {
        let new = self
            .blocking(move |watches, _| {
                let new = watches.wanted != directories;
                watches.wanted = directories;
                new
            })
            .await;
        if new != Some(false) {
            self.signal.lost.store(true, Ordering::Release);
        }
    }

    /// Waits until something may have changed. Can be cancelled without losing a change.
    pub async fn changed(&mut self) {
        if self.signal.lost.load(Ordering::Acquire) || Instant::now() >= self.next_poll {
            let renewed = self.blocking(Watches::reconcile).await;
            let alone = self.problem().is_some();
            self.next_poll = Instant::now() + if alone { POLL_ALONE } else { POLL };
            if renewed == Some(true) {
                return;
            }
        }
        tokio::select! {
            () = self.signal.changed.notified() => {}
            () = tokio::time::sleep_until(self.next_poll) => {}
        }
    }

    /// True if somebody has written to this file and not closed it since, as far as is known.
    pub fn is_being_written(&self, file: &Path) -> bool {
        self.signal.written().contains(file)
    }

    /// Why changes are found by polling alone; `None` while the system reports them.
    pub fn problem(&self) -> Option<String> {
        // Held for long only by a blocking thread that this task waits for.
        self.watches.try_lock().ok()?.problem.clone()
    }

    /// `None` if the reporting thread has died, in which case a new one is made later.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Watches, &Arc<Signal>) -> T + Send + 'static,
    ) -> Option<T> {
        let (watches, signal) = (self.watches.clone(), self.signal.clone());
        let done = tokio::task::spawn_blocking(move || {
            work(&mut watches.lock().unwrap_or_else(PoisonError::into_inner), &signal)
        });
        done.await.ok()
    }
}

impl Signal {
    fn written(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: notify::Result<Event>) {
        match event {
            Err(_) => self.lost.store(true, Ordering::Release),
            Ok(event) if event.need_rescan() => self.written().clear(),
            Ok(Event {
                kind: EventKind::Access(AccessKind::Close(AccessMode::Write)),
                paths,
                ..
            }) => {
                let mut written = self.written();
                for path in paths {
                    written.remove(&path);
                }
            }
            // Reading changes nothing, least of all our own.
            Ok(Event { kind: EventKind::Access(_), .. }) => return,
            Ok(Event { kind: EventKind::Modify(ModifyKind::Data(_)), paths, .. }) => {
                let mut written = self.written();
                if written.len() >= MAX_WRITTEN {
                    written.clear();
                }
                written.extend(paths);
            }
            Ok(Event { kind, paths, .. }) => {
                if kind == EventKind::Remove(RemoveKind::Folder) {
                    self.lost.store(true, Ordering::Release);
                }
                if !matches!(kind, EventKind::Modify(ModifyKind::Metadata(_))) {
                    let mut written = self.written();
                    for path in paths {
                        written.remove(&path);
                    }
                }
            }
        }
        self.changed.notify_one();
    }
}

fn open(signal: Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let config = notify::Config::default().with_follow_symlinks(false);
    RecommendedWatcher::new(move |event| signal.take(event), config)
}

impl Watches {
    /// Brings what is watched in line with what is wanted and what exists. True if a watch was set
    /// or lost, so that something may have changed unseen.
    fn reconcile(&mut self, signal: &Arc<Signal>) -> bool {
        let lost = signal.lost.swap(false, Ordering::AcqRel);
        let before = self.problem.take();
        let renewed = self.try_reconcile(signal, lost);
        let missing = self.wanted.iter().find(|directory| !self.watched.contains_key(*directory));
        if self.problem.is_none() {
            self.problem = missing.map(|directory| format!("{} is missing", directory.display()));
        }
        match (&before, &self.problem) {
            (None, Some(problem)) => {
                tracing::warn!(
                    problem,
                    "changes of files are found by polling every {POLL_ALONE:?}"
                );
            }
            (Some(_), None) => tracing::info!("changes of files are reported by the system again"),
            _ => {}
        }
        renewed
    }

    fn try_reconcile(&mut self, signal: &Arc<Signal>, lost: bool) -> bool {
        if self.watcher.is_none() {
            if self.refused.is_some_and(|at| at.elapsed() < RETRY) {
                self.problem = Some("the system refused to report changes".to_owned());
                return false;
            }
            match (self.open)(signal.clone()) {
                Ok(watcher) => (self.watcher, self.refused) = (Some(watcher), None),
                Err(error) => {
                    self.refused = Some(std::time::Instant::now());
                    self.problem = Some(format!("the system refused to report changes: {error}"));
                    return false;
                }
            }
        }
        let Some(watcher) = &mut self.watcher else { return false };
        let mut renewed = false;
        let stale: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, identity)| {
                lost || !self.wanted.contains(*path) || identify(path).ok() != Some(**identity)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in stale {
            // Fails where the system has already ended the watch.
            let _ = watcher.unwatch(&path);
            self.watched.remove(&path);
            renewed = true;
        }
        for path in &self.wanted {
            let Some(identity) = identify(path).ok().filter(|_| !self.watched.contains_key(path))
            else {
                continue;
            };
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), identity);
                    renewed = true;
                }
                Err(error) => self.problem = Some(error.to_string()),
            }
        }
        renewed
    }
}

fn identify(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// In place and quiet.
    async fn settled(mut watch: DirWatch, directory: &Path) -> DirWatch {
        watch.watch(BTreeSet::from([directory.to_owned()])).await;
        watch.next_poll = Instant::now();
        watch.changed().await;
        while tokio::time::timeout(SOON, watch.changed()).await.is_ok() {}
        watch
    }

    /// A tick that wasn't polled.
    async fn is_reported(watch: &mut DirWatch) -> bool {
        watch.next_poll = Instant::now() + 2 * SOON;
        tokio::time::timeout(SOON, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_ticks_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let mut watch = settled(DirWatch::new(), folder.path()).await;
        fs::read(folder.path().join("a")).unwrap();
        assert!(!is_reported(&mut watch).await);
        fs::write(folder.path().join("a"), "2").unwrap();
        assert!(is_reported(&mut watch).await);
        assert_eq!(watch.problem(), None);
    }

    #[tokio::test]
    async fn a_file_is_being_written_until_it_is_closed() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut watch = settled(DirWatch::new(), folder.path()).await;
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        watch.changed().await;
        tokio::time::sleep(SOON).await;
        assert!(watch.is_being_written(&path));
        drop(file);
        tokio::time::sleep(SOON).await;
        assert!(!watch.is_being_written(&path));
    }

    #[tokio::test]
    async fn a_directory_made_again_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut watch = settled(DirWatch::new(), &inner).await;
        for _ in 0..3 {
            fs::remove_dir_all(&inner).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            fs::create_dir(&inner).unwrap();
            watch = settled(watch, &inner).await;
            assert_eq!(watch.problem(), None);
            fs::write(inner.join("a"), "1").unwrap();
            assert!(is_reported(&mut watch).await);
        }
    }

    #[tokio::test]
    async fn a_directory_replaced_by_another_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, other) = (folder.path().join("inner"), folder.path().join("other"));
        fs::create_dir(&inner).unwrap();
        fs::create_dir(&other).unwrap();
        let mut watch = settled(DirWatch::new(), &inner).await;
        fs::rename(&inner, folder.path().join("old")).unwrap();
        fs::rename(&other, &inner).unwrap();
        watch = settled(watch, &inner).await;
        fs::write(inner.join("a"), "1").unwrap();
        assert!(is_reported(&mut watch).await);
    }

    #[tokio::test]
    async fn without_reports_it_polls_faster_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::without_reports();
        watch.watch(BTreeSet::from([folder.path().to_owned()])).await;
        watch.changed().await;
        let begun = Instant::now();
        watch.changed().await;
        assert!(begun.elapsed() < POLL_ALONE + SOON, "{:?}", begun.elapsed());
        assert!(watch.problem().unwrap().contains("refused"), "{:?}", watch.problem());
    }

    #[tokio::test]
    async fn an_overflow_ticks_and_forgets_who_writes() {
        let signal = Signal::default();
        let write = |path: String| Event {
            kind: EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any)),
            paths: vec![path.into()],
            attrs: Default::default(),
        };
        for file in 0..3 * MAX_WRITTEN {
            signal.take(Ok(write(format!("/{file}"))));
        }
        assert!((1..=MAX_WRITTEN).contains(&signal.written().len()));
        signal.take(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
        assert!(signal.written().is_empty());
        tokio::time::timeout(SOON, signal.changed.notified()).await.unwrap();
    }
}
