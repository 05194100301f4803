//! Which entries a source takes.

use mica_image::index::{Time, TimeKind};

use super::support::{Copy, copy};
use super::tree::TestTree;
use crate::copy::{Listed, Selection};

/// The items of a selection, each as `source: path path …`.
fn chosen(copy: &Copy<'_>, source: &TestTree) -> Vec<String> {
    let selection = match copy.select(source) {
        Ok(selection) => selection,
        Err(error) => return vec![format!("error: {error}")],
    };
    let lines = selection.items.iter().map(|item| {
        let paths: Vec<_> = item.parts.iter().map(|part| String::from_utf8_lossy(&part.path)).collect();
        format!("{}: {}", String::from_utf8_lossy(&item.source), paths.join(" ")).trim_end().to_owned()
    });
    lines.collect()
}

fn context() -> TestTree {
    TestTree::new()
        .file("a.txt", "a")
        .file(".hid.txt", "h")
        .file("c.md", "c")
        .file("d1/x", "1")
        .file("d2/sub/y", "2")
        .link("d3", "d1")
        .link("lnk", "a.txt")
        .link("dangling", "/nope")
        .link("escape", "../../../etc/passwd")
        .link("nested/inner", "../a.txt")
}

#[test]
fn a_directory_gives_its_content_and_a_file_itself() {
    assert_eq!(chosen(&copy(&["d2", "a.txt"]), &context()), ["d2: sub sub/y", "a.txt:"]);
    assert_eq!(chosen(&copy(&["d2/", "d2/."]), &context()), ["d2: sub sub/y", "d2: sub sub/y"]);
}

#[test]
fn a_wildcard_matches_within_one_component_dot_files_included() {
    assert_eq!(chosen(&copy(&["*.txt"]), &context()), [".hid.txt:", "a.txt:"]);
    assert_eq!(chosen(&copy(&["d?"]), &context()), ["d1: x", "d2: sub sub/y", "d3: x"]);
    assert_eq!(chosen(&copy(&["d?/*"]), &context()), ["d1/x:", "d2/sub: y"]);
    assert_eq!(chosen(&copy(&["*/sub/y"]), &context()), ["d2/sub/y:"]);
    assert_eq!(chosen(&copy(&["d3/*"]), &context()), ["d1/x:"]);
}

#[test]
fn a_wildcard_without_a_match_takes_nothing_but_its_directory_must_exist() {
    assert!(chosen(&copy(&["*.none", "a.txt/*"]), &context()).is_empty());
    assert_eq!(
        chosen(&copy(&["none/*"]), &context()),
        ["error: `none/*` not found: it leads to `/none`, which does not exist"]
    );
    assert_eq!(chosen(&copy(&["[a"]), &context()), ["error: `[a` is not a valid pattern"]);
}

#[test]
fn a_literal_source_must_exist() {
    assert_eq!(chosen(&copy(&["b.log"]), &context()), ["error: `b.log` not found"]);
    assert_eq!(chosen(&copy(&["a.txt/x"]), &context()), ["error: `a.txt/x` not found"]);
    assert_eq!(
        chosen(&copy(&["escape"]), &context()),
        ["error: `escape` not found: it leads to `/etc/passwd`, which does not exist"]
    );
}

#[test]
fn sources_stay_inside_whatever_their_dots_say() {
    assert_eq!(chosen(&copy(&["/a.txt", "../a.txt", "d1/../../a.txt"]), &context()), ["a.txt:"; 3]);
}

#[test]
fn links_are_followed_where_they_are_named_and_kept_below() {
    let context = context();
    let selection = copy(&["lnk", "d3", "nested"]).select(&context).unwrap();
    let origins: Vec<_> = selection
        .items
        .iter()
        .flat_map(|item| &item.parts)
        .map(|part| String::from_utf8_lossy(&part.entry.entry.path).into_owned())
        .collect();
    assert_eq!(origins, ["a.txt", "d1/x", "nested/inner"]);
    assert!(matches!(selection.items[2].parts[0].entry.entry.node, mica_image::index::Node::Symlink { .. }));
}

