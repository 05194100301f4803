//! The name of a layer: a digest of what its index means.
//!
//! Hashed is a stream of little-endian integers and length-prefixed byte strings:
//!
//! ```text
//! "mica layer 1\n"  count: u64  then for each entry in order
//!     path: bytes  kind: u8  mode, uid, gid: u32
//!     time: 0 for “now”, or 1 seconds: i64 nanoseconds: u32
//!     count: u32 of attributes, each  name: bytes  value: bytes
//!     by kind: size: u64 digest: 32 | opaque: u8 | target: bytes | target: bytes | major, minor: u32 | nothing
//! ```

use super::encoding::{kind, put_bytes};
use super::{Entry, LayerIndex, Node, Time, TimeKind};
use crate::LayerId;

const VERSION: &[u8] = b"mica layer 1\n";

impl LayerIndex {
    /// Returns the layer's name: the digest of all that its entries mean.
    #[must_use]
    pub fn layer_id(&self) -> LayerId {
        const FLUSH: usize = 64 * 1024;
        let mut hasher = blake3::Hasher::new();
        let mut pending = Vec::with_capacity(2 * FLUSH);
        pending.extend_from_slice(VERSION);
        pending.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            put_entry(&mut pending, entry);
            if pending.len() >= FLUSH {
                hasher.update(&pending);
                pending.clear();
            }
        }
        hasher.update(&pending);
        LayerId::from_bytes(*hasher.finalize().as_bytes())
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, &entry.path);
    out.push(kind(&entry.node));
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_time(out, entry.mtime);
    out.extend_from_slice(&(entry.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    put_node(out, &entry.node);
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    match time.kind {
        TimeKind::Now => out.push(0),
        TimeKind::Set => {
            out.push(1);
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&time.nanoseconds.to_le_bytes());
        }
    }
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    match node {
        Node::File { size, digest, bytes: _ } => {
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(digest.as_bytes());
        }
        Node::Directory { opaque } => out.push(u8::from(*opaque)),
        Node::Symlink { target } | Node::HardLink { target } => put_bytes(out, target),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        Node::Fifo | Node::Whiteout => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{arbitrary_index, elsewhere, file, sample};
    use super::*;

    #[test]
    fn the_id_of_a_fixed_layer_is_pinned() {
        assert_eq!(
            sample().layer_id().hex(),
            "d672020e6ad91a18aa97abd2d7a4cea2b2b597a0918c9339cd69ca96b07d86f1"
        );
        assert_eq!(
            LayerIndex::default().layer_id().hex(),
            "50b6c15175829e14a07d050c1d1580b24ece8e82c6d6c29182527fd94b496b2c"
        );
    }

    #[test]
    fn every_field_but_now_and_bytes_counts() {
        let one = |entry: Entry| LayerIndex::from_entries(vec![entry]).unwrap().layer_id();
        let plain = file("f", b"x");
        let set = Time { seconds: 5, nanoseconds: 6, kind: TimeKind::Set };
        let timed = Entry { mtime: set, ..plain.clone() };
        let with = |change: fn(&mut Entry)| {
            let mut entry = timed.clone();
            change(&mut entry);
            one(entry)
        };
        let ids = [
            one(plain.clone()),
            one(timed.clone()),
            with(|e| e.path = b"g".to_vec()),
            with(|e| e.mode = 0o4755),
            with(|e| e.uid = 1),
            with(|e| e.gid = 1),
            with(|e| e.mtime.seconds = 6),
            with(|e| e.mtime.nanoseconds = 7),
            with(|e| drop(e.xattrs.insert(b"user.a".to_vec(), b"b".to_vec()))),
            with(|e| drop(e.xattrs.insert(b"user.a".to_vec(), b"".to_vec()))),
            with(|e| e.node = file("f", b"y").node),
            with(|e| e.node = Node::Fifo),
            with(|e| e.node = Node::Directory { opaque: true }),
            with(|e| e.node = Node::Directory { opaque: false }),
            with(|e| e.node = Node::Symlink { target: b"t".to_vec() }),
            with(|e| e.node = Node::CharDevice { major: 1, minor: 2 }),
            with(|e| e.node = Node::CharDevice { major: 1, minor: 3 }),
            with(|e| e.node = Node::BlockDevice { major: 1, minor: 2 }),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(one(elsewhere(plain.clone())), one(plain.clone()));
        let later = Time { seconds: 9, nanoseconds: 9, kind: TimeKind::Now };
        assert_eq!(one(Entry { mtime: later, ..plain.clone() }), one(plain));
    }

    proptest! {
        #[test]
        fn order_of_input_made_now_and_place_of_bytes_do_not_count(index in arbitrary_index(), seed: u64) {
            let mut entries = index.entries.clone();
            let length = entries.len().max(1);
            entries.rotate_left(seed as usize % length);
            for entry in &mut entries {
                if entry.mtime.kind == TimeKind::Now {
                    entry.mtime.seconds = entry.mtime.seconds.wrapping_add(seed as i64);
                }
            }
            let entries = entries.into_iter().map(elsewhere).collect();
            let other = LayerIndex::from_entries(entries).unwrap();
            prop_assert_eq!(other.layer_id(), index.layer_id());
        }
    }
}
