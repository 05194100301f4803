//! The destination as it looks while a copy is placed: the tree below and what was placed so far.
//!
//! Invariant: the directories above everything that was placed are known here themselves, up to the root, which never is. So
//! whether a path can exist in the tree below is answered by its parent, and below a directory made here nobody asks.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mica_image::index::{Entry, LayerPath, Node, Time, TimeKind};
use mica_image::tree::{FileTree, TreeEntry, TreeError};

use super::owner::Owner;
use super::paths::{clean, components, is_within, parent, shown};
use super::place::{Origin, PlaceError};
use super::resolve::{Seen, resolve};

/// The destination and what was placed on it.
pub(super) struct View<'a> {
    destination: &'a dyn FileTree,
    /// Everything placed; nothing where it was removed again.
    placed: Vec<Option<Placed>>,
    /// Where in it each path is.
    positions: HashMap<LayerPath, usize>,
    /// Directories of the destination that were replaced.
    replaced: HashSet<LayerPath>,
}

/// Something that was placed, or a directory on the way to it.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) entry: Entry,
    pub(super) origin: Option<Origin>,
    pub(super) history: History,
    /// Names with the same number are one inode.
    pub(super) link: Option<u64>,
}

/// How an entry relates to the destination below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// A directory of the destination, as it is there.
    Inherited,
    /// A directory of the destination with other attributes.
    Changed,
    /// New: nothing below it comes from the destination.
    Made,
}

/// What directories that must be made on the way look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewDirectory {
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) mtime: Time,
}

impl<'a> View<'a> {
    pub(super) fn new(destination: &'a dyn FileTree) -> Self {
        Self { destination, placed: Vec::new(), positions: HashMap::new(), replaced: HashSet::new() }
    }

    /// Makes room for so many entries.
    pub(super) fn reserve(&mut self, count: usize) {
        self.placed.reserve(count);
        self.positions.reserve(count);
    }

    /// Returns what is at `path` now. The directory above it must exist.
    pub(super) fn seen(&self, path: &[u8]) -> Result<Seen, TreeError> {
        if path.is_empty() {
            return Ok(Seen::Directory);
        }
        Ok(match self.placed(path) {
            Some(placed) => match &placed.entry.node {
                Node::Directory { .. } => Seen::Directory,
                Node::Symlink { target } => Seen::Link(target.clone()),
                _ => Seen::Other,
            },
            None => Seen::of(self.below(path)?.as_ref()),
        })
    }

    /// Returns what the destination itself shows at `path`, as far as it is still visible.
    fn below(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        match self.placed(parent(path)) {
            Some(above) if above.history == History::Made => Ok(None),
            _ => self.destination.entry(path),
        }
    }

    fn placed(&self, path: &[u8]) -> Option<&Placed> {
        self.placed[*self.positions.get(path)?].as_ref()
    }

    /// Returns what was placed at `path`; its own path is not to be asked.
    pub(super) fn placed_mut(&mut self, path: &[u8]) -> Option<&mut Placed> {
        self.placed[*self.positions.get(path)?].as_mut()
    }

    /// Follows the links of `path` as they are now.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<LayerPath, PlaceError> {
        self.resolve_below(b"", path)
    }

    /// Follows the links of `path` as if the directory `root` were the root of everything.
    pub(super) fn resolve_below(&self, root: &[u8], path: &[u8]) -> Result<LayerPath, PlaceError> {
        let inside = resolve(path, &mut |inside| self.seen(&below(root, inside)))
            .map_err(|source| PlaceError::Resolve { path: shown(&clean(path)), source })?;
        Ok(below(root, &inside))
    }

    /// Makes the directory `path` and those above it exist; those of the destination are taken over as they are there.
    pub(super) fn make_directories(&mut self, path: &[u8], new: &NewDirectory) -> Result<(), PlaceError> {
        let mut here = LayerPath::new();
        for component in components(path) {
            here = mica_image::tree::join(&here, component);
            if let Some(placed) = self.placed(&here) {
                if !matches!(placed.entry.node, Node::Directory { .. }) {
                    return Err(PlaceError::NotADirectory { path: shown(&here) });
                }
                continue;
            }
            match self.below(&here)? {
                Some(found) => self.inherit(&here, Arc::unwrap_or_clone(found.entry))?,
                None => self.make_directory(&here, new),
            }
        }
        Ok(())
    }

    fn inherit(&mut self, path: &[u8], entry: Entry) -> Result<(), PlaceError> {
        if !matches!(entry.node, Node::Directory { .. }) {
            return Err(PlaceError::NotADirectory { path: shown(path) });
        }
        let entry = Entry {
            path: path.to_vec(),
            mtime: Time { kind: TimeKind::Now, ..entry.mtime },
            node: Node::Directory { opaque: false },
            ..entry
        };
        self.put(Placed { entry, origin: None, history: History::Inherited, link: None });
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8], new: &NewDirectory) {
        let entry = Entry {
            path: path.to_vec(),
            mode: new.mode,
            uid: new.owner.uid,
            gid: new.owner.gid,
            mtime: new.mtime,
            xattrs: Default::default(),
            node: Node::Directory { opaque: false },
        };
        self.put(Placed { entry, origin: None, history: History::Made, link: None });
    }

    /// Places something at its path; a directory that takes the place of another hides what that had in it.
    pub(super) fn put(&mut self, mut placed: Placed) {
        if let Node::Directory { opaque } = &mut placed.entry.node {
            *opaque = self.replaced.contains(&placed.entry.path);
        }
        // The path is kept once, as the key, until everything is placed.
        match self.positions.entry(std::mem::take(&mut placed.entry.path)) {
            Slot::Occupied(known) => self.placed[*known.get()] = Some(placed),
            Slot::Vacant(free) => {
                free.insert(self.placed.len());
                self.placed.push(Some(placed));
            }
        }
    }

    /// Removes what is at `path` and below it, so that something of another kind can be placed there.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let was_made = self.placed(path).is_some_and(|placed| placed.history == History::Made);
        if !was_made
            && self.below(path)?.is_some_and(|found| matches!(found.entry.node, Node::Directory { .. }))
        {
            self.replaced.insert(path.to_vec());
        }
        if self.placed(path).is_some_and(|placed| matches!(placed.entry.node, Node::Directory { .. })) {
            let Self { placed, positions, .. } = self;
            positions.retain(|candidate, position| {
                let stays = !is_within(candidate, path);
                if !stays {
                    placed[*position] = None;
                }
                stays
            });
        }
        Ok(())
    }

    /// Returns what was placed.
    pub(super) fn into_placed(mut self) -> Vec<Placed> {
        for (path, position) in self.positions {
            if let Some(placed) = &mut self.placed[position] {
                placed.entry.path = path;
            }
        }
        #[expect(
            clippy::filter_map_identity,
            reason = "it collects where the values are; `flatten` makes a second list"
        )]
        self.placed.into_iter().filter_map(|placed| placed).collect()
    }
}

fn below(root: &[u8], path: &[u8]) -> LayerPath {
    if path.is_empty() { root.to_vec() } else { mica_image::tree::join(root, path) }
}
