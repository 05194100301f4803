//! An index in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::path::{compare_paths, is_below, is_valid_path, shown};
use super::{Bytes, Entry, LayerPath, Node, Time};
use crate::LayerId;

/// The entries of one layer, sorted by [`compare_paths`], each path once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerIndex {
    /// The entries in order.
    pub entries: Vec<Entry>,
}

/// Entries that make no layer, or an index that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A path is absolute, has empty, `.` or `..` components, or a NUL.
    #[error("`{}` is no path inside a layer", String::from_utf8_lossy(path))]
    Path {
        /// The path as it came.
        path: LayerPath,
    },
    /// A path occurs twice.
    #[error("`{}` occurs twice in a layer", shown(path))]
    Duplicate {
        /// The path.
        path: LayerPath,
    },
    /// Something lies below what is no directory.
    #[error("`{}` lies in `{}`, which is no directory", shown(path), shown(parent))]
    Parent {
        /// The entry below.
        path: LayerPath,
        /// What should be a directory.
        parent: LayerPath,
    },
    /// A hard link does not point to an earlier file of the layer.
    #[error("the hard link `{}` to `{}` {problem}", shown(path), shown(target))]
    Link {
        /// The link.
        path: LayerPath,
        /// What it links to.
        target: LayerPath,
        /// What is wrong.
        problem: &'static str,
    },
    /// Mode or time is out of range, or the root is no directory.
    #[error("`{}` {problem}", shown(path))]
    Attribute {
        /// The entry.
        path: LayerPath,
        /// What is wrong.
        problem: &'static str,
    },
    /// The bytes are no index.
    #[error("a layer index is damaged: {0}")]
    Damaged(&'static str),
    /// The bytes are an index of another version.
    #[error("a layer index has format version {0}, this mica knows version {known}", known = super::encoding::VERSION)]
    Version(u32),
    /// The file cannot be read.
    #[error("cannot read the layer index `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LayerIndex {
    /// Makes an index of `entries`, which may come in any order.
    ///
    /// What carries no meaning is set to one value, so that equal layers are equal: a whiteout has no attributes, and a
    /// hard link has those of its first name.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, IndexError> {
        entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
        let mut index = Self { entries };
        index.check_paths()?;
        index.check_links()?;
        index.normalise();
        Ok(index)
    }

    /// Returns the position of the entry at `path`.
    #[must_use]
    pub fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare_paths(&entry.path, path)).ok()
    }

    /// Returns the entry at `path`.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|position| &self.entries[position])
    }

    /// Returns the positions of all entries below the directory `directory`, itself left out.
    #[must_use]
    pub fn range_below(&self, directory: &[u8]) -> Range<usize> {
        let start = self.entries.partition_point(|entry| compare_paths(&entry.path, directory).is_le());
        let length = self.entries[start..].partition_point(|entry| is_below(&entry.path, directory));
        start..start + length
    }

    /// Returns the other layers that hold bytes of this one's files.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<LayerId> {
        self.entries.iter().filter_map(holder).collect()
    }

    /// Checks what [`Self::from_entries`] promises, without changing anything.
    pub(super) fn check(&self) -> Result<(), IndexError> {
        self.check_paths()?;
        self.check_links()?;
        let normal = |entry: &Entry| match &entry.node {
            Node::Whiteout => has_attributes_of(entry, &bare(&entry.path)),
            Node::HardLink { target } => {
                self.find(target).is_some_and(|first| has_attributes_of(entry, first))
            }
            _ => true,
        };
        match self.entries.iter().all(normal) {
            true => Ok(()),
            false => Err(IndexError::Damaged("attributes without meaning are set")),
        }
    }

    fn check_paths(&self) -> Result<(), IndexError> {
        for entry in &self.entries {
            check_entry(entry)?;
        }
        for pair in self.entries.windows(2) {
            let (before, entry) = (&pair[0], &pair[1]);
            match compare_paths(&before.path, &entry.path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(IndexError::Duplicate { path: entry.path.clone() }),
                std::cmp::Ordering::Greater => return Err(IndexError::Damaged("entries are out of order")),
            }
            // A subtree is contiguous, so only the entry just before can be the offending parent.
            if !before.is_directory() && is_below(&entry.path, &before.path) {
                return Err(IndexError::Parent { path: entry.path.clone(), parent: before.path.clone() });
            }
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), IndexError> {
        for (position, entry) in self.entries.iter().enumerate() {
            let Node::HardLink { target } = &entry.node else { continue };
            let problem = match self.position(target) {
                None => "has no target in its layer",
                Some(first) if first >= position => "comes before its target",
                Some(first) => match self.entries[first].node {
                    Node::Directory { .. } => "points to a directory",
                    Node::HardLink { .. } => "points to another hard link",
                    Node::Whiteout => "points to a removal",
                    _ => continue,
                },
            };
            return Err(IndexError::Link { path: entry.path.clone(), target: target.clone(), problem });
        }
        Ok(())
    }

    fn normalise(&mut self) {
        for position in 0..self.entries.len() {
            match &self.entries[position].node {
                Node::Whiteout => {
                    let entry = &mut self.entries[position];
                    *entry = bare(&entry.path);
                }
                Node::HardLink { target } => {
                    let first = self.position(target).expect("checked: the target is an earlier entry");
                    let (before, rest) = self.entries.split_at_mut(position);
                    copy_attributes(&before[first], &mut rest[0]);
                }
                _ => {}
            }
        }
    }
}

