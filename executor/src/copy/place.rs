//! Where a selection lands: every entry's final path, attributes and owner.
//!
//! The rules are the reference's, to the letter: a destination's own links are followed inside the root; a new directory, and
//! directories made on the way, are root's with mode 0755 unless `--chown` or an octal `--chmod` says otherwise; a directory
//! that is copied onto keeps its attributes, but one met further down takes the source's; files replace anything but
//! directories and directories replace nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mica_image::index::{Bytes, Entry, LayerPath, Node, Time, TimeKind};
use mica_image::tree::{FileTree, TreeError, join};

use super::members::place_members;
use super::mode::Chmod;
use super::owner::Owner;
use super::paths::{clean, compare_paths, names_a_directory, parent, shown};
use super::resolve::{ResolveError, Seen};
use super::selection::{Item, Part, Reason, Selection, Shape};
use super::view::{History, NewDirectory, Placed, View};

/// How selections are placed.
#[derive(Debug, Clone, Copy)]
pub struct PlaceOptions<'a> {
    /// The destination: absolute; a `/` at its end makes it a directory (see [`super::destination_path`]).
    pub destination: &'a [u8],
    /// The owner of everything that is placed (`--chown`); without one everything keeps its own.
    pub owner: Option<Owner>,
    /// What happens to modes (`--chmod`).
    pub chmod: Option<&'a Chmod>,
    /// The time of directories that are made on the way, in seconds and nanoseconds.
    pub now: (i64, u32),
}

/// What a step adds to the destination: a layer without its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The entries in index order, each path once, every parent directory but the root among them. Empty where nothing was placed.
    pub entries: Vec<PlacedEntry>,
}

/// One entry of a placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedEntry {
    /// Where it is and what it looks like in the image.
    pub entry: Entry,
    /// Where a file's bytes come from; those of a file without an origin lie in another layer.
    pub origin: Option<Origin>,
    /// Whether it is a directory of the destination, as it is there.
    pub inherited: bool,
}

/// Where the bytes of a placed file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From the tree that a selection was made from.
    Tree {
        /// The number of the selection.
        selection: usize,
        /// The file as the tree has it: where it is, and where its bytes lie.
        entry: Arc<Entry>,
    },
    /// They are here.
    Inline(Arc<[u8]>),
    /// From a file of their own, which stays where it is.
    File(Arc<Path>),
    /// From a file of their own, which is moved away when the layer is written.
    Spooled(Arc<Path>),
}

/// A selection cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file meets a directory.
    #[error("cannot copy `{source_name}` to `{path}`: a directory cannot be replaced with something else")]
    FileOverDirectory {
        /// The source.
        source_name: String,
        /// The directory.
        path: String,
    },
    /// A directory meets something else.
    #[error(
        "cannot copy the directory `{source_name}` to `{path}`: there is something that is not a directory"
    )]
    DirectoryOverFile {
        /// The source.
        source_name: String,
        /// The thing that is no directory.
        path: String,
    },
    /// Something on the way is no directory.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The thing.
        path: String,
    },
    /// The links of a path cannot be followed.
    #[error("cannot follow `{path}`")]
    Resolve {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: ResolveError,
    },
    /// The destination could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// As many directories are rarely above what is placed.
const DIRECTORIES_ABOVE: usize = 16;

/// Places `selections`, in order, on `destination`.
pub fn place(
    selections: &[&Selection],
    destination: &dyn FileTree,
    options: &PlaceOptions<'_>,
) -> Result<Placement, PlaceError> {
    let mut placer = Placer { view: View::new(destination), options, links: HashMap::new() };
    let count: usize = selections.iter().map(|selection| selection.count()).sum();
    placer.view.reserve(count + DIRECTORIES_ABOVE);
    for (number, selection) in selections.iter().enumerate() {
        for (position, item) in selection.items.iter().enumerate() {
            let source = Source { selection: number, position, item };
            match &item.shape {
                Shape::Contents { mtime } => placer.contents(&source, *mtime)?,
                Shape::Named(name) => placer.named(&source, name)?,
                Shape::Members => place_members(&mut placer, &source)?,
            }
        }
    }
    Ok(Placement::from_view(placer.view))
}

