//! Following a real file through everything that happens to files. Each test prints how long a
//! change took from saved to served.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    sync::watch::Receiver,
    time::{sleep, timeout},
};

use super::{Config, State, Watcher};
use crate::watch::DirWatch;

/// What is promised.
const PROMISE: Duration = Duration::from_secs(1);

/// A configuration told apart by its only provider's name.
fn text(name: &str) -> String {
    format!("providers:\n  {name}:\n    models: [a]\n")
}

fn names(state: &State) -> Vec<&str> {
    state.loaded.config.providers.keys().map(|name| name.as_str()).collect()
}

struct Case {
    _folder: TempDir,
    file: PathBuf,
    _watcher: Watcher,
    states: Receiver<State>,
}

impl Case {
    async fn new() -> Self {
        Self::with(DirWatch::new()).await
    }

    async fn with(directories: DirWatch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("providers.yaml");
        fs::write(&file, text("first")).unwrap();
        Self::of(folder, file, directories).await
    }

    async fn of(folder: TempDir, file: PathBuf, directories: DirWatch) -> Self {
        let loaded = Config::load(&file).unwrap();
        let watcher = Watcher::start_with(file.clone(), loaded, directories);
        let states = watcher.subscribe();
        // The first look is over and the watch in place.
        sleep(Duration::from_millis(300)).await;
        Self { _folder: folder, file, _watcher: watcher, states }
    }

    fn folder(&self) -> &Path {
        self._folder.path()
    }

    /// Waits for a state and prints how long that took since `saved`.
    async fn until(&mut self, what: &str, saved: Instant, is: impl Fn(&State) -> bool) -> State {
        let found = timeout(3 * PROMISE, self.states.wait_for(|state| is(state))).await;
        let state = found.unwrap_or_else(|_| panic!("{what}: not served")).unwrap().clone();
        let took = saved.elapsed();
        println!("{what}: {} ms", took.as_millis());
        assert!(took < PROMISE, "{what}: {took:?}");
        state
    }

    async fn serves(&mut self, what: &str, name: &str, saved: Instant) {
        self.until(what, saved, |state| names(state) == [name] && state.broken.is_none()).await;
    }

    /// Nothing is announced for longer than any change takes.
    async fn stays(&mut self) {
        self.states.mark_unchanged();
        let changed = timeout(Duration::from_millis(900), self.states.changed()).await;
        assert!(changed.is_err(), "{:?}", self.states.borrow());
    }
}

#[tokio::test]
async fn a_saved_change_is_served() {
    let mut case = Case::new().await;
    for name in ["second", "third", "fourth"] {
        let saved = Instant::now();
        fs::write(&case.file, text(name)).unwrap();
        case.serves("written in place", name, saved).await;
    }
    for name in ["fifth", "sixth"] {
        let new = case.folder().join(".providers.yaml.swp");
        fs::write(&new, text(name)).unwrap();
        let saved = Instant::now();
        fs::rename(&new, &case.file).unwrap();
        case.serves("renamed into place", name, saved).await;
    }
    // As editors with backups do.
    fs::rename(&case.file, case.folder().join("providers.yaml~")).unwrap();
    let saved = Instant::now();
    fs::write(&case.file, text("seventh")).unwrap();
    case.serves("written after moving the old one away", "seventh", saved).await;
}

#[tokio::test]
async fn a_change_right_before_the_start_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("providers.yaml");
    fs::write(&file, text("first")).unwrap();
    let loaded = Config::load(&file).unwrap();
    fs::write(&file, text("other")).unwrap();
    let saved = Instant::now();
    let watcher = Watcher::start(file.clone(), loaded);
    let states = watcher.subscribe();
    let mut case = Case { _folder: folder, file, _watcher: watcher, states };
    case.serves("changed before the start", "other", saved).await;
}