fn copy_attributes(from: &Entry, to: &mut Entry) {
    (to.mode, to.uid, to.gid, to.mtime) = (from.mode, from.uid, from.gid, from.mtime);
    to.xattrs.clone_from(&from.xattrs);
}

fn has_attributes_of(entry: &Entry, other: &Entry) -> bool {
    let attributes = |entry: &Entry| (entry.mode, entry.uid, entry.gid, entry.mtime);
    attributes(entry) == attributes(other) && entry.xattrs == other.xattrs
}

/// A whiteout as every index has it.
fn bare(path: &[u8]) -> Entry {
    Entry {
        path: path.to_vec(),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::UNSET,
        xattrs: BTreeMap::new(),
        node: Node::Whiteout,
    }
}

fn check_entry(entry: &Entry) -> Result<(), IndexError> {
    if !is_valid_path(&entry.path) {
        return Err(IndexError::Path { path: entry.path.clone() });
    }
    let problem = if entry.mode & !0o7777 != 0 {
        "has a mode beyond 07777"
    } else if entry.mtime.nanoseconds >= 1_000_000_000 {
        "has a time with a second or more of nanoseconds"
    } else if entry.path.is_empty() && !entry.is_directory() {
        "is no directory"
    } else {
        return check_holder_path(entry);
    };
    Err(IndexError::Attribute { path: entry.path.clone(), problem })
}

fn check_holder_path(entry: &Entry) -> Result<(), IndexError> {
    match &entry.node {
        Node::File { bytes: Bytes::In { path, .. }, .. } if path.is_empty() || !is_valid_path(path) => {
            Err(IndexError::Path { path: path.clone() })
        }
        _ => Ok(()),
    }
}

fn holder(entry: &Entry) -> Option<LayerId> {
    match &entry.node {
        Node::File { bytes: Bytes::In { layer, .. }, .. } => Some(*layer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{directory, file, hard_link, whiteout};
    use super::*;

    fn error(entries: Vec<Entry>) -> String {
        LayerIndex::from_entries(entries).expect_err("these entries make no layer").to_string()
    }

    #[test]
    fn entries_that_make_no_layer() {
        assert_eq!(error(vec![file("/a", b"")]), "`/a` is no path inside a layer");
        assert_eq!(error(vec![file("a", b""), file("a", b"")]), "`/a` occurs twice in a layer");
        assert_eq!(
            error(vec![file("a/b", b""), file("a", b"")]),
            "`/a/b` lies in `/a`, which is no directory"
        );
        assert_eq!(
            error(vec![whiteout("a"), directory("a/b")]),
            "`/a/b` lies in `/a`, which is no directory"
        );
        assert_eq!(error(vec![file("", b"")]), "`/` is no directory");
        assert_eq!(error(vec![Entry { mode: 0o10_000, ..file("a", b"") }]), "`/a` has a mode beyond 07777");
    }

    #[test]
    fn links_that_lead_nowhere() {
        let to = |entries: Vec<Entry>| error(entries.into_iter().chain([hard_link("m", "a")]).collect());
        assert_eq!(to(vec![]), "the hard link `/m` to `/a` has no target in its layer");
        assert_eq!(to(vec![directory("a")]), "the hard link `/m` to `/a` points to a directory");
        assert_eq!(to(vec![whiteout("a")]), "the hard link `/m` to `/a` points to a removal");
        assert_eq!(
            error(vec![file("z", b""), hard_link("m", "z")]),
            "the hard link `/m` to `/z` comes before its target"
        );
        let chain = vec![file("0", b""), hard_link("a", "0"), hard_link("m", "a")];
        assert_eq!(error(chain), "the hard link `/m` to `/a` points to another hard link");
    }

    #[test]
    fn attributes_without_meaning_get_one_value() {
        let odd = Entry { mode: 0o600, uid: 7, ..whiteout("w") };
        let link = Entry { mode: 0, gid: 9, ..hard_link("m", "f") };
        let index = LayerIndex::from_entries(vec![link, odd, file("f", b"x")]).unwrap();
        assert_eq!(index.find(b"w"), Some(&whiteout("w")));
        assert_eq!(index.find(b"m").unwrap().mode, index.find(b"f").unwrap().mode);
        assert_eq!(index.find(b"m").unwrap().gid, index.find(b"f").unwrap().gid);
    }

    #[test]
    fn a_subtree_is_a_range() {
        let paths = ["a", "a/x", "a/x/y", "a-b", "b/c"];
        let index = LayerIndex::from_entries(paths.iter().map(|path| directory(path)).collect()).unwrap();
        assert_eq!(index.range_below(b"a"), 1..3);
        assert_eq!(index.range_below(b"b"), 4..5);
        assert_eq!(index.range_below(b""), 0..5);
        assert!(index.range_below(b"zz").is_empty());
    }
}
