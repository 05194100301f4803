//! A merged tree by the book, for comparison: layers applied one after the other to a map.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::{MergedTree, TreeEntry};
use crate::LayerId;
use crate::index::testing::{arbitrary_index, directory};
use crate::index::{Bytes, Entry, LayerIndex, LayerLookup, LayerPath, Node, compare_paths, is_below, parent};

/// What is at each path, and the inode's identity: its layer and first name there.
pub(crate) struct Model(BTreeMap<LayerPath, (Entry, (usize, LayerPath))>);

pub(crate) fn id(layer: usize) -> LayerId {
    LayerId::from_bytes([layer as u8 + 100; 32])
}

pub(crate) fn merged(layers: &[LayerIndex]) -> MergedTree {
    let lookup = |layer: &LayerIndex| -> Arc<dyn LayerLookup> { Arc::new(layer.clone()) };
    MergedTree::new(layers.iter().enumerate().map(|(number, layer)| (id(number), lookup(layer))).collect())
}

pub(crate) fn arbitrary_layers() -> impl Strategy<Value = Vec<LayerIndex>> {
    prop::collection::vec(arbitrary_index(), 0..5)
}

/// Every path the generated layers may have.
pub(crate) fn universe() -> Vec<LayerPath> {
    let names = ["a", "b", "a-", "c"];
    let mut paths = vec![String::new()];
    for name in names {
        paths.push(name.to_owned());
        for second in names {
            paths.push(format!("{name}/{second}"));
            paths.extend(names.map(|third| format!("{name}/{second}/{third}")));
        }
    }
    paths.into_iter().map(String::into_bytes).collect()
}

impl Model {
    pub(crate) fn of(layers: &[LayerIndex]) -> Self {
        let mut model = Self(BTreeMap::new());
        for (number, layer) in layers.iter().enumerate() {
            layer.entries.iter().for_each(|entry| model.hide(entry));
            layer.entries.iter().for_each(|entry| model.add(number, layer, entry));
        }
        model
    }

    fn hide(&mut self, entry: &Entry) {
        let existing = self.0.get(&entry.path).is_some_and(|(below, _)| below.is_directory());
        let replaces = !entry.is_directory() || !existing;
        let empties = replaces || entry.node == Node::Directory { opaque: true };
        self.0.retain(|path, _| !(replaces && *path == entry.path || empties && is_below(path, &entry.path)));
    }

    fn add(&mut self, number: usize, layer: &LayerIndex, entry: &Entry) {
        let mut above = parent(&entry.path).to_vec();
        while !above.is_empty() {
            if !self.0.get(&above).is_some_and(|(entry, _)| entry.is_directory()) {
                let plain = directory(std::str::from_utf8(&above).unwrap());
                self.0.insert(above.clone(), (plain, (number, above.clone())));
            }
            above = parent(&above).to_vec();
        }
        // A removal too needs its directory: it lies there, in a layer's files as in its tar.
        if entry.node == Node::Whiteout {
            return;
        }
        let (mut entry, mut first) = (entry.clone(), entry.path.clone());
        if let Node::HardLink { target } = &entry.node {
            first = target.clone();
            entry.node = layer.find(&first).unwrap().node.clone();
        }
        match &mut entry.node {
            Node::Directory { opaque } => *opaque = false,
            Node::File { bytes: bytes @ Bytes::Here, .. } => {
                *bytes = Bytes::In { layer: id(number), path: first.clone() };
            }
            _ => {}
        }
        self.0.insert(entry.path.clone(), (entry, (number, first)));
    }

    pub(crate) fn has(&self, path: &[u8]) -> bool {
        path.is_empty() || self.0.contains_key(path)
    }

    pub(crate) fn children(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let below = self.0.keys().filter(|path| is_below(path, directory) && parent(path) == directory);
        below.map(|path| crate::index::name(path).to_vec()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Compares everything but the root with `shown`.
    pub(crate) fn compare(&self, shown: Vec<TreeEntry>) -> Result<(), TestCaseError> {
        let mut expected: Vec<_> = self.0.values().filter(|(entry, _)| !entry.path.is_empty()).collect();
        expected.sort_by(|a, b| compare_paths(&a.0.path, &b.0.path));
        prop_assert_eq!(
            shown.iter().map(|found| &*found.entry).collect::<Vec<_>>(),
            expected.iter().map(|(entry, _)| entry).collect::<Vec<_>>()
        );
        let mut names: HashMap<_, usize> = HashMap::new();
        expected.iter().for_each(|(_, inode)| *names.entry(inode).or_default() += 1);
        let mut numbers = HashMap::new();
        for ((_, inode), found) in expected.iter().zip(&shown) {
            prop_assert_eq!(found.link.is_some(), names[&inode] > 1, "{:?}", inode);
            if let Some(number) = found.link {
                prop_assert_eq!(numbers.entry(number).or_insert(inode), &inode);
            }
        }
        Ok(())
    }
}