#[tokio::test]
async fn a_file_without_new_content_is_no_change() {
    let mut case = Case::new().await;
    fs::write(&case.file, text("first")).unwrap();
    fs::set_permissions(&case.file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(case.folder().join("neighbour"), "x").unwrap();
    case.stays().await;
}

#[tokio::test]
async fn new_content_under_an_old_time_is_a_change() {
    let mut case = Case::new().await;
    let time = fs::metadata(&case.file).unwrap().modified().unwrap();
    sleep(3 * PROMISE).await;
    let saved = Instant::now();
    fs::write(&case.file, text("tsrif")).unwrap();
    fs::File::options().append(true).open(&case.file).unwrap().set_modified(time).unwrap();
    case.serves("same length and time", "tsrif", saved).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_configuration_and_says_where() {
    let mut case = Case::new().await;
    let saved = Instant::now();
    fs::write(&case.file, "providers:\n  second:\n    modles: [a]\n").unwrap();
    let state = case.until("broken", saved, |state| state.broken.is_some()).await;
    assert_eq!(names(&state), ["first"]);
    let shown = state.broken.unwrap().to_string();
    assert!(
        shown.contains("providers.yaml:3:5: providers.second: unknown key `modles`"),
        "{shown}"
    );
    // Said once.
    case.stays().await;

    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    case.serves("mended", "second", saved).await;

    fs::write(&case.file, "providers: [").unwrap();
    case.until("broken again", Instant::now(), |state| state.broken.is_some()).await;
    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    case.serves("taken back", "second", saved).await;
}

#[tokio::test]
async fn a_file_written_in_pieces_is_served_whole() {
    let mut case = Case::new().await;
    case.states.mark_unchanged();
    // Each beginning is valid YAML, and a valid configuration of something else.
    let mut file = fs::File::create(&case.file).unwrap();
    for piece in ["providers:\n", "  second:\n", "    models: [a]\n"] {
        file.write_all(piece.as_bytes()).unwrap();
        sleep(Duration::from_millis(120)).await;
    }
    assert!(!case.states.has_changed().unwrap(), "{:?}", case.states.borrow());
    drop(file);
    let saved = Instant::now();
    timeout(PROMISE, case.states.changed()).await.unwrap().unwrap();
    let state = case.states.borrow().clone();
    assert_eq!((names(&state), state.broken.is_some()), (vec!["second"], false));
    assert_eq!(state.loaded.config.providers["second"].models.len(), 1);
    println!("written in pieces: {} ms after closing", saved.elapsed().as_millis());
}

#[tokio::test]
async fn a_writer_that_never_closes_is_not_waited_for() {
    let mut case = Case::new().await;
    let mut file = fs::File::create(&case.file).unwrap();
    let saved = Instant::now();
    file.write_all(text("second").as_bytes()).unwrap();
    case.serves("still open", "second", saved).await;
}

#[tokio::test]
async fn a_short_moment_of_emptiness_is_not_announced() {
    let mut case = Case::new().await;
    case.states.mark_unchanged();
    fs::write(&case.file, "").unwrap();
    sleep(Duration::from_millis(80)).await;
    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    timeout(PROMISE, case.states.changed()).await.unwrap().unwrap();
    let state = case.states.borrow().clone();
    assert_eq!((names(&state), state.broken.is_some()), (vec!["second"], false));
    println!("truncated, then written: {} ms", saved.elapsed().as_millis());
}

#[tokio::test]
async fn an_emptied_file_does_not_take_the_providers_away() {
    let mut case = Case::new().await;
    let saved = Instant::now();
    fs::write(&case.file, "\n").unwrap();
    let state = case.until("emptied", saved, |state| state.broken.is_some()).await;
    assert_eq!(names(&state), ["first"]);
    assert!(state.broken.unwrap().to_string().contains("`providers: {}`"));
    let saved = Instant::now();
    fs::write(&case.file, "providers: {}\n").unwrap();
    case.until("emptied on purpose", saved, |state| {
        names(state).is_empty() && state.broken.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_config_map_swap_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let version = |number: u32, name: &str| {
        fs::create_dir(at(&format!("..v{number}"))).unwrap();
        fs::write(at(&format!("..v{number}/providers.yaml")), text(name)).unwrap();
        symlink(format!("..v{number}"), at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    version(0, "first");
    symlink("..data/providers.yaml", at("providers.yaml")).unwrap();
    let path = folder.path().to_owned();
    let mut case = Case::of(folder, path.join("providers.yaml"), DirWatch::new()).await;
    for (number, name) in [(1, "second"), (2, "third"), (3, "fourth")] {
        let at = |file: &str| path.join(file);
        fs::create_dir(at(&format!("..v{number}"))).unwrap();
        fs::write(at(&format!("..v{number}/providers.yaml")), text(name)).unwrap();
        symlink(format!("..v{number}"), at("..data_tmp")).unwrap();
        let saved = Instant::now();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at(&format!("..v{}", number - 1))).unwrap();
        case.serves("ConfigMap swap", name, saved).await;
    }
}

#[tokio::test]
async fn a_link_is_followed_to_its_target_and_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (target, file) = (elsewhere.path().join("real.yaml"), folder.path().join("providers.yaml"));
    fs::write(&target, text("first")).unwrap();
    symlink(&target, &file).unwrap();
    let mut case = Case::of(folder, file, DirWatch::new()).await;
    let saved = Instant::now();
    fs::write(&target, text("second")).unwrap();
    case.serves("target changed", "second", saved).await;

    let other = elsewhere.path().join("other.yaml");
    fs::write(&other, text("third")).unwrap();
    symlink(&other, case.folder().join("new")).unwrap();
    let saved = Instant::now();
    fs::rename(case.folder().join("new"), &case.file).unwrap();
    case.serves("link changed", "third", saved).await;
    let saved = Instant::now();
    fs::write(&other, text("fourth")).unwrap();
    case.serves("new target changed", "fourth", saved).await;
}

#[tokio::test]
async fn a_deleted_file_changes_nothing_until_it_is_back() {
    let mut case = Case::new().await;
    let saved = Instant::now();
    fs::remove_file(&case.file).unwrap();
    let state = case.until("deleted", saved, |state| state.broken.is_some()).await;
    assert_eq!(names(&state), ["first"]);
    assert!(state.broken.unwrap().to_string().contains("there is no such file"));
    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    case.serves("made again", "second", saved).await;
}

#[tokio::test]
async fn a_deleted_folder_changes_nothing_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("etc");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("providers.yaml");
    fs::write(&file, text("first")).unwrap();
    let mut case = Case::of(folder, file, DirWatch::new()).await;
    for name in ["second", "third"] {
        fs::remove_dir_all(&inner).unwrap();
        let state =
            case.until("folder deleted", Instant::now(), |state| state.broken.is_some()).await;
        assert_ne!(names(&state), [name]);
        fs::create_dir(&inner).unwrap();
        let saved = Instant::now();
        fs::write(&case.file, text(name)).unwrap();
        case.serves("folder made again", name, saved).await;
    }
    let saved = Instant::now();
    fs::write(&case.file, text("fourth")).unwrap();
    case.serves("watched again", "fourth", saved).await;
}

#[tokio::test]
async fn a_file_that_may_not_be_read_changes_nothing() {
    let mut case = Case::new().await;
    fs::set_permissions(&case.file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&case.file).is_ok() {
        // Root reads everything. A link to itself is as unreadable for anyone.
        fs::remove_file(&case.file).unwrap();
        symlink("providers.yaml", &case.file).unwrap();
    }
    let saved = Instant::now();
    let state = case.until("unreadable", saved, |state| state.broken.is_some()).await;
    assert_eq!(names(&state), ["first"]);
    let _ = fs::remove_file(&case.file);
    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    case.serves("readable again", "second", saved).await;
}

#[tokio::test]
async fn something_else_in_its_place_changes_nothing() {
    let mut case = Case::new().await;
    fs::remove_file(&case.file).unwrap();
    fs::create_dir(&case.file).unwrap();
    let state =
        case.until("a folder in its place", Instant::now(), |state| state.broken.is_some()).await;
    assert_eq!(names(&state), ["first"]);
    fs::remove_dir(&case.file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&case.file).status();
    if made.is_ok_and(|status| status.success()) {
        sleep(PROMISE).await;
        fs::remove_file(&case.file).unwrap();
    }
    let saved = Instant::now();
    fs::write(&case.file, text("second")).unwrap();
    case.serves("a file again", "second", saved).await;
}

#[tokio::test]
async fn without_reports_a_change_is_served_within_the_second() {
    let mut case = Case::with(DirWatch::without_reports()).await;
    for name in ["second", "third"] {
        // Not in step with the polling.
        sleep(Duration::from_millis(70)).await;
        let saved = Instant::now();
        fs::write(&case.file, text(name)).unwrap();
        case.serves("polled", name, saved).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rewrites_end_with_the_last() {
    let mut case = Case::new().await;
    let file = case.file.clone();
    let written = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        for number in 0..10_000_u32 {
            let new = file.with_extension("new");
            if number % 2 == 0 {
                fs::write(&new, text(&format!("n{number}"))).unwrap();
                fs::rename(&new, &file).unwrap();
            } else {
                fs::write(&file, text(&format!("n{number}"))).unwrap();
            }
        }
        println!("10,000 rewrites took {} ms", begun.elapsed().as_millis());
    });
    written.await.unwrap();
    case.serves("after 10,000 rewrites", "n9999", Instant::now()).await;
}

#[tokio::test]
async fn a_dropped_watcher_lets_go() {
    let case = Case::new().await;
    let mut states = case.states.clone();
    drop(case);
    let ended = async { while states.changed().await.is_ok() {} };
    timeout(PROMISE, ended).await.unwrap();
}
