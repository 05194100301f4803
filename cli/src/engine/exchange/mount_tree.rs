//! What is in a cache mount that travels, and how the work of several writers becomes one.
//!
//! Each entry remembers in which generation it was written. Of several trees nobody has joined yet, each path has the version of the
//! latest generation; a writer that started from a tree changes of it what it changed, and nothing else. So paths that only one
//! writer wrote all survive, and of a path both wrote one whole version does.

use std::collections::{BTreeMap, BTreeSet};

use mica_image::index::{Bytes, Entry, LayerIndex, LayerPath, Node, compare_paths, is_below, parent};
use mica_image::{FileDigest, LayerId};

/// The entries of a mount. Bytes of files are [`Bytes::In`] a pack, or [`Bytes::Here`] in the directory that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountTree(BTreeMap<LayerPath, Written>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    entry: Entry,
    generation: u32,
}

/// Where the bytes with a digest lie: the pack, and the name in it.
pub(super) type Packed = (LayerId, LayerPath);

impl MountTree {
    /// Joins trees whose writers did not know each other; of equal generations the later one wins.
    pub(super) fn union(trees: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::default();
        for tree in trees {
            for (path, written) in tree.0 {
                let known = joined.0.get(&path).map_or(0, |known| known.generation);
                if written.generation >= known {
                    joined.0.insert(path, written);
                }
            }
        }
        joined.settle()
    }

    /// Returns what becomes of this tree when a writer who started from `base` leaves `now`.
    pub(super) fn advance(&self, base: &Self, now: LayerIndex, generation: u32) -> Self {
        let is_new =
            |entry: &Entry| base.0.get(&entry.path).is_none_or(|before| !is_equal(&before.entry, entry));
        let mut written: BTreeSet<LayerPath> = BTreeSet::new();
        for entry in now.entries.iter().filter(|entry| is_new(entry)) {
            let mut path: &[u8] = &entry.path;
            // What a new entry lies in must be there, whatever others made of it.
            while !path.is_empty() && written.insert(path.to_vec()) {
                path = parent(path);
            }
        }
        let here: BTreeSet<&LayerPath> = now.entries.iter().map(|entry| &entry.path).collect();
        let was_removed = |path: &LayerPath, theirs: &Written| {
            base.0.get(path).is_some_and(|before| before == theirs) && !here.contains(path)
        };
        let mut next = self.0.clone();
        next.retain(|path, theirs| !was_removed(path, theirs));
        for entry in now.entries.into_iter().filter(|entry| written.contains(&entry.path)) {
            if next.get(&entry.path).is_some_and(|theirs| is_equal(&theirs.entry, &entry)) {
                continue;
            }
            if !entry.is_directory() {
                next.retain(|path, _| !is_below(path, &entry.path));
            }
            next.insert(entry.path.clone(), Written { entry, generation });
        }
        Self(next).settle()
    }

    /// Drops what lies in something that is no directory.
    fn settle(mut self) -> Self {
        let mut entries: Vec<_> = self.0.keys().cloned().collect();
        entries.sort_by(|a, b| compare_paths(a, b));
        let mut obstacle: Option<LayerPath> = None;
        for path in entries {
            if obstacle.as_ref().is_some_and(|above| is_below(&path, above)) {
                self.0.remove(&path);
            } else if !self.0[&path].entry.is_directory() {
                obstacle = Some(path);
            }
        }
        self
    }

    /// Returns where files lie that are packed already.
    pub(super) fn packed(&self) -> BTreeMap<FileDigest, Packed> {
        let place = |written: &Written| match &written.entry.node {
            Node::File { digest, bytes: Bytes::In { layer, path }, .. } => {
                Some((*digest, (*layer, path.clone())))
            }
            _ => None,
        };
        self.0.values().filter_map(place).collect()
    }

    /// Points files of the directory at packs; returns those that are in none, which go into one named by their digests.
    pub(super) fn point(&mut self, known: &BTreeMap<FileDigest, Packed>) -> BTreeMap<FileDigest, Entry> {
        let mut new = BTreeMap::new();
        for written in self.0.values_mut() {
            let path = written.entry.path.clone();
            let Node::File { digest, bytes, .. } = &mut written.entry.node else { continue };
            if *bytes != Bytes::Here {
                continue;
            }
            match known.get(digest) {
                Some((layer, path)) => *bytes = Bytes::In { layer: *layer, path: path.clone() },
                None => {
                    let digest = *digest;
                    new.entry(digest).or_insert_with(|| Entry { path, ..written.entry.clone() });
                }
            }
        }
        new
    }

    /// Returns the packs that hold its files.
    pub(super) fn packs(&self) -> BTreeSet<LayerId> {
        self.packed().into_values().map(|(pack, _)| pack).collect()
    }

    /// Returns its entries as an index.
    pub(super) fn index(&self) -> LayerIndex {
        let mut entries: Vec<Entry> = self.0.values().map(|written| written.entry.clone()).collect();
        entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
        LayerIndex { entries }
    }

    /// Returns its bytes: the length of the index, the index, and the generation of each entry.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let index = self.index();
        let encoded = index.encode();
        let mut bytes = (encoded.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&encoded);
        for entry in &index.entries {
            bytes.extend_from_slice(&self.0[&entry.path].generation.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] made; `None` for anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (index, generations) = rest.split_at_checked(length)?;
        let index = LayerIndex::decode(index).ok()?;
        let (generations, []) = generations.as_chunks() else { return None };
        if generations.len() != index.entries.len() {
            return None;
        }
        let written = index.entries.into_iter().zip(generations).map(|(entry, generation)| {
            (entry.path.clone(), Written { entry, generation: u32::from_le_bytes(*generation) })
        });
        Some(Self(written.collect()))
    }
}