/// An item and where it stands.
pub(super) struct Source<'a> {
    pub(super) selection: usize,
    position: usize,
    pub(super) item: &'a Item,
}

pub(super) struct Placer<'a> {
    pub(super) view: View<'a>,
    pub(super) options: &'a PlaceOptions<'a>,
    /// A number for each group of hard links: by selection, item and the group's number there.
    links: HashMap<(usize, usize, u64), u64>,
}

impl Placer<'_> {
    fn contents(&mut self, source: &Source<'_>, mtime: Time) -> Result<(), PlaceError> {
        let target = self.destination()?;
        match self.view.seen(&target)? {
            Seen::Absent => {
                self.view.make_directories(&target, &self.new_directories())?;
                if let Some(placed) = self.view.placed_mut(&target) {
                    placed.entry.mtime = mtime;
                }
            }
            Seen::Directory => self.view.make_directories(&target, &self.new_directories())?,
            Seen::Link(_) | Seen::Other => return Err(directory_over_file(source.item, b"", &target)),
        }
        for part in &source.item.parts {
            self.part(source, part, join(&target, &part.path))?;
        }
        Ok(())
    }

    fn named(&mut self, source: &Source<'_>, name: &[u8]) -> Result<(), PlaceError> {
        let mut target = self.destination()?;
        if self.view.seen(&target)? == Seen::Directory {
            target = join(&target, name);
        }
        self.view.make_directories(parent(&target), &self.new_directories())?;
        for part in &source.item.parts {
            self.part(source, part, target.clone())?;
        }
        Ok(())
    }

    /// Makes what must exist before anything lands, and returns where the destination's links lead.
    fn destination(&mut self) -> Result<LayerPath, PlaceError> {
        let destination = self.options.destination;
        let path = clean(destination);
        let directory = if names_a_directory(destination) { path.as_slice() } else { parent(&path) };
        let resolved = self.view.resolve(directory)?;
        self.view.make_directories(&resolved, &self.new_directories())?;
        self.view.resolve(&path)
    }

    fn new_directories(&self) -> NewDirectory {
        self.made_with(self.options.chmod.map_or(0o755, Chmod::of_new_directories), self.options.owner)
    }

    pub(super) fn made_with(&self, mode: u32, owner: Option<Owner>) -> NewDirectory {
        let (seconds, nanoseconds) = self.options.now;
        let mtime = Time { seconds, nanoseconds, kind: TimeKind::Now };
        NewDirectory { mode, owner: owner.unwrap_or_default(), mtime }
    }

    /// Places one entry at `path`, whose directory is there.
    fn part(&mut self, source: &Source<'_>, part: &Part, path: LayerPath) -> Result<(), PlaceError> {
        let is_directory = matches!(part.entry.entry.node, Node::Directory { .. });
        match (self.view.seen(&path)?, is_directory) {
            (Seen::Directory, true) => self.merge(part, path),
            (Seen::Directory, false) => Err(PlaceError::FileOverDirectory {
                source_name: named(source.item, part),
                path: shown(&path),
            }),
            (Seen::Link(_) | Seen::Other, true) => Err(directory_over_file(source.item, &part.path, &path)),
            (Seen::Absent, _) | (_, false) => {
                self.put_new(source, part, path);
                Ok(())
            }
        }
    }

    fn put_new(&mut self, source: &Source<'_>, part: &Part, path: LayerPath) {
        let origin = part.origin(source.selection);
        let link = self.link(source, part);
        let entry = self.attributes(part, path);
        self.view.put(Placed { entry, origin, history: History::Made, link });
    }

    /// Returns the entry with the path and the attributes that it gets in the image.
    fn attributes(&self, part: &Part, path: LayerPath) -> Entry {
        let Entry { path: _, mode, uid, gid, mtime, xattrs, node } = &*part.entry.entry;
        let (mode, uid, gid, mtime) = (*mode, *uid, *gid, *mtime);
        let mut entry = Entry { path, mode, uid, gid, mtime, xattrs: xattrs.clone(), node: node.clone() };
        if let Some(owner) = self.options.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        if let Some(chmod) = self.options.chmod
            && !matches!(entry.node, Node::Symlink { .. })
        {
            entry.mode = chmod.apply(entry.mode, matches!(entry.node, Node::Directory { .. }));
        }
        if let Node::File { bytes, .. } = &mut entry.node {
            *bytes = Bytes::Here;
        }
        entry
    }

    /// Gives a directory that exists already the attributes of the source's.
    fn merge(&mut self, part: &Part, path: LayerPath) -> Result<(), PlaceError> {
        self.view.make_directories(&path, &self.new_directories())?;
        let wanted = self.attributes(part, path);
        let placed = self.view.placed_mut(&wanted.path).expect("the directory was just made or taken over");
        match part.reason {
            // On the way to what is wanted only the bare mode is carried over, whatever --chmod says.
            Reason::Leading => placed.entry.mode = part.entry.entry.mode,
            Reason::Chosen => {
                placed.entry.mode = wanted.mode;
                (placed.entry.uid, placed.entry.gid) = (wanted.uid, wanted.gid);
                placed.entry.mtime = wanted.mtime;
                placed.entry.xattrs.extend(wanted.xattrs);
            }
        }
        if placed.history == History::Inherited {
            placed.history = History::Changed;
        }
        Ok(())
    }

    fn link(&mut self, source: &Source<'_>, part: &Part) -> Option<u64> {
        match part.entry.entry.node {
            Node::File { .. } => part.entry.link.map(|link| self.link_group(source, link)),
            _ => None,
        }
    }

    /// Returns a number for the group of hard links that is `link` within `source`.
    pub(super) fn link_group(&mut self, source: &Source<'_>, link: u64) -> u64 {
        let next = self.links.len() as u64;
        *self.links.entry((source.selection, source.position, link)).or_insert(next)
    }
}

