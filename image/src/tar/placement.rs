//! Where the members of an archive end up in a layer.
//!
//! Kept is what unpacking would have made so far: names, each a directory or an inode. Inodes have one or more names, of which
//! the bytes are stored under one. Removals are applied at the end: they hide what lower layers have, never what their own
//! layer has, wherever they stand in the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::TarError;
use super::member::{Member, MemberKind};
use super::read::{LayerSink, Removals, TarLimits};
use crate::FileDigest;
use crate::index::{
    Bytes, Entry, LayerIndex, LayerPath, Node, Time, TimeKind, belongs_to_image, compare_paths, is_below,
    name, parent,
};
use crate::tree::{FollowLast, ResolveError, join, resolve};

const MOST_LINKS: usize = 255;
const REMOVAL: &[u8] = b".wh.";
const SPECIAL: &[u8] = b".wh..wh.";
const MARKER: &[u8] = b".wh..wh..opq";

/// What a member is once its bytes have been read.
pub(super) enum Object {
    File { size: u64, digest: FileDigest },
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// The layer as far as it has been read.
pub(super) struct Placement<'a> {
    limits: &'a TarLimits<'a>,
    sink: &'a mut dyn LayerSink,
    names: BTreeMap<LayerPath, Name>,
    inodes: Vec<Inode>,
    removed: BTreeSet<LayerPath>,
    opaque: BTreeSet<LayerPath>,
    /// The directory that was resolved last, as written and as found.
    last_parent: Option<(LayerPath, LayerPath)>,
}

enum Name {
    Directory(Entry),
    Inode(usize),
}

struct Inode {
    /// Attributes and node; the path is that of the first name ever.
    entry: Entry,
    names: BTreeSet<LayerPath>,
    /// Under which name the sink has the bytes.
    stored: Option<LayerPath>,
}

impl<'a> Placement<'a> {
    pub(super) fn new(limits: &'a TarLimits<'a>, sink: &'a mut dyn LayerSink) -> Self {
        Self {
            limits,
            sink,
            names: BTreeMap::new(),
            inodes: Vec::new(),
            removed: BTreeSet::new(),
            opaque: BTreeSet::new(),
            last_parent: None,
        }
    }

    pub(super) fn sink(&mut self) -> &mut dyn LayerSink {
        self.sink
    }

    /// Finds where a member goes and clears the place; returns `None` for one that only says something about lower layers.
    pub(super) fn place(&mut self, member: &Member) -> Result<Option<LayerPath>, TarError> {
        let path = self.normal(&member.path)?;
        let is_directory = member.kind == MemberKind::Directory;
        if path.is_empty() && !is_directory {
            return Err(TarError::Path { path: member.path.clone(), problem: "is that of the root" });
        }
        let path = match path.is_empty() {
            true => path,
            false => join(&self.directory(parent(&path), &path)?, name(&path)),
        };
        if self.limits.removals == Removals::Marked && self.is_mark(&path, member)? {
            return Ok(None);
        }
        let stays = is_directory && !matches!(self.names.get(&path[..]), Some(Name::Inode(_)));
        if !stays {
            self.clear(&path)?;
        }
        Ok(Some(path))
    }

    /// Adds a member at the place that was found for it.
    pub(super) fn add(&mut self, path: LayerPath, member: Member, object: Object) -> Result<(), TarError> {
        let node = match object {
            Object::File { size, digest } => Node::File { size, digest, bytes: Bytes::Here },
            Object::Directory => Node::Directory { opaque: false },
            Object::Symlink(target) => Node::Symlink { target },
            Object::CharDevice(major, minor) => Node::CharDevice { major, minor },
            Object::BlockDevice(major, minor) => Node::BlockDevice { major, minor },
            Object::Fifo => Node::Fifo,
            Object::HardLink(target) => return self.add_link(path, &member, &target),
        };
        let stored = matches!(node, Node::File { .. }).then(|| path.clone());
        let xattrs = member.xattrs.into_iter().filter(|(name, _)| belongs_to_image(name)).collect();
        let Member { mode, uid, gid, mtime, .. } = member;
        let entry = Entry { path: path.clone(), mode, uid, gid, mtime, xattrs, node };
        if entry.is_directory() {
            self.names.insert(path, Name::Directory(entry));
        } else {
            self.add_inode(path, entry, stored);
        }
        Ok(())
    }

    fn add_inode(&mut self, path: LayerPath, entry: Entry, stored: Option<LayerPath>) {
        // A name in the remembered directory changes nothing about that, unless it is itself on the way to it.
        let is_on_the_way = |found: &LayerPath| *found == path || is_below(found, &path);
        let is_link = matches!(entry.node, Node::Symlink { .. });
        if is_link || self.last_parent.as_ref().is_some_and(|(_, found)| is_on_the_way(found)) {
            self.last_parent = None;
        }
        self.names.insert(path.clone(), Name::Inode(self.inodes.len()));
        self.inodes.push(Inode { entry, names: BTreeSet::from([path]), stored });
    }

