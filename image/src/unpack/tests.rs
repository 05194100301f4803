//! Directories made of layers, read back.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::Once;

use proptest::prelude::*;
use rustix::fs::FileType;

use super::*;
use crate::index::testing::{
    arbitrary_index, directory, elsewhere, file, hard_link, opaque, symlink, whiteout,
};
use crate::index::{Bytes, Entry, LayerIndex, LayerPath, Node, Time, TimeKind};
use crate::root_dir::Links;
use crate::tar::{TarLimits, TarOptions, read_layer, write_layer};
use crate::tree::join;
use crate::{FileDigest, RootDir};

const MARKER: &str = "user.overlay.opaque";
const OPTIONS: UnpackOptions<'static> =
    UnpackOptions { ownership: Ownership::Real, devices: true, opaque_xattr: Some(MARKER) };

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        static SAID: Once = Once::new();
        SAID.call_once(|| eprintln!("skipped: owners and devices need root"));
    }
    is_root
}

fn temporary() -> (tempfile::TempDir, RootDir) {
    let directory = tempfile::tempdir().unwrap();
    let root = RootDir::open(directory.path(), Links::Refused).unwrap();
    (directory, root)
}

/// The content of the files that the generated layers have.
fn content(entry: &Entry) -> Vec<u8> {
    let Node::File { digest, .. } = entry.node else { panic!("{entry:?} is no file") };
    (0..4u8).map(|content| vec![content]).find(|content| FileDigest::of(content) == digest).unwrap()
}

fn open(entry: &Entry) -> std::io::Result<std::fs::File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&content(entry))?;
    file.rewind()?;
    Ok(file)
}

/// Reads a directory back as a layer, all times of kind `Set`.
fn scan(root: &RootDir) -> LayerIndex {
    let mut entries = Vec::new();
    let mut inodes = HashMap::new();
    entries.push(look(root, b"", &mut inodes));
    let mut pending = vec![LayerPath::new()];
    while let Some(path) = pending.pop() {
        for found in root.list(&path).unwrap() {
            let path = join(&path, &found.name);
            entries.push(look(root, &path, &mut inodes));
            if found.kind == FileType::Directory {
                pending.push(path);
            }
        }
    }
    entries.sort_by(|a, b| crate::index::compare_paths(&a.path, &b.path));
    let mut firsts: HashMap<LayerPath, LayerPath> = HashMap::new();
    for entry in &mut entries {
        // Marked with the inode's first seen name; the first in order holds the bytes.
        let Node::HardLink { target } = &entry.node else { continue };
        let inode = target.clone();
        match firsts.get(&inode) {
            Some(first) => entry.node = Node::HardLink { target: first.clone() },
            None => {
                firsts.insert(inode, entry.path.clone());
                entry.node = node(root, &entry.path);
            }
        }
    }
    LayerIndex::from_entries(entries).unwrap()
}

fn look(root: &RootDir, path: &[u8], inodes: &mut HashMap<u64, LayerPath>) -> Entry {
    let stat = root.stat(path).unwrap();
    let mut node = node(root, path);
    if stat.st_nlink > 1 && !matches!(node, Node::Directory { .. } | Node::Whiteout) {
        node = Node::HardLink { target: inodes.entry(stat.st_ino).or_insert_with(|| path.to_vec()).clone() };
    }
    let mut xattrs = std::collections::BTreeMap::new();
    for name in root.xattr_names(path).unwrap() {
        if name == MARKER.as_bytes() {
            node = Node::Directory { opaque: true };
        } else {
            xattrs.insert(name.clone(), root.xattr(path, &name).unwrap().unwrap());
        }
    }
    let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32, kind: TimeKind::Set };
    Entry {
        path: path.to_vec(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime,
        xattrs,
        node,
    }
}

