//! Where members of archives land.

use mica_image::index::{Bytes, Entry, Node, Time, TimeKind};
use mica_image::tree::TreeEntry;

use super::support::{describe, place_on};
use super::tree::TestTree;
use crate::copy::{Content, Item, Part, Reason, Selection, Shape};

fn member(path: &str, node: Node, mode: u32, (uid, gid): (u32, u32), seconds: i64) -> Part {
    let mtime = Time { seconds, nanoseconds: 0, kind: TimeKind::Set };
    let entry = Entry { path: path.into(), mode, uid, gid, mtime, xattrs: Default::default(), node };
    Part {
        path: path.into(),
        entry: TreeEntry { entry: std::sync::Arc::new(entry), link: None },
        reason: Reason::Chosen,
        content: Content::Inline((*b"x").into()),
    }
}

fn file(path: &str) -> Part {
    let node = Node::File { size: 1, digest: mica_image::FileDigest::of(b"x"), bytes: Bytes::Here };
    member(path, node, 0o640, (11, 22), 9)
}

fn dir(path: &str) -> Part {
    member(path, Node::Directory { opaque: false }, 0o700, (5, 0), 8)
}

fn link(path: &str, target: &str) -> Part {
    member(path, Node::Symlink { target: target.into() }, 0o777, (0, 0), 7)
}

fn extract(parts: Vec<Part>, image: &TestTree, to: &str) -> Vec<String> {
    extract_with(parts, image, to, None, None)
}

fn extract_with(
    parts: Vec<Part>,
    image: &TestTree,
    to: &str,
    chown: Option<(u32, u32)>,
    chmod: Option<&str>,
) -> Vec<String> {
    let item = Item { source: b"x.tar".to_vec(), shape: Shape::Members, parts };
    match place_on(&[&Selection { items: vec![item] }], image, to, chown, chmod) {
        Ok(placement) => describe(&placement),
        Err(error) => vec![format!("error: {error}")],
    }
}

#[test]
fn members_keep_owners_modes_and_times_and_implied_directories_are_roots() {
    assert_eq!(
        extract(vec![dir("in"), file("in/f"), link("in/l", "f"), file("deep/er/g")], &TestTree::new(), "/t"),
        [
            "t 0755 0:0 dir",
            "t/deep 0755 0:0 dir",
            "t/deep/er 0755 0:0 dir",
            "t/deep/er/g 0640 11:22 file of 1 @9",
            "t/in 0700 5:0 dir @8",
            "t/in/f 0640 11:22 file of 1 @9",
            "t/in/l 0777 0:0 link to f @7"
        ]
    );
}

#[test]
fn chown_applies_to_members_and_chmod_to_nothing() {
    assert_eq!(
        extract_with(vec![dir("d"), file("d/f")], &TestTree::new(), "/t/", Some((1, 2)), Some("777")),
        ["t 0755 1:2 dir", "t/d 0700 1:2 dir @8", "t/d/f 0640 1:2 file of 1 @9"]
    );
}

#[test]
fn members_replace_what_is_there_and_merge_with_directories() {
    let image = TestTree::new()
        .dir("t/in/d")
        .file("t/in/f", "old")
        .file("t/in/keep", "k")
        .file("t/in/l", "l")
        .file("t/gone/x", "x")
        .file("t/file", "f");
    assert_eq!(
        extract(
            vec![
                dir("in"),
                file("in/f"),
                link("in/l", "f"),
                dir("in/d"),
                file("gone"),
                dir("file"),
                file("file/y")
            ],
            &image,
            "/t/"
        ),
        [
            "(t 0755 0:0 dir)",
            "t/file 0700 5:0 dir @8",
            "t/file/y 0640 11:22 file of 1 @9",
            "t/gone 0640 11:22 file of 1 @9",
            "t/in 0700 5:0 dir @8",
            "t/in/d 0700 5:0 dir @8",
            "t/in/f 0640 11:22 file of 1 @9",
            "t/in/l 0777 0:0 link to f @7"
        ]
    );
}

#[test]
fn a_directory_that_replaces_a_replaced_one_hides_what_that_had() {
    let image = TestTree::new().file("t/d/x", "x").file("t/d/e/y", "y");
    assert_eq!(
        extract(vec![file("d"), dir("d"), file("d/e/z")], &image, "/t"),
        [
            "(t 0755 0:0 dir)",
            "t/d 0700 5:0 opaque dir @8",
            "t/d/e 0755 0:0 dir",
            "t/d/e/z 0640 11:22 file of 1 @9"
        ]
    );
    assert_eq!(
        extract(vec![file("n/a"), file("n"), file("n/b")], &TestTree::new(), "/"),
        ["error: `/n` is not a directory"]
    );
}

#[test]
fn the_last_of_equal_names_wins() {
    let second = member("f", Node::Fifo, 0o600, (0, 0), 1);
    assert_eq!(extract(vec![file("f"), second], &TestTree::new(), "/"), ["f 0600 0:0 fifo @1"]);
}

#[test]
fn no_link_of_the_image_leads_out_of_the_destination() {
    let image = TestTree::new()
        .dir("srv")
        .file("etc/passwd", "root")
        .link("t/lnk", "/srv")
        .link("t/up", "../../../etc");
    assert_eq!(
        extract(vec![file("lnk/x"), file("up/passwd"), link("late", "/")], &image, "/t"),
        [
            "(t 0755 0:0 dir)",
            "t/etc 0755 0:0 dir",
            "t/etc/passwd 0640 11:22 file of 1 @9",
            "t/late 0777 0:0 link to / @7",
            "t/srv 0755 0:0 dir",
            "t/srv/x 0640 11:22 file of 1 @9"
        ]
    );
}

#[test]
fn names_of_one_inode_stay_together_wherever_links_of_the_image_lead() {
    let named = |path: &str| {
        let mut part = file(path);
        part.entry.link = Some(3);
        part
    };
    let image = TestTree::new().link("t/var/run", "/run").dir("t/run");
    assert_eq!(
        extract(vec![named("a"), named("var/run/b"), file("z")], &image, "/t"),
        [
            "(t 0755 0:0 dir)",
            "t/a 0640 11:22 file of 1 @9",
            "(t/run 0755 0:0 dir)",
            "t/run/b 0640 11:22 same as t/a @9",
            "t/z 0640 11:22 file of 1 @9"
        ]
    );
}

#[test]
fn the_archives_own_root_does_nothing() {
    let image = TestTree::new().file("t/f", "f");
    assert!(extract(vec![dir("")], &image, "/t").is_empty());
}

#[test]
fn an_archive_needs_a_directory() {
    let image = TestTree::new().file("f", "f");
    assert_eq!(extract(vec![file("x")], &image, "/f"), ["error: `/f` is not a directory"]);
}
