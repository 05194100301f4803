//! Entries and layers for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use mica_image::index::{Bytes, Entry, LayerIndex, LayerPath, Node, Time, TimeKind};
use mica_image::tar::{IndexOnly, LayerSink, TarLimits, TarOptions, read_layer};
use mica_image::{ContentDigest, DiffId, FileDigest, LayerId};

use super::{Committed, ImportedBlob, Layer, LayerStore};
use crate::{Ownership, Store};

/// A store in a temporary directory. Tests run as whatever user there is.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join("store"), ownership()).unwrap();
    (home, store)
}

/// Real owners as root, otherwise one user's.
pub(crate) fn ownership() -> Ownership {
    if rustix::process::geteuid().is_root() { Ownership::Root } else { Ownership::Single }
}

pub(crate) fn entry(path: &str, node: Node) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        mode: if matches!(node, Node::Directory { .. }) { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1_000_000_000, nanoseconds: 0, kind: TimeKind::Now },
        xattrs: BTreeMap::new(),
        node,
    }
}

pub(crate) fn file(path: &str, content: &[u8]) -> Entry {
    let node = Node::File { size: content.len() as u64, digest: FileDigest::of(content), bytes: Bytes::Here };
    entry(path, node)
}

pub(crate) fn file_in(path: &str, content: &[u8], layer: LayerId, there: &[u8]) -> Entry {
    let bytes = Bytes::In { layer, path: LayerPath::from(there) };
    entry(path, Node::File { size: content.len() as u64, digest: FileDigest::of(content), bytes })
}

pub(crate) fn directory(path: &str) -> Entry {
    entry(path, Node::Directory { opaque: false })
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    entry(path, Node::Symlink { target: target.as_bytes().to_vec() })
}

/// Creates the objects that a layer brings itself, as its maker would: parents, and files whose bytes are here.
pub(crate) fn write_own(files: &Path, index: &LayerIndex, contents: &BTreeMap<String, Vec<u8>>) {
    use std::os::unix::ffi::OsStrExt;
    let at = |path: &[u8]| files.join(std::ffi::OsStr::from_bytes(path));
    for entry in &index.entries {
        let path = at(&entry.path);
        match &entry.node {
            Node::Directory { .. } => std::fs::create_dir_all(&path).unwrap(),
            Node::Symlink { target } => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
            }
            Node::File { bytes: Bytes::Here, .. } => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &contents[std::str::from_utf8(&entry.path).unwrap()]).unwrap();
            }
            Node::HardLink { target } if at(target).exists() => {
                std::fs::hard_link(at(target), &path).unwrap()
            }
            _ => continue,
        }
    }
    for entry in index.entries.iter().rev() {
        let path = at(&entry.path);
        if path.symlink_metadata().is_ok() {
            set_attributes(&path, entry);
        }
    }
}

fn set_attributes(path: &Path, entry: &Entry) {
    use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};
    if !matches!(entry.node, Node::Symlink { .. }) {
        rustix::fs::chmod(path, Mode::from_raw_mode(entry.mode)).unwrap();
    }
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Commits a layer of these entries, with the contents of files that are here.
pub(crate) fn commit(layers: &LayerStore, entries: Vec<Entry>, contents: &[(&str, &[u8])]) -> Committed {
    let index = LayerIndex::from_entries(entries).unwrap();
    let contents = contents.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
    let scratch = layers.begin().unwrap();
    write_own(&scratch.files(), &index, &contents);
    layers.commit(scratch, index, 1_700_000_000).unwrap()
}

/// Imports a layer from its tar, in a blob of its own.
pub(crate) fn import(store: &Store, tar: &[u8]) -> (Layer, DiffId, ContentDigest) {
    import_into(store, tar, &mut IndexOnly)
}

/// The same, giving the bytes of its files to `sink`.
pub(crate) fn import_into(
    store: &Store,
    tar: &[u8],
    sink: &mut dyn LayerSink,
) -> (Layer, DiffId, ContentDigest) {
    let mut gzip = mica_image::compress::GzipEncoder::new(Vec::new(), 6, 1).unwrap();
    gzip.write_all(tar).unwrap();
    let blob = gzip.finish().unwrap();
    let digest = store.blobs().put(&blob).unwrap();
    let index = read_layer(tar, &TarLimits::default(), sink).unwrap();
    let diff_id = DiffId::from_bytes(*ContentDigest::of(tar).as_bytes());
    let imported = ImportedBlob { digest, size: blob.len() as u64, media_type: "gzip".into() };
    let layer = store.layers().import(index, diff_id, imported, &Vec::new(), 5).unwrap();
    (layer, diff_id, digest)
}

/// The tar of a layer with an object of each kind.
pub(crate) fn base_tar() -> Vec<u8> {
    let (_home, store) = store();
    let mut link = file("usr/link", b"");
    link.node = Node::HardLink { target: b"usr/a".to_vec() };
    let mut setuid = file("usr/a", b"hello");
    setuid.mode = 0o4755;
    let opaque = entry("opaque", Node::Directory { opaque: true });
    let mut entries = vec![
        directory("usr"),
        setuid,
        link,
        symlink("usr/s", "a"),
        entry("gone", Node::Whiteout),
        opaque,
        entry("pipe", Node::Fifo),
    ];
    for entry in &mut entries {
        entry.mtime.kind = TimeKind::Set;
    }
    let made = commit(&store.layers(), entries, &[("usr/a", b"hello")]).layer;
    let mut tar = Vec::new();
    made.write_tar(&mut tar, &TarOptions::default()).unwrap();
    tar
}
