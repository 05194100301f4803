//! Creating the objects of an index in a directory: whole views, merged layers, unpacked blobs, bytes brought in.
//!
//! Directories first, then files on all threads, then hard links, and the attributes of directories last, when nothing is created in
//! them any more. Nothing is ever hard-linked to another layer: a step would see the count, and share times and attributes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use mica_image::fault::{Point, reach};
use mica_image::index::{Entry, LayerIndex, LayerPath, Node, Time, name, parent};
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::beneath::{Beneath, by_descriptor};
use crate::files::FileError;
use crate::store::Ownership;

/// Where the bytes of a regular file come from.
pub(super) enum Source {
    /// They are copied from an open file.
    Copy(File),
    /// A finished file on the same file system is moved into place.
    Move(std::path::PathBuf),
}

/// How objects are created.
pub(super) struct WriteOptions<'a> {
    pub(super) ownership: Ownership,
    /// Gives the bytes of a regular file.
    pub(super) source: &'a (dyn Fn(&Entry) -> io::Result<Source> + Sync),
}

/// Creates what `index` has in `directory`. Directories may be there already; nothing else may.
pub(super) fn write_objects(
    directory: &Path,
    index: &LayerIndex,
    options: &WriteOptions<'_>,
) -> Result<(), FileError> {
    let root = Beneath::open_root(directory).map_err(|error| FileError::new("open", directory, error))?;
    let writer = Writer { root, directory, options };
    writer.directories(index)?;
    let by_parent = group_by_parent(index);
    by_parent.par_iter().try_for_each(|(parent, entries)| writer.objects(parent, entries))?;
    writer.hard_links(index)?;
    writer.directory_attributes(index)
}

/// Everything but directories and hard links, by directory, large directories in pieces.
fn group_by_parent(index: &LayerIndex) -> Vec<(&[u8], Vec<&Entry>)> {
    const PIECE: usize = 64;
    let mut groups: HashMap<&[u8], Vec<&Entry>> = HashMap::new();
    for entry in &index.entries {
        if !matches!(entry.node, Node::Directory { .. } | Node::HardLink { .. }) {
            groups.entry(parent(&entry.path)).or_default().push(entry);
        }
    }
    let pieces = groups.into_iter().flat_map(|(parent, entries)| {
        entries.chunks(PIECE).map(|piece| (parent, piece.to_vec())).collect::<Vec<_>>()
    });
    pieces.collect()
}

struct Writer<'a> {
    root: Beneath,
    directory: &'a Path,
    options: &'a WriteOptions<'a>,
}

