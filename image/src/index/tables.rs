//! The tables at the start of an index, compared with what its entries say: they follow from them, and have one form only.

use std::collections::BTreeSet;

use super::encoding::{Header, NOT_CANONICAL, parse_holders};
use super::{Bytes, Entry, IndexError, Node};
use crate::LayerId;

/// What the tables say.
pub(super) struct Tables<'a> {
    offsets: &'a [[u8; 8]],
    /// The hard links that are still to come.
    links: &'a [[u8; 4]],
    /// The holders that were not met yet.
    unused: BTreeSet<LayerId>,
    is_right: bool,
}

impl<'a> Tables<'a> {
    /// Reads the tables of an index that is as long as its header says.
    pub(super) fn read(header: &Header, body: &'a [u8]) -> Self {
        let table = |start: u64, end: u64| &body[start as usize..end as usize];
        Self {
            offsets: table(header.offsets_start(), header.entries_start()).as_chunks().0,
            links: table(header.links_start(), header.offsets_start()).as_chunks().0,
            unused: parse_holders(header.holders_in(body)).into_iter().collect(),
            is_right: true,
        }
    }

    /// Checks that an entry begins where the table says.
    pub(super) fn starts(&self, position: usize, at: usize) -> Result<(), IndexError> {
        match u64::from_le_bytes(self.offsets[position]) == at as u64 {
            true => Ok(()),
            false => Err(NOT_CANONICAL),
        }
    }

    /// Takes note of an entry.
    pub(super) fn see(&mut self, position: usize, entry: &Entry) {
        match &entry.node {
            Node::HardLink { .. } => {
                let next = self
                    .links
                    .split_first()
                    .filter(|(link, _)| u32::from_le_bytes(**link) as usize == position);
                self.is_right &= next.is_some();
                self.links = next.map_or(&[], |(_, rest)| rest);
            }
            Node::File { bytes: Bytes::In { layer, .. }, .. } if !self.unused.is_empty() => {
                self.unused.remove(layer);
            }
            _ => {}
        }
    }

    /// Checks that the entries end where they should and that no table has more than they say.
    pub(super) fn finish(self, at: usize, end: usize, holders: &[LayerId]) -> Result<(), IndexError> {
        self.starts(self.offsets.len() - 1, at)?;
        let all_met = self.links.is_empty() && self.unused.is_empty();
        match self.is_right && all_met && at == end && holders.is_sorted_by(|a, b| a < b) {
            true => Ok(()),
            false => Err(NOT_CANONICAL),
        }
    }
}
