//! Where copies land.

use std::sync::Arc;

use mica_image::index::{Time, TimeKind};

use super::support::{copy, describe, place_on};
use super::tree::TestTree;
use crate::copy::{Origin, Owner, Selection, WorkdirOptions, workdir};

fn scratch() -> TestTree {
    TestTree::new()
}

fn context() -> TestTree {
    TestTree::new()
        .file("a", "a")
        .file("b", "bb")
        .file("dir/f", "fff")
        .mode("dir", 0o711)
        .dir("dir/sub")
        .mode("dir/sub", 0o700)
}

#[test]
fn a_file_takes_the_destination_or_lands_inside() {
    assert_eq!(copy(&["a"]).run(&context(), &scratch(), "/x"), ["x 0644 0:0 file of 1"]);
    let inside = ["t 0755 0:0 dir", "t/a 0644 0:0 file of 1"];
    assert_eq!(copy(&["a"]).run(&context(), &scratch(), "/t/"), inside);
    assert_eq!(copy(&["a"]).run(&context(), &scratch(), "/t/."), inside);
    let existing = scratch().dir("t").mode("t", 0o1777).owner("t", 3, 4);
    assert_eq!(copy(&["a"]).run(&context(), &existing, "/t"), ["(t 1777 3:4 dir)", "t/a 0644 0:0 file of 1"]);
}

#[test]
fn of_several_files_without_a_slash_the_last_wins() {
    assert_eq!(copy(&["a", "b"]).run(&context(), &scratch(), "/x"), ["x 0644 0:0 file of 2"]);
    assert_eq!(
        copy(&["a", "b"]).run(&context(), &scratch(), "/x/"),
        ["x 0755 0:0 dir", "x/a 0644 0:0 file of 1", "x/b 0644 0:0 file of 2"]
    );
}

#[test]
fn a_directory_gives_its_content_and_a_new_one_is_roots() {
    let source = context().owner("dir", 9, 9).owner("dir/sub", 7, 8);
    assert_eq!(
        copy(&["dir"]).run(&source, &scratch(), "/t"),
        ["t 0755 0:0 dir", "t/f 0644 0:0 file of 3", "t/sub 0700 7:8 dir"]
    );
}

#[test]
fn a_directory_that_is_copied_onto_keeps_its_attributes_but_those_below_do_not() {
    let image = scratch()
        .dir("home/app")
        .mode("home/app", 0o700)
        .owner("home/app", 5, 5)
        .dir("home/app/sub")
        .owner("home/app/sub", 6, 6)
        .mode("home/app/sub", 0o777);
    assert_eq!(
        copy(&["dir"]).run(&context(), &image, "/home/app"),
        [
            "(home 0755 0:0 dir)",
            "(home/app 0700 5:5 dir)",
            "home/app/f 0644 0:0 file of 3",
            "home/app/sub 0700 0:0 dir"
        ]
    );
}

#[test]
fn missing_parents_are_roots_or_the_owners_of_the_flag() {
    assert_eq!(
        copy(&["a"]).run(&context(), &scratch(), "/p/q/x"),
        ["p 0755 0:0 dir", "p/q 0755 0:0 dir", "p/q/x 0644 0:0 file of 1"]
    );
    assert_eq!(
        copy(&["a"]).chown(3, 4).chmod("4750").run(&context(), &scratch(), "/p/x"),
        ["p 0750 3:4 dir", "p/x 4750 3:4 file of 1"]
    );
    assert_eq!(
        copy(&["dir"]).chmod("go=").run(&context(), &scratch(), "/p/x"),
        ["p 0755 0:0 dir", "p/x 0755 0:0 dir", "p/x/f 0600 0:0 file of 3", "p/x/sub 0700 0:0 dir"]
    );
}

