//! What becomes of an upper directory, made by hand and by overlayfs itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use mica_image::index::{Bytes, Entry, LayerIndex, LayerLookup, Node, TimeKind};
use mica_image::tree::{Tree, TreeLayer};
use mica_image::{FileDigest, LayerId};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::testing::{commit, directory, file, store, symlink as link_to};
use super::{LayerError, Snapshot, UpperError, Written};
use crate::{Ownership, Store};

/// A base of a few files, and a snapshot on top of it.
struct Fixture {
    _home: tempfile::TempDir,
    store: Store,
    base: Tree,
}

impl Fixture {
    fn new() -> Self {
        let (home, store) = store();
        let mut opaque_later = directory("etc");
        opaque_later.mtime.nanoseconds = 0;
        let mut owned = file("etc/owned", b"mine");
        (owned.uid, owned.gid) = (33, 44);
        let entries = vec![
            opaque_later,
            file("etc/passwd", b"root"),
            owned,
            directory("usr"),
            file("usr/tool", b"binary"),
            link_to("usr/link", "tool"),
        ];
        let contents = [("etc/passwd", &b"root"[..]), ("etc/owned", b"mine"), ("usr/tool", b"binary")];
        let base = commit(&store.layers(), entries, &contents).layer.id();
        Self { _home: home, store, base: vec![TreeLayer::made(base)] }
    }

    fn prepare(&self) -> Snapshot {
        self.store.layers().prepare(&self.base).unwrap()
    }

    fn try_commit(&self, snapshot: Snapshot) -> Result<LayerIndex, LayerError> {
        let layers = self.store.layers();
        let parent = layers.tree(&self.base)?;
        let committed = layers.commit_upper(snapshot, &parent, &|written| written.path == b"noise", 7)?;
        let files = layers.ensure_files(&committed.layer.id())?;
        let index = committed.layer.load_index()?;
        assert_eq!(on_disk(&files), in_index(&index), "directory and index say the same");
        Ok(index)
    }

    fn commit(&self, snapshot: Snapshot) -> LayerIndex {
        self.try_commit(snapshot).unwrap()
    }
}

fn on_disk(files: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![files.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(files).unwrap().to_str().unwrap().to_owned());
            if path.symlink_metadata().unwrap().is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

fn in_index(index: &LayerIndex) -> Vec<String> {
    let paths = index.entries.iter().filter(|entry| !entry.path.is_empty());
    let mut paths: Vec<_> = paths.map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
    paths.sort();
    paths
}

fn at<'a>(index: &'a LayerIndex, path: &str) -> &'a Entry {
    index.find(path.as_bytes()).unwrap_or_else(|| panic!("no `{path}` in {:?}", in_index(index)))
}

/// Copies an object of the base into the upper directory, as overlayfs copies it up: with all attributes.
fn copy_up(snapshot: &Snapshot, path: &str) {
    let from = snapshot.lowers().iter().map(|lower| lower.join(path)).find(|path| path.exists()).unwrap();
    let status = Command::new("cp").arg("-a").arg(from).arg(snapshot.upper().join(path)).status().unwrap();
    assert!(status.success());
    // As overlayfs does.
    copy_up_directory(snapshot, Path::new(path).parent().unwrap().to_str().unwrap());
}

