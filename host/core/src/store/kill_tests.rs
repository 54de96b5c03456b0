//! What was acknowledged survives `kill -9` at any moment, start-up included.
//!
//! The test starts itself again as a child that writes and says so, kills it, opens what is left and
//! compares. `KEYWARD_KILL_ROUNDS` sets the number of rounds, `KEYWARD_KILL_SEED` repeats a run.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::*;
use crate::audit::{Action, AuditLog, Event};

const ROUNDS: u64 = 30;
/// A child is killed at some moment before this. Opening takes the first few milliseconds of it.
const LONGEST_LIFE: Duration = Duration::from_millis(120);
const DIRECTORY: &str = "KEYWARD_KILL_DIRECTORY";
const COUNT: &[u8] = b"test/count";

/// Not a test by itself: the child's side of the one below.
#[test]
fn child_writes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&directory));
    let audit = AuditLog::open(store.clone()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let event = Event {
                    actor: "child".into(),
                    action: Action::KeySet,
                    subject: "subject".into(),
                    detail: "x".repeat(200),
                };
                acknowledge("audit", audit.append(&event).unwrap());
            }
        });
        for number in count(&*store) + 1.. {
            let mut batch = Batch::default();
            batch.put(Tree::Usage, number.to_be_bytes(), vec![b'x'; 300]);
            batch.put(Tree::Meta, COUNT, number.to_be_bytes());
            store.write(batch).unwrap();
            store.sync().unwrap();
            acknowledge("write", number);
        }
    });
}

fn acknowledge(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what} {number}").unwrap();
    out.flush().unwrap();
}

fn open(directory: &Path) -> Store {
    Arc::new(SledStore::open(&DataDir::open(directory).unwrap()).unwrap())
}

fn count(store: &dyn KeyValue) -> u64 {
    let count = store.get(Tree::Meta, COUNT).unwrap();
    count.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("KEYWARD_KILL_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let rounds = number("KEYWARD_KILL_ROUNDS").unwrap_or(ROUNDS);
    println!("KEYWARD_KILL_SEED={seed} KEYWARD_KILL_ROUNDS={rounds}");
    let mut random = Random(seed);
    let temp = tempfile::tempdir().unwrap();
    let (mut written, mut audited, mut killed_at_work) = (0, 0, 0);

    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", child_name()])
            .env(DIRECTORY, temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let acknowledged = Arc::new(Mutex::new((written, audited)));
        let reader = thread::spawn({
            let acknowledged = acknowledged.clone();
            let stdout = BufReader::new(child.stdout.take().unwrap());
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    // The test harness writes its own lines, and may begin one for us.
                    let Some((_, line)) = line.split_once("ack ") else { continue };
                    let mut acknowledged = acknowledged.lock().unwrap();
                    match line.split_once(' ') {
                        Some(("write", n)) => acknowledged.0 = n.parse().unwrap(),
                        Some(("audit", n)) => acknowledged.1 = n.parse().unwrap(),
                        _ => panic!("{line}"),
                    }
                }
            }
        });
        thread::sleep(random.below(LONGEST_LIFE));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "round {round}: the child ended by itself: {status}");
        reader.join().unwrap();
        let before = (written, audited);
        (written, audited) = *acknowledged.lock().unwrap();
        killed_at_work += u64::from((written, audited) != before);

        let store = open(temp.path());
        let found = count(&*store);
        assert!(found >= written, "round {round}: {written} acknowledged, {found} found");
        let mut next = 1;
        store
            .scan(Tree::Usage, &KeyRange::all(), Order::Ascending, &mut |key, value| {
                assert_eq!(key, u64::to_be_bytes(next), "round {round}");
                assert_eq!(value, [b'x'; 300], "round {round}");
                next += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(next - 1, found, "round {round}: both halves of a batch or none");
        let entries = AuditLog::open(store).unwrap().verify().unwrap().entries;
        assert!(entries >= audited, "round {round}: {audited} acknowledged, {entries} found");
        // What was written and not acknowledged may stay; the next child goes on from there.
        (written, audited) = (found, entries);
    }
    println!(
        "{written} writes and {audited} audit entries; {killed_at_work} children killed at work"
    );
    assert!(rounds < ROUNDS || killed_at_work > 0, "no child lived long enough to write");
}

/// The child's full name as the harness knows it.
fn child_name() -> &'static str {
    let path = module_path!();
    let module = path.split_once("::").map_or(path, |(_, module)| module);
    format!("{module}::child_writes_until_killed").leak()
}

/// SplitMix64: repeatable, and good enough to choose moments.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let micros = u64::try_from(limit.as_micros()).unwrap();
        Duration::from_micros((mixed ^ (mixed >> 31)) % micros)
    }
}
