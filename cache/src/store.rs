//! The store: one directory that many processes share.
//!
//! ```text
//! <root>/
//! ├── format                        version of this layout and how owners are kept
//! ├── blobs/sha256/ab/<hex>         configs, manifests, layer blobs as they were pulled
//! ├── layers/ab/<layer id>/
//! │   ├── meta                      what kind, when, which boot, which other layers it needs
//! │   ├── index                     the layer index
//! │   ├── files/                    the objects the layer brings itself (an imported one: once it is unpacked)
//! │   ├── full/                     all of its objects, where some bytes lie in other layers and a step had to see it
//! │   ├── view                      how the layer is shown as overlay lowers, once decided
//! │   ├── diff-id[-<clamp>]         digest of the canonical tar, once computed; with its times clamped
//! │   ├── instances/<diff id>       an imported layer's tars
//! │   ├── compressed/<codec>        digest of the compressed canonical tar, once computed
//! │   ├── files.boot, .durable      of an unpacked `files/`, and likewise of `full/`: when it was made, whether it is on the disk
//! │   └── durable                   present once the layer is known to be on the disk
//! ├── diff-ids/ab/<diff id>         the layer a tar was imported as
//! ├── merged/<hash of layer ids>/   many lowers in one
//! ├── records/ab/<key>/             <number>: a record; holds/<tree>: the record whose conditions hold there
//! ├── recent/ab/<place>             the keys last seen at one place of one file
//! ├── details/ab/<hex>              small texts named by their BLAKE3 digest: listings, logs
//! ├── failures/ab/<hex>             steps that failed, kept for a look
//! ├── images/<config digest>        images
//! ├── tags/<reference>/<n>          versions of a tag
//! ├── mounted/ab/<hex>              layers that files of contexts became for mounts
//! ├── downloads/ab/<hex>            what http servers gave
//! ├── resolved/ab/<hex>             what a registry said a tag was
//! ├── published/ab/<hex>            which documents an image has there, statements about it among them
//! ├── contexts/<hex>                stat caches of build contexts
//! ├── mounts/<hex>/                 cache mounts
//! ├── locks/                        store · collect · leases/<id> · steps/<key> · unpack/<layer id> · mounts/
//! ├── builds/                       what builds did and printed (written by the engine)
//! ├── reserve                       room that is given up where the disk is full and something is to be removed
//! ├── sizes                         what the directories of layers take on the disk
//! └── scratch/<lease id>/           what is being made; removed with its lease
//! ```
//!
//! Everything is made in `scratch/` and renamed into place complete. A layer of another boot counts only if `durable` says so.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mica_image::fault::{Point, reach};

use crate::files::{At, FileError, Placed, make_directories, read_optional, rename_new};
use crate::layer::Held;
use crate::lease::{Gate, Lease, collect_leftovers};
use crate::locks::{LockError, StepLock};

const FORMAT: &str = "mica store 1";

/// How the owners of files in layers are kept, which depends on the namespace the store is used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Real owners, as root of the machine.
    Root,
    /// Real owners, mapped to a range of subordinate ids.
    Range,
    /// All files belong to one user; the index alone says whose they are in the image.
    Single,
}

impl Ownership {
    /// Returns the word that stands for it in the store and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Range => "range",
            Self::Single => "single",
        }
    }

    /// Returns the prefix of overlayfs's own extended attributes in this mode.
    #[must_use]
    pub const fn overlay_prefix(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.",
            Self::Range | Self::Single => "user.overlay.",
        }
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory holds something else.
    #[error("`{}` is not empty and not a store of mica", .0.display())]
    NotAStore(PathBuf),
    /// The layout is of another version.
    #[error("the store `{}` has format `{found}`, this mica writes `{FORMAT}`", path.display())]
    Version {
        /// The store.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The owners of its files were kept in another way.
    #[error(
        "the store `{}` keeps owners as `{found}`, this process works as `{}`", path.display(), wanted.as_str()
    )]
    Ownership {
        /// The store.
        path: PathBuf,
        /// How it was made.
        found: String,
        /// How this process would use it.
        wanted: Ownership,
    },
}

impl OpenError {
    /// Returns the way out, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(error) => error.hint(),
            Self::NotAStore(_) => Some("name an empty directory with --root or MICA_ROOT"),
            Self::Version { .. } => Some("use the mica that made it, or another directory with --root"),
            Self::Ownership { .. } => Some(
                "give each kind of user a store of its own with --root or MICA_ROOT (or restore the subordinate ids it was made with)",
            ),
        }
    }
}

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles of one open store have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) ownership: Ownership,
    pub(crate) boot: String,
    pub(crate) gate: Arc<Gate>,
    pub(crate) held: Held,
    lease: Mutex<Option<Arc<Lease>>>,
    changed: AtomicBool,
    /// Markers to be made once what was made or used here is known to be on the disk.
    volatile: Mutex<BTreeSet<PathBuf>>,
    /// What a flush could not put on the disk.
    flush_error: Mutex<Option<io::Error>>,
}

