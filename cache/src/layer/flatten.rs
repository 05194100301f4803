//! Where the bytes of files lie: pointing straight at the layers that have them, and not at too many.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mica_image::index::{Bytes, LayerIndex, LayerPath, Node};
use mica_image::{FileDigest, LayerId};

use super::error::LayerError;
use super::store::LayerStore;

/// How many other layers may hold bytes of one layer's files.
pub const MAX_HOLDERS: usize = 8;

/// Rewrites every reference to another layer so that it names the layer that has the bytes itself; those layers are kept from now on.
pub(super) fn flatten(store: &LayerStore, mut index: LayerIndex) -> Result<LayerIndex, LayerError> {
    let mut loaded = HashMap::new();
    for entry in &mut index.entries {
        if let Node::File { size, digest, bytes: Bytes::In { layer, path } } = &mut entry.node {
            let found = find_bytes(store, &mut loaded, (*layer, path.clone()), (*size, *digest))?;
            (*layer, *path) = found;
        }
    }
    Ok(index)
}

fn find_bytes(
    store: &LayerStore,
    loaded: &mut HashMap<LayerId, LayerIndex>,
    (mut layer, mut path): (LayerId, LayerPath),
    wanted: (u64, FileDigest),
) -> Result<(LayerId, LayerPath), LayerError> {
    // Every step leads to a layer that was made earlier, so this ends.
    loop {
        let index = match loaded.entry(layer) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(store.require(&layer)?.load_index()?)
            }
        };
        match index.find(&path).map(|entry| &entry.node) {
            Some(Node::HardLink { target }) => path = target.clone(),
            Some(Node::File { size, digest, bytes }) if (*size, *digest) == wanted => match bytes {
                Bytes::Here => return Ok((layer, path)),
                Bytes::In { layer: next, path: there } => (layer, path) = (*next, there.clone()),
            },
            _ => return Err(LayerError::NotHeld { path, holder: layer }),
        }
    }
}

/// Returns the holders whose bytes must be copied in, so that no more than [`MAX_HOLDERS`] stay: those that hold least.
pub(super) fn surplus_holders(index: &LayerIndex) -> BTreeSet<LayerId> {
    let mut held: BTreeMap<LayerId, u64> = BTreeMap::new();
    for entry in &index.entries {
        if let Node::File { size, bytes: Bytes::In { layer, .. }, .. } = &entry.node {
            *held.entry(*layer).or_default() += size;
        }
    }
    let mut holders: Vec<_> = held.into_iter().collect();
    holders.sort_by_key(|(id, bytes)| (std::cmp::Reverse(*bytes), *id));
    holders.into_iter().skip(MAX_HOLDERS).map(|(id, _)| id).collect()
}

/// Files that some layers have, by content: what a new layer need not bring again.
#[derive(Debug, Default)]
pub struct Holdings {
    files: HashMap<FileDigest, (u64, LayerId, LayerPath)>,
}

impl LayerStore {
    /// Collects what the given layers hold; those that are not there (any more) hold nothing. Earlier ones win.
    pub fn holdings(&self, layers: &[LayerId]) -> Result<Holdings, LayerError> {
        let mut holdings = Holdings::default();
        for id in layers {
            let Some(layer) = self.get(id)? else { continue };
            for entry in layer.load_index()?.entries {
                if let Node::File { size, digest, bytes } = entry.node {
                    let (holder, path) = match bytes {
                        Bytes::Here => (*id, entry.path),
                        Bytes::In { layer, path } => (layer, path),
                    };
                    holdings.files.entry(digest).or_insert((size, holder, path));
                }
            }
        }
        Ok(holdings)
    }
}

impl Holdings {
    /// Returns where the bytes with this digest and length lie. Nothing is gained by looking for empty files.
    #[must_use]
    pub fn find(&self, digest: &FileDigest, size: u64) -> Option<(LayerId, LayerPath)> {
        let (held, layer, path) = self.files.get(digest)?;
        (*held == size && size > 0).then(|| (*layer, path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::file_in;

    #[test]
    fn the_holders_of_least_bytes_are_too_many() {
        let holder = |number: u8| LayerId::from_bytes([number; 32]);
        let entries = (0..10).map(|number| {
            let name = format!("f{number}");
            file_in(&name, &vec![b'x'; 10 + usize::from(number)], holder(number), b"g")
        });
        let index = LayerIndex::from_entries(entries.collect()).unwrap();
        assert_eq!(surplus_holders(&index), BTreeSet::from([holder(0), holder(1)]));
    }
}
