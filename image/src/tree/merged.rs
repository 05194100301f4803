//! Layers shown as one tree.
//!
//! The topmost layer that says anything about a path decides what is there. A directory is made of all layers down to the
//! first that is opaque, or has a removal or something else in its place. Which layers these are is remembered for each directory
//! asked about, so that a question costs one look into each layer that has a part in the parent directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::{FileTree, TreeEntry, TreeError, merge};
use crate::LayerId;
use crate::index::{Bytes, Entry, IndexError, LayerLookup, LayerPath, Lookup, Node, Time, parent};

/// Ordered layers, shown as one tree.
pub struct MergedTree {
    pub(super) layers: Vec<Layer>,
    views: RwLock<HashMap<LayerPath, Arc<View>>>,
}

/// One layer of a merged tree.
pub(super) struct Layer {
    id: LayerId,
    pub(super) lookup: Arc<dyn LayerLookup>,
    /// The inodes of several names, by their first name.
    groups: OnceLock<BTreeMap<LayerPath, Group>>,
}

/// An inode with several names in its layer.
struct Group {
    number: u64,
    /// All names but the first.
    others: Vec<LayerPath>,
    /// Whether the tree shows at least two of the names.
    is_shown: OnceLock<bool>,
}

/// The numbers of the layers that have a part in a directory, topmost first.
pub(super) type View = Vec<usize>;

/// What a tree has at a path.
#[derive(Debug)]
pub(super) enum Found<E> {
    Absent,
    Object { layer: usize, entry: E },
    Directory { attributes: Option<E>, view: View },
}

/// What one layer has at a path.
pub(super) enum Said<E> {
    Nothing,
    Implied,
    Entry(E),
}

impl MergedTree {
    /// Shows `layers`, which come from the base up.
    #[must_use]
    pub fn new(layers: Vec<(LayerId, Arc<dyn LayerLookup>)>) -> Self {
        let layers =
            layers.into_iter().map(|(id, lookup)| Layer { id, lookup, groups: OnceLock::new() }).collect();
        Self { layers, views: RwLock::default() }
    }

    /// Returns which layers have a part in the directory `path`, or `None` when there is no directory.
    pub(super) fn view(&self, path: &[u8]) -> Result<Option<Arc<View>>, TreeError> {
        let known = self.views.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Found::Directory { view, .. } = self.find(path)? else { return Ok(None) };
        let view = Arc::new(view);
        self.views.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_vec(), Arc::clone(&view));
        Ok(Some(view))
    }

    fn find(&self, path: &[u8]) -> Result<Found<Entry>, TreeError> {
        if path.is_empty() {
            let all: View = (0..self.layers.len()).rev().collect();
            return Ok(match self.find_among(path, &all)? {
                Found::Absent => Found::Directory { attributes: None, view: View::new() },
                found => found,
            });
        }
        match self.view(parent(path))? {
            Some(view) => self.find_among(path, &view),
            None => Ok(Found::Absent),
        }
    }

    fn find_among(&self, path: &[u8], view: &View) -> Result<Found<Entry>, TreeError> {
        decide(view, |layer| match self.layers[layer].ask(|lookup| lookup.lookup(path))? {
            Lookup::Absent => Ok(Said::Nothing),
            Lookup::Implied => Ok(Said::Implied),
            Lookup::Entry(entry) => Ok(Said::Entry(entry)),
        })
    }

    /// Makes the entry of a directory from that of the topmost layer that has one.
    pub(super) fn show_directory(path: &[u8], attributes: Option<Entry>) -> TreeEntry {
        let mut entry = attributes.unwrap_or_else(|| plain_directory(path));
        entry.node = Node::Directory { opaque: false };
        TreeEntry { entry: Arc::new(entry), link: None }
    }

    /// Makes of a layer's entry that is no directory what the tree shows.
    pub(super) fn show(&self, layer: usize, mut entry: Entry) -> Result<TreeEntry, TreeError> {
        let first = match &entry.node {
            Node::HardLink { target } => target.clone(),
            _ => entry.path.clone(),
        };
        if matches!(entry.node, Node::HardLink { .. }) {
            let target = self.layers[layer].ask(|lookup| lookup.entry(&first))?;
            entry.node = target.ok_or_else(|| self.layers[layer].damaged("a hard link has no target"))?.node;
        }
        let link = self.link(layer, &first)?;
        if let Node::File { bytes: bytes @ Bytes::Here, .. } = &mut entry.node {
            *bytes = Bytes::In { layer: self.layers[layer].id, path: first };
        }
        Ok(TreeEntry { entry: Arc::new(entry), link })
    }

    /// Returns the number of the inode whose first name in `layer` is `first`, if the tree shows several of its names.
    fn link(&self, layer: usize, first: &[u8]) -> Result<Option<u64>, TreeError> {
        let groups = self.layers[layer].groups(layer)?;
        let Some(group) = groups.get(first) else { return Ok(None) };
        let is_shown = match group.is_shown.get() {
            Some(known) => *known,
            None => {
                let is_shown = self.shows_several(layer, first, &group.others)?;
                *group.is_shown.get_or_init(|| is_shown)
            }
        };
        Ok(is_shown.then_some(group.number))
    }

    fn shows_several(&self, layer: usize, first: &[u8], others: &[LayerPath]) -> Result<bool, TreeError> {
        let mut shown = 0;
        for name in std::iter::once(first).chain(others.iter().map(|name| &name[..])) {
            shown +=
                usize::from(matches!(self.find(name)?, Found::Object { layer: found, .. } if found == layer));
            if shown == 2 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl FileTree for MergedTree {
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        match self.find(path)? {
            Found::Absent => Ok(None),
            Found::Directory { attributes, .. } => Ok(Some(Self::show_directory(path, attributes))),
            Found::Object { layer, entry } => self.show(layer, entry).map(Some),
        }
    }

    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let Some(view) = self.view(path)? else { return Ok(Vec::new()) };
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for &layer in view.iter() {
            for child in self.layers[layer].ask(|lookup| lookup.children(path))? {
                let is_there = child.entry.is_none_or(|entry| entry.node != Node::Whiteout);
                names.entry(child.name).or_insert(is_there);
            }
        }
        Ok(names.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect())
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
        merge::subtree(self, path)
    }
}