impl Store {
    /// Opens the store at `root`, making it when there is none, and removes what dead processes left behind.
    pub fn open(root: &Path, ownership: Ownership) -> Result<Self, OpenError> {
        Self::open_during(root, ownership, boot_id()?)
    }

    pub(crate) fn open_during(root: &Path, ownership: Ownership, boot: String) -> Result<Self, OpenError> {
        let root = &std::path::absolute(root).at("find", root)?;
        check_format(root, ownership)?;
        let locks = root.join("locks");
        if !locks.is_dir() {
            make_directories(&locks)?;
        }
        collect_leftovers(root)?;
        let shared = Shared {
            root: root.clone(),
            ownership,
            boot,
            gate: Arc::new(Gate::open(locks.join("store"))?),
            held: Held::default(),
            lease: Mutex::default(),
            changed: AtomicBool::new(false),
            volatile: Mutex::default(),
            flush_error: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Returns how owners are kept.
    #[must_use]
    pub fn ownership(&self) -> Ownership {
        self.shared.ownership
    }

    /// Returns this open store's lease: what was looked up through the store stays until the lease and the store are dropped.
    pub fn lease(&self) -> Result<Arc<Lease>, FileError> {
        self.shared.lease()
    }

    /// Takes the right to run the step with this key (64 hexadecimal digits), if nobody has it.
    pub fn try_lock_step(&self, key: &str) -> Result<Option<StepLock>, FileError> {
        StepLock::try_acquire(self.step_lock_path(key))
    }

    /// Waits for the right to run the step with this key; `cancelled` is asked now and then.
    pub fn lock_step(&self, key: &str, cancelled: &dyn Fn() -> bool) -> Result<StepLock, LockError> {
        StepLock::acquire(self.step_lock_path(key), cancelled)
    }

    fn step_lock_path(&self, key: &str) -> PathBuf {
        self.shared.root.join("locks/steps").join(key)
    }

    /// Returns the path of the stat cache for the context at `directory` (see [`crate::context`]).
    #[must_use]
    pub fn context_cache(&self, directory: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = blake3::hash(directory.as_os_str().as_bytes()).to_hex();
        self.shared.root.join("contexts").join(name.as_str())
    }

    /// Has what was written so far put on the disk, so that less is left for [`Store::sync`], which tells of what fails here.
    pub fn flush(&self) {
        if let Err(error) = write_to_disk(&self.shared.root) {
            *self.shared.flush_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    /// Puts everything written so far on the disk and marks the layers made or used here as durable.
    ///
    /// Without it nothing is lost to a killed process; after a power cut, layers that were not marked do not count.
    pub fn sync(&self) -> Result<(), FileError> {
        let shared = &*self.shared;
        let volatile = std::mem::take(&mut *shared.volatile.lock().unwrap_or_else(PoisonError::into_inner));
        if volatile.is_empty() && !shared.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        crate::reserve::keep(&shared.root);
        // The kernel tells of what it could not write once, and a flush may have heard it.
        let unheard = shared.flush_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        unheard.map_or_else(|| write_to_disk(&shared.root), Err).at("write to disk", &shared.root)?;
        for marker in volatile {
            match reach(Point::MarkDurable).and_then(|()| fs::File::create(&marker)) {
                // What it marks was collected or discarded meanwhile.
                Err(error) if crate::files::is_absent(&error) => {}
                result => drop(result.at("create", &marker)?),
            }
        }
        Ok(())
    }
}

fn write_to_disk(root: &Path) -> io::Result<()> {
    reach(Point::Sync)?;
    Ok(rustix::fs::syncfs(&fs::File::open(root)?)?)
}

impl Shared {
    /// Returns the lease, taken at first use: a process that only looks at listings leaves no trace.
    pub(crate) fn lease(&self) -> Result<Arc<Lease>, FileError> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = &*lease {
            return Ok(lease.clone());
        }
        let taken = Arc::new(Lease::take(&self.root, self.gate.clone())?);
        *lease = Some(taken.clone());
        Ok(taken)
    }

    /// Replaces (or makes) the file at `path` in one go.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let made = self.lease()?.fresh_file_with(bytes)?;
        self.note_change();
        crate::files::rename_over(&made, path)
    }

    /// Does the same with what only saves time; where it is much the caller goes on meanwhile, and a failure is logged.
    pub(crate) fn write_later(&self, path: PathBuf, bytes: Vec<u8>) -> Result<(), FileError> {
        const MUCH: usize = 256 * 1024;
        if bytes.len() < MUCH {
            return self.write(&path, &bytes);
        }
        self.lease()?.write_later(path, bytes);
        self.note_change();
        Ok(())
    }

    /// Makes the file at `path` in one go unless there is one.
    pub(crate) fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<Placed, FileError> {
        let made = self.lease()?.fresh_file_with(bytes)?;
        self.note_change();
        let placed = rename_new(&made, path)?;
        if placed == Placed::Existed {
            crate::files::remove_file(&made)?;
        }
        Ok(placed)
    }

    pub(crate) fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Has `marker` made at the next [`Store::sync`].
    pub(crate) fn note_volatile(&self, marker: PathBuf) {
        self.volatile.lock().unwrap_or_else(PoisonError::into_inner).insert(marker);
    }
}

fn check_format(root: &Path, ownership: Ownership) -> Result<(), OpenError> {
    let path = root.join("format");
    let text = match read_optional(&path)? {
        Some(text) => text,
        None => make_format(root, &path, ownership)?,
    };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != FORMAT {
        return Err(OpenError::Version { path: root.to_owned(), found: version.to_owned() });
    }
    let found = lines.next().and_then(|line| line.strip_prefix("owners: ")).unwrap_or_default();
    if found != ownership.as_str() {
        return Err(OpenError::Ownership {
            path: root.to_owned(),
            found: found.to_owned(),
            wanted: ownership,
        });
    }
    Ok(())
}

/// Writes the format file of a new store, or reads the one another process wrote meanwhile.
fn make_format(root: &Path, path: &Path, ownership: Ownership) -> Result<Vec<u8>, OpenError> {
    // Layers hold set-id programs of images, which are nobody's business on this machine.
    reach(Point::StoreMake)
        .and_then(|()| fs::DirBuilder::new().recursive(true).mode(0o700).create(root))
        .at("create directory", root)?;
    for entry in fs::read_dir(root).at("list", root)? {
        let name = entry.at("list", root)?.file_name();
        let ours =
            name == "lost+found" || name == "format" || name.as_encoded_bytes().starts_with(b".format-");
        if !ours {
            // Another process may have made the store since it was found missing here.
            return read_optional(path)?.ok_or_else(|| OpenError::NotAStore(root.to_owned()));
        }
    }
    let made = root.join(format!(".format-{}", std::process::id()));
    let text = format!("{FORMAT}\nowners: {}\n", ownership.as_str());
    reach(Point::StoreMake).and_then(|()| fs::write(&made, &text)).at("write", &made)?;
    match rename_new(&made, path)? {
        Placed::New => Ok(text.into_bytes()),
        Placed::Existed => {
            crate::files::remove_file(&made)?;
            fs::read(path).at("read", path).map_err(OpenError::from)
        }
    }
}

/// Returns the kernel's name of this boot.
fn boot_id() -> Result<String, FileError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).at("read", path)?;
    let id = text.trim();
    if id.is_empty() {
        return Err(FileError::new("read", path, io::Error::from(io::ErrorKind::InvalidData)));
    }
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::{Hold, LockFile};

