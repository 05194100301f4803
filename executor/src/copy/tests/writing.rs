//! What ends up in a layer's directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use mica_image::index::{Bytes, Entry, Node, Time, TimeKind};
use mica_image::root_dir::Links;
use mica_image::tree::FileTree;
use mica_image::{FileDigest, LayerId, LayerIndex, RootDir};
use tempfile::TempDir;

use super::support::{copy, message, place_on};
use super::tree::TestTree;
use crate::copy::{
    ContentReader, Devices, Origin, Ownership, Placement, Selection, WriteError, WriteOptions, write,
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens the bytes of a tree in memory as a file.
fn open_in(tree: &TestTree) -> impl Fn(&Origin) -> io::Result<File> + Sync {
    move |origin| {
        let Origin::Tree { entry, .. } = origin else { panic!("{origin:?} is not in a tree") };
        let entry = tree.entry(&entry.path).unwrap().ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&tree.read(&entry)?)?;
        File::open(file.path())
    }
}

fn options<'a>(open_source: &'a (dyn Fn(&Origin) -> io::Result<File> + Sync)) -> WriteOptions<'a> {
    WriteOptions {
        devices: Devices::Record,
        opaque_attribute: "user.overlay.opaque",
        ..WriteOptions::new(open_source, if is_root() { Ownership::Real } else { Ownership::Ignore })
    }
}

fn written(placement: Placement, out: &Path, options: &WriteOptions<'_>) -> Result<LayerIndex, WriteError> {
    write(placement, &RootDir::open(out, Links::Refused).unwrap(), options)
}