fn copy_up_directory(snapshot: &Snapshot, path: &str) {
    let to = snapshot.upper().join(path);
    fs::create_dir_all(&to).unwrap();
    let status =
        Command::new("touch").arg("-r").arg(snapshot.lowers()[0].join(path)).arg(&to).status().unwrap();
    assert!(status.success());
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

#[test]
fn an_empty_upper_directory_is_an_empty_layer() {
    let fixture = Fixture::new();
    assert_eq!(fixture.commit(fixture.prepare()), LayerIndex::default());
}

#[test]
fn all_kinds_of_objects_become_entries() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    let upper = snapshot.upper();
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("d/f"), "hello").unwrap();
    fs::hard_link(upper.join("d/f"), upper.join("d/again")).unwrap();
    fs::hard_link(upper.join("d/f"), upper.join("other")).unwrap();
    symlink("d/f", upper.join("link")).unwrap();
    rustix::fs::mknodat(CWD, upper.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("d/socket")).unwrap();
    fs::write(upper.join("noise"), "left out").unwrap();
    // Outside of mica's own namespace only root reads what nobody may read.
    let mode = if rustix::process::geteuid().is_root() { 0o0 } else { 0o400 };
    fs::set_permissions(upper.join("d/f"), fs::Permissions::from_mode(mode)).unwrap();
    let sparse = fs::File::create(upper.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    let index = fixture.commit(snapshot);
    assert_eq!(in_index(&index), ["d", "d/again", "d/f", "link", "other", "pipe", "sparse"]);
    let digest = FileDigest::of(b"hello");
    assert_eq!(at(&index, "d/again").node, Node::File { size: 5, digest, bytes: Bytes::Here });
    for name in ["d/f", "other"] {
        assert_eq!(at(&index, name).node, Node::HardLink { target: b"d/again".to_vec() });
    }
    assert_eq!(at(&index, "d/f").mode, mode);
    assert_eq!(at(&index, "link").node, Node::Symlink { target: b"d/f".to_vec() });
    assert_eq!(at(&index, "pipe").node, Node::Fifo);
    assert!(matches!(at(&index, "sparse").node, Node::File { size: 0x10_0000, .. }));
}

#[test]
fn removals_count_only_for_what_the_tree_below_has() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    copy_up_directory(&snapshot, "usr");
    whiteout(&snapshot.upper().join("usr/tool"));
    // Overlayfs links its removals to each other.
    fs::hard_link(snapshot.upper().join("usr/tool"), snapshot.upper().join("usr/link")).unwrap();
    fs::hard_link(snapshot.upper().join("usr/tool"), snapshot.upper().join("mount-point")).unwrap();
    let index = fixture.commit(snapshot);
    assert_eq!(in_index(&index), ["usr", "usr/link", "usr/tool"]);
    assert_eq!(at(&index, "usr/tool").node, Node::Whiteout);
    assert_eq!(at(&index, "usr/link").node, Node::Whiteout);
}

#[test]
fn copies_that_changed_nothing_are_left_out() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    copy_up_directory(&snapshot, "usr");
    copy_up(&snapshot, "usr/tool");
    copy_up(&snapshot, "usr/link");
    copy_up_directory(&snapshot, "etc");
    copy_up(&snapshot, "etc/passwd");
    fs::set_permissions(snapshot.upper().join("etc/passwd"), fs::Permissions::from_mode(0o600)).unwrap();
    let index = fixture.commit(snapshot);
    // The directory is there for the sake of what is in it, with the time it has below.
    assert_eq!(in_index(&index), ["etc", "etc/passwd"]);
    assert_eq!(at(&index, "etc").mtime.seconds, 1_000_000_000);
    assert_eq!(at(&index, "etc").mtime.kind, TimeKind::Now, "as the tree below says");
}

#[test]
fn leaving_out_undoes_changes_and_new_directories_but_no_removal() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    let upper = snapshot.upper();
    copy_up_directory(&snapshot, "etc");
    fs::write(upper.join("etc/passwd"), "changed").unwrap();
    whiteout(&upper.join("etc/owned"));
    fs::create_dir_all(upper.join("etc/cache/deep")).unwrap();
    fs::write(upper.join("etc/cache/deep/noise"), "x").unwrap();
    let layers = fixture.store.layers();
    let parent = layers.tree(&fixture.base).unwrap();
    let left_out = |written: &Written<'_>| {
        assert_eq!(written.is_directory, written.open().unwrap().metadata().unwrap().is_dir());
        written.path.starts_with(b"etc/")
    };
    let committed = layers.commit_upper(snapshot, &parent, &left_out, 7).unwrap();
    let index = committed.layer.load_index().unwrap();
    assert_eq!(in_index(&index), ["etc", "etc/owned"]);
    assert_eq!(at(&index, "etc/owned").node, Node::Whiteout);
    assert_eq!(on_disk(&layers.ensure_files(&committed.layer.id()).unwrap()), ["etc", "etc/owned"]);
}

#[test]
fn a_link_to_a_copied_file_keeps_both_names() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    copy_up_directory(&snapshot, "usr");
    copy_up(&snapshot, "usr/tool");
    fs::hard_link(snapshot.upper().join("usr/tool"), snapshot.upper().join("usr/zool")).unwrap();
    let index = fixture.commit(snapshot);
    assert_eq!(in_index(&index), ["usr", "usr/tool", "usr/zool"]);
    assert_eq!(at(&index, "usr/zool").node, Node::HardLink { target: b"usr/tool".to_vec() });
}

