//! Reading an overlay's upper directory: what a step changed, as a layer index.
//!
//! Nothing writes to the directory any more when it is read. Whatever is not part of the layer (sockets, copies that changed nothing,
//! removals of mount points) is removed from it, so that afterwards directory and index say the same.
//!
//! | on disk | in the index |
//! | --- | --- |
//! | character device 0:0 | removal, if the tree below has the path |
//! | directory with the opaque attribute | opaque, if the tree below has the directory |
//! | `*.overlay.*` attributes | nothing; `redirect` and `metacopy` are refused |
//! | socket | nothing |
//! | what is left out as noise | nothing |
//! | file equal to that of the tree below in everything | nothing |
//! | names of one inode | a first name and hard links to it |
//! | time within the step's run | “made now”; otherwise it was set on purpose |

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mica_image::FileDigest;
use mica_image::fault::{Point, reach};
use mica_image::index::{
    Bytes, Entry, IndexError, LayerIndex, LayerPath, Node, Time, TimeKind, belongs_to_image, compare_paths,
    parent,
};
use mica_image::tree::{FileTree, TreeEntry, TreeError, join};
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Stat, Timespec, Timestamps};

use super::snapshot::{FsTime, StepWindow};
use crate::beneath::{Beneath, by_descriptor, kind, read_directory, walk};
use crate::store::Ownership;
use crate::xattrs::Xattrs;

/// What a step wrote could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// A file of the upper directory could not be read.
    #[error("cannot read `/{}` of what the step wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The overlay was mounted with a feature that makes its directories unreadable as layers.
    #[error("`/{}` carries `{attribute}`: the overlay was mounted with redirects or metadata-only copies", path.display())]
    Overlay {
        /// The file.
        path: PathBuf,
        /// The attribute.
        attribute: String,
    },
    /// The tree below could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What was read makes no layer.
    #[error("what the step wrote makes no layer")]
    Index(#[from] IndexError),
}

/// How an upper directory is read.
#[derive(Clone, Copy)]
pub(super) struct UpperOptions<'a> {
    pub(super) parent: &'a dyn FileTree,
    pub(super) window: StepWindow,
    pub(super) ownership: Ownership,
    /// What of the step's files is not part of the layer.
    pub(super) left_out: &'a LeftOut<'a>,
}

/// Says of what a step wrote whether it is left out of its layer: then the path shows what the tree below has there.
///
/// It is asked about everything but removals and directories that are in the tree below too.
pub type LeftOut<'a> = dyn Fn(&Written<'_>) -> bool + Sync + 'a;

/// Something a step wrote.
pub struct Written<'a> {
    /// Where.
    pub path: &'a [u8],
    /// Whether it is a directory: left out, it goes with all that is in it.
    pub is_directory: bool,
    root: &'a Beneath,
}

impl Written<'_> {
    /// Opens the file.
    pub fn open(&self) -> io::Result<File> {
        self.root.file(self.path).map(File::from)
    }
}

/// One object of the upper directory.
struct Object {
    path: LayerPath,
    stat: Stat,
    /// What the tree below shows there, if its directory goes on in the upper one.
    below: Option<TreeEntry>,
    is_left_out: bool,
    /// Set in the second pass.
    content: Content,
}

#[derive(Default)]
struct Content {
    xattrs: Xattrs,
    opaque: bool,
    owner: Option<(u32, u32)>,
    digest: Option<FileDigest>,
    target: Option<Vec<u8>>,
}

/// Reads the upper directory at `directory` and removes from it what is not part of the layer.
pub(super) fn read_upper(directory: &Path, options: &UpperOptions<'_>) -> Result<LayerIndex, UpperError> {
    let root = Beneath::open_root(directory).map_err(|source| failed(b"", source))?;
    let mut objects = list(&root, options)?;
    if is_small(&objects) {
        objects.iter_mut().try_for_each(|object| read_content(&root, object))?;
    } else {
        objects.par_iter_mut().with_max_len(256).try_for_each(|object| read_content(&root, object))?;
    }
    let mut reading = Reading { options, entries: Vec::with_capacity(objects.len()), removed: Vec::new() };
    reading.sort_out(&objects)?;
    let Reading { entries, removed, .. } = reading;
    clean(&root, &removed, &objects, options.ownership)?;
    Ok(LayerIndex::from_entries(entries)?)
}

/// Whether reading everything takes no longer than waking other threads for it.
fn is_small(objects: &[Object]) -> bool {
    objects.len() <= 32 && objects.iter().map(|object| object.stat.st_size).sum::<i64>() <= 1 << 20
}

