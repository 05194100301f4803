//! Creating directories, files, links and nodes, with everything about them.
//!
//! Order: directories from the top down, open for us alone; then what lies in them, in parallel; then further names; then the
//! directories' own attributes from the bottom up, because whatever is created in a directory changes its time, and its mode
//! may lock us out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use mica_image::RootDir;
use mica_image::fault::{Point, reach};
use mica_image::index::{Entry, Node, Time, name, parent};
use rayon::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::bytes::{Copied, CopyError, Sharing, copy_file, write_inline};
use super::plan::{Action, Plan};
use super::{Ownership, WriteError, WriteOptions};
use crate::copy::paths::shown;
use crate::copy::place::{Origin, PlacedEntry};

/// So many objects of one directory are made by one task.
const BATCH: usize = 64;

/// The layer's directory while it is written.
pub(super) struct Writer<'a> {
    pub(super) entries: &'a [PlacedEntry],
    pub(super) plan: &'a Plan,
    pub(super) out: &'a RootDir,
    pub(super) options: &'a WriteOptions<'a>,
}

impl Writer<'_> {
    /// Makes all directories.
    pub(super) fn make_directories(&self) -> Result<(), WriteError> {
        let mut inside = Directory::none();
        for entry in self.planned(Action::Directory) {
            reach(Point::CopyMake).map_err(|error| create(entry, error))?;
            let fd = inside.open(self.out, parent(&entry.path)).map_err(|error| create(entry, error))?;
            rustix::fs::mkdirat(fd, name(&entry.path), Mode::RWXU)
                .map_err(|error| create(entry, error.into()))?;
        }
        Ok(())
    }

    /// Makes everything that lies in directories, in parallel.
    pub(super) fn fill_directories(&self) -> Result<(), WriteError> {
        let sharing = Sharing::new();
        let batches: Vec<_> = self
            .plan
            .objects
            .iter()
            .flat_map(|(directory, objects)| objects.chunks(BATCH).map(move |batch| (*directory, batch)))
            .collect();
        let fill = |(directory, batch): &(Option<usize>, &[usize])| {
            let path = directory.map_or(&b""[..], |number| &self.entries[number].entry.path);
            let first = &self.entries[batch[0]].entry;
            let fd = self.out.open_dir(path).map_err(|error| create(first, error))?;
            for number in *batch {
                if (self.options.cancelled)() {
                    return Err(WriteError::Cancelled);
                }
                self.object(fd.as_fd(), &self.entries[*number], &sharing)?;
            }
            Ok(())
        };
        match batches.as_slice() {
            // No other thread is woken for the one file of many a COPY.
            [only] => fill(only),
            batches => batches.par_iter().try_for_each(fill),
        }
    }

    fn object(
        &self,
        directory: BorrowedFd<'_>,
        placed: &PlacedEntry,
        sharing: &Sharing,
    ) -> Result<(), WriteError> {
        let entry = &placed.entry;
        reach(Point::CopyMake).map_err(|error| create(entry, error))?;
        let made = match (&entry.node, &placed.origin) {
            (Node::File { .. }, Some(origin)) => return self.file(directory, entry, origin, sharing),
            (Node::Symlink { target }, _) => {
                rustix::fs::symlinkat(target.as_slice(), directory, name(&entry.path))
            }
            (Node::Fifo, _) => node(directory, entry, FileType::Fifo, 0),
            (Node::CharDevice { major, minor }, _) => {
                node(directory, entry, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            (Node::BlockDevice { major, minor }, _) => {
                node(directory, entry, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            // The plan makes no object of anything else.
            _ => return Ok(()),
        };
        made.and_then(|()| self.finish_node(directory, entry)).map_err(|error| create(entry, error.into()))
    }

    fn file(
        &self,
        directory: BorrowedFd<'_>,
        entry: &Entry,
        origin: &Origin,
        sharing: &Sharing,
    ) -> Result<(), WriteError> {
        if let Origin::Spooled(spooled) = origin
            && let Some(file) = moved(spooled, directory, entry)?
        {
            return self.finish(&file, entry);
        }
        reach(Point::CopyOpen).map_err(|error| create(entry, error))?;
        // Readable too, because shared bytes are checked in the copy.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name(&entry.path), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| create(entry, error.into()))?;
        let file = File::from(file);
        self.fill(&file, entry, origin, sharing)?;
        self.finish(&file, entry)
    }

    fn fill(
        &self,
        target: &File,
        entry: &Entry,
        origin: &Origin,
        sharing: &Sharing,
    ) -> Result<(), WriteError> {
        let Node::File { size, digest, .. } = &entry.node else { return Ok(()) };
        let unreadable = |source| WriteError::Source { path: shown(&entry.path), source };
        let source = match origin {
            Origin::Inline(content) => {
                return write_inline(content, target).map_err(|error| copying(entry, error));
            }
            Origin::Tree { .. } => (self.options.open_source)(origin),
            Origin::File(path) | Origin::Spooled(path) => File::open(path),
        }
        .map_err(unreadable)?;
        match copy_file(&source, target, (*size, digest), sharing, self.options.cancelled) {
            Ok(Copied::Right) => Ok(()),
            Ok(Copied::Different) => {
                Err(WriteError::Changed { source_name: source_name(origin), path: shown(&entry.path) })
            }
            Ok(Copied::Cancelled) => Err(WriteError::Cancelled),
            Err(error) => Err(copying(entry, error)),
        }
    }

    /// Makes the further names of what has several.
    pub(super) fn link_names(&self) -> Result<(), WriteError> {
        for (PlacedEntry { entry, .. }, action) in self.entries.iter().zip(&self.plan.actions) {
            let Action::Name(first) = action else { continue };
            let first = &self.entries[*first].entry;
            let link = || {
                reach(Point::CopyMake)?;
                let from = self.out.open_dir(parent(&first.path))?;
                let to = self.out.open_dir(parent(&entry.path))?;
                rustix::fs::linkat(from, name(&first.path), to, name(&entry.path), AtFlags::empty())?;
                io::Result::Ok(())
            };
            link().map_err(|error| create(entry, error))?;
        }
        Ok(())
    }

    /// Gives directories their attributes, those below others first.
    pub(super) fn finish_directories(&self) -> Result<(), WriteError> {
        let mut inside = Directory::none();
        for entry in self.planned(Action::Directory).rev() {
            let open = || {
                let above = inside.open(self.out, parent(&entry.path))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                io::Result::Ok(File::from(rustix::fs::openat(
                    above,
                    name(&entry.path),
                    flags,
                    Mode::empty(),
                )?))
            };
            let directory = { open }().map_err(|error| create(entry, error))?;
            if let Node::Directory { opaque: true } = entry.node {
                rustix::fs::fsetxattr(&directory, self.options.opaque_attribute, b"y", XattrFlags::empty())
                    .map_err(|error| create(entry, error.into()))?;
            }
            self.finish(&directory, entry)?;
        }
        Ok(())
    }

    fn planned(&self, action: Action) -> impl DoubleEndedIterator<Item = &Entry> {
        let chosen = move |(_, planned): &(&PlacedEntry, &Action)| **planned == action;
        self.entries.iter().zip(&self.plan.actions).filter(chosen).map(|(placed, _)| &placed.entry)
    }

    /// Gives an open file or directory its owner, then its mode (a new owner clears set-id bits), attributes and time.
    fn finish(&self, file: &File, entry: &Entry) -> Result<(), WriteError> {
        reach(Point::CopyAttributes).map_err(|error| create(entry, error))?;
        let finish = || {
            if self.options.ownership == Ownership::Real {
                rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
            }
            for (key, value) in &entry.xattrs {
                self.attribute(rustix::fs::fsetxattr(file, key.as_slice(), value, XattrFlags::empty()))?;
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
            rustix::fs::futimens(file, &times(entry.mtime))
        };
        finish().map_err(|error| create(entry, error.into()))
    }

    /// Where the file system has no such attributes, or we no right to them, they are only in the index.
    fn attribute(&self, set: Result<(), Errno>) -> Result<(), Errno> {
        match set {
            Err(Errno::OPNOTSUPP) => Ok(()),
            Err(Errno::PERM) if self.options.ownership == Ownership::Ignore => Ok(()),
            set => set,
        }
    }

    fn finish_node(&self, directory: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        let name = name(&entry.path);
        if self.options.ownership == Ownership::Real {
            let (owner, group) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            rustix::fs::chownat(directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !matches!(entry.node, Node::Symlink { .. }) {
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        rustix::fs::utimensat(directory, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The directory that was opened last: neighbours share it.
struct Directory(Option<(Vec<u8>, RootDir)>);

impl Directory {
    fn none() -> Self {
        Self(None)
    }

    fn open(&mut self, out: &RootDir, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        if self.0.as_ref().is_none_or(|(open, _)| open != path) {
            self.0 = Some((path.to_vec(), out.open_dir(path)?));
        }
        Ok(self.0.as_ref().expect("it was just opened").1.as_fd())
    }
}

/// Moves a spooled file into place and opens it; `None` where it lies on another file system.
fn moved(spooled: &Path, directory: BorrowedFd<'_>, entry: &Entry) -> Result<Option<File>, WriteError> {
    match rustix::fs::renameat_with(CWD, spooled, directory, name(&entry.path), RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Not every file system knows the flag, and none moves files to another.
        Err(Errno::XDEV | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(create(entry, error.into())),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name(&entry.path), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(error) => Err(create(entry, error.into())),
    }
}

fn node(directory: BorrowedFd<'_>, entry: &Entry, kind: FileType, device: u64) -> Result<(), Errno> {
    rustix::fs::mknodat(directory, name(&entry.path), kind, Mode::RUSR | Mode::WUSR, device)
}

fn times(time: Time) -> Timestamps {
    let stamp = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: stamp, last_modification: stamp }
}

fn create(entry: &Entry, source: io::Error) -> WriteError {
    WriteError::Create { path: shown(&entry.path), source }
}

fn copying(entry: &Entry, error: CopyError) -> WriteError {
    match error {
        CopyError::Read(source) => WriteError::Source { path: shown(&entry.path), source },
        CopyError::Write(source) => create(entry, source),
    }
}

fn source_name(origin: &Origin) -> String {
    match origin {
        Origin::Tree { entry, .. } => String::from_utf8_lossy(&entry.path).into_owned(),
        Origin::Inline(_) => "the inline document".to_owned(),
        Origin::File(path) | Origin::Spooled(path) => path.display().to_string(),
    }
}