#[test]
fn times_outside_of_the_run_were_set() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    fs::write(snapshot.upper().join("now"), "").unwrap();
    fs::write(snapshot.upper().join("past"), "").unwrap();
    let touched =
        Command::new("touch").args(["-d", "2001-02-03"]).arg(snapshot.upper().join("past")).status();
    assert!(touched.unwrap().success());
    let index = fixture.commit(snapshot);
    assert_eq!(at(&index, "now").mtime.kind, TimeKind::Now);
    assert_eq!(at(&index, "past").mtime.kind, TimeKind::Set);
}

#[test]
fn overlay_attributes_are_taken_out_and_opaque_directories_understood() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    let prefix = fixture.store.ownership().overlay_prefix();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(snapshot.upper().join(path), name, value, XattrFlags::empty()).unwrap();
    };
    for name in ["etc", "fresh"] {
        fs::create_dir(snapshot.upper().join(name)).unwrap();
        set(name, &format!("{prefix}opaque"), b"y");
        set(name, &format!("{prefix}origin"), b"x");
        fs::write(snapshot.upper().join(name).join("passwd"), "root").unwrap();
    }
    set("fresh/passwd", "user.note", b"kept");
    set("fresh/passwd", "user.mica.owner", b"5:6");
    let upper = snapshot.upper();
    let index = fixture.commit(snapshot);
    assert!(!upper.exists());
    assert_eq!(at(&index, "etc").node, Node::Directory { opaque: true });
    assert_eq!(
        at(&index, "fresh").node,
        Node::Directory { opaque: false },
        "there is nothing below it to hide"
    );
    assert_eq!(in_index(&index), ["etc", "etc/passwd", "fresh", "fresh/passwd"]);
    let noted = at(&index, "fresh/passwd");
    assert_eq!(noted.xattrs, BTreeMap::from([(b"user.note".to_vec(), b"kept".to_vec())]));
    assert!(at(&index, "etc").xattrs.is_empty());
}

#[test]
fn redirects_are_refused() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    let name = format!("{}redirect", fixture.store.ownership().overlay_prefix());
    fs::create_dir(snapshot.upper().join("moved")).unwrap();
    rustix::fs::setxattr(snapshot.upper().join("moved"), name, b"/usr", XattrFlags::empty()).unwrap();
    let refused = fixture.try_commit(snapshot);
    assert!(matches!(refused, Err(LayerError::Upper(UpperError::Overlay { .. }))), "{refused:?}");
}

#[test]
fn long_paths_and_many_files_are_read() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    let deep: String = (0..12).map(|number| format!("{number:025}/")).collect();
    fs::create_dir_all(snapshot.upper().join(&deep)).unwrap();
    fs::write(snapshot.upper().join(&deep).join("f"), "deep").unwrap();
    fs::create_dir(snapshot.upper().join("many")).unwrap();
    for number in 0..5_000 {
        fs::write(snapshot.upper().join(format!("many/{number}")), number.to_string()).unwrap();
    }
    let index = fixture.commit(snapshot);
    assert_eq!(index.entries.len(), 12 + 1 + 1 + 5_000);
    assert!(matches!(at(&index, &format!("{deep}f")).node, Node::File { size: 4, .. }));
}

#[test]
fn the_root_counts_when_it_changed() {
    let fixture = Fixture::new();
    let snapshot = fixture.prepare();
    fs::set_permissions(snapshot.upper(), fs::Permissions::from_mode(0o700)).unwrap();
    let index = fixture.commit(snapshot);
    assert_eq!(index.entries.len(), 1);
    assert_eq!((at(&index, "").mode, at(&index, "").path.len()), (0o700, 0));
}