/// Whether two entries are the same wherever their bytes lie. A directory changes with what is in it, so its time says nothing.
fn is_equal(a: &Entry, b: &Entry) -> bool {
    let attributes = |entry: &Entry| (entry.mode, entry.uid, entry.gid);
    let times = |entry: &Entry| (entry.mtime.seconds, entry.mtime.nanoseconds);
    let nodes = match (&a.node, &b.node) {
        (Node::File { size, digest, .. }, Node::File { size: other_size, digest: other, .. }) => {
            (size, digest) == (other_size, other)
        }
        (Node::Directory { .. }, Node::Directory { .. }) => true,
        (a, b) => a == b,
    };
    let is_directory = a.is_directory();
    nodes && attributes(a) == attributes(b) && a.xattrs == b.xattrs && (is_directory || times(a) == times(b))
}

#[cfg(test)]
mod tests {
    use mica_image::index::{Time, TimeKind};

    use super::*;

    fn entry(path: &str, node: Node) -> Entry {
        let mtime = Time { seconds: 5, nanoseconds: 0, kind: TimeKind::Set };
        let path = path.as_bytes().to_vec();
        Entry { path, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new(), node }
    }

    /// `a=x` is a file, `d/` a directory.
    fn index(words: &[&str]) -> LayerIndex {
        let entries = words.iter().map(|word| match word.split_once('=') {
            Some((path, content)) => {
                let (size, digest) = (content.len() as u64, FileDigest::of(content.as_bytes()));
                entry(path, Node::File { size, digest, bytes: Bytes::Here })
            }
            None => entry(word.trim_end_matches('/'), Node::Directory { opaque: false }),
        });
        LayerIndex::from_entries(entries.collect()).unwrap()
    }

    fn tree(words: &[&str], generation: u32) -> MountTree {
        MountTree::default().advance(&MountTree::default(), index(words), generation)
    }

    fn assert_is(found: &MountTree, words: &[&str]) {
        assert_eq!(found.index(), index(words));
    }

    #[test]
    fn what_only_one_wrote_survives() {
        let base = tree(&["a=1", "b=1", "gone=1"], 1);
        let (first, second) = (
            base.advance(&base, index(&["a=2", "b=1", "new=1", "gone=1"]), 2),
            base.advance(&base, index(&["a=1", "b=2", "other=1"]), 2),
        );
        let joined = ["a=2", "b=2", "new=1", "other=1", "gone=1"];
        assert_is(&MountTree::union([first.clone(), second.clone()]), &joined);
        assert_is(&MountTree::union([second, first.clone()]), &joined);
        // One after the other: what is gone stays gone.
        let after = first.advance(&base, index(&["a=1", "b=2", "other=1"]), 3);
        assert_is(&after, &["a=2", "b=2", "new=1", "other=1"]);
    }

    #[test]
    fn of_a_path_both_wrote_one_whole_version_survives() {
        let base = tree(&["a=1"], 1);
        let first = base.advance(&base, index(&["a=one"]), 2);
        let second = base.advance(&base, index(&["a=two"]), 2);
        assert_is(&MountTree::union([first.clone(), second]), &["a=two"]);
        assert_is(&first.advance(&base, index(&["a=later"]), 3), &["a=later"]);
    }

    #[test]
    fn a_file_where_another_made_a_directory() {
        let base = tree(&["a=1"], 1);
        let file = base.advance(&base, index(&["a=1", "p=1"]), 2);
        let directory = base.advance(&base, index(&["a=1", "p/", "p/x=1"]), 2);
        assert_is(&file.advance(&base, index(&["a=1", "p/", "p/x=1"]), 3), &["a=1", "p/", "p/x=1"]);
        assert_is(&directory.advance(&base, index(&["a=1", "p=1"]), 3), &["a=1", "p=1"]);
        assert_is(&MountTree::union([directory, file]), &["a=1", "p=1"]);
    }

    #[test]
    fn one_that_knew_nothing_only_adds() {
        let theirs = tree(&["a=1", "b=1"], 4);
        assert_is(&theirs.advance(&MountTree::default(), index(&["b=2", "c=1"]), 5), &["a=1", "b=2", "c=1"]);
    }

    #[test]
    fn bytes_come_back_and_nonsense_does_not() {
        let tree = tree(&["a=1", "d/", "d/b=2"], 7);
        let bytes = tree.to_bytes();
        assert_eq!(MountTree::parse(&bytes), Some(tree));
        for cut in 0..bytes.len() {
            assert_eq!(MountTree::parse(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_packed_is_not_packed_again() {
        let mut tree = tree(&["a=1", "b=1", "c=2"], 1);
        let pack = LayerId::from_bytes([1; 32]);
        let known = BTreeMap::from([(FileDigest::of(b"2"), (pack, b"x".to_vec()))]);
        let new = tree.point(&known);
        assert_eq!(new.keys().collect::<Vec<_>>(), [&FileDigest::of(b"1")]);
        assert_eq!(tree.packs(), BTreeSet::from([pack]));
    }
}
