//! What a layer's tar does not tell of its index, so that who has the tar and this has the index.

use std::collections::BTreeSet;

use super::write::TarOptions;
use crate::index::{Entry, IndexError, LayerIndex, Node, TimeKind};

/// What is lost when an index is written as a tar: which times merely say “made now”, what clamping and whole seconds take from
/// the others, and the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remainder {
    /// How many entries, in index order, by turns merely were made now and have a time of their own.
    pub turns: Vec<u64>,
    /// Entries that the tar tells otherwise or not at all.
    pub entries: LayerIndex,
}

impl Remainder {
    /// Returns what the tar of `index` with these options does not tell.
    #[must_use]
    pub fn of(index: &LayerIndex, options: &TarOptions) -> Self {
        let mut turns = vec![0];
        let mut turn = TimeKind::Now;
        for entry in &index.entries {
            if entry.mtime.kind != turn {
                turn = entry.mtime.kind;
                turns.push(0);
            }
            *turns.last_mut().expect("it begins with one") += 1;
        }
        let lost = index.entries.iter().filter(|entry| is_lost(entry, options)).cloned().collect();
        let entries = LayerIndex { entries: lost };
        Self { turns, entries }
    }

    /// Returns the index whose tar was read as `told`; what does not fit together is an error or another index.
    pub fn complete(&self, told: LayerIndex) -> Result<LayerIndex, IndexError> {
        let mut entries = told.entries;
        let known: BTreeSet<_> = self.entries.entries.iter().map(|entry| &entry.path).collect();
        entries.retain(|entry| !known.contains(&entry.path));
        entries.extend(self.entries.entries.iter().cloned());
        let mut index = LayerIndex::from_entries(entries)?;
        let mut rest = index.entries.iter_mut();
        for (turn, count) in self.turns.iter().enumerate() {
            let kind = if turn % 2 == 0 { TimeKind::Now } else { TimeKind::Set };
            for _ in 0..*count {
                let entry = rest.next().ok_or(IndexError::Damaged("it has fewer entries than times"))?;
                entry.mtime.kind = kind;
            }
        }
        match rest.next() {
            None => Ok(index),
            Some(_) => Err(IndexError::Damaged("it has more entries than times")),
        }
    }
}

/// Hard links have the attributes of their first name, and removals none.
fn is_lost(entry: &Entry, options: &TarOptions) -> bool {
    let time = entry.mtime;
    let is_told = match (&entry.node, time.kind) {
        (Node::HardLink { .. } | Node::Whiteout, _) | (_, TimeKind::Now) => true,
        (_, TimeKind::Set) => time.nanoseconds == 0 && options.seconds(time) == time.seconds,
    };
    entry.path.is_empty() || !is_told
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{IndexOnly, TarLimits, read_layer, write_layer};
    use super::*;
    use crate::FileDigest;
    use crate::index::{Bytes, testing};

    /// As another store can take it.
    fn portable(mut index: LayerIndex) -> LayerIndex {
        for entry in &mut index.entries {
            if let Node::File { bytes, .. } = &mut entry.node {
                *bytes = Bytes::Here;
            }
        }
        index
    }

    fn content_of(entry: &Entry) -> Vec<u8> {
        let Node::File { digest, .. } = entry.node else { return Vec::new() };
        (0..4u8).map(|content| vec![content]).find(|content| FileDigest::of(content) == digest).unwrap()
    }

    proptest! {
        #[test]
        fn a_tar_and_its_remainder_are_the_layer(index in testing::arbitrary_index(), clamp in prop::option::of(0..3i64)) {
            let index = portable(index);
            let options = TarOptions { clamp };
            let mut tar = Vec::new();
            write_layer(&index, |entry| Ok(std::io::Cursor::new(content_of(entry))), &mut tar, &options).unwrap();
            let told = read_layer(&tar[..], &TarLimits::default(), &mut IndexOnly).unwrap();
            let again = Remainder::of(&index, &options).complete(told).unwrap();
            prop_assert_eq!(again.layer_id(), index.layer_id());
            let mut second = Vec::new();
            write_layer(&again, |entry| Ok(std::io::Cursor::new(content_of(entry))), &mut second, &options).unwrap();
            prop_assert_eq!(second, tar);
        }
    }

    #[test]
    fn times_of_another_layer_do_not_fit() {
        let index =
            LayerIndex::from_entries(vec![testing::file("a", b"x"), testing::file("b", b"y")]).unwrap();
        for turns in [vec![1], vec![3], vec![1, 2], vec![u64::MAX], vec![]] {
            let remainder = Remainder { turns, entries: LayerIndex::default() };
            assert!(remainder.complete(index.clone()).is_err());
        }
    }
}