#[test]
fn with_one_user_owners_are_those_of_the_tree_below() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join("store"), Ownership::Single).unwrap();
    let mut owned = file("owned", b"mine");
    (owned.uid, owned.gid) = (33, 44);
    let base = commit(&store.layers(), vec![owned], &[("owned", b"mine")]).layer.id();
    let fixture = Fixture { _home: home, store, base: vec![TreeLayer::made(base)] };
    let snapshot = fixture.prepare();
    for name in ["owned", "new", "given"] {
        fs::write(snapshot.upper().join(name), "changed").unwrap();
    }
    let given = snapshot.upper().join("given");
    rustix::fs::setxattr(given, "user.mica.owner", b"7:8", XattrFlags::empty()).unwrap();
    let index = fixture.commit(snapshot);
    let owner = |path: &str| (at(&index, path).uid, at(&index, path).gid);
    assert_eq!((owner("owned"), owner("new"), owner("given")), ((33, 44), (0, 0), (7, 8)));
    assert!(at(&index, "given").xattrs.is_empty());
}

/// Runs a script in a real overlay of the snapshot; false where the machine does not let us mount.
fn run_in_overlay(snapshot: &Snapshot, script: &str) -> bool {
    let lowers: Vec<_> = snapshot.lowers().iter().map(|lower| lower.to_str().unwrap()).collect();
    let mount = format!(
        "mount -t overlay overlay -o userxattr,redirect_dir=nofollow,lowerdir={}:{},upperdir={},workdir={} {}",
        lowers.join(":"),
        snapshot.skeleton().display(),
        snapshot.upper().display(),
        snapshot.work().display(),
        snapshot.mount_point().display(),
    );
    let mount = if rustix::process::geteuid().is_root() { mount.replace("userxattr,", "") } else { mount };
    let user = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let whole = format!("{mount} || exit 99; cd {} && ({script})", snapshot.mount_point().display());
    let status = Command::new("unshare").args([user, "sh", "-ec", &whole]).status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => true,
        Some(99 | 1) | None => {
            eprintln!("SKIPPED: this machine does not let the test mount an overlay");
            false
        }
        other => panic!("the script failed: {other:?}"),
    }
}

#[test]
fn a_real_overlay_is_read_as_it_is_meant() {
    let fixture = Fixture::new();
    let mut snapshot = fixture.prepare();
    fs::create_dir_all(snapshot.skeleton().join("proc")).unwrap();
    snapshot.start_now().unwrap();
    let script = "echo more >> etc/passwd; rm usr/link; rmdir proc; mv usr/tool usr/zool; \
        rm -r etc/owned; mkdir etc/owned; chmod 644 usr/zool; mkdir tmp; touch tmp/x; rm tmp/x; ln usr/zool usr/same";
    if !run_in_overlay(&snapshot, script) {
        return;
    }
    let index = fixture.commit(snapshot);
    let expected =
        ["etc", "etc/owned", "etc/passwd", "tmp", "usr", "usr/link", "usr/same", "usr/tool", "usr/zool"];
    assert_eq!(in_index(&index), expected);
    assert_eq!(at(&index, "usr/link").node, Node::Whiteout);
    assert_eq!(at(&index, "usr/tool").node, Node::Whiteout);
    assert_eq!(at(&index, "usr/zool").node, Node::HardLink { target: b"usr/same".to_vec() });
    assert!(matches!(at(&index, "etc/owned").node, Node::Directory { .. }));
    assert_eq!(at(&index, "etc/passwd").mtime.kind, TimeKind::Now);
    let expected = FileDigest::of(b"rootmore\n");
    assert!(matches!(at(&index, "etc/passwd").node, Node::File { digest, .. } if digest == expected));
}

#[test]
fn an_equal_step_makes_an_equal_layer() {
    let fixture = Fixture::new();
    let ids: Vec<LayerId> = (0..2)
        .map(|_| {
            let snapshot = fixture.prepare();
            fs::create_dir(snapshot.upper().join("out")).unwrap();
            fs::write(snapshot.upper().join("out/f"), "made").unwrap();
            fixture.commit(snapshot).layer_id()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    let layer = fixture.store.layers().require(&ids[0]).unwrap();
    assert!(layer.index().unwrap().entry(b"out/f").unwrap().is_some());
    assert!(!layer.directory().join("work").exists() && !layer.directory().join("skeleton").exists());
    assert!(fs::metadata(layer.directory().join("files")).unwrap().is_dir());
    assert!(!fs::symlink_metadata(layer.directory().join("files/out")).unwrap().file_type().is_socket());
    assert_eq!(fs::metadata(layer.directory().join("files/out/f")).unwrap().size(), 4);
}
