//! The directory that holds all state, and the lock that keeps a second process out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::StoreError;

/// An open data directory. The lock is held until the last clone is dropped, or the process dies:
/// the kernel releases it, so a killed process leaves nothing to clean up.
#[derive(Clone, Debug)]
pub struct DataDir {
    inner: Arc<Locked>,
}

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the other process's id if one has it open; [`StoreError::Io`] if
    /// the directory can't be made or written to.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create the data directory", path, e));
            }
            _ => {}
        }
        let mode = fs::metadata(path).map_err(|e| StoreError::io("read", path, e))?.mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                "other users can read the data directory: chmod 700 it"
            );
        }

        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|e| StoreError::io("open", &file, e))?;
        match try_lock_patiently(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // What matters is the refusal; the owner may be writing its id this very moment.
                let _ = lock.take(32).read_to_string(&mut pid);
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &file, e)),
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(|e| StoreError::io("write", &file, e))?;
        Ok(Self { inner: Arc::new(Locked { path: path.to_owned(), _lock: lock }) })
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

/// A process that is being started holds a copy of its parent's files for a moment, this lock among
/// them, until it has become a program of its own.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

fn try_lock_patiently(lock: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_closed_to_others() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(&temp.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(data.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(data.path().join("lock")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_owner_is_refused_with_the_process_id_of_the_first() {
        let temp = tempfile::tempdir().unwrap();
        let first = DataDir::open(temp.path()).unwrap();
        let refused = DataDir::open(temp.path()).unwrap_err();
        assert!(
            matches!(refused, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id())
        );
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())));
        let clone = first.clone();
        drop(first);
        assert!(DataDir::open(temp.path()).is_err(), "a clone still owns it");
        drop(clone);
        DataDir::open(temp.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_dead_process_is_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("lock"), "4194304000\n").unwrap();
        DataDir::open(temp.path()).unwrap();
        let text = fs::read_to_string(temp.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_a_clear_error() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
