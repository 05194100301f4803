//! How layers are shown to a step: as directories for overlayfs, topmost first.
//!
//! A layer that has all of its bytes is its own directory. One whose bytes partly lie elsewhere is shown as its directory on top of
//! those of its holders, if by the indexes that shows exactly what the layer has: nothing below may be deleted, retyped or different
//! in any attribute. Otherwise it is written whole, once, into `full/`.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::path::PathBuf;

use mica_image::LayerId;
use mica_image::index::{Entry, LayerIndex, LayerPath, Node, RawIndex};
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
        let mut parts = vec![self.part(layer)?];
        for holder in self.ordered_holders(layer)? {
            parts.push(self.part(&holder)?);
        }
        let Some(shown) = shown(&parts)? else { return Ok(None) };
        // A holder of which nothing can be seen is not needed.
        let seen = parts.into_iter().zip(shown).filter(|(_, count)| *count > 0);
        Ok(Some(seen.map(|(part, _)| part.layer.id()).collect()))
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
        let present = match layer.meta().holders.is_empty() {
            true => None,
            false => Some(self.present(layer)?),
        };
        Ok(Part { layer: layer.clone(), index: layer.raw_index()?, present })
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
    layer: Layer,
    index: RawIndex,
    /// The paths that are there, where those are not all of the layer.
    present: Option<HashSet<LayerPath>>,
}

type Entries<'a> = Peekable<Box<dyn Iterator<Item = Result<Entry, LayerError>> + 'a>>;

impl Part {
    /// Reads what the layer has, in order.
    fn all(&self) -> Entries<'_> {
        let entries =
            self.index.entries().map(|entry| entry.map_err(|source| self.layer.index_error(source)));
        (Box::new(entries) as Box<dyn Iterator<Item = _>>).peekable()
    }

    /// Reads what of it the directory shows, in order.
    fn shown(&self) -> Entries<'_> {
        let is_there = |entry: &Entry| self.present.as_ref().is_none_or(|paths| paths.contains(&entry.path));
        let entries = self.all().filter(move |entry| entry.as_ref().map_or(true, is_there));
        (Box::new(entries) as Box<dyn Iterator<Item = _>>).peekable()
    }

    /// Returns what hard links of the directory lead to.
    fn targets(&self) -> Result<Vec<LayerPath>, LayerError> {
        let mut targets = Vec::new();
        for entry in self.shown().take(if self.index.has_links() { usize::MAX } else { 0 }) {
            if let Node::HardLink { target } = entry?.node {
                targets.push(target);
            }
        }
        Ok(targets)
    }
}

/// Tells whether the parts, topmost first, show exactly what the layer of the first of them has; if so, returns how many entries
/// each directory has.
///
/// All are read in order, side by side: at every path of the layer the topmost directory that has it shows just the layer's entry,
/// and nobody shows any other path.
fn shown(parts: &[Part]) -> Result<Option<Vec<usize>>, LayerError> {
    let Some(top) = parts.first() else { return Ok(None) };
    let mut links = Links::default();
    for part in parts {
        links.providers.extend(part.targets()?.into_iter().map(|target| (target, None)));
    }
    let mut counts = vec![0; parts.len()];
    let mut open: Vec<Entries<'_>> = parts.iter().map(Part::shown).collect();
    let mut all = top.all();
    loop {
        // What is of no interest: the root belongs to whatever is mounted there.
        let wanted = next_if(&mut all, |entry| entry.path.is_empty())?;
        let wanted = match wanted {
            Some(root) if !is_plain(&root) => return Ok(None),
            Some(_) => continue,
            None => all.next().transpose()?,
        };
        let mut shown: Option<Entry> = None;
        for (number, (entries, count)) in open.iter_mut().zip(&mut counts).enumerate() {
            if let Some(root) = next_if(entries, |entry| entry.path.is_empty())? {
                *count += 1;
                if !is_plain(&root) {
                    return Ok(None);
                }
            }
            let is_here = |entry: &Entry| wanted.as_ref().is_some_and(|wanted| wanted.path == entry.path);
            let Some(entry) = next_if(entries, is_here)? else { continue };
            *count += 1;
            let is_covered = shown.is_some();
            if !is_plain(&entry) || !links.are_whole(&entry, number, is_covered) {
                return Ok(None);
            }
            match &shown {
                Some(above) if above.is_directory() != entry.is_directory() => return Ok(None),
                Some(_) => {}
                None => shown = Some(entry),
            }
        }
        match (wanted, shown) {
            (Some(wanted), Some(shown)) if is_plain(&wanted) && is_equal(&wanted, &shown) => {}
            (Some(_), _) => return Ok(None),
            (None, _) => break,
        }
    }
    // Whatever is left is shown and should not be.
    for entries in &mut open {
        if entries.next().transpose()?.is_some() {
            return Ok(None);
        }
    }
    // Objects may be there that no index has.
    let is_known =
        |(part, count): (&Part, &usize)| part.present.as_ref().is_none_or(|paths| paths.len() <= *count);
    Ok(parts.iter().zip(&counts).all(is_known).then_some(counts))
}

/// Takes the next entry if it is wanted.
fn next_if(
    entries: &mut Entries<'_>,
    is_wanted: impl FnOnce(&Entry) -> bool,
) -> Result<Option<Entry>, LayerError> {
    match entries.peek() {
        Some(Ok(entry)) if !is_wanted(entry) => Ok(None),
        None => Ok(None),
        Some(_) => entries.next().transpose(),
    }
}

/// Neither hides nor removes what is below.
fn is_plain(entry: &Entry) -> bool {
    !matches!(entry.node, Node::Whiteout | Node::Directory { opaque: true })
}

/// A name of an inode that another directory hides would leave its number of links wrong: all names have to be shown by one directory.
#[derive(Default)]
struct Links {
    /// What hard links lead to, and which directory shows it.
    providers: HashMap<LayerPath, Option<usize>>,
}

impl Links {
    /// Takes notice of an entry of the directory with this number; false if links are hidden.
    fn are_whole(&mut self, entry: &Entry, number: usize, is_covered: bool) -> bool {
        if let Some(provider) = self.providers.get_mut(&entry.path) {
            provider.get_or_insert(number);
        }
        match &entry.node {
            Node::HardLink { target } => {
                !is_covered && self.providers.get(target).copied().flatten() == Some(number)
            }
            _ => true,
        }
    }
}

fn is_equal(a: &Entry, b: &Entry) -> bool {
    let attributes =
        |entry: &Entry| (entry.mode, entry.uid, entry.gid, entry.mtime.seconds, entry.mtime.nanoseconds);
    attributes(a) == attributes(b) && a.xattrs == b.xattrs && is_same_node(&a.node, &b.node)
}
