//! How layers are shown to a step: as directories for overlayfs, topmost first.
//!
//! A layer that has all of its bytes is its own directory. One whose bytes partly lie elsewhere is shown as its directory on top of
//! those of its holders, if by the indexes that shows exactly what the layer has: nothing below may be deleted, retyped or different
//! in any attribute. Otherwise it is written whole, once, into `full/`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use mica_image::LayerId;
use mica_image::index::{Entry, LayerIndex, LayerPath, Node};
use mica_image::tree::{Tree, TreeLayer, join};
use serde::{Deserialize, Serialize};

use super::derived;
use super::error::LayerError;
use super::store::{Layer, LayerStore};
use super::upper::is_same_node;
use crate::beneath::{Beneath, kind, read_directory};
use crate::files::{At, FileError, make_directories};
use crate::lease::Pin;
use crate::record::TreeHash;
use crate::sealed::{read_sealed, seal};

/// Overlayfs takes 500 lower directories; the skeleton and some room are kept back.
const MAX_LOWERS: usize = 480;
/// Layers are merged in such numbers, so that the next layers of a tree find the merged ones made.
const MERGED_AT_ONCE: usize = 64;

/// How a layer is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum View {
    /// The `files/` of these layers, topmost first.
    Stack(Vec<LayerId>),
    /// Its `full/`.
    Full,
}

impl LayerStore {
    /// Returns the directories that show `tree` as overlayfs's lower directories, topmost first; makes what is missing.
    pub fn lowers(&self, tree: &Tree) -> Result<Vec<PathBuf>, LayerError> {
        let lowers = self.all_lowers(tree)?;
        if lowers.len() <= MAX_LOWERS {
            return Ok(lowers);
        }
        let mut merged = 0;
        loop {
            merged = (merged + MERGED_AT_ONCE).min(tree.len());
            let mut lowers = self.all_lowers(&tree[merged..])?;
            if lowers.len() < MAX_LOWERS {
                lowers.push(self.merged(&tree[..merged])?);
                return Ok(lowers);
            }
        }
    }

    fn all_lowers(&self, tree: &[TreeLayer]) -> Result<Vec<PathBuf>, LayerError> {
        let mut lowers = Vec::new();
        for layer in tree.iter().rev() {
            lowers.extend(self.view_directories(&layer.id)?);
        }
        // Overlayfs refuses a directory that comes twice. What the lower occurrence shows, the upper one shows as well.
        let mut seen = HashSet::new();
        lowers.retain(|path| seen.insert(path.clone()));
        Ok(lowers)
    }

    fn view_directories(&self, id: &LayerId) -> Result<Vec<PathBuf>, LayerError> {
        let layer = self.require(id)?;
        match self.view(&layer)? {
            View::Stack(stack) => stack.iter().map(|id| self.ensure_files(id)).collect(),
            View::Full => Ok(vec![self.ensure_full(&layer)?]),
        }
    }

    /// Decides how a layer is shown, once.
    pub(super) fn view(&self, layer: &Layer) -> Result<View, LayerError> {
        if layer.meta().holders.is_empty() {
            return Ok(View::Stack(vec![layer.id()]));
        }
        let path = layer.directory().join("view");
        if let Some(view) = read_sealed(&path)? {
            return Ok(view);
        }
        let view = match self.delta(layer)? {
            Some(stack) => View::Stack(stack),
            None => View::Full,
        };
        self.shared.write(&path, &seal(&view))?;
        Ok(view)
    }

    /// Returns the layers whose directories together show exactly what the layer has, if there are such.
    fn delta(&self, layer: &Layer) -> Result<Option<Vec<LayerId>>, LayerError> {
        let wanted = layer.load_index()?;
        let here = self.present(layer)?;
        let mut parts = vec![Part::of(layer.id(), &wanted.entries, &here)];
        for holder in self.ordered_holders(layer)? {
            parts.push(self.part(&holder)?);
        }
        if !shows(&wanted, &parts) {
            return Ok(None);
        }
        // A holder of which nothing can be seen is not needed.
        Ok(Some(parts.into_iter().filter(|part| !part.entries.is_empty()).map(|part| part.id).collect()))
    }

    /// Orders the holders of a layer so that each comes before those that hold bytes for it.
    fn ordered_holders(&self, layer: &Layer) -> Result<Vec<Layer>, LayerError> {
        let mut left = Vec::new();
        for id in &layer.meta().holders {
            left.push(self.require(id)?);
        }
        let mut ordered = Vec::new();
        while !left.is_empty() {
            let needed: HashSet<LayerId> =
                left.iter().flat_map(|layer| layer.meta().holders.iter().copied()).collect();
            // A layer was made after those that hold bytes for it, so one is always free.
            let free = left.iter().position(|layer| !needed.contains(&layer.id())).unwrap_or(0);
            ordered.push(left.swap_remove(free));
        }
        Ok(ordered)
    }

    /// Returns what a layer's own directory shows.
    fn part(&self, layer: &Layer) -> Result<Part, LayerError> {
        let index = layer.load_index()?;
        if layer.meta().holders.is_empty() {
            return Ok(Part { id: layer.id(), entries: index.entries, has_unknown: false });
        }
        Ok(Part::of(layer.id(), &index.entries, &self.present(layer)?))
    }