/// Lists everything, sorted, with what the tree below has at the same path.
fn list(root: &Beneath, options: &UpperOptions<'_>) -> Result<Vec<Object>, UpperError> {
    let found = Mutex::new(Vec::new());
    let continued: Mutex<HashSet<LayerPath>> = Mutex::new(HashSet::from([LayerPath::new()]));
    walk(vec![LayerPath::new()], &|path| {
        reach(Point::UpperList).map_err(|source| failed(path, source))?;
        let directory = root.directory(path).map_err(|source| failed(path, source))?;
        let is_opaque = !path.is_empty() && is_opaque(&directory).map_err(|source| failed(path, source))?;
        let goes_on = continued.lock().unwrap_or_else(PoisonError::into_inner).contains(path) && !is_opaque;
        let (mut objects, mut next) = (Vec::new(), Vec::new());
        for (name, stat) in read_directory(&directory).map_err(|source| failed(path, source))? {
            let child = join(path, &name);
            let below = if goes_on { options.parent.entry(&child)? } else { None };
            let is_directory = kind(&stat) == FileType::Directory;
            let goes_on_below =
                is_directory && below.as_ref().is_some_and(|below| below.entry.is_directory());
            let is_left_out = !is_whiteout(&stat)
                && !goes_on_below
                && (options.left_out)(&Written { path: &child, is_directory, root });
            if is_directory && !is_left_out {
                if goes_on_below {
                    continued.lock().unwrap_or_else(PoisonError::into_inner).insert(child.clone());
                }
                next.push(child.clone());
            }
            objects.push(Object { path: child, stat, below, is_left_out, content: Content::default() });
        }
        found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut objects);
        Ok::<_, UpperError>(next)
    })?;
    let mut objects = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    objects.push(root_object(root, options)?);
    objects.par_sort_unstable_by(|a, b| compare_paths(&a.path, &b.path));
    Ok(objects)
}

fn root_object(root: &Beneath, options: &UpperOptions<'_>) -> Result<Object, UpperError> {
    let stat = rustix::fs::fstat(root.root()).map_err(|error| failed(b"", error.into()))?;
    let below = options.parent.entry(b"")?;
    Ok(Object { path: Vec::new(), stat, below, is_left_out: false, content: Content::default() })
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let mut value = [0; 8];
        match rustix::fs::fgetxattr(directory, name, &mut value[..]) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_)
            | Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Reads attributes, bytes and link target of one object.
fn read_content(root: &Beneath, object: &mut Object) -> Result<(), UpperError> {
    let path = object.path.clone();
    let wrap = |source: io::Error| failed(&path, source);
    let file_type = kind(&object.stat);
    if file_type == FileType::Socket || is_whiteout(&object.stat) || object.is_left_out {
        return Ok(());
    }
    reach(Point::UpperRead).map_err(wrap)?;
    let all = match file_type {
        FileType::RegularFile => {
            let file = root.file(&path).map_err(wrap)?;
            let (digest, size) = crate::hash::digest(&file).map_err(wrap)?;
            if size != object.stat.st_size as u64 {
                return Err(wrap(io::Error::other("changes while it is read")));
            }
            object.content.digest = Some(digest);
            with_buffer(|buffer| crate::xattrs::of_file(&file, &|_| true, buffer)).map_err(wrap)?
        }
        FileType::Directory => {
            let directory = root.directory(&path).map_err(wrap)?;
            with_buffer(|buffer| crate::xattrs::of_file(&directory, &|_| true, buffer)).map_err(wrap)?
        }
        _ => {
            let named = by_descriptor(root.root(), &path);
            if file_type == FileType::Symlink {
                let target = rustix::fs::readlink(named.as_slice(), Vec::new());
                object.content.target = Some(target.map_err(|error| wrap(error.into()))?.into_bytes());
            }
            with_buffer(|buffer| crate::xattrs::of_path(&named, &|_| true, buffer)).map_err(wrap)?
        }
    };
    sort_attributes(object, all)
}

fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]));
    BUFFER.with_borrow_mut(work)
}

/// Takes overlayfs's and mica's own attributes out of the image's.
fn sort_attributes(object: &mut Object, all: Xattrs) -> Result<(), UpperError> {
    for (name, value) in all {
        let overlay =
            [&b"trusted.overlay."[..], b"user.overlay."].iter().find_map(|prefix| name.strip_prefix(*prefix));
        match overlay {
            Some(b"opaque") => object.content.opaque = value == b"y",
            Some(b"redirect" | b"metacopy") => {
                return Err(UpperError::Overlay {
                    path: shown(&object.path),
                    attribute: String::from_utf8_lossy(&name).into_owned(),
                });
            }
            Some(_) => {}
            None if name == b"user.mica.owner" => object.content.owner = parse_owner(&value),
            None if belongs_to_image(&name) => drop(object.content.xattrs.insert(name, value)),
            None => {}
        }
    }
    Ok(())
}