impl Layer {
    /// Asks the index; a failure names the layer.
    pub(super) fn ask<'a, T>(
        &'a self,
        question: impl FnOnce(&'a dyn LayerLookup) -> Result<T, IndexError>,
    ) -> Result<T, TreeError> {
        question(&*self.lookup).map_err(|error| match error {
            IndexError::Read { path, source } => {
                TreeError::Read { subject: path.display().to_string(), source }
            }
            other => self.damaged(&other.to_string()),
        })
    }

    fn damaged(&self, reason: &str) -> TreeError {
        TreeError::Damaged { subject: format!("layer {}", self.id), reason: reason.to_owned() }
    }

    fn groups(&self, number: usize) -> Result<&BTreeMap<LayerPath, Group>, TreeError> {
        if let Some(groups) = self.groups.get() {
            return Ok(groups);
        }
        let groups = self.ask(|lookup| find_groups(lookup, number))?;
        Ok(self.groups.get_or_init(|| groups))
    }
}

fn find_groups(lookup: &dyn LayerLookup, layer: usize) -> Result<BTreeMap<LayerPath, Group>, IndexError> {
    let mut names: BTreeMap<LayerPath, Vec<LayerPath>> = BTreeMap::new();
    for position in lookup.links()? {
        if let [Entry { path, node: Node::HardLink { target }, .. }] =
            &*lookup.entries_at(position..position + 1)?
        {
            names.entry(target.clone()).or_default().push(path.clone());
        }
    }
    let group = |(number, (first, others))| {
        let number = (layer as u64) << 32 | number as u64;
        (first, Group { number, others, is_shown: OnceLock::new() })
    };
    Ok(names.into_iter().enumerate().map(group).collect())
}

/// Decides what is at a path from what the layers of its parent directory, topmost first, say about it.
pub(super) fn decide<E: std::borrow::Borrow<Entry>>(
    layers: &View,
    mut ask: impl FnMut(usize) -> Result<Said<E>, TreeError>,
) -> Result<Found<E>, TreeError> {
    let mut attributes = None;
    let mut view = View::new();
    for &layer in layers {
        let entry = match ask(layer)? {
            Said::Nothing => continue,
            Said::Implied => {
                view.push(layer);
                continue;
            }
            Said::Entry(entry) => entry,
        };
        match entry.borrow().node {
            Node::Directory { opaque } => {
                view.push(layer);
                attributes.get_or_insert(entry);
                if opaque {
                    break;
                }
            }
            Node::Whiteout => break,
            _ if view.is_empty() => return Ok(Found::Object { layer, entry }),
            _ => break,
        }
    }
    Ok(match view.is_empty() {
        true => Found::Absent,
        false => Found::Directory { attributes, view },
    })
}