    /// Returns the paths that exist in a layer's own directory.
    fn present(&self, layer: &Layer) -> Result<HashSet<LayerPath>, LayerError> {
        let files = self.ensure_files(&layer.id())?;
        let root = Beneath::open_root(&files).at("open", &files)?;
        let (mut present, mut pending) = (HashSet::new(), vec![LayerPath::new()]);
        while let Some(path) = pending.pop() {
            let listed = root.directory(&path).and_then(|directory| read_directory(&directory));
            for (name, stat) in listed.at("list", &files)? {
                let child = join(&path, &name);
                if kind(&stat).is_dir() {
                    pending.push(child.clone());
                }
                present.insert(child);
            }
        }
        Ok(present)
    }

    /// Returns the directory that shows all of a layer.
    fn ensure_full(&self, layer: &Layer) -> Result<PathBuf, LayerError> {
        let full = layer.directory().join("full");
        if !derived::is_ready(&self.shared, &full)? {
            let scratch = self.begin()?;
            self.write_tree(&layer.id(), &layer.load_index()?, &scratch.files())?;
            derived::place(&self.shared, &*self.shared.lease()?, &scratch.files(), &full)?;
        }
        Ok(full)
    }

    /// Returns the directory that shows several layers as one.
    fn merged(&self, layers: &[TreeLayer]) -> Result<PathBuf, LayerError> {
        let mut hasher = blake3::Hasher::new();
        for layer in layers {
            hasher.update(layer.id.as_bytes());
        }
        let hash = TreeHash(*hasher.finalize().as_bytes());
        let home = self.shared.root.join("merged").join(hash.hex());
        make_directories(&home)?;
        self.shared.lease()?.hold(|| {
            crate::files::touch(&home).at("mark as used", &home)?;
            Ok::<_, FileError>(Some(((), vec![Pin::Merged(hash)])))
        })?;
        let directory = home.join("files");
        if !derived::is_ready(&self.shared, &directory)? {
            let index = LayerIndex::from_tree(&self.tree(layers)?)?;
            let scratch = self.begin()?;
            // All bytes lie in other layers; the id is only for messages.
            self.write_tree(&index.layer_id(), &index, &scratch.files())?;
            derived::place(&self.shared, &*self.shared.lease()?, &scratch.files(), &directory)?;
        }
        Ok(directory)
    }
}

/// What one directory shows.
struct Part {
    id: LayerId,
    entries: Vec<Entry>,
    /// Whether objects are there that the index does not have.
    has_unknown: bool,
}

impl Part {
    /// What a directory shows in which some of a layer's entries are present.
    fn of(id: LayerId, all: &[Entry], present: &HashSet<LayerPath>) -> Self {
        let entries: Vec<Entry> = all.iter().filter(|entry| present.contains(&entry.path)).cloned().collect();
        let has_unknown = entries.len() < present.len();
        Self { id, entries, has_unknown }
    }
}

/// Whether the parts, topmost first, show exactly the entries of an index.
fn shows(wanted: &LayerIndex, parts: &[Part]) -> bool {
    let is_plain = |entry: &Entry| !matches!(entry.node, Node::Whiteout | Node::Directory { opaque: true });
    let all = || parts.iter().flat_map(|part| &part.entries);
    if parts.iter().any(|part| part.has_unknown) || !wanted.entries.iter().chain(all()).all(is_plain) {
        return false;
    }
    let Some(shown) = merge(parts) else { return false };
    let provider = |path: &[u8]| shown.get(path).map(|(part, _)| *part);
    // A name of an inode that another directory hides would leave its number of links wrong.
    let links_are_whole = parts.iter().enumerate().all(|(number, part)| {
        part.entries.iter().all(|entry| match &entry.node {
            Node::HardLink { target } => {
                provider(&entry.path) == Some(number) && provider(target) == Some(number)
            }
            _ => true,
        })
    });
    let is_shown =
        |entry: &Entry| shown.get(entry.path.as_slice()).is_some_and(|(_, other)| is_equal(entry, other));
    let mut entries = wanted.entries.iter().filter(|entry| !entry.path.is_empty());
    let count = entries.clone().count();
    links_are_whole && shown.len() == count && entries.all(is_shown)
}

/// Lays the parts over each other; `None` where something has another kind than what it covers.
fn merge(parts: &[Part]) -> Option<HashMap<&[u8], (usize, &Entry)>> {
    let mut shown: HashMap<&[u8], (usize, &Entry)> = HashMap::new();
    for (number, part) in parts.iter().enumerate() {
        for entry in part.entries.iter().filter(|entry| !entry.path.is_empty()) {
            match shown.entry(&entry.path) {
                std::collections::hash_map::Entry::Vacant(free) => drop(free.insert((number, entry))),
                std::collections::hash_map::Entry::Occupied(above) => {
                    if above.get().1.is_directory() != entry.is_directory() {
                        return None;
                    }
                }
            }
        }
    }
    // A path below something that is no directory cannot be seen.
    let is_visible = |path: &[u8]| {
        let above = mica_image::index::parent(path);
        above.is_empty() || shown.get(above).is_none_or(|(_, entry)| entry.is_directory())
    };
    shown.keys().all(|path| is_visible(path)).then_some(shown)
}

fn is_equal(a: &Entry, b: &Entry) -> bool {
    let attributes =
        |entry: &Entry| (entry.mode, entry.uid, entry.gid, entry.mtime.seconds, entry.mtime.nanoseconds);
    attributes(a) == attributes(b) && a.xattrs == b.xattrs && is_same_node(&a.node, &b.node)
}