    /// Adds another name. As when unpacking, the link's own attributes are then those of the file.
    fn add_link(&mut self, path: LayerPath, member: &Member, target: &[u8]) -> Result<(), TarError> {
        let target = self.normal(target)?;
        let target = join(&self.directory(parent(&target), &path)?, name(&target));
        let problem = match self.names.get(&target[..]) {
            Some(Name::Inode(number)) => {
                let number = *number;
                let inode = &mut self.inodes[number];
                let entry = &mut inode.entry;
                (entry.mode, entry.uid, entry.gid, entry.mtime) =
                    (member.mode, member.uid, member.gid, member.mtime);
                entry
                    .xattrs
                    .extend(member.xattrs.clone().into_iter().filter(|(name, _)| belongs_to_image(name)));
                inode.names.insert(path.clone());
                self.names.insert(path, Name::Inode(number));
                return Ok(());
            }
            Some(Name::Directory(_)) => "is a directory",
            None => match self.lower_file(&target)? {
                Some(entry) => {
                    self.add_inode(path.clone(), Entry { path, ..entry }, None);
                    return Ok(());
                }
                None => "does not exist",
            },
        };
        Err(TarError::Link { path, target, problem })
    }

    /// Looks for a file in the tree below.
    fn lower_file(&self, path: &[u8]) -> Result<Option<Entry>, TarError> {
        let Some(lower) = self.limits.lower else { return Ok(None) };
        match resolve(lower, path, FollowLast::No) {
            Ok(found) => {
                let existing = found.existing().filter(|found| !found.entry.is_directory());
                Ok(existing.map(|found| Entry::clone(&found.entry)))
            }
            Err(ResolveError::TooManyLinks { .. }) => Ok(None),
            Err(ResolveError::Tree(error)) => Err(error.into()),
        }
    }

    /// Notes a member that marks a removal or an opaque directory; tells whether it was one.
    fn is_mark(&mut self, path: &[u8], member: &Member) -> Result<bool, TarError> {
        let (directory, name) = (parent(path), name(path));
        if let Some(removed) = name.strip_prefix(REMOVAL) {
            if name == MARKER {
                self.opaque.insert(directory.to_vec());
            } else if matches!(removed, b"" | b"." | b"..") {
                let problem = "marks no name for removal";
                return Err(TarError::Path { path: member.path.clone(), problem });
            } else if !name.starts_with(SPECIAL) {
                // Other special names are the bookkeeping of AUFS.
                self.removed.insert(join(directory, removed));
            }
            return Ok(true);
        }
        match directory.split(|&byte| byte == b'/').any(|component| component.starts_with(REMOVAL)) {
            true => Err(TarError::Path { path: member.path.clone(), problem: "lies in a removal" }),
            false => Ok(false),
        }
    }

