//! Cache mounts: directories that outlive the steps which write to them and are part of no result.
//!
//! ```text
//! mounts/<hash of the id>/
//! ├── id               the id as written
//! ├── 0/  1/  …        the directories; more than one only where private users met
//! locks/mounts/<hash of the id>/0  1  …
//! ```
//!
//! A shared user takes a directory together with other shared users, a private one takes one nobody uses (making it if need be), a
//! locked one waits for the one that is there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::files::{
    At, FileError, Placed, list, make_directory, read_optional, remove_tree, rename_new, touch,
};
use crate::locks::{Hold, LockError, LockFile};
use crate::store::{Shared, Store};

/// What happens when two steps use one cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Both write to the same directory.
    Shared,
    /// The second gets a directory of its own.
    Private,
    /// The second waits.
    Locked,
}

/// A cache mount in use; dropping it gives it back.
#[derive(Debug)]
pub struct MountLease {
    path: PathBuf,
    _lock: LockFile,
}

impl MountLease {
    /// Returns the directory to mount.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A cache mount as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its id.
    pub id: String,
    /// How many directories it has.
    pub directories: usize,
    /// How many bytes they hold.
    pub bytes: u64,
}

/// The cache mounts of a store.
#[derive(Debug, Clone)]
pub struct MountStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's cache mounts.
    #[must_use]
    pub fn mounts(&self) -> MountStore {
        MountStore { shared: self.shared.clone() }
    }
}

