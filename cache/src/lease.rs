//! What one open store holds: a lock file that says its owner lives, the pins written in it, and its scratch directory.
//!
//! Look-up and pin are one critical section under the gate (`locks/store`), which collection takes exclusively for the moment
//! in which it looks at all pins once more and renames one victim away. A pin also marks what it holds as used now, so that a
//! collection which started earlier sees that it came too late.
//!
//! A lease whose lock is free belongs to a process that died; whoever finds it removes its scratch directory.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mica_image::fault::{Point, reach};
use mica_image::{ContentDigest, LayerId};
use rustix::fs::FlockOperation;

use crate::files::{At, FileError, list, remove_file, remove_tree, rename_away, rename_over};
use crate::locks::{Hold, LockFile};
use crate::record::TreeHash;

/// Something a lease keeps from being collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pin {
    Layer(LayerId),
    Blob(ContentDigest),
    Merged(TreeHash),
}

impl Pin {
    fn line(self) -> String {
        match self {
            Self::Layer(id) => format!("layer {}\n", id.hex()),
            Self::Blob(digest) => format!("blob {}\n", digest.hex()),
            Self::Merged(hash) => format!("merged {}\n", hash.hex()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("layer", hex) => LayerId::from_hex(hex).ok().map(Self::Layer),
            ("blob", hex) => ContentDigest::from_hex(hex).ok().map(Self::Blob),
            ("merged", hex) => TreeHash::from_hex(hex).map(Self::Merged),
            _ => None,
        }
    }
}

/// The lock under which things are looked up and pinned (shared) or collected (exclusive).
#[derive(Debug)]
pub(crate) struct Gate {
    /// `flock` belongs to the open file, so threads of this process take turns.
    file: Mutex<File>,
    path: PathBuf,
}

impl Gate {
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        let file = reach(Point::LockOpen).and_then(|()| options.open(&path)).at("open lock", &path)?;
        Ok(Self { file: Mutex::new(file), path })
    }

    /// Runs `work` while nothing is being collected.
    pub(crate) fn shared<T, E: From<FileError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.locked(FlockOperation::LockShared, work)
    }

    /// Runs `work` while nobody looks anything up.
    pub(crate) fn exclusive<T, E: From<FileError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.locked(FlockOperation::LockExclusive, work)
    }

    fn locked<T, E: From<FileError>>(
        &self,
        operation: FlockOperation,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        reach(Point::LockTake).at("lock", &self.path)?;
        while let Err(error) = rustix::fs::flock(&*file, operation) {
            if error != rustix::io::Errno::INTR {
                return Err(FileError::new("lock", &self.path, error).into());
            }
        }
        let result = work();
        // Unlocking a file that is open and locked cannot fail.
        let _ = rustix::fs::flock(&*file, FlockOperation::Unlock);
        result
    }
}

/// The claim of one open store on what it uses; released when it is dropped or its process dies.
#[derive(Debug)]
pub struct Lease {
    lock: Option<LockFile>,
    lock_path: PathBuf,
    scratch: PathBuf,
    next: AtomicU64,
    pins: Mutex<HashSet<Pin>>,
    gate: Arc<Gate>,
    /// Threads that remove what is not needed any more, or write what saves time later; nobody waits for them but the end of the lease.
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Lease {
    /// Takes the first name nobody holds.
    pub(crate) fn take(root: &Path, gate: Arc<Gate>) -> Result<Self, FileError> {
        let leases = root.join("locks/leases");
        let pid = std::process::id();
        for number in 0_u64.. {
            let name = format!("{pid}-{number}");
            let lock_path = leases.join(&name);
            let scratch = root.join("scratch").join(&name);
            // A name with a past is left to whoever collects it.
            if lock_path.exists() || scratch.exists() {
                continue;
            }
            let Some(lock) = LockFile::try_acquire(&lock_path, Hold::Exclusive)? else { continue };
            let make = || fs::create_dir_all(root.join("scratch")).and_then(|()| fs::create_dir(&scratch));
            match reach(Point::DirectoryMake).and_then(|()| make()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    lock.remove(&lock_path);
                    return Err(FileError::new("create directory", scratch, error));
                }
            }
            return Ok(Self {
                lock: Some(lock),
                lock_path,
                scratch,
                next: AtomicU64::new(0),
                pins: Mutex::default(),
                gate,
                threads: Mutex::default(),
            });
        }
        unreachable!("the numbers do not end")
    }