#[test]
fn a_followed_link_keeps_its_own_name() {
    let selection = copy(&["lnk"]).select(&context()).unwrap();
    assert_eq!(selection.items[0].shape, crate::copy::Shape::Named(b"lnk".to_vec()));
}

#[test]
fn exclusions_are_relative_to_the_source_and_never_hit_it() {
    let tree =
        TestTree::new().file("s/a.c", "a").file("s/a.h", "h").file("s/d/b.c", "b").file("s/d/e/c.h", "c");
    assert_eq!(chosen(&copy(&["s"]).exclude(&["*.c"]), &tree), ["s: a.h d d/b.c d/e d/e/c.h"]);
    assert_eq!(chosen(&copy(&["s"]).exclude(&["d"]), &tree), ["s: a.c a.h"]);
    assert_eq!(chosen(&copy(&["s/a.c"]).exclude(&["*"]), &tree), ["s/a.c:"]);
    assert_eq!(chosen(&copy(&["s"]).exclude(&["**", "!**/*.h"]), &tree), ["s: a.h d d/e d/e/c.h"]);
}

#[test]
fn parents_are_kept_from_the_pivot_on() {
    let tree = TestTree::new()
        .file("t/a/b/c/d/foo", "1")
        .file("t/a/b/c/d/e/bay", "2")
        .file("t/a/b2/c/d/e/bar", "3")
        .file("t/a/b2/c/other", "4");
    let check = |source: &str, expect: &[&str]| {
        assert_eq!(chosen(&copy(&[source]).parents(), &tree), expect, "{source}");
    };
    check("/t/a/b/c/d/foo", &[": t t/a t/a/b t/a/b/c t/a/b/c/d t/a/b/c/d/foo"]);
    check("/t/a/b/c/d/.", &[": t t/a t/a/b t/a/b/c t/a/b/c/d t/a/b/c/d/e t/a/b/c/d/e/bay t/a/b/c/d/foo"]);
    check("t/a/b/./c/d/e", &["t/a/b: c c/d c/d/e c/d/e/bay"]);
    check("t/a/./b2/./c/other", &["t/a: b2 b2/c b2/c/other"]);
    check("t/a/./*/c/other", &["t/a: b2 b2/c b2/c/other"]);
    check("t/a/b*/./c/**/e", &["t/a/b: c c/d c/d/e c/d/e/bay", "t/a/b2: c c/d c/d/e c/d/e/bar"]);
    check("t/a/b/./c2*", &["t/a/b:"]);
    check("t/none", &["error: `t/none` not found"]);
    check("t/a/./none", &["error: `t/a/./none` not found"]);
}

#[test]
fn times_do_not_count_and_attributes_of_other_kinds_do_not_travel() {
    let tree = TestTree::new()
        .file("f", "f")
        .mtime("f", 42, TimeKind::Set)
        .xattr("f", "user.a", "1")
        .xattr("f", "security.capability", "2")
        .xattr("f", "security.selinux", "3")
        .xattr("f", "system.posix_acl_access", "4");
    let selection = copy(&["f"]).select(&tree).unwrap();
    let entry = &selection.items[0].parts[0].entry.entry;
    assert_eq!(entry.mtime, Time { seconds: 42, nanoseconds: 0, kind: TimeKind::Now });
    assert_eq!(entry.xattrs.keys().collect::<Vec<_>>(), [&b"security.capability"[..], b"user.a"]);
}

mod digest {
    use super::*;

    fn digest(sources: &[&str], tree: &TestTree) -> [u8; 32] {
        copy(sources).select(tree).unwrap().digest()
    }