    #[test]
    fn a_store_is_made_where_nothing_is_and_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        Store::open(&path, Ownership::Root).unwrap();
        Store::open(&path, Ownership::Root).unwrap();
        assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "mica store 1\nowners: root\n");
    }

    #[test]
    fn what_a_flush_could_not_write_is_told_by_the_sync() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), Ownership::Root).unwrap();
        let marker = home.path().join("durable");
        store.shared.note_volatile(marker.clone());
        store.flush();
        *store.shared.flush_error.lock().unwrap() = Some(io::Error::from_raw_os_error(5));
        assert!(store.sync().is_err());
        assert!(!marker.exists());
        store.shared.note_volatile(marker.clone());
        store.sync().unwrap();
        assert!(marker.exists());
    }

    #[test]
    fn other_directories_formats_and_owners_are_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("letter.txt"), "dear").unwrap();
        let refused = Store::open(home.path(), Ownership::Root);
        assert!(matches!(&refused, Err(OpenError::NotAStore(_))));
        let path = home.path().join("store");
        Store::open(&path, Ownership::Range).unwrap();
        let error = Store::open(&path, Ownership::Single).unwrap_err();
        assert!(
            error.to_string().ends_with("keeps owners as `range`, this process works as `single`"),
            "{error}"
        );
        assert!(error.hint().is_some());
        fs::write(path.join("format"), "mica store 7\n").unwrap();
        assert!(matches!(Store::open(&path, Ownership::Range), Err(OpenError::Version { .. })));
    }

    #[test]
    fn what_dead_processes_left_is_removed_and_what_living_ones_make_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store");
        let living = Store::open(&path, Ownership::Root).unwrap();
        let (_file, made) = living.lease().unwrap().fresh_file().unwrap();
        let dead = path.join("scratch/99-0");
        fs::create_dir_all(dead.join("files")).unwrap();
        fs::write(path.join("locks/leases/99-0"), "").unwrap();
        fs::write(path.join("locks/leases/99-1"), "").unwrap();
        Store::open(&path, Ownership::Root).unwrap();
        assert!(made.exists());
        assert!(!dead.exists() && !path.join("locks/leases/99-0").exists());
        assert!(!path.join("locks/leases/99-1").exists());
        drop(living);
        assert!(!made.exists());
        assert_eq!(fs::read_dir(path.join("locks/leases")).unwrap().count(), 0);
    }

    #[test]
    fn a_lease_name_with_a_past_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store");
        let store = Store::open(&path, Ownership::Root).unwrap();
        let taken = path.join(format!("locks/leases/{}-0", std::process::id()));
        let _held = LockFile::try_acquire(&taken, Hold::Exclusive).unwrap();
        store.lease().unwrap();
        assert!(path.join(format!("scratch/{}-1", std::process::id())).exists());
    }
}
