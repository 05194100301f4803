//! Questions to an index, wherever it lies.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::path::{compare_paths, is_below};
use super::{Entry, IndexError, LayerIndex, LayerPath, Node};
use crate::LayerId;

/// An index that can be searched: in memory or on disk.
pub trait LayerLookup: Send + Sync {
    /// Returns how many entries there are.
    fn count(&self) -> usize;

    /// Returns the path of the entry at `position`, which is below [`Self::count`].
    fn path_at(&self, position: usize) -> Result<Cow<'_, [u8]>, IndexError>;

    /// Returns the entries at `positions`, which end at or before [`Self::count`].
    fn entries_at(&self, positions: Range<usize>) -> Result<Cow<'_, [Entry]>, IndexError>;

    /// Returns the positions of all hard links.
    fn links(&self) -> Result<Vec<usize>, IndexError>;

    /// Returns the other layers that hold bytes of this one's files.
    fn holders(&self) -> Result<BTreeSet<LayerId>, IndexError>;

    /// Returns what the layer says about exactly `path`.
    fn lookup(&self, path: &[u8]) -> Result<Lookup, IndexError> {
        let position = partition(self, 0, |other| compare_paths(other, path).is_lt())?;
        if position == self.count() {
            return Ok(Lookup::Absent);
        }
        let found = self.path_at(position)?;
        if *found == *path {
            return Ok(Lookup::Entry(only(self.entries_at(position..position + 1)?)));
        }
        Ok(if is_below(&found, path) { Lookup::Implied } else { Lookup::Absent })
    }

    /// Returns the entry at `path`.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, IndexError> {
        match self.lookup(path)? {
            Lookup::Entry(entry) => Ok(Some(entry)),
            Lookup::Implied | Lookup::Absent => Ok(None),
        }
    }

    /// Returns the positions of all entries below `directory`.
    fn range_below(&self, directory: &[u8]) -> Result<Range<usize>, IndexError> {
        let start = partition(self, 0, |other| compare_paths(other, directory).is_le())?;
        Ok(start..gallop(self, start, |other| is_below(other, directory))?)
    }

    /// Returns what the layer has directly in `directory`, sorted by the bytes of the names.
    fn children(&self, directory: &[u8]) -> Result<Vec<Child>, IndexError> {
        let range = self.range_below(directory)?;
        let prefix = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let mut children = Vec::new();
        let mut position = range.start;
        while position < range.end {
            let path = self.path_at(position)?.into_owned();
            let length = path[prefix..].iter().position(|&byte| byte == b'/').unwrap_or(path.len() - prefix);
            let child = path[..prefix + length].to_vec();
            let entry = match child.len() == path.len() {
                true => Some(only(self.entries_at(position..position + 1)?)),
                false => None,
            };
            position += usize::from(entry.is_some());
            // Only a directory has more entries; for the others this saves a look at the next path.
            if entry.as_ref().is_none_or(Entry::is_directory) {
                position = gallop(self, position, |other| is_below(other, &child))?;
            }
            children.push(Child { name: child[prefix..].to_vec(), entry });
        }
        // Index order puts `a` and all below it before `a-`, as sorting whole names does: no sorting is needed.
        Ok(children)
    }

    /// Returns all entries below `directory`, itself left out, in order.
    fn subtree(&self, directory: &[u8]) -> Result<Cow<'_, [Entry]>, IndexError> {
        self.entries_at(self.range_below(directory)?)
    }
}

/// What one layer says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The layer has this entry there.
    Entry(Entry),
    /// It has none there but some below: a directory of unknown attributes.
    Implied,
    /// It says nothing about it.
    Absent,
}

/// What one layer has directly in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The name in the directory.
    pub name: LayerPath,
    /// Its entry; `None` when the layer only has entries below it.
    pub entry: Option<Entry>,
}

impl LayerLookup for LayerIndex {
    fn count(&self) -> usize {
        self.entries.len()
    }

    fn path_at(&self, position: usize) -> Result<Cow<'_, [u8]>, IndexError> {
        Ok(Cow::Borrowed(&self.entries[position].path))
    }

    fn entries_at(&self, positions: Range<usize>) -> Result<Cow<'_, [Entry]>, IndexError> {
        Ok(Cow::Borrowed(&self.entries[positions]))
    }

    fn links(&self) -> Result<Vec<usize>, IndexError> {
        let is_link = |entry: &Entry| matches!(entry.node, Node::HardLink { .. });
        Ok((0..self.entries.len()).filter(|&position| is_link(&self.entries[position])).collect())
    }

    fn holders(&self) -> Result<BTreeSet<LayerId>, IndexError> {
        Ok(Self::holders(self))
    }
}

fn only(entries: Cow<'_, [Entry]>) -> Entry {
    match entries {
        Cow::Borrowed(entries) => entries[0].clone(),
        Cow::Owned(mut entries) => entries.swap_remove(0),
    }
}

/// Returns the first position from `start` on whose path does not satisfy `before`, which holds for a leading run of paths.
fn partition<L: LayerLookup + ?Sized>(
    layer: &L,
    start: usize,
    before: impl Fn(&[u8]) -> bool,
) -> Result<usize, IndexError> {
    let (mut low, mut high) = (start, layer.count());
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&layer.path_at(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// As [`partition`], quick when the answer is near `start`.
fn gallop<L: LayerLookup + ?Sized>(
    layer: &L,
    start: usize,
    before: impl Fn(&[u8]) -> bool,
) -> Result<usize, IndexError> {
    let (mut low, mut step) = (start, 1);
    loop {
        let next = low + step - 1;
        if next >= layer.count() || !before(&layer.path_at(next)?) {
            break;
        }
        low = next + 1;
        step *= 2;
    }
    // The answer is now in low..=low+step-1.
    let mut high = layer.count().min(low + step - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&layer.path_at(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{arbitrary_index, directory, file};
    use super::*;

    #[test]
    fn a_directory_without_an_entry_is_implied() {
        let index = LayerIndex::from_entries(vec![file("a/b/c", b""), directory("d")]).unwrap();
        assert_eq!(index.lookup(b"a/b").unwrap(), Lookup::Implied);
        assert_eq!(index.lookup(b"").unwrap(), Lookup::Implied);
        assert_eq!(index.lookup(b"a/b/").unwrap(), Lookup::Absent);
        assert_eq!(index.lookup(b"d/x").unwrap(), Lookup::Absent);
        assert_eq!(index.lookup(b"d").unwrap(), Lookup::Entry(directory("d")));
        let names: Vec<_> = index.children(b"").unwrap().into_iter().map(|child| child.name).collect();
        assert_eq!(names, [b"a", b"d"]);
        assert_eq!(index.children(b"").unwrap()[0].entry, None);
    }

    proptest! {
        #[test]
        fn children_are_the_first_components_below(index in arbitrary_index()) {
            let directories: Vec<_> = index.entries.iter().map(|entry| entry.path.clone()).chain([Vec::new()]).collect();
            for directory in directories {
                let expected: BTreeSet<Vec<u8>> = index.entries.iter()
                    .filter(|entry| is_below(&entry.path, &directory))
                    .map(|entry| {
                        let rest = &entry.path[if directory.is_empty() { 0 } else { directory.len() + 1 }..];
                        rest.split(|&byte| byte == b'/').next().unwrap().to_vec()
                    })
                    .collect();
                let found = index.children(&directory).unwrap();
                let names: Vec<_> = found.iter().map(|child| child.name.clone()).collect();
                prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
                for child in found {
                    prop_assert_eq!(child.entry.as_ref(), index.find(&crate::tree::join(&directory, &child.name)));
                }
            }
        }
    }
}