    #[test]
    fn moving_a_source_and_touching_it_changes_nothing() {
        let old = TestTree::new().file("a/f", "x").file("a/d/g", "y");
        let new = TestTree::new().file("b/f", "x").mtime("b/f", 9, TimeKind::Now).file("b/d/g", "y");
        assert_eq!(digest(&["a/f"], &old), digest(&["b/f"], &new));
        assert_eq!(digest(&["a"], &old), digest(&["b"], &new));
        assert_eq!(digest(&["a/*"], &old), digest(&["b/*"], &new));
    }

    #[test]
    fn everything_that_shows_in_the_result_counts() {
        let base = || TestTree::new().file("d/f", "x").file("d/g", "x").link("d/l", "f").dir("d/e");
        let before = digest(&["d"], &base());
        let changed = [
            ("content", base().file("d/f", "y")),
            ("name", TestTree::new().file("d/h", "x").file("d/g", "x").link("d/l", "f").dir("d/e")),
            ("mode", base().mode("d/f", 0o600)),
            ("mode of a directory", base().mode("d/e", 0o700)),
            ("owner", base().owner("d/f", 1, 0)),
            ("group", base().owner("d/f", 0, 1)),
            ("link target", base().link("d/l", "g")),
            ("kind", base().dir("d/f")),
            ("attribute", base().xattr("d/f", "user.x", "")),
            ("one more", base().dir("d/e/e")),
            ("hard link", base().linked(1, &["d/f", "d/g"])),
        ];
        for (what, tree) in changed {
            assert_ne!(digest(&["d"], &tree), before, "{what}");
        }
        assert_ne!(digest(&["d/f"], &base()), digest(&["d/g"], &base()), "name of the source");
        assert_ne!(digest(&["d/f", "d/g"], &base()), digest(&["d/g", "d/f"], &base()), "order");
    }

    #[test]
    fn a_hard_link_to_something_outside_counts_for_nothing() {
        let plain = TestTree::new().file("d/f", "x").file("out", "x");
        let linked = TestTree::new().file("d/f", "x").file("out", "x").linked(7, &["d/f", "out"]);
        assert_eq!(digest(&["d"], &plain), digest(&["d"], &linked));
    }

    #[test]
    fn its_value_is_pinned() {
        let tree = TestTree::new()
            .file("d/f", "x")
            .file("d/g", "x")
            .linked(3, &["d/f", "d/g"])
            .link("d/l", "f")
            .fifo("d/p")
            .mode("d/f", 0o4711)
            .xattr("d/f", "user.x", "1");
        let inline = Selection::from_inline(
            b"EOF",
            (*b"text\n").into(),
            0o600,
            Time { seconds: 1, nanoseconds: 2, kind: TimeKind::Set },
        );
        let hex = |digest: [u8; 32]| mica_image::FileDigest::from_bytes(digest).hex();
        assert_eq!(
            hex(digest(&["d", "d/f"], &tree)),
            "1e32006dee8342ec1dc6f10728411b131f54a3b9fc65fe1af7e63322be712dfe"
        );
        assert_eq!(hex(inline.digest()), "ef356a0578cf339df43e11d80014edb441d638230fdb1afc7707b939c1ac4a17");
    }
}

#[test]
fn a_listing_says_everything_that_counts() {
    let tree = TestTree::new()
        .file("d/f", "x")
        .file("d/g", "x")
        .linked(3, &["d/f", "d/g"])
        .link("d/l", "f")
        .owner("d/f", 5, 6);
    let selection = copy(&["d", "d/l"]).select(&tree).unwrap();
    let mut lines = Vec::new();
    let take = |line: Listed<'_>| {
        lines.push(format!("{} = {}", line.path, line.state));
        Ok::<_, std::convert::Infallible>(())
    };
    selection.list(take).unwrap();
    let x = mica_image::FileDigest::of(b"x");
    assert_eq!(
        lines,
        [
            format!("d/f = file 0644 5:6 1 {x} linked with f"),
            format!("d/g = file 0644 0:0 1 {x} linked with f"),
            "d/l = symlink 0777 0:0 -> f".to_owned(),
            format!("l = file 0644 5:6 1 {x}"),
        ]
    );
}
