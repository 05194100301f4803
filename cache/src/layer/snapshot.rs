//! Snapshots: a tree's lower directories with fresh directories for what one step writes.
//!
//! ```text
//! scratch/<lease>/<n>/
//! ├── files/      the upper directory; becomes the layer's directory by rename
//! ├── work/       overlayfs's own; fresh for each step
//! ├── skeleton/   lowest of all: empty mount points go here, so that none is made in the upper directory
//! └── root/       where the overlay may be mounted
//! ```

use std::path::{Path, PathBuf};

use mica_image::fault::{Point, reach};
use mica_image::index::Entry;
use mica_image::tree::{FileTree, MergedTree, Tree};
use rustix::fs::{Gid, Mode, Stat, Uid};

use super::commit::{Committed, Scratch};
use super::error::LayerError;
use super::store::LayerStore;
use super::upper::{LeftOut, UpperOptions, read_upper};
use crate::files::{At, FileError, make_directory, remove_tree};
use crate::store::{Ownership, Shared};

/// A time as the store's file system gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FsTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl FsTime {
    pub(crate) fn modified(stat: &Stat) -> Self {
        Self { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
    }
}

/// When a step ran, in the file system's time: times outside were set on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepWindow {
    /// Not later than its start.
    pub start: FsTime,
    /// Not earlier than its end.
    pub end: FsTime,
}

impl StepWindow {
    pub(super) fn contains(&self, time: FsTime) -> bool {
        self.start <= time && time <= self.end
    }
}

/// What one step sees and where it writes.
#[derive(Debug)]
pub struct Snapshot {
    scratch: Scratch,
    lowers: Vec<PathBuf>,
    start: FsTime,
    /// Bytes the disk had left then.
    room: u64,
}

impl LayerStore {
    /// Prepares a snapshot of `tree`: its lower directories (made if need be) and fresh directories to write to.
    pub fn prepare(&self, tree: &Tree) -> Result<Snapshot, LayerError> {
        let lowers = self.lowers(tree)?;
        let scratch = self.begin()?;
        for name in ["work", "skeleton", "root"] {
            let path = scratch.path().join(name);
            make_directory(&path)?;
        }
        // The upper directory's attributes are those of the root the step sees.
        if let Some(root) = self.tree(tree)?.entry(b"")? {
            take_attributes(&scratch.files(), &root.entry, self.shared.ownership)?;
        }
        let start = self.shared.fs_time()?;
        let room = room(&scratch.files())?;
        Ok(Snapshot { scratch, lowers, start, room })
    }

    /// Makes a layer of what the step wrote into `snapshot`; `parent` is the tree it was prepared from.
    ///
    /// `left_out` says which files are not part of the layer (noise a step leaves behind); `created` is in seconds since 1970.
    /// The step and all of its processes must have ended.
    pub fn commit_upper(
        &self,
        snapshot: Snapshot,
        parent: &MergedTree,
        left_out: &LeftOut<'_>,
        created: i64,
    ) -> Result<Committed, LayerError> {
        let window = StepWindow { start: snapshot.start, end: self.shared.fs_time()? };
        let options = UpperOptions { parent, window, ownership: self.shared.ownership, left_out };
        let index = read_upper(&snapshot.upper(), &options)?;
        for name in ["work", "skeleton", "root"] {
            remove_tree(&snapshot.scratch.path().join(name))?;
        }
        self.commit(snapshot.scratch, index, created)
    }
}

impl Snapshot {
    /// Returns the lower directories, topmost first; the skeleton, which comes below them, is not among them.
    #[must_use]
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// Returns the upper directory.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.scratch.files()
    }

    /// Returns overlayfs's work directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// Returns the directory for mount points, which lies below all lower directories.
    #[must_use]
    pub fn skeleton(&self) -> PathBuf {
        self.scratch.path().join("skeleton")
    }

    /// Returns an empty directory to mount the overlay on.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// Returns whether the disk has as much room left as what the step wrote takes.
    pub fn leaves_room(&self) -> Result<bool, FileError> {
        let upper = self.upper();
        Ok(crate::files::disk_usage(&upper) <= room(&upper)?)
    }

    /// Returns how many bytes less the disk has left than before the step: about what it wrote, unless others wrote much too.
    pub fn growth(&self) -> Result<u64, FileError> {
        Ok(self.room.saturating_sub(room(&self.upper())?))
    }

    /// Sets the start of the step's window to now, for a step that had to wait after its snapshot was prepared.
    pub fn start_now(&mut self) -> Result<(), FileError> {
        self.start = self.scratch.shared().fs_time()?;
        Ok(())
    }
}

/// Returns how many bytes may be written to the disk that a file lies on.
fn room(path: &Path) -> Result<u64, FileError> {
    let disk = rustix::fs::statvfs(path).at("look at", path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Shared {
    /// Returns the file system's time: that of a file made now.
    pub(crate) fn fs_time(&self) -> Result<FsTime, FileError> {
        let (file, path) = self.lease()?.fresh_file()?;
        let stat = rustix::fs::fstat(&file).at("look at", &path)?;
        crate::files::remove_file(&path)?;
        Ok(FsTime::modified(&stat))
    }
}

fn take_attributes(directory: &Path, entry: &Entry, ownership: Ownership) -> Result<(), LayerError> {
    reach(Point::ObjectAttributes).at("change the owner of", directory)?;
    if ownership != Ownership::Single {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chown(directory, Some(uid), Some(gid)).at("change the owner of", directory)?;
    }
    let mode = Mode::from_raw_mode(entry.mode);
    rustix::fs::chmod(directory, mode).at("change the mode of", directory)?;
    Ok(())
}