#[test]
fn chmod_and_chown_hit_everything_but_the_modes_of_links() {
    let source = scratch().file("d/f", "f").link("d/l", "f").dir("d/s").mode("d/s", 0o700).fifo("d/p");
    assert_eq!(
        copy(&["d"]).chown(1, 2).chmod("u=rwX,go=rX").run(&source, &scratch(), "/t"),
        [
            "t 0755 1:2 dir",
            "t/f 0644 1:2 file of 1",
            "t/l 0777 1:2 link to f",
            "t/p 0644 1:2 fifo",
            "t/s 0755 1:2 dir"
        ]
    );
}

#[test]
fn special_bits_and_owners_of_stages_are_kept() {
    let source = scratch().file("o/f", "x").mode("o/f", 0o4711).owner("o/f", 1000, 50);
    assert_eq!(copy(&["o"]).run(&source, &scratch(), "/t"), ["t 0755 0:0 dir", "t/f 4711 1000:50 file of 1"]);
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let image = scratch().file("x/f", "").dir("y/a/z").file("z", "");
    let check = |sources: &[&str], to: &str, expect: &str| {
        assert_eq!(
            copy(sources).run(&context(), &image, to),
            [format!("error: {expect}")],
            "{sources:?} {to}"
        );
    };
    check(&["a"], "/y/", "cannot copy `a` to `/y/a`: a directory cannot be replaced with something else");
    check(
        &["dir"],
        "/z",
        "cannot copy the directory `dir` to `/z`: there is something that is not a directory",
    );
    check(&["a"], "/z/", "`/z` is not a directory");
    check(&["a"], "/z/q", "`/z` is not a directory");
    check(&["a"], "/z/q/r", "cannot follow `/z/q`: `/z` is not a directory");
    let source = scratch().file("s/x", "");
    assert_eq!(
        copy(&["s"]).run(&source, &image, "/"),
        ["error: cannot copy `s/x` to `/x`: a directory cannot be replaced with something else"]
    );
    let source = scratch().dir("s/x/f");
    assert_eq!(
        copy(&["s"]).run(&source, &image, "/"),
        ["error: cannot copy the directory `s/x/f` to `/x/f`: there is something that is not a directory"]
    );
}

#[test]
fn links_of_the_destination_are_followed_inside_the_root() {
    let image = scratch().dir("srv").link("l", "/srv").link("out", "../../new/place").link("f", "srv/real");
    assert_eq!(
        copy(&["a"]).run(&context(), &image, "/l"),
        ["(srv 0755 0:0 dir)", "srv/a 0644 0:0 file of 1"]
    );
    assert_eq!(
        copy(&["a"]).run(&context(), &image, "/l/x"),
        ["(srv 0755 0:0 dir)", "srv/x 0644 0:0 file of 1"]
    );
    assert_eq!(
        copy(&["a"]).run(&context(), &image, "/out/"),
        ["new 0755 0:0 dir", "new/place 0755 0:0 dir", "new/place/a 0644 0:0 file of 1"]
    );
    assert_eq!(
        copy(&["a"]).run(&context(), &image, "/f"),
        ["(srv 0755 0:0 dir)", "srv/real 0644 0:0 file of 1"]
    );
}

#[test]
fn a_link_met_inside_a_directory_is_replaced_by_a_file_and_refuses_a_directory() {
    let image = scratch().link("t/f", "/etc/passwd").link("u/sub", "/srv").dir("srv");
    assert_eq!(
        copy(&["dir/f"]).run(&context(), &image, "/t/"),
        ["(t 0755 0:0 dir)", "t/f 0644 0:0 file of 3"]
    );
    assert_eq!(
        copy(&["dir"]).run(&context(), &image, "/u"),
        [
            "error: cannot copy the directory `dir/sub` to `/u/sub`: there is something that is not a directory"
        ]
    );
}

#[test]
fn the_root_is_a_destination_like_any_other() {
    assert_eq!(copy(&["a"]).run(&context(), &scratch(), "/"), ["a 0644 0:0 file of 1"]);
    assert_eq!(copy(&["dir"]).run(&context(), &scratch(), "/"), ["f 0644 0:0 file of 3", "sub 0700 0:0 dir"]);
}

