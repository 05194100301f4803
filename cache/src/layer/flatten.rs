//! Where the bytes of files lie: pointing straight at the layers that have them, and not at too many.

use std::collections::{BTreeMap, BTreeSet};

use mica_image::LayerId;
use mica_image::index::{Bytes, Entry, LayerIndex, LayerLookup as _, Node, RawFile, compare_paths};

use super::error::LayerError;
use super::store::LayerStore;

/// How many other layers may hold bytes of one layer's files.
pub const MAX_HOLDERS: usize = 8;

/// Rewrites every reference to another layer so that it names the layer that has the bytes itself; those layers are kept from now on.
pub(super) fn flatten(store: &LayerStore, mut index: LayerIndex) -> Result<LayerIndex, LayerError> {
    let mut pending = BTreeMap::new();
    for (position, entry) in index.entries.iter().enumerate() {
        if let Node::File { bytes: Bytes::In { layer, .. }, .. } = &entry.node {
            pending.entry(*layer).or_insert_with(Vec::new).push(position);
        }
    }
    // Every step leads to a layer that was made earlier, so this ends.
    while let Some((layer, positions)) = pending.pop_first() {
        for (position, next) in follow(store, &mut index.entries, layer, positions)? {
            pending.entry(next).or_insert_with(Vec::new).push(position);
        }
    }
    Ok(index)
}

/// Looks the files at `positions` up in the layer that is said to hold them. Returns those whose bytes are still elsewhere: they
/// name that place from now on.
fn follow(
    store: &LayerStore,
    entries: &mut [Entry],
    layer: LayerId,
    mut positions: Vec<usize>,
) -> Result<Vec<(usize, LayerId)>, LayerError> {
    let found = store.require(&layer)?;
    let raw = found.raw_index()?;
    let mut files = raw.files().map(|file| file.map_err(|source| found.index_error(source)));
    // Both in index order: the layer is gone through once, however many files it holds.
    positions.sort_by(|&a, &b| compare_paths(held_path(&entries[a]), held_path(&entries[b])));
    let mut next = files.next().transpose()?;
    let mut further = Vec::new();
    for position in positions {
        let entry = &mut entries[position];
        while next.is_some_and(|file| compare_paths(file.path, held_path(entry)).is_lt()) {
            next = files.next().transpose()?;
        }
        let place = match next.filter(|file| file.path == held_path(entry)) {
            Some(file) if is_content(entry, &file) => file.holder.map(|(layer, path)| (layer, path.to_vec())),
            Some(_) => return Err(not_held(entry, layer)),
            None => match found.index()?.entry(held_path(entry)).map_err(|error| found.index_error(error))? {
                Some(Entry { node: Node::HardLink { target }, .. }) => Some((layer, target)),
                _ => return Err(not_held(entry, layer)),
            },
        };
        if let (Some((layer, path)), Node::File { bytes, .. }) = (place, &mut entry.node) {
            *bytes = Bytes::In { layer, path };
            further.push((position, layer));
        }
    }
    Ok(further)
}

fn is_content(entry: &Entry, file: &RawFile<'_>) -> bool {
    matches!(&entry.node, Node::File { size, digest, .. } if (*size, *digest) == (file.size, file.digest))
}

fn not_held(entry: &Entry, holder: LayerId) -> LayerError {
    LayerError::NotHeld { path: held_path(entry).to_vec(), holder }
}

/// Returns where the bytes of a file lie in its holder.
fn held_path(entry: &Entry) -> &[u8] {
    match &entry.node {
        Node::File { bytes: Bytes::In { path, .. }, .. } => path,
        _ => &[],
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