    /// Returns a path in the scratch directory that nothing has had yet.
    pub(crate) fn fresh_path(&self) -> PathBuf {
        self.scratch.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Creates an empty file with a fresh name.
    pub(crate) fn fresh_file(&self) -> Result<(File, PathBuf), FileError> {
        let path = self.fresh_path();
        let file = crate::files::create_new(&path).at("create", &path)?;
        Ok((file, path))
    }

    /// Writes `bytes` to a fresh file.
    pub(crate) fn fresh_file_with(&self, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let path = self.fresh_path();
        write_whole(&path, bytes).map(|()| path)
    }

    /// Removes a tree of the store in a way that is all or nothing to others: renamed away first.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), FileError> {
        let away = self.fresh_path();
        if rename_away(path, &away)? { remove_tree(&away) } else { Ok(()) }
    }

    /// Removes a tree in the scratch directory while the caller goes on.
    pub(crate) fn discard_later(&self, path: PathBuf) {
        if !path.exists() {
            return;
        }
        self.go_on_with(move || {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(%error, "scratch files stay until the store is closed");
            }
        });
    }

    /// Makes (or replaces) the file at `path` in one go while the caller goes on.
    pub(crate) fn write_later(&self, path: PathBuf, bytes: Vec<u8>) {
        let made = self.fresh_path();
        self.go_on_with(move || {
            let written = write_whole(&made, &bytes).and_then(|()| rename_over(&made, &path));
            if let Err(error) = written {
                tracing::warn!(%error, "what would have saved time later is not kept");
            }
        });
    }

    /// Does something on a thread of its own, which is waited for before the scratch directory goes.
    fn go_on_with(&self, work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(work);
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    /// Looks something up and pins it in one critical section; `look` returns what it found and what that needs.
    pub(crate) fn hold<T, E: From<FileError>>(
        &self,
        look: impl FnOnce() -> Result<Option<(T, Vec<Pin>)>, E>,
    ) -> Result<Option<T>, E> {
        self.gate.shared(|| {
            let Some((found, pins)) = look()? else { return Ok(None) };
            self.write_pins(&pins)?;
            Ok(Some(found))
        })
    }

    fn write_pins(&self, wanted: &[Pin]) -> Result<(), FileError> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = wanted.iter().filter(|pin| pins.insert(**pin)).map(|pin| pin.line()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let mut file = self.lock.as_ref().expect("held until drop").file();
        reach(Point::PinWrite).and_then(|()| file.write_all(lines.as_bytes())).at("write", &self.lock_path)
    }
}

/// Makes a file; what was written of one that could not be made whole is removed.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = crate::files::create_new(path).at("create", path)?;
    let written = reach(Point::ScratchWrite).and_then(|()| file.write_all(bytes));
    written.map_err(|error| {
        // The scratch directory goes with the lease in any case.
        let _ = remove_file(path);
        FileError::new("write", path, error)
    })
}

impl Drop for Lease {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // One that panicked has left files, which are removed next.
            let _ = thread.join();
        }
        if let Err(error) = remove_tree(&self.scratch) {
            tracing::warn!(%error, "scratch files stay until the store is opened again");
        }
        if let Some(lock) = self.lock.take() {
            lock.remove(&self.lock_path);
        }
    }
}

/// Returns the pins of all leases whose owners live.
pub(crate) fn living_pins(root: &Path) -> Result<HashSet<Pin>, FileError> {
    let mut pins = HashSet::new();
    for (_, path) in list(&root.join("locks/leases"))? {
        if LockFile::is_held(&path)? {
            let text = crate::files::read_optional(&path)?.unwrap_or_default();
            pins.extend(String::from_utf8_lossy(&text).lines().filter_map(Pin::parse));
        }
    }
    Ok(pins)
}

/// Removes what dead processes left in their scratch directories.
pub(crate) fn collect_leftovers(root: &Path) -> Result<(), FileError> {
    let leases = root.join("locks/leases");
    let mut leftovers: BTreeMap<String, PathBuf> = list(&root.join("scratch"))?.into_iter().collect();
    for (name, _) in list(&leases)? {
        leftovers.entry(name.clone()).or_insert_with(|| root.join("scratch").join(name));
    }
    for (name, scratch) in leftovers {
        let lock_path = leases.join(name);
        let Some(lock) = LockFile::try_acquire(&lock_path, Hold::Exclusive)? else { continue };
        if let Err(error) = remove_tree(&scratch) {
            tracing::warn!(%error, "leftovers of an earlier process stay");
            continue;
        }
        lock.remove(&lock_path);
    }
    Ok(())
}
