//! A whole tree as one layer.

use std::collections::HashMap;
use std::sync::Arc;

use super::{FileTree, TreeError};
use crate::index::{LayerIndex, LayerPath, Node};

impl LayerIndex {
    /// Makes one layer of all that `tree` shows, its root included; names of one inode become hard links.
    pub fn from_tree(tree: &dyn FileTree) -> Result<Self, TreeError> {
        let mut first_names: HashMap<u64, LayerPath> = HashMap::new();
        let mut entries = Vec::new();
        for mut found in tree.entry(b"")?.into_iter().chain(tree.subtree(b"")?) {
            if let Some(link) = found.link {
                match first_names.get(&link) {
                    Some(target) => {
                        Arc::make_mut(&mut found.entry).node = Node::HardLink { target: target.clone() };
                    }
                    None => drop(first_names.insert(link, found.entry.path.clone())),
                }
            }
            entries.push(Arc::unwrap_or_clone(found.entry));
        }
        Self::from_entries(entries)
            .map_err(|error| TreeError::Damaged { subject: "a tree".to_owned(), reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{arbitrary_layers, id, merged};
    use super::super::{MergedTree, TreeEntry};
    use super::*;
    use crate::index::Bytes;

    /// Entries without inode numbers, which differ, but with whether there is one.
    fn plain(found: Vec<TreeEntry>) -> Vec<(Arc<crate::index::Entry>, bool)> {
        found.into_iter().map(|found| (found.entry, found.link.is_some())).collect()
    }

    proptest! {
        #[test]
        fn the_layer_shows_what_the_tree_showed(layers in arbitrary_layers()) {
            let tree = merged(&layers);
            let flat = LayerIndex::from_tree(&tree).unwrap();
            let nothing_is_here = |node: &Node| !matches!(node, Node::File { bytes: Bytes::Here, .. });
            prop_assert!(flat.entries.iter().all(|entry| nothing_is_here(&entry.node)));
            let again = MergedTree::new(vec![(id(9), Arc::new(flat))]);
            prop_assert_eq!(plain(again.subtree(b"").unwrap()), plain(tree.subtree(b"").unwrap()));
            prop_assert_eq!(again.entry(b"").unwrap(), tree.entry(b"").unwrap());
        }
    }
}