fn named(item: &Item, part: &Part) -> String {
    let path = if part.path.is_empty() { item.source.clone() } else { join(&item.source, &part.path) };
    String::from_utf8_lossy(&path).into_owned()
}

fn directory_over_file(item: &Item, path: &[u8], target: &[u8]) -> PlaceError {
    let source = match (item.source.as_slice(), path) {
        (b"", b"") => b".".to_vec(),
        (source, b"") => source.to_vec(),
        (source, path) => join(source, path),
    };
    PlaceError::DirectoryOverFile {
        source_name: String::from_utf8_lossy(&source).into_owned(),
        path: shown(target),
    }
}

impl Placement {
    /// Whether nothing was placed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn from_view(view: View<'_>) -> Self {
        let mut placed = view.into_placed();
        if placed.iter().all(|placed| placed.history == History::Inherited) {
            return Self::default();
        }
        placed.sort_unstable_by(|a, b| compare_paths(&a.entry.path, &b.entry.path));
        link_names(&mut placed);
        let entries = placed
            .into_iter()
            .map(|Placed { entry, origin, history, .. }| PlacedEntry {
                entry,
                origin,
                inherited: history == History::Inherited,
            })
            .collect();
        Self { entries }
    }
}

/// Turns all names of an inode but the first into hard links to it.
fn link_names(placed: &mut [Placed]) {
    let mut first: HashMap<u64, usize> = HashMap::new();
    for position in 0..placed.len() {
        let Some(link) = placed[position].link else { continue };
        let Some(&holder) = first.get(&link) else {
            first.insert(link, position);
            continue;
        };
        let path = std::mem::take(&mut placed[position].entry.path);
        let holder = placed[holder].entry.clone();
        placed[position].origin = None;
        placed[position].entry =
            Entry { path, node: Node::HardLink { target: holder.path.clone() }, ..holder };
    }
}