#[test]
fn copying_nothing_places_nothing() {
    assert!(copy(&["*.none"]).run(&context(), &scratch(), "/t/").is_empty());
    let source = scratch().dir("e");
    assert_eq!(copy(&["e"]).run(&source, &scratch(), "/t"), ["t 0755 0:0 dir"]);
    assert!(copy(&["e"]).run(&source, &scratch().dir("t"), "/t").is_empty());
}

#[test]
fn names_of_one_inode_stay_together_within_one_source() {
    let source =
        scratch().file("d/a", "x").file("d/s/b", "x").file("d/c", "x").linked(4, &["d/a", "d/s/b", "d/c"]);
    assert_eq!(
        copy(&["d"]).chown(1, 1).run(&source, &scratch(), "/t"),
        [
            "t 0755 1:1 dir",
            "t/a 0644 1:1 file of 1",
            "t/c 0644 1:1 same as t/a",
            "t/s 0755 1:1 dir",
            "t/s/b 0644 1:1 same as t/a"
        ]
    );
    assert_eq!(
        copy(&["d/a", "d/c"]).run(&source, &scratch(), "/t/"),
        ["t 0755 0:0 dir", "t/a 0644 0:0 file of 1", "t/c 0644 0:0 file of 1"]
    );
    assert_eq!(
        copy(&["d", "o"]).run(&source.file("o/a", "yy"), &scratch(), "/t"),
        [
            "t 0755 0:0 dir",
            "t/a 0644 0:0 file of 2",
            "t/c 0644 0:0 file of 1",
            "t/s 0755 0:0 dir",
            "t/s/b 0644 0:0 same as t/c"
        ]
    );
}

#[test]
fn directories_kept_by_parents_bring_their_attributes() {
    let source = scratch().file("o/a/b/f", "1").owner("o/a/b", 5, 5).mode("o/a", 0o700).owner("o/a", 4, 4);
    assert_eq!(
        copy(&["/o/a/b/f"]).parents().run(&source, &scratch(), "/t/"),
        [
            "t 0755 0:0 dir",
            "t/o 0755 0:0 dir",
            "t/o/a 0700 4:4 dir",
            "t/o/a/b 0755 5:5 dir",
            "t/o/a/b/f 0644 0:0 file of 1"
        ]
    );
    let image = scratch().dir("t/o/a").owner("t/o/a", 9, 9);
    assert_eq!(
        copy(&["/o/a/b"]).parents().chmod("711").chown(1, 1).run(&source, &image, "/t/"),
        [
            "(t 0755 0:0 dir)",
            "t/o 0755 0:0 dir",
            "t/o/a 0700 9:9 dir",
            "t/o/a/b 0711 1:1 dir",
            "t/o/a/b/f 0711 1:1 file of 1"
        ],
        "directories on the way that exist get the bare mode and keep their owner"
    );
    assert_eq!(copy(&["/o/x*"]).parents().run(&source, &scratch(), "/t/"), ["t 0755 0:0 dir"]);
}

#[test]
fn inline_files_and_downloads_are_files_with_a_name() {
    let now = Time { seconds: 77, nanoseconds: 7, kind: TimeKind::Now };
    let heredoc = Selection::from_inline(b"EOF", Arc::from(*b"text\n"), 0o644, now);
    let modified = Time { seconds: 1_000_000_000, nanoseconds: 0, kind: TimeKind::Set };
    let digest = mica_image::FileDigest::of(b"12");
    let download = Selection::from_file(
        b"plain.txt",
        std::path::Path::new("/spool/1").into(),
        (2, digest),
        0o600,
        modified,
    );
    let placement = place_on(&[&heredoc, &download], &scratch(), "/t/", None, None).unwrap();
    assert_eq!(
        describe(&placement),
        ["t 0755 0:0 dir", "t/EOF 0644 0:0 file of 5", "t/plain.txt 0600 0:0 file of 2 @1000000000"]
    );
    assert_eq!(placement.entries[1].origin, Some(Origin::Inline(Arc::from(*b"text\n"))));
    let placement =
        place_on(&[&heredoc], &scratch(), "/usr/bin/tool", Some((1000, 50)), Some("755")).unwrap();
    assert_eq!(
        describe(&placement),
        ["usr 0755 1000:50 dir", "usr/bin 0755 1000:50 dir", "usr/bin/tool 0755 1000:50 file of 5"]
    );
}

