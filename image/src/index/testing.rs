//! Entries for tests, here and in the modules above.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Bytes, Entry, LayerIndex, Node, Time, TimeKind, is_below};
use crate::{FileDigest, LayerId};

/// An entry of mode 0755, owner 0:0, without a time of its own.
pub(crate) fn entry(path: &str, node: Node) -> Entry {
    let (mode, mtime) = (0o755, Time::UNSET);
    Entry { path: path.as_bytes().to_vec(), mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new(), node }
}

pub(crate) fn file(path: &str, content: &[u8]) -> Entry {
    let (size, digest) = (content.len() as u64, FileDigest::of(content));
    entry(path, Node::File { size, digest, bytes: Bytes::Here })
}

pub(crate) fn directory(path: &str) -> Entry {
    entry(path, Node::Directory { opaque: false })
}

pub(crate) fn opaque(path: &str) -> Entry {
    entry(path, Node::Directory { opaque: true })
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { mode: 0o777, ..entry(path, Node::Symlink { target: target.as_bytes().to_vec() }) }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    entry(path, Node::HardLink { target: target.as_bytes().to_vec() })
}

pub(crate) fn whiteout(path: &str) -> Entry {
    Entry { mode: 0, ..entry(path, Node::Whiteout) }
}

/// The same entry with its bytes, if it is a file, in another layer.
pub(crate) fn elsewhere(mut entry: Entry) -> Entry {
    if let Node::File { bytes, .. } = &mut entry.node {
        *bytes = Bytes::In { layer: LayerId::from_bytes([7; 32]), path: b"other/place".to_vec() };
    }
    entry
}

/// A layer with one of everything.
pub(crate) fn sample() -> LayerIndex {
    let holder =
        |path: &str| Bytes::In { layer: LayerId::from_bytes([9; 32]), path: path.as_bytes().to_vec() };
    let held = |path: &str, holder| {
        entry(path, Node::File { size: 4, digest: FileDigest::of(b"held"), bytes: holder })
    };
    let tool = Entry {
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        mtime: Time { seconds: 1_700_000_000, nanoseconds: 5, kind: TimeKind::Set },
        xattrs: BTreeMap::from([(b"user.note".to_vec(), b"\0\xff".to_vec())]),
        ..file("usr/bin/tool", b"#!tool")
    };
    LayerIndex::from_entries(vec![
        directory(""),
        entry("dev/null", Node::CharDevice { major: 1, minor: 3 }),
        entry("dev/sda", Node::BlockDevice { major: 8, minor: 0 }),
        elsewhere(file("etc/copied", b"copied")),
        held("etc/held", holder("etc/held")),
        held("etc/moved", holder("was/there")),
        opaque("opt"),
        entry("run/pipe", Node::Fifo),
        whiteout("tmp/gone"),
        directory("usr"),
        directory("usr/bin"),
        hard_link("usr/bin/tool2", "usr/bin/tool"),
        tool,
        symlink("usr/lib64", "lib"),
    ])
    .expect("the sample is a layer")
}

/// Small layers of few names, so that paths meet often.
pub(crate) fn arbitrary_index() -> impl Strategy<Value = LayerIndex> {
    prop::collection::vec((arbitrary_path(), arbitrary_entry()), 0..14).prop_map(|drawn| {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeSet::new();
        for (path, drawn) in drawn {
            let entry = Entry { path: path.clone(), ..drawn };
            let below_file =
                entries.iter().any(|other| !other.is_directory() && is_below(&path, &other.path));
            let over_others =
                !entry.is_directory() && entries.iter().any(|other| is_below(&other.path, &path));
            if !below_file && !over_others && seen.insert(path) {
                entries.push(entry);
            }
        }
        link_some(&mut entries);
        LayerIndex::from_entries(entries).expect("conflicting entries were left out")
    })
}

/// Turns every fifo into a hard link to the first file, if that comes earlier.
fn link_some(entries: &mut [Entry]) {
    entries.sort_by(|a, b| super::compare_paths(&a.path, &b.path));
    let Some(first) = entries.iter().position(|entry| matches!(entry.node, Node::File { .. })) else {
        return;
    };
    let target = entries[first].path.clone();
    for entry in entries[first..].iter_mut().filter(|entry| entry.node == Node::Fifo) {
        entry.node = Node::HardLink { target: target.clone() };
    }
}

fn arbitrary_path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "a-", "c"]), 1..4)
        .prop_map(|parts| parts.join("/").into_bytes())
}

fn arbitrary_entry() -> impl Strategy<Value = Entry> {
    let node = prop_oneof![
        3 => (0..4u8).prop_map(|content| file("x", &[content]).node),
        1 => (0..4u8).prop_map(|content| elsewhere(file("x", &[content])).node),
        4 => prop::bool::weighted(0.2).prop_map(|opaque| Node::Directory { opaque }),
        1 => prop::sample::select(vec!["a", "../b", "/c/a", "."]).prop_map(|target| symlink("x", target).node),
        2 => Just(Node::Fifo),
        1 => (0..3u32, 0..3u32).prop_map(|(major, minor)| Node::CharDevice { major, minor }),
        2 => Just(Node::Whiteout),
    ];
    let xattrs = prop::collection::btree_map("user\\.[ab]", any::<[u8; 2]>(), 0..2);
    let time = (0..3i64, 0..2u32, any::<bool>());
    (node, 0..0o10_000u32, 0..3u32, 0..3u32, time, xattrs).prop_map(|(node, mode, uid, gid, time, xattrs)| {
        let kind = if time.2 { TimeKind::Set } else { TimeKind::Now };
        let mtime = Time { seconds: time.0, nanoseconds: time.1, kind };
        let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value.to_vec())).collect();
        Entry { path: Vec::new(), mode, uid, gid, mtime, xattrs, node }
    })
}