fn parse_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

struct Reading<'a> {
    options: &'a UpperOptions<'a>,
    entries: Vec<Entry>,
    /// Objects that are not part of the layer.
    removed: Vec<LayerPath>,
}

impl Reading<'_> {
    /// Decides about each object, from the last to the first: a directory is asked about after what is in it.
    fn sort_out(&mut self, objects: &[Object]) -> Result<(), UpperError> {
        let first_names = first_names(objects);
        let mut needed: HashSet<LayerPath> = HashSet::new();
        for object in objects.iter().rev() {
            let entry = self.entry(object, &first_names);
            let is_needed = needed.contains(&object.path);
            match entry {
                Some(entry) if is_needed || self.is_change(object, &entry) => {
                    if !object.path.is_empty() {
                        needed.insert(parent(&object.path).to_vec());
                    }
                    if !object.path.is_empty() || self.is_root_change(&entry, object) {
                        self.entries.push(entry);
                    }
                }
                _ if object.path.is_empty() => {}
                _ => self.removed.push(object.path.clone()),
            }
        }
        Ok(())
    }

    /// Returns what the object is as an entry, unless it cannot be one.
    fn entry(&self, object: &Object, first_names: &HashMap<(u64, u64), LayerPath>) -> Option<Entry> {
        if object.is_left_out {
            return None;
        }
        let content = &object.content;
        let node = if is_whiteout(&object.stat) {
            object.below.as_ref()?;
            Node::Whiteout
        } else if let Some(first) =
            first_names.get(&inode(&object.stat)).filter(|first| **first != object.path)
        {
            Node::HardLink { target: first.clone() }
        } else {
            node(object)?
        };
        let (uid, gid) = self.owner(object);
        let mode = object.stat.st_mode & 0o7777;
        let mtime = self.time(object);
        Some(Entry { path: object.path.clone(), mode, uid, gid, mtime, xattrs: content.xattrs.clone(), node })
    }

    fn owner(&self, object: &Object) -> (u32, u32) {
        if self.options.ownership != Ownership::Single {
            return (object.stat.st_uid, object.stat.st_gid);
        }
        if let Some(owner) = object.content.owner {
            return owner;
        }
        let below = object.below.as_ref().filter(|below| is_same_kind(&below.entry.node, &object.stat));
        below.map_or((0, 0), |below| (below.entry.uid, below.entry.gid))
    }

    /// A time that is still that of the tree below says what it said there.
    fn time(&self, object: &Object) -> Time {
        let time = FsTime::modified(&object.stat);
        let below = object.below.as_ref().map(|below| below.entry.mtime);
        let kind = match below {
            Some(below) if (below.seconds, below.nanoseconds) == (time.seconds, time.nanoseconds) => {
                below.kind
            }
            _ if self.options.window.contains(time) => TimeKind::Now,
            _ => TimeKind::Set,
        };
        Time { seconds: time.seconds, nanoseconds: time.nanoseconds, kind }
    }

    /// Whether the object differs from what the tree below shows.
    fn is_change(&self, object: &Object, entry: &Entry) -> bool {
        let Some(below) = &object.below else { return true };
        let same_time = (below.entry.mtime.seconds, below.entry.mtime.nanoseconds)
            == (entry.mtime.seconds, entry.mtime.nanoseconds);
        // A name of an inode that was linked in this step is there for the other's sake.
        let is_alone = object.stat.st_nlink == 1 || entry.is_directory();
        !(same_time
            && is_alone
            && has_same_attributes(&below.entry, entry)
            && is_same_node(&below.entry.node, &entry.node))
    }

    /// The root counts only for what can be seen of it in an image: not for its time.
    fn is_root_change(&self, entry: &Entry, object: &Object) -> bool {
        object.below.as_ref().is_none_or(|below| !has_same_attributes(&below.entry, entry))
    }
}

/// Returns the first name of every inode that has several.
fn first_names(objects: &[Object]) -> HashMap<(u64, u64), LayerPath> {
    let mut names = HashMap::new();
    for object in objects {
        let file_type = kind(&object.stat);
        // Overlayfs makes its removals hard links of each other.
        let can_link =
            !is_whiteout(&object.stat) && !matches!(file_type, FileType::Directory | FileType::Socket);
        if can_link && object.stat.st_nlink > 1 && !object.is_left_out {
            names.entry(inode(&object.stat)).or_insert_with(|| object.path.clone());
        }
    }
    names
}