    /// Brings a name into the form of an index: no leading or trailing slash, no `.`, and `..` taken back as text, which is what
    /// the reference does. Refuses what leads out or is out of bounds.
    fn normal(&self, written: &[u8]) -> Result<LayerPath, TarError> {
        let refuse =
            |problem| Err(TarError::Path { path: written[..written.len().min(200)].to_vec(), problem });
        if written.is_empty() {
            return refuse("is empty");
        }
        if written.len() > self.limits.path {
            return refuse("is too long");
        }
        if written.contains(&0) {
            return refuse("has a NUL");
        }
        let mut components = Vec::new();
        for component in written.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." if components.pop().is_none() => return refuse("leads out of the archive"),
                b".." => {}
                _ if component.len() > 255 => return refuse("is too long"),
                _ => components.push(component),
            }
        }
        match components.len() > self.limits.depth {
            true => refuse("is too deep"),
            false => Ok(components.join(&b'/')),
        }
    }

    /// Follows the symbolic links of this layer from its root to `directory`.
    fn directory(&mut self, directory: &[u8], member: &[u8]) -> Result<LayerPath, TarError> {
        if let Some((written, found)) = &self.last_parent
            && written == directory
        {
            return Ok(found.clone());
        }
        let mut found = LayerPath::new();
        let mut links = 0;
        let mut pending: Vec<Vec<u8>> = components(directory);
        while let Some(component) = pending.pop() {
            match &component[..] {
                b"" | b"." => continue,
                b".." => {
                    found = parent(&found).to_vec();
                    continue;
                }
                _ => {}
            }
            let path = join(&found, &component);
            let Some(Name::Inode(number)) = self.names.get(&path[..]) else {
                found = path;
                continue;
            };
            let Node::Symlink { target } = &self.inodes[*number].entry.node else {
                return Err(TarError::Parent { path: member.to_vec(), parent: path });
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(TarError::Loop { path: member.to_vec() });
            }
            if target.starts_with(b"/") {
                found.clear();
            }
            pending.extend(components(target));
        }
        self.last_parent = Some((directory.to_vec(), found.clone()));
        Ok(found)
    }

    /// Removes whatever is at `path` and below it.
    fn clear(&mut self, path: &[u8]) -> Result<(), TarError> {
        let itself = self.names.contains_key(path).then(|| path.to_vec());
        let gone: Vec<LayerPath> = itself.into_iter().chain(self.names_below(path).cloned()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.last_parent = None;
        let mut touched = Vec::new();
        for name in &gone {
            if let Some(Name::Inode(number)) = self.names.remove(name) {
                self.inodes[number].names.remove(name);
                touched.push(number);
            }
        }
        for number in touched {
            self.move_bytes_if_nameless(number)?;
        }
        self.sink.remove(path).map_err(|source| TarError::Store { path: path.to_vec(), source })
    }

    /// Names below a path are contiguous in byte order too, only not right after it.
    fn names_below(&self, path: &[u8]) -> impl Iterator<Item = &LayerPath> {
        let prefix = join(path, b"");
        let tail = self.names.range(prefix.clone()..).map(|(name, _)| name);
        tail.take_while(move |name| name.starts_with(&prefix))
    }

    /// Stores an inode's bytes under a name it still has.
    fn move_bytes_if_nameless(&mut self, number: usize) -> Result<(), TarError> {
        let inode = &mut self.inodes[number];
        let Some(stored) = &inode.stored else { return Ok(()) };
        if inode.names.contains(&stored[..]) {
            return Ok(());
        }
        let Some(other) = inode.names.first() else {
            inode.stored = None;
            return Ok(());
        };
        self.sink.rename(stored, other).map_err(|source| TarError::Store { path: other.clone(), source })?;
        inode.stored = Some(other.clone());
        Ok(())
    }

    /// Makes the index, and stores the bytes of every file under its first name.
    pub(super) fn finish(mut self) -> Result<LayerIndex, TarError> {
        self.apply_marks()?;
        let mut entries = Vec::with_capacity(self.names.len() + self.removed.len());
        for inode in self.inodes.into_iter().filter(|inode| !inode.names.is_empty()) {
            let Inode { mut entry, names, stored } = inode;
            let mut names: Vec<LayerPath> = names.into_iter().collect();
            names.sort_by(|a, b| compare_paths(a, b));
            let mut names = names.into_iter();
            entry.path = names.next().expect("nameless inodes are left out");
            if let Some(stored) = stored.filter(|stored| *stored != entry.path) {
                let failed = |source| TarError::Store { path: entry.path.clone(), source };
                self.sink.rename(&stored, &entry.path).map_err(failed)?;
            }
            let link = |path: LayerPath| {
                let node = Node::HardLink { target: entry.path.clone() };
                Entry { path, node, ..entry.clone() }
            };
            entries.extend(names.map(link));
            entries.push(entry);
        }
        let directories = self.names.into_values().filter_map(|name| match name {
            Name::Directory(entry) => Some(entry),
            Name::Inode(_) => None,
        });
        entries.extend(directories);
        entries.extend(self.removed.into_iter().map(|path| plain(path, Node::Whiteout)));
        Ok(LayerIndex::from_entries(entries)?)
    }

    /// Turns a removal of what the layer itself has into an opaque directory, and drops those that say nothing.
    fn apply_marks(&mut self) -> Result<(), TarError> {
        for path in std::mem::take(&mut self.removed) {
            if self.is_in_inode(&path) {
                continue;
            }
            if self.names.contains_key(&path) || self.names_below(&path).next().is_some() {
                self.opaque.insert(path);
            } else {
                self.removed.insert(path);
            }
        }
        for path in std::mem::take(&mut self.opaque) {
            if self.is_in_inode(&path) {
                continue;
            }
            if !self.names.contains_key(&path[..]) {
                let entry = self.lower_directory(&path)?;
                self.names.insert(path.clone(), Name::Directory(entry));
            }
            if let Some(Name::Directory(entry)) = self.names.get_mut(&path[..]) {
                entry.node = Node::Directory { opaque: true };
            }
        }
        // What lies in a removed directory is removed with it.
        let all = self.removed.clone();
        self.removed.retain(|path| !ancestors(path).any(|above| all.contains(above)));
        Ok(())
    }

    /// Tells whether a path is, or would be in, something that is no directory.
    fn is_in_inode(&self, path: &[u8]) -> bool {
        let is_inode = |path: &[u8]| matches!(self.names.get(path), Some(Name::Inode(_)));
        is_inode(path) || ancestors(path).any(is_inode)
    }

    /// Makes the entry of an opaque directory that the archive has no member for.
    fn lower_directory(&self, path: &[u8]) -> Result<Entry, TarError> {
        let found = match self.limits.lower {
            Some(lower) => lower.entry(path)?.map(|found| found.entry).filter(|entry| entry.is_directory()),
            None => None,
        };
        let plain = || Entry { mode: 0o755, ..plain(path.to_vec(), Node::Directory { opaque: true }) };
        let set = |entry: Entry| Entry { mtime: Time { kind: TimeKind::Set, ..entry.mtime }, ..entry };
        Ok(set(found.map_or_else(plain, Arc::unwrap_or_clone)))
    }
}

fn plain(path: LayerPath, node: Node) -> Entry {
    Entry { path, mode: 0, uid: 0, gid: 0, mtime: Time::UNSET, xattrs: BTreeMap::new(), node }
}

/// The directories above a path, the root left out.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(parent(path)), |path| Some(parent(path))).take_while(|path| !path.is_empty())
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect()
}
