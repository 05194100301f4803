//! The entries of an index, read from its form on disk one after the other: nothing is kept of those that were passed.

use super::encoding::{CHECKSUM, Fields, Header, parse_holders};
use super::{Entry, IndexError};
use crate::{FileDigest, LayerId};

/// An index in its form on disk, whose checksum was verified.
#[derive(Debug)]
pub struct RawIndex {
    bytes: Vec<u8>,
    header: Header,
    holders: Vec<LayerId>,
}

/// A regular file of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFile<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: FileDigest,
    /// The other layer that holds its bytes, and where; `None` when they are here.
    pub holder: Option<(LayerId, &'a [u8])>,
}

impl RawIndex {
    /// Verifies the checksum of an index.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let header = Header::parse(&bytes, bytes.len() as u64)?;
        header.verify(&bytes)?;
        let holders = parse_holders(header.holders_in(&bytes));
        Ok(Self { bytes, header, holders })
    }

    /// Returns the regular files in order.
    pub fn files(&self) -> impl Iterator<Item = Result<RawFile<'_>, IndexError>> {
        let mut fields = self.fields();
        (0..self.header.entries).filter_map(move |_| fields.file(&self.holders).transpose())
    }

    /// Returns all entries in order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, IndexError>> {
        let mut fields = self.fields();
        (0..self.header.entries).map(move |_| fields.entry(&self.holders))
    }

    /// Whether there are hard links among them.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.header.links > 0
    }

    fn fields(&self) -> Fields<'_> {
        let end = self.bytes.len() - CHECKSUM;
        Fields { rest: &self.bytes[self.header.entries_start() as usize..end] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::arbitrary_index;
    use super::super::{Bytes, LayerIndex, Node};
    use super::*;

    fn files(index: &LayerIndex) -> Vec<RawFile<'_>> {
        let mut files = Vec::new();
        for entry in &index.entries {
            if let Node::File { size, digest, bytes } = &entry.node {
                let holder = match bytes {
                    Bytes::Here => None,
                    Bytes::In { layer, path } => Some((*layer, &path[..])),
                };
                files.push(RawFile { path: &entry.path, size: *size, digest: *digest, holder });
            }
        }
        files
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bytes = super::super::testing::sample().encode();
        assert!(RawIndex::new(bytes.clone()).is_ok());
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        assert!(RawIndex::new(bytes).is_err());
    }

    proptest! {
        #[test]
        fn all_files_are_there_in_order(index in arbitrary_index()) {
            let raw = RawIndex::new(index.encode()).unwrap();
            let found: Vec<_> = raw.files().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(found, files(&index));
            let all: Vec<_> = raw.entries().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&all, &index.entries);
            prop_assert_eq!(raw.has_links(), all.iter().any(|entry| matches!(entry.node, Node::HardLink { .. })));
        }
    }
}