fn node(object: &Object) -> Option<Node> {
    let (major, minor) = (rustix::fs::major(object.stat.st_rdev), rustix::fs::minor(object.stat.st_rdev));
    Some(match kind(&object.stat) {
        FileType::RegularFile => {
            let digest = object.content.digest.expect("regular files were hashed");
            Node::File { size: object.stat.st_size as u64, digest, bytes: Bytes::Here }
        }
        // Where the tree below has nothing, there is nothing to hide.
        FileType::Directory => Node::Directory { opaque: object.content.opaque && is_over_directory(object) },
        FileType::Symlink => {
            Node::Symlink { target: object.content.target.clone().expect("links were read") }
        }
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        _ => return None,
    })
}

fn is_over_directory(object: &Object) -> bool {
    object.below.as_ref().is_some_and(|below| below.entry.is_directory())
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn is_same_kind(node: &Node, stat: &Stat) -> bool {
    let file_type = match node {
        Node::File { .. } => FileType::RegularFile,
        Node::Directory { .. } => FileType::Directory,
        Node::Symlink { .. } => FileType::Symlink,
        Node::CharDevice { .. } => FileType::CharacterDevice,
        Node::BlockDevice { .. } => FileType::BlockDevice,
        Node::Fifo => FileType::Fifo,
        Node::HardLink { .. } | Node::Whiteout => return false,
    };
    file_type == kind(stat)
}

fn has_same_attributes(a: &Entry, b: &Entry) -> bool {
    // The mode of a symbolic link says nothing; the disk always has 0777, an archive anything.
    let is_link = |entry: &Entry| matches!(entry.node, Node::Symlink { .. });
    let same_mode = a.mode == b.mode || (is_link(a) && is_link(b));
    same_mode && (a.uid, a.gid) == (b.uid, b.gid) && a.xattrs == b.xattrs
}

/// Whether two nodes are the same thing, wherever bytes lie.
pub(super) fn is_same_node(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::File { size, digest, .. }, Node::File { size: other_size, digest: other_digest, .. }) => {
            (size, digest) == (other_size, other_digest)
        }
        (a, b) => a == b,
    }
}

/// Removes what is not part of the layer and restores the times of the directories it was in.
fn clean(
    root: &Beneath,
    removed: &[LayerPath],
    objects: &[Object],
    ownership: Ownership,
) -> Result<(), UpperError> {
    reach(Point::Remove).map_err(|source| failed(b"", source))?;
    let gone: HashSet<&[u8]> = removed.iter().map(Vec::as_slice).collect();
    let mut touched: HashSet<&[u8]> = HashSet::new();
    // What is in a directory comes before the directory.
    for path in removed {
        remove(root, path).map_err(|source| failed(path, source))?;
        touched.insert(parent(path));
    }
    for object in objects.iter().filter(|object| !gone.contains(object.path.as_slice())) {
        if object.content.opaque && !is_over_directory(object) {
            let attribute = format!("{}opaque", ownership.overlay_prefix());
            let directory = root.directory(&object.path).map_err(|source| failed(&object.path, source))?;
            rustix::fs::fremovexattr(&directory, attribute)
                .map_err(|error| failed(&object.path, error.into()))?;
        }
        if touched.contains(object.path.as_slice()) {
            let directory = root.directory(&object.path).map_err(|source| failed(&object.path, source))?;
            restore_time(&directory, &object.stat).map_err(|source| failed(&object.path, source))?;
        }
    }
    Ok(())
}

fn remove(root: &Beneath, path: &[u8]) -> io::Result<()> {
    let directory = root.directory(parent(path))?;
    let name = mica_image::index::name(path);
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Err(rustix::io::Errno::ISDIR) => {}
        result => return Ok(result?),
    }
    match rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR) {
        // A directory that is left out was not looked into.
        Err(rustix::io::Errno::NOTEMPTY) => {
            let named = by_descriptor(root.root(), path);
            use std::os::unix::ffi::OsStrExt;
            std::fs::remove_dir_all(std::ffi::OsStr::from_bytes(&named))
        }
        result => Ok(result?),
    }
}

fn restore_time(directory: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Ok(rustix::fs::futimens(directory, &Timestamps { last_access, last_modification })?)
}

fn failed(path: &[u8], source: io::Error) -> UpperError {
    UpperError::Read { path: shown(path), source }
}

fn shown(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}