#[test]
fn ordinary_sources_and_inline_ones_see_each_others_directories() {
    let now = Time { seconds: 77, nanoseconds: 7, kind: TimeKind::Now };
    let first = copy(&["dir"]).select(&context()).unwrap();
    let second = Selection::from_inline(b"EOF", Arc::from(*b"text\n"), 0o644, now);
    let placement = place_on(&[&first, &second], &scratch(), "/t", None, None).unwrap();
    assert_eq!(
        describe(&placement),
        ["t 0755 0:0 dir", "t/EOF 0644 0:0 file of 5", "t/f 0644 0:0 file of 3", "t/sub 0700 0:0 dir"]
    );
}

#[test]
fn the_destination_is_asked_for_as_little_as_possible() {
    let mut source = scratch();
    for number in 0..50 {
        source = source.file(&format!("s/new/{number}/f"), "x");
    }
    let image = scratch().dir("app").file("app/other", "").file("elsewhere/x", "");
    copy(&["s"]).place(&source, &image, "/app/").unwrap();
    assert_eq!(image.asked(), ["app", "app/new"]);
    let empty = scratch();
    copy(&["s"]).place(&source, &empty, "/p/q/").unwrap();
    assert_eq!(empty.asked(), ["p"]);
}

#[test]
fn files_know_where_their_bytes_come_from() {
    let placement = copy(&["a"]).place(&context(), &scratch(), "/x").unwrap();
    let Some(Origin::Tree { selection: 0, entry }) = &placement.entries[0].origin else {
        panic!("{:?}", placement.entries[0]);
    };
    assert_eq!(entry.path, b"a");
}

#[test]
fn copied_directories_bring_their_times_and_made_ones_have_todays() {
    let source = scratch().dir("d/s").mtime("d", 11, TimeKind::Set).mtime("d/s", 12, TimeKind::Set);
    let placement = copy(&["d"]).place(&source, &scratch(), "/p/t").unwrap();
    let times: Vec<_> = placement.entries.iter().map(|placed| placed.entry.mtime.seconds).collect();
    assert_eq!(times, [77, 11, 12]);
    assert!(placement.entries.iter().all(|placed| placed.entry.mtime.kind == TimeKind::Now));
}

#[test]
fn a_working_directory_is_made_for_its_user() {
    let image = scratch().dir("srv/wdir").owner("srv/wdir", 9, 9).link("w", "srv").file("f", "");
    let make = |path: &str| {
        let options = WorkdirOptions { owner: Owner { uid: 1000, gid: 1001 }, now: (77, 7) };
        match workdir(path.as_bytes(), &image, &options) {
            Ok(placement) => describe(&placement),
            Err(error) => vec![super::support::message(&error)],
        }
    };
    assert_eq!(
        make("/srv/wdir/sub/x"),
        [
            "(srv 0755 0:0 dir)",
            "(srv/wdir 0755 9:9 dir)",
            "srv/wdir/sub 0755 1000:1001 dir",
            "srv/wdir/sub/x 0755 1000:1001 dir"
        ]
    );
    assert!(make("/srv/wdir/").is_empty() && make("/").is_empty());
    assert_eq!(make("/w/new"), ["(srv 0755 0:0 dir)", "srv/new 0755 1000:1001 dir"]);
    assert_eq!(make("/f"), ["`/f` is not a directory"]);
    assert_eq!(make("/f/x"), ["cannot follow `/f/x`: `/f` is not a directory"]);
}