impl Writer<'_> {
    fn directories(&self, index: &LayerIndex) -> Result<(), FileError> {
        let mut last: Option<(LayerPath, Arc<OwnedFd>)> = None;
        for entry in &index.entries {
            if entry.path.is_empty() || !entry.is_directory() {
                continue;
            }
            let above = parent(&entry.path);
            let fd = match &last {
                Some((path, fd)) if path == above => fd.clone(),
                _ => Arc::new(self.parent_directory(above)?),
            };
            make_directory(&fd, name(&entry.path)).map_err(|error| self.failed(&entry.path, error))?;
            last = Some((above.to_vec(), fd));
        }
        Ok(())
    }

    /// Opens a directory, making it and those above it where the index has it only as part of paths.
    fn parent_directory(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        match self.root.directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {
                let above = self.parent_directory(parent(path))?;
                make_directory(&above, name(path)).map_err(|error| self.failed(path, error))?;
                self.root.directory(path).map_err(|error| self.failed(path, error))
            }
            result => result.map_err(|error| self.failed(path, error)),
        }
    }

    fn objects(&self, parent: &[u8], entries: &[&Entry]) -> Result<(), FileError> {
        let directory = self.parent_directory(parent)?;
        for entry in entries {
            self.object(&directory, entry).map_err(|error| self.failed(&entry.path, error))?;
        }
        Ok(())
    }

    fn object(&self, directory: &OwnedFd, entry: &Entry) -> io::Result<()> {
        reach(Point::ObjectMake)?;
        let name = name(&entry.path);
        match &entry.node {
            Node::File { size, .. } => return self.file(directory, entry, *size),
            Node::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), directory, name)?,
            Node::Fifo => make_node(directory, name, FileType::Fifo, 0, 0)?,
            // A whiteout may be made by anybody; it has no attributes.
            Node::Whiteout => return make_node(directory, name, FileType::CharacterDevice, 0, 0),
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                if self.options.ownership != Ownership::Root {
                    // Only the index has devices where the kernel lets nobody make them.
                    return Ok(());
                }
                let is_block = matches!(entry.node, Node::BlockDevice { .. });
                let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
                make_node(directory, name, kind, *major, *minor)?;
            }
            Node::Directory { .. } | Node::HardLink { .. } => return Ok(()),
        }
        self.attributes_by_name(directory, entry)
    }

    fn file(&self, directory: &OwnedFd, entry: &Entry, size: u64) -> io::Result<()> {
        reach(Point::ObjectWrite)?;
        let name = name(&entry.path);
        let file = match (self.options.source)(entry)? {
            Source::Copy(mut source) => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let mut file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
                copy(&mut source, &mut file, size)?;
                file
            }
            Source::Move(path) => {
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(rustix::fs::CWD, &path, directory, name, flags)?;
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?)
            }
        };
        if file.metadata()?.len() != size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("its bytes are not {size}")));
        }
        if self.options.ownership != Ownership::Single {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        // After the owner, whose change clears set-id bits.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        for (attribute, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(&file, attribute.as_slice(), value, XattrFlags::empty());
            self.tolerate(set, attribute)?;
        }
        Ok(rustix::fs::futimens(&file, &timestamps(&entry.mtime))?)
    }

    fn attributes_by_name(&self, directory: &OwnedFd, entry: &Entry) -> io::Result<()> {
        reach(Point::ObjectAttributes)?;
        let name = name(&entry.path);
        if self.options.ownership != Ownership::Single {
            let (uid, gid) = owner(entry);
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !matches!(entry.node, Node::Symlink { .. }) {
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        let named = by_descriptor(directory, name);
        for (attribute, value) in &entry.xattrs {
            let attribute = attribute.as_slice();
            self.tolerate(rustix::fs::lsetxattr(&named, attribute, value, XattrFlags::empty()), attribute)?;
        }
        let times = timestamps(&entry.mtime);
        Ok(rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn hard_links(&self, index: &LayerIndex) -> Result<(), FileError> {
        for entry in &index.entries {
            let Node::HardLink { target } = &entry.node else { continue };
            let from = self.parent_directory(parent(target))?;
            let to = self.parent_directory(parent(&entry.path))?;
            reach(Point::ObjectMake).map_err(|error| self.failed(&entry.path, error))?;
            match rustix::fs::linkat(&from, name(target), &to, name(&entry.path), AtFlags::empty()) {
                // A device that was not made has no other names either.
                Err(rustix::io::Errno::NOENT) if is_device(index, target) => {}
                result => result.map_err(|error| self.failed(&entry.path, error.into()))?,
            }
        }
        Ok(())
    }

    /// From the last to the first, so that a directory comes after what is in it.
    fn directory_attributes(&self, index: &LayerIndex) -> Result<(), FileError> {
        for entry in index.entries.iter().rev().filter(|entry| entry.is_directory()) {
            self.one_directory(entry).map_err(|error| self.failed(&entry.path, error))?;
        }
        Ok(())
    }

    fn one_directory(&self, entry: &Entry) -> io::Result<()> {
        reach(Point::ObjectAttributes)?;
        let directory = self.root.directory(&entry.path)?;
        if self.options.ownership != Ownership::Single {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
        }
        for (attribute, value) in &entry.xattrs {
            let attribute = attribute.as_slice();
            let set = rustix::fs::fsetxattr(&directory, attribute, value, XattrFlags::empty());
            self.tolerate(set, attribute)?;
        }
        if entry.node == (Node::Directory { opaque: true }) {
            let attribute = format!("{}opaque", self.options.ownership.overlay_prefix());
            rustix::fs::fsetxattr(&directory, attribute, b"y", XattrFlags::empty())?;
        }
        rustix::fs::futimens(&directory, &timestamps(&entry.mtime))?;
        // Last: it may take away the right to do any of this.
        Ok(rustix::fs::fchmod(&directory, Mode::from_raw_mode(entry.mode))?)
    }

    /// The index has every attribute; on the disk an ordinary user may not set all.
    fn tolerate(&self, set: rustix::io::Result<()>, attribute: &[u8]) -> io::Result<()> {
        match set {
            Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP)
                if self.options.ownership == Ownership::Single && !attribute.starts_with(b"user.") =>
            {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn failed(&self, path: &[u8], error: io::Error) -> FileError {
        use std::os::unix::ffi::OsStrExt;
        FileError::new("create", self.directory.join(std::ffi::OsStr::from_bytes(path)), error)
    }
}

fn make_directory(above: &OwnedFd, name: &[u8]) -> io::Result<()> {
    reach(Point::ObjectMake)?;
    match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

fn make_node(directory: &OwnedFd, name: &[u8], kind: FileType, major: u32, minor: u32) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), device)?)
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

fn timestamps(time: &Time) -> Timestamps {
    let last_modification = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: last_modification, last_modification }
}

fn is_device(index: &LayerIndex, path: &[u8]) -> bool {
    index
        .find(path)
        .is_some_and(|entry| matches!(entry.node, Node::CharDevice { .. } | Node::BlockDevice { .. }))
}

/// Copies a file: shared blocks where the file system can, otherwise inside the kernel, otherwise through memory.
fn copy(source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
    reach(Point::ObjectWrite)?;
    if size == 0 || rustix::fs::ioctl_ficlone(target.as_fd(), source.as_fd()).is_ok() {
        return Ok(());
    }
    let mut left = size;
    while left > 0 {
        match rustix::fs::copy_file_range(&*source, None, &*target, None, left.min(1 << 30) as usize) {
            Ok(0) => break,
            Ok(copied) => left -= copied as u64,
            // Not between these file systems, or not by this kernel. Both offsets stand where it stopped.
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; left.min(256 * 1024) as usize];
    while left > 0 {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        target.write_all(&buffer[..read])?;
        left = left.saturating_sub(read as u64);
    }
    Ok(())
}

/// Returns the part of an index that has `paths`, with the directories above them.
pub(super) fn part_of(index: &LayerIndex, paths: &[&LayerPath]) -> LayerIndex {
    let mut wanted: BTreeMap<usize, ()> = BTreeMap::new();
    for path in paths {
        let mut path: &[u8] = path;
        while !path.is_empty() {
            wanted.extend(index.position(path).map(|position| (position, ())));
            path = parent(path);
        }
    }
    LayerIndex { entries: wanted.into_keys().map(|position| index.entries[position].clone()).collect() }
}
