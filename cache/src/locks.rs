//! Locks between processes: `flock` on files, which the kernel releases when their holder dies, however it dies.
//!
//! A lock file is unlinked by its last holder while it still holds it, so a process that locked a file must look whether the
//! path still leads to it, and start again when it does not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_image::fault::{Point, reach};
use rustix::fs::FlockOperation;

use crate::files::{At, FileError, make_directories};

/// Waiting for another process ended early.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The caller does not want to wait any more.
    #[error("cancelled while another process holds `{}`", .0.display())]
    Cancelled(PathBuf),
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Shared,
    Exclusive,
}

impl Hold {
    fn operation(self) -> FlockOperation {
        match self {
            Self::Shared => FlockOperation::NonBlockingLockShared,
            Self::Exclusive => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// A held lock file; dropping it releases it.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock if it is free now.
    pub(crate) fn try_acquire(path: &Path, hold: Hold) -> Result<Option<Self>, FileError> {
        loop {
            let file = open(path)?;
            reach(Point::LockTake).at("lock", path)?;
            match rustix::fs::flock(&file, hold.operation()) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(FileError::new("lock", path, error)),
            }
            if is_same(&file, path).at("look at", path)? {
                return Ok(Some(Self { file }));
            }
        }
    }

    /// Waits for the lock, asking `cancelled` now and then.
    pub(crate) fn acquire(path: &Path, hold: Hold, cancelled: &dyn Fn() -> bool) -> Result<Self, LockError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = Self::try_acquire(path, hold)? {
                return Ok(lock);
            }
            if cancelled() {
                return Err(LockError::Cancelled(path.to_owned()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Returns whether somebody holds the lock exclusively, without creating the file.
    pub(crate) fn is_held(path: &Path) -> Result<bool, FileError> {
        let file = match reach(Point::LockOpen).and_then(|()| File::open(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FileError::new("open lock", path, error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(FileError::new("lock", path, error)),
        }
    }

    /// Returns the locked file, to read or append to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Unlinks the file and releases the lock; only for exclusive holders.
    pub(crate) fn remove(self, path: &Path) {
        // A lock file that stays behind is harmless: the next holder takes it over.
        let _ = reach(Point::Remove).and_then(|()| fs::remove_file(path));
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    match reach(Point::LockOpen).and_then(|()| options.open(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().expect("lock files lie in the store");
            make_directories(parent)?;
            options.open(path).at("open lock", path)
        }
        result => result.at("open lock", path),
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The exclusive right to run one step, held by one build among all processes.
#[derive(Debug)]
pub struct StepLock {
    lock: Option<LockFile>,
    path: PathBuf,
}

impl StepLock {
    pub(crate) fn try_acquire(path: PathBuf) -> Result<Option<Self>, FileError> {
        let lock = LockFile::try_acquire(&path, Hold::Exclusive)?;
        Ok(lock.map(|lock| Self { lock: Some(lock), path }))
    }

    pub(crate) fn acquire(path: PathBuf, cancelled: &dyn Fn() -> bool) -> Result<Self, LockError> {
        let lock = LockFile::acquire(&path, Hold::Exclusive, cancelled)?;
        Ok(Self { lock: Some(lock), path })
    }
}

impl Drop for StepLock {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_others_out_until_it_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/er/lock");
        let held = StepLock::try_acquire(path.clone()).unwrap().unwrap();
        assert!(StepLock::try_acquire(path.clone()).unwrap().is_none());
        let waited = StepLock::acquire(path.clone(), &|| true);
        assert!(matches!(waited, Err(LockError::Cancelled(_))));
        drop(held);
        assert!(!path.exists());
        assert!(StepLock::try_acquire(path).unwrap().is_some());
    }

    #[test]
    fn shared_holders_share_and_keep_exclusive_ones_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let first = LockFile::try_acquire(&path, Hold::Shared).unwrap();
        let second = LockFile::try_acquire(&path, Hold::Shared).unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(LockFile::try_acquire(&path, Hold::Exclusive).unwrap().is_none());
    }

    #[test]
    fn a_file_unlinked_by_its_holder_is_not_mistaken_for_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let winners = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = StepLock::acquire(path.clone(), &|| false).unwrap();
                        assert_eq!(winners.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        winners.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