/// Everything below a directory, one line each.
fn listing(root: &Path) -> Vec<String> {
    fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let what = match metadata.file_type() {
                kind if kind.is_dir() => "dir".to_owned(),
                kind if kind.is_symlink() => format!("link to {}", fs::read_link(&path).unwrap().display()),
                kind if kind.is_fifo() => "fifo".to_owned(),
                kind if kind.is_char_device() => format!("device {}", metadata.rdev()),
                // Whoever is not root cannot read what nobody may.
                _ if metadata.mode() & 0o400 == 0 => "file".to_owned(),
                _ => format!("file {:?}", fs::read_to_string(&path).unwrap()),
            };
            let name = path.strip_prefix(root).unwrap().display();
            lines.push(format!(
                "{name} {:04o} {what} @{}.{}",
                metadata.mode() & 0o7777,
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
            if metadata.is_dir() {
                walk(root, &path, lines);
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines
}

fn source() -> TestTree {
    TestTree::new()
        .file("d/a", "aa")
        .mode("d/a", 0o4711)
        .owner("d/a", 5, 6)
        .xattr("d/a", "user.note", "n")
        .file("d/s/b", "b")
        .mode("d/s", 0o555)
        .file("d/none", "")
        .mode("d/none", 0)
        .link("d/l", "/nowhere")
        .fifo("d/p")
        .file("d/x", "same")
        .file("d/s/y", "same")
        .linked(1, &["d/x", "d/s/y"])
}

#[test]
fn everything_arrives_with_its_attributes() {
    let tree = source();
    let out = TempDir::new().unwrap();
    let open = open_in(&tree);
    let placement = copy(&["d"]).place(&tree, &TestTree::new(), "/t").unwrap();
    let expected: Vec<Entry> = placement.entries.iter().map(|placed| placed.entry.clone()).collect();
    let index = written(placement, out.path(), &options(&open)).unwrap();
    assert_eq!(index, LayerIndex::from_entries(expected).unwrap());
    assert_eq!(
        listing(out.path()),
        [
            "t 0755 dir @1000.5",
            "t/a 4711 file \"aa\" @1000.5",
            "t/l 0777 link to /nowhere @1000.5",
            "t/none 0000 file @1000.5",
            "t/p 0644 fifo @1000.5",
            "t/s 0555 dir @1000.5",
            "t/s/b 0644 file \"b\" @1000.5",
            "t/s/y 0644 file \"same\" @1000.5",
            "t/x 0644 file \"same\" @1000.5",
        ]
    );
    let metadata = |path: &str| fs::metadata(out.path().join(path)).unwrap();
    assert_eq!(metadata("t/x").ino(), metadata("t/s/y").ino());
    if is_root() {
        assert_eq!((metadata("t/a").uid(), metadata("t/a").gid()), (5, 6));
    }
    let mut value = [0; 8];
    if let Ok(length) = rustix::fs::getxattr(out.path().join("t/a"), "user.note", &mut value[..]) {
        assert_eq!(&value[..length], b"n");
    }
}

#[test]
fn without_privileges_owners_and_devices_are_only_in_the_index() {
    if !is_root() {
        return;
    }
    let out = TempDir::new().unwrap();
    std::os::unix::fs::chown(out.path(), Some(65_534), Some(65_534)).unwrap();
    let tree = source().owner("d/s", 9, 9).mode("d/s", 0);
    let placement = copy(&["d"]).place(&tree, &TestTree::new(), "/t").unwrap();
    let open = open_in(&tree);
    let nobody = rustix::fs::Uid::from_raw(65_534);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .start_handler(move |_| rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap())
        .build()
        .unwrap();
    let options = WriteOptions { ownership: Ownership::Ignore, ..options(&open) };
    let index = pool.install(|| written(placement, out.path(), &options)).unwrap();
    let a = index.find(b"t/a").unwrap();
    assert_eq!((a.uid, a.gid, a.mode), (5, 6, 0o4711));
    let metadata = fs::metadata(out.path().join("t/a")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (65_534, 0o4711));
    assert_eq!(fs::metadata(out.path().join("t/s")).unwrap().mode() & 0o7777, 0);
    assert_eq!(fs::metadata(out.path().join("t/s/y")).unwrap().nlink(), 2);
}

#[test]
fn a_source_that_changed_fails_and_is_named() {
    let tree = TestTree::new().file("src/f", "old");
    let changed = TestTree::new().file("src/f", "new");
    let gone = TestTree::new();
    let place = || copy(&["src/f"]).place(&tree, &TestTree::new(), "/x").unwrap();
    let fails = |now: &TestTree| {
        let out = TempDir::new().unwrap();
        message(&written(place(), out.path(), &options(&open_in(now))).unwrap_err())
    };
    assert_eq!(fails(&changed), "`src/f` changed while it was copied to `/x`");
    assert_eq!(fails(&gone), "cannot read what becomes `/x`: entity not found");
}

/// Says of the files with this content that another layer has it.
fn hold(placement: &mut Placement, content: &[u8], (layer, path): (LayerId, &[u8])) {
    for placed in &mut placement.entries {
        if let Node::File { digest, bytes, .. } = &mut placed.entry.node
            && *digest == FileDigest::of(content)
        {
            *bytes = Bytes::In { layer, path: path.to_vec() };
        }
    }
}

#[test]
fn what_another_layer_holds_or_shows_is_not_written_again() {
    let tree = TestTree::new()
        .file("d/deep/er/held", "held")
        .file("d/deep/new", "new")
        .file("d/other/held", "held")
        .link("d/other/l", "held")
        .dir("d/empty");
    let out = TempDir::new().unwrap();
    let open = open_in(&tree);
    let holder = LayerId::from_bytes([3; 32]);
    let shown = |entry: &Entry| entry.path != b"d/empty" && entry.path != b"t/empty";
    let mut placement = copy(&["d"]).place(&tree, &TestTree::new(), "/t").unwrap();
    hold(&mut placement, b"held", (holder, b"old/place"));
    let options = WriteOptions { shown: &shown, ..options(&open) };
    let index = written(placement, out.path(), &options).unwrap();
    assert_eq!(
        listing(out.path()),
        [
            "t 0755 dir @1000.5",
            "t/deep 0755 dir @1000.5",
            "t/deep/new 0644 file \"new\" @1000.5",
            "t/empty 0755 dir @1000.5"
        ]
    );
    assert_eq!(index.holders(), BTreeSet::from([holder]));
    assert_eq!(index.entries.len(), 9);
    let Node::File { bytes: Bytes::In { path, .. }, .. } = &index.find(b"t/deep/er/held").unwrap().node
    else {
        panic!("{index:?}");
    };
    assert_eq!(path, b"old/place");
}

#[test]
fn further_names_of_a_held_file_are_not_written_either() {
    let tree = TestTree::new().file("d/a", "x").file("d/b", "x").linked(2, &["d/a", "d/b"]);
    let out = TempDir::new().unwrap();
    let open = open_in(&tree);
    let mut placement = copy(&["d"]).place(&tree, &TestTree::new(), "/t").unwrap();
    hold(&mut placement, b"x", (LayerId::from_bytes([3; 32]), b"a"));
    let index = written(placement, out.path(), &options(&open)).unwrap();
    assert_eq!(listing(out.path()), ["t 0755 dir @1000.5"]);
    assert!(matches!(index.find(b"t/b").unwrap().node, Node::HardLink { .. }));
}

#[test]
fn inline_files_and_downloads_arrive_and_downloads_stay() {
    let (spool, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = spool.path().join("1");
    fs::write(&file, "download").unwrap();
    let now = Time { seconds: 3, nanoseconds: 4, kind: TimeKind::Now };
    let modified = Time { seconds: 5, nanoseconds: 0, kind: TimeKind::Set };
    let inline = Selection::from_inline(b"EOF", Arc::from(*b"text\n"), 0o644, now);
    let known = (8, FileDigest::of(b"download"));
    let download = Selection::from_file(b"f.txt", file.as_path().into(), known, 0o640, modified);
    let place = || place_on(&[&inline, &download], &TestTree::new(), "/t/", None, None).unwrap();
    let index = written(place(), out.path(), &options(&|_| panic!("there is no tree"))).unwrap();
    assert_eq!(
        listing(out.path()),
        ["t 0755 dir @77.7", "t/EOF 0644 file \"text\\n\" @3.4", "t/f.txt 0640 file \"download\" @5.0"]
    );
    assert_eq!(index.entries.len(), 3);
    fs::write(&file, "Download").unwrap();
    let again = TempDir::new().unwrap();
    let error = written(place(), again.path(), &options(&|_| panic!("there is no tree"))).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` changed while it was copied to `/t/f.txt`", file.display()));
}

#[test]
fn devices_are_made_only_where_asked_and_never_as_a_whiteout() {
    let device = |path: &str, minor| Entry {
        path: path.into(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1, nanoseconds: 0, kind: TimeKind::Now },
        xattrs: Default::default(),
        node: Node::CharDevice { major: u32::from(minor != 0), minor },
    };
    let placement = || {
        let placed = |entry| crate::copy::PlacedEntry { entry, origin: None, inherited: false };
        Placement { entries: vec![placed(device("null", 3)), placed(device("zero", 0))] }
    };
    let make = |devices| {
        let out = TempDir::new().unwrap();
        let options = WriteOptions { devices, ..options(&|_| panic!("there is no tree")) };
        let index = written(placement(), out.path(), &options).unwrap();
        assert_eq!(index.entries.len(), 2);
        listing(out.path())
    };
    assert!(make(Devices::Record).is_empty());
    if is_root() {
        assert_eq!(make(Devices::Make), ["null 0600 device 259 @1.0"]);
    }
}

#[test]
fn a_directory_that_hides_another_says_so_on_disk() {
    let out = TempDir::new().unwrap();
    let entry = Entry {
        path: b"d".to_vec(),
        mode: 0o500,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1, nanoseconds: 0, kind: TimeKind::Now },
        xattrs: Default::default(),
        node: Node::Directory { opaque: true },
    };
    let placement =
        Placement { entries: vec![crate::copy::PlacedEntry { entry, origin: None, inherited: false }] };
    written(placement, out.path(), &options(&|_| panic!("there is no tree"))).unwrap();
    let mut value = [0; 4];
    let length = rustix::fs::getxattr(out.path().join("d"), "user.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"y");
}

#[test]
fn writing_stops_when_it_is_cancelled() {
    let tree = source();
    let out = TempDir::new().unwrap();
    let open = open_in(&tree);
    let placement = copy(&["d"]).place(&tree, &TestTree::new(), "/t").unwrap();
    let options = WriteOptions { cancelled: &|| true, ..options(&open) };
    assert!(matches!(written(placement, out.path(), &options), Err(WriteError::Cancelled)));
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let tree = TestTree::new().file("f", "new");
    let out = TempDir::new().unwrap();
    fs::write(out.path().join("x"), "old").unwrap();
    let open = open_in(&tree);
    let placement = copy(&["f"]).place(&tree, &TestTree::new(), "/x").unwrap();
    let error = message(&written(placement, out.path(), &options(&open)).unwrap_err());
    assert_eq!(error, "cannot create `/x` in the layer: File exists (os error 17)");
    assert_eq!(fs::read_to_string(out.path().join("x")).unwrap(), "old");
}