fn node(root: &RootDir, path: &[u8]) -> Node {
    let stat = root.stat(path).unwrap();
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut root.open_file(path).unwrap(), &mut bytes).unwrap();
            Node::File { size: bytes.len() as u64, digest: FileDigest::of(&bytes), bytes: Bytes::Here }
        }
        FileType::Directory => Node::Directory { opaque: false },
        FileType::Symlink => Node::Symlink { target: root.read_link(path).unwrap() },
        FileType::CharacterDevice if (major, minor) == (0, 0) => Node::Whiteout,
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        FileType::Fifo => Node::Fifo,
        other => panic!("{other:?} was never made"),
    }
}

/// What can be on a disk of `index`: the root and implied parents with entries, link modes 0777, times set.
fn on_disk(index: &LayerIndex, root_entry: Entry) -> LayerIndex {
    let mut entries: Vec<Entry> = index.entries.iter().cloned().map(possible).collect();
    let mut missing: std::collections::BTreeSet<LayerPath> = std::collections::BTreeSet::new();
    for entry in &entries {
        let mut above = crate::index::parent(&entry.path);
        while !above.is_empty() {
            if index.find(above).is_none() {
                missing.insert(above.to_vec());
            }
            above = crate::index::parent(above);
        }
    }
    entries.retain(|entry| !entry.path.is_empty());
    entries.extend(missing.iter().map(|path| directory(std::str::from_utf8(path).unwrap())));
    entries.push(index.find(b"").cloned().map_or(root_entry, possible));
    LayerIndex::from_entries(entries).unwrap()
}

fn possible(mut entry: Entry) -> Entry {
    entry.mtime.kind = if entry.node == Node::Whiteout { TimeKind::Now } else { TimeKind::Set };
    if let Node::Symlink { .. } = entry.node {
        entry.mode = 0o777;
    }
    if let Node::File { bytes, .. } = &mut entry.node {
        *bytes = Bytes::Here;
    }
    entry
}

/// Leaves out what a disk cannot hold: user attributes of special files, and a device that is a removal's mark.
fn storable(index: LayerIndex) -> LayerIndex {
    let entries = index.entries.into_iter().map(|mut entry| {
        if !matches!(entry.node, Node::File { .. } | Node::Directory { .. } | Node::HardLink { .. }) {
            entry.xattrs.clear();
        }
        if let Node::CharDevice { major: major @ 0, .. } = &mut entry.node {
            *major = 1;
        }
        entry
    });
    LayerIndex::from_entries(entries.collect()).unwrap()
}

/// Makes times of directories without one comparable.
fn without_implied_times(mut scanned: LayerIndex, index: &LayerIndex) -> LayerIndex {
    for entry in &mut scanned.entries {
        if index.find(&entry.path).is_none() && entry.is_directory() {
            entry.mtime = Time::UNSET;
        }
    }
    scanned
}

fn root_entry(root: &RootDir) -> Entry {
    Entry { mtime: Time::UNSET, ..look(root, b"", &mut HashMap::new()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_is_what_its_layer_says(index in arbitrary_index()) {
        if !is_root() { return Ok(()) }
        let index = storable(index);
        let (_directory, root) = temporary();
        let root_entry = root_entry(&root);
        materialise(&index, &open, &root, &OPTIONS).unwrap();
        prop_assert_eq!(without_implied_times(scan(&root), &index), on_disk(&index, root_entry));
    }

    #[test]
    fn unpacking_an_archive_gives_the_same(index in arbitrary_index()) {
        if !is_root() { return Ok(()) }
        let mut bytes = Vec::new();
        let index = storable(index);
        write_layer(&index, |entry| Ok(std::io::Cursor::new(content(entry))), &mut bytes, &TarOptions::default()).unwrap();
        let (_directory, root) = temporary();
        let root_entry = root_entry(&root);
        let mut sink = DirectorySink::new(&root);
        let read = read_layer(&bytes[..], &TarLimits::default(), &mut sink).unwrap();
        sink.finish(&read, &OPTIONS).unwrap();
        prop_assert_eq!(without_implied_times(scan(&root), &read), on_disk(&read, root_entry));
    }
}

#[test]
fn owners_can_be_ignored_and_devices_left_out() {
    let entries = vec![
        Entry { uid: 12, gid: 34, mode: 0o4711, ..file("f", &[1]) },
        Entry { uid: 12, ..symlink("l", "f") },
        Entry { uid: 12, mode: 0o2750, ..directory("d") },
        crate::index::testing::entry("null", Node::CharDevice { major: 1, minor: 3 }),
        hard_link("null2", "null"),
    ];
    let index = LayerIndex::from_entries(entries).unwrap();
    let (directory, root) = temporary();
    let options = UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: None };
    materialise(&index, &open, &root, &options).unwrap();
    let found = directory.path().join("f").metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (rustix::process::geteuid().as_raw(), 0o4711));
    assert_eq!(directory.path().join("d").metadata().unwrap().mode() & 0o7777, 0o2750);
    assert!(!directory.path().join("null").exists() && !directory.path().join("null2").exists());
}