/// A directory that no layer has an entry for.
fn plain_directory(path: &[u8]) -> Entry {
    Entry {
        path: path.to_vec(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::UNSET,
        xattrs: BTreeMap::new(),
        node: Node::Directory { opaque: false },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{Model, arbitrary_layers, merged, universe};
    use super::*;
    use crate::index::LayerIndex;
    use crate::index::testing::{directory, file, hard_link, opaque, symlink, whiteout};

    fn tree(layers: Vec<Vec<Entry>>) -> MergedTree {
        merged(
            &layers.into_iter().map(|entries| LayerIndex::from_entries(entries).unwrap()).collect::<Vec<_>>(),
        )
    }

    fn paths(tree: &MergedTree) -> Vec<String> {
        let paths = tree.subtree(b"").unwrap().into_iter().map(|found| found.entry.path.clone());
        paths.map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn removals_and_opaque_directories_hide_what_is_below() {
        let base = vec![file("a/x", b"1"), file("a/y", b"2"), file("b/z", b"3"), file("c", b"4")];
        assert_eq!(paths(&tree(vec![base.clone(), vec![whiteout("a")]])), ["b", "b/z", "c"]);
        assert_eq!(
            paths(&tree(vec![base.clone(), vec![opaque("a"), file("a/n", b"")]])),
            ["a", "a/n", "b", "b/z", "c"]
        );
        assert_eq!(paths(&tree(vec![base.clone(), vec![whiteout("a/x")]])), ["a", "a/y", "b", "b/z", "c"]);
        assert_eq!(paths(&tree(vec![base, vec![opaque(""), file("n", b"")]])), ["n"]);
    }

    #[test]
    fn a_change_of_kind_starts_afresh() {
        let base = || vec![file("a/x", b"1"), file("b", b"2")];
        let over = tree(vec![base(), vec![symlink("a", "b"), directory("b"), file("b/n", b"")]]);
        assert_eq!(paths(&over), ["a", "b", "b/n"]);
        assert_eq!(over.entry(b"a/x").unwrap(), None);
        // The directory came back above the link: what was in it at first stays gone.
        let again = tree(vec![base(), vec![symlink("a", "b")], vec![file("a/n", b"")]]);
        assert_eq!(paths(&again), ["a", "a/n", "b"]);
        assert_eq!(*again.entry(b"a").unwrap().unwrap().entry, directory("a"));
    }

    #[test]
    fn an_implied_directory_has_the_attributes_of_the_layer_below() {
        let base = vec![Entry { mode: 0o700, uid: 3, ..directory("a") }];
        let over = tree(vec![base, vec![file("a/b/c", b"")]]);
        let shown = over.entry(b"a").unwrap().unwrap().entry;
        assert_eq!((shown.mode, shown.uid), (0o700, 3));
        assert_eq!(*over.entry(b"a/b").unwrap().unwrap().entry, directory("a/b"));
        assert_eq!(*over.entry(b"").unwrap().unwrap().entry, directory(""));
    }

    #[test]
    fn hard_links_show_their_file_while_a_second_name_is_shown() {
        let base = || vec![file("a", b"1"), hard_link("b", "a"), file("c", b"1")];
        let plain = tree(vec![base()]);
        let [a, b, c] = [b"a", b"b", b"c"].map(|path| plain.entry(path).unwrap().unwrap());
        assert!(a.link.is_some() && a.link == b.link && c.link.is_none());
        assert_eq!(a.entry.node, b.entry.node);
        let replaced = tree(vec![base(), vec![file("a", b"2")]]);
        let b = replaced.entry(b"b").unwrap().unwrap();
        assert_eq!(b.link, None);
        let Node::File { bytes: Bytes::In { path, .. }, .. } = &b.entry.node else { panic!("b is a file") };
        assert_eq!(path, b"a");
    }

    #[test]
    fn large_overlapping_layers_merge_whole() {
        let layer = |from: usize| {
            let name = |number: usize| format!("d{}/e{}/f{number}", number % 40, number % 900);
            let entries = (from..from + 20_000).map(|number| file(&name(number), b"x")).collect();
            LayerIndex::from_entries(entries).unwrap()
        };
        let tree = merged(&[layer(0), layer(15_000), layer(30_000)]);
        assert_eq!(
            tree.subtree(b"").unwrap().iter().filter(|found| !found.entry.is_directory()).count(),
            50_000
        );
    }

    proptest! {
        #[test]
        fn a_merged_tree_is_what_applying_the_layers_gives(layers in arbitrary_layers()) {
            let tree = merged(&layers);
            let model = Model::of(&layers);
            model.compare(tree.subtree(b"").unwrap().into_iter().collect())?;
            for path in universe() {
                let shown = tree.entry(&path).unwrap();
                prop_assert_eq!(shown.is_some(), model.has(&path), "{:?}", String::from_utf8_lossy(&path));
                prop_assert_eq!(tree.children(&path).unwrap(), model.children(&path));
                let below: Vec<_> = tree.subtree(b"").unwrap().into_iter()
                    .filter(|found| crate::index::is_below(&found.entry.path, &path)).collect();
                prop_assert_eq!(tree.subtree(&path).unwrap(), below);
                if let (Some(shown), false) = (shown, path.is_empty()) {
                    let listed = tree.subtree(b"").unwrap().into_iter().find(|found| found.entry.path == path);
                    prop_assert_eq!(Some(shown), listed);
                }
            }
        }
    }
}