impl MountStore {
    /// Takes the cache mount `id`; `initialise` fills a directory that is made for it (its mode, owner, first content), `cancelled`
    /// is asked now and then while a locked one is waited for.
    pub fn take(
        &self,
        id: &str,
        sharing: Sharing,
        initialise: &dyn Fn(&Path) -> io::Result<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<MountLease, LockError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lease) = self.try_take(id, sharing, initialise)? {
                return Ok(lease);
            }
            if cancelled() {
                return Err(LockError::Cancelled(self.directory(id)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Returns whether the cache mount `id` has a directory already.
    pub fn exists(&self, id: &str) -> Result<bool, FileError> {
        Ok(!slots(&self.directory(id))?.is_empty())
    }

    /// Takes the first directory of the cache mount `id` to oneself, to read it whole; `None` where there is none or somebody uses it.
    pub fn take_alone(&self, id: &str) -> Result<Option<MountLease>, FileError> {
        let path = self.directory(id).join("0");
        if !path.is_dir() {
            return Ok(None);
        }
        let lock = LockFile::try_acquire(&self.lock_path(id, 0), Hold::Exclusive)?;
        Ok(lock.map(|lock| MountLease { path, _lock: lock }))
    }

    /// Returns all cache mounts.
    pub fn list(&self) -> Result<Vec<CacheMount>, FileError> {
        let mut mounts = Vec::new();
        for (_, directory) in list(&self.shared.root.join("mounts"))? {
            let Some(id) = read_optional(&directory.join("id"))? else { continue };
            let slots = slots(&directory)?;
            let bytes = slots.iter().map(|(_, path)| crate::files::disk_usage(path)).sum();
            let id = String::from_utf8_lossy(&id).into_owned();
            mounts.push(CacheMount { id, directories: slots.len(), bytes });
        }
        mounts.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(mounts)
    }

    /// Removes the directories of the cache mount `id` that nobody uses and returns how many bytes they held.
    pub fn prune(&self, id: &str) -> Result<u64, FileError> {
        self.prune_directory(&self.directory(id))
    }

    /// Removes what is in the directory of a cache mount and not in use; returns how many bytes that was.
    pub(crate) fn prune_directory(&self, directory: &Path) -> Result<u64, FileError> {
        let mut freed = 0;
        let name = directory.file_name().unwrap_or_default();
        for (number, path) in slots(directory)? {
            let locks = self.shared.root.join("locks/mounts").join(name);
            let lock = LockFile::try_acquire(&locks.join(number.to_string()), Hold::Exclusive)?;
            if lock.is_some() {
                freed += crate::files::disk_usage(&path);
                self.shared.lease()?.discard(&path)?;
            }
        }
        Ok(freed)
    }

    fn try_take(
        &self,
        id: &str,
        sharing: Sharing,
        initialise: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Option<MountLease>, FileError> {
        let hold = if sharing == Sharing::Shared { Hold::Shared } else { Hold::Exclusive };
        let known = slots(&self.directory(id))?.len() as u64;
        // A locked user never makes a second directory.
        let tried = if sharing == Sharing::Locked { 1 } else { known + 1 };
        for number in 0..tried {
            if let Some(lock) = LockFile::try_acquire(&self.lock_path(id, number), hold)? {
                let path = self.ensure_slot(id, number, initialise)?;
                self.note_use(id)?;
                return Ok(Some(MountLease { path, _lock: lock }));
            }
        }
        Ok(None)
    }

    fn ensure_slot(
        &self,
        id: &str,
        number: u64,
        initialise: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, FileError> {
        let path = self.directory(id).join(number.to_string());
        if path.is_dir() {
            return Ok(path);
        }
        self.shared.write_new(&self.directory(id).join("id"), id.as_bytes())?;
        let made = self.shared.lease()?.fresh_path();
        make_directory(&made)?;
        initialise(&made).at("fill cache mount", &made)?;
        if rename_new(&made, &path)? == Placed::Existed {
            remove_tree(&made)?;
        }
        self.shared.note_change();
        Ok(path)
    }

    fn note_use(&self, id: &str) -> Result<(), FileError> {
        let path = self.directory(id).join("id");
        match touch(&path) {
            Err(error) if crate::files::is_absent(&error) => Ok(()),
            result => result.at("mark as used", &path),
        }
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.shared.root.join("mounts").join(blake3::hash(id.as_bytes()).to_hex().as_str())
    }

    fn lock_path(&self, id: &str, number: u64) -> PathBuf {
        let name = blake3::hash(id.as_bytes()).to_hex();
        self.shared.root.join("locks/mounts").join(name.as_str()).join(number.to_string())
    }
}

fn slots(directory: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    crate::record::numbered(directory)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Ownership;

    fn take(store: &Store, sharing: Sharing) -> Option<MountLease> {
        let fill = |path: &Path| fs::write(path.join("first"), "x");
        store.mounts().take("apt", sharing, &fill, &|| true).ok()
    }

    fn stores() -> (tempfile::TempDir, Store, Store) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store");
        let first = Store::open(&path, Ownership::Root).unwrap();
        let second = Store::open(&path, Ownership::Root).unwrap();
        (home, first, second)
    }

    #[test]
    fn shared_users_meet_in_one_directory() {
        let (_home, first, second) = stores();
        let (a, b) = (take(&first, Sharing::Shared).unwrap(), take(&second, Sharing::Shared).unwrap());
        assert_eq!(a.path(), b.path());
        assert!(a.path().join("first").exists());
    }

    #[test]
    fn private_users_get_different_directories_and_later_ones_reuse_them() {
        let (_home, first, second) = stores();
        let a = take(&first, Sharing::Private).unwrap();
        let b = take(&second, Sharing::Private).unwrap();
        assert_ne!(a.path(), b.path());
        let path = a.path().to_owned();
        fs::write(path.join("kept"), "y").unwrap();
        drop((a, b));
        let again = take(&second, Sharing::Private).unwrap();
        assert_eq!(again.path(), path);
        assert!(path.join("kept").exists());
    }

    #[test]
    fn a_locked_user_waits_and_gets_the_same_directory() {
        let (_home, first, second) = stores();
        let a = take(&first, Sharing::Locked).unwrap();
        assert!(take(&second, Sharing::Locked).is_none());
        let path = a.path().to_owned();
        drop(a);
        assert_eq!(take(&second, Sharing::Locked).unwrap().path(), path);
    }

    #[test]
    fn pruning_leaves_what_is_in_use() {
        let (_home, first, second) = stores();
        let a = take(&first, Sharing::Private).unwrap();
        drop(take(&second, Sharing::Private).unwrap());
        assert_eq!(second.mounts().list().unwrap()[0].directories, 2);
        assert!(second.mounts().prune("apt").unwrap() > 0);
        assert!(a.path().exists());
        assert_eq!(second.mounts().list().unwrap()[0].directories, 1);
    }
}
