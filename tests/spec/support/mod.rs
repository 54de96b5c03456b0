//! What the specification stands on: vendors that obey a script, the real `keyward` program, real
//! plugins, the real OpenAI SDK.
//!
//! Everything here outlives a single test where it can: one runtime, one set of built plugins, one
//! Python environment, and one gateway for the tests that leave no trace in it. All of it listens
//! on 127.0.0.1 only. Randomness comes from one printed seed; `KEYWARD_TEST_SEED` repeats a run.

#![allow(dead_code, reason = "each test module uses its own part of the support")]

pub mod components;
pub mod faulty;
pub mod gateway;
pub mod http;
pub mod node;
pub mod plugins;
pub mod python;
pub mod suite;
pub mod vendor;

use std::{
    env,
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::Runtime;

/// The top folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where tests keep what is worth keeping between runs: built plugins, the Python environment.
pub fn kept(name: &str) -> PathBuf {
    let folder = project().join("target").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Holds the only right to change `folder` until dropped, among all test processes.
pub fn lock(folder: &Path) -> std::fs::File {
    let file = std::fs::File::create(folder.join(".lock")).unwrap();
    file.lock().unwrap();
    file
}

/// The `keyward` program under test.
pub fn keyward() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyward"))
}

/// Runs `work` on the runtime that the scripted vendors live on, so that they outlast one test.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// Held by a test that measures time or memory, and by one that keeps the whole machine busy: they
/// run one by one, whichever file they are in.
pub fn by_itself() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seed of this run's randomness, printed once.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = env::var("KEYWARD_TEST_SEED").map_or_else(
            |_| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
            |seed| seed.parse().expect("KEYWARD_TEST_SEED is a number"),
        );
        eprintln!("seed of this run: {seed} (repeat it with KEYWARD_TEST_SEED={seed})");
        seed
    })
}

/// Pseudo-random numbers (splitmix64) that follow from the run's seed and a name.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(name: &str) -> Self {
        let mixed = name.bytes().fold(seed(), |mixed, byte| {
            (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mixed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

/// A marked credential. Any sight of one outside its vendor's own requests is a failed test.
pub fn canary(provider: &str) -> String {
    let mut dice = Dice::new(provider);
    format!("sk-canary-{provider}-{:016x}{:016x}", dice.roll(), dice.roll())
}

/// What every canary begins with.
pub const CANARY: &str = "sk-canary-";

/// A word that appears nowhere else, to find a test's own requests by.
pub fn word(purpose: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static WORDS: AtomicU64 = AtomicU64::new(0);
    let number = WORDS.fetch_add(1, Ordering::Relaxed);
    format!("{purpose}{number}x{:08x}", Dice::new(purpose).roll() as u32)
}

/// Waits until `holds` gives a value, looking every 10 ms.
///
/// # Panics
/// When it hasn't within `patience`; `what` says what was waited for.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = holds().await {
            return value;
        }
        assert!(began.elapsed() < patience, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Every file below `folder`, for searches.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// True if `needle` is somewhere in `hay`.
pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