#[test]
fn a_file_of_another_size_is_named() {
    let index = LayerIndex::from_entries(vec![file("d/f", b"four")]).unwrap();
    let (_directory, root) = temporary();
    let wrong = |_: &Entry| open(&file("f", &[1]));
    let error = materialise(&index, &wrong, &root, &OPTIONS).expect_err("wrong size").to_string();
    assert_eq!(error, "`/d/f` has 1 bytes instead of 4");
    let (_directory, root) = temporary();
    let missing = |_: &Entry| Err(std::io::ErrorKind::NotFound.into());
    let error = materialise(&index, &missing, &root, &OPTIONS).expect_err("no bytes").to_string();
    assert_eq!(error, "cannot open `/d/f`");
}

#[test]
fn an_archive_that_replaces_and_links_unpacks_to_its_index() {
    let raw = |kind: ::tar::EntryType, path: &str, link: &str, content: &[u8]| {
        let mut header = ::tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(3);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = [header.as_bytes(), content].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    use ::tar::EntryType::{Directory, Link, Regular, Symlink};
    let bytes = [
        raw(Symlink, "out", "/../outside", b""),
        raw(Regular, "out/f", "", &[1]),
        raw(Regular, "z/old", "", &[2]),
        raw(Link, "b/new", "z/old", b""),
        raw(Link, "a", "z/old", b""),
        raw(Regular, "z", "", &[3]),
        raw(Regular, "d", "", &[0]),
        raw(Directory, "d", "", b""),
    ]
    .concat();
    let (outer, root) = temporary();
    std::fs::create_dir(outer.path().join("root")).unwrap();
    let root = root.open_dir(b"root").unwrap();
    let mut sink = DirectorySink::new(&root);
    let index = read_layer(&bytes[..], &TarLimits::default(), &mut sink).unwrap();
    let options = UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: None };
    sink.finish(&index, &options).unwrap();
    let names: Vec<_> =
        scan(&root).entries.into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect();
    assert_eq!(names, ["", "a", "b", "b/new", "d", "out", "outside", "outside/f", "z"]);
    assert_eq!(std::fs::read(outer.path().join("root/b/new")).unwrap(), [2]);
    assert_eq!(std::fs::read(outer.path().join("root/z")).unwrap(), [3]);
    assert_eq!(outer.path().read_dir().unwrap().count(), 1);
}

#[test]
fn only_the_layers_own_files_are_expected_of_an_archive() {
    let index = LayerIndex::from_entries(vec![
        elsewhere(file("a", &[1])),
        hard_link("b", "a"),
        whiteout("w"),
        opaque("o"),
    ])
    .unwrap();
    let (directory, root) = temporary();
    let options = UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: Some(MARKER) };
    DirectorySink::new(&root).finish(&index, &options).unwrap();
    let names: Vec<_> = root.list(b"").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [b"o", b"w"]);
    assert_eq!(directory.path().join("w").symlink_metadata().unwrap().rdev(), 0);
    assert_eq!(root.xattr(b"o", MARKER.as_bytes()).unwrap().as_deref(), Some(&b"y"[..]));
}
