//! Archives, from their bytes to where their members land.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use mica_image::RootDir;
use mica_image::compress::{GzipEncoder, ZstdEncoder};
use mica_image::index::{Time, TimeKind};
use mica_image::root_dir::Links;
use tempfile::TempDir;

use super::support::{copy, describe, message, place_on};
use super::tree::TestTree;
use crate::copy::{Origin, Ownership, Selection, Shape, WriteOptions, expand_archives, write};

/// A tar in the making, header by header.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn member(
        mut self,
        name: &str,
        kind: u8,
        (mode, uid, gid): (u32, u32, u32),
        link: &str,
        content: &str,
    ) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, &format!("{uid:07o}"));
        put(116, &format!("{gid:07o}"));
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{:011o}", 1_000_000_000));
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(header);
        self.0.extend(content.as_bytes());
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.member(name, b'0', (0o640, 11, 22), "", content)
    }

    fn dir(self, name: &str) -> Self {
        self.member(name, b'5', (0o700, 5, 0), "", "")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.member(name, b'2', (0o777, 0, 0), target, "")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.member(name, b'1', (0o640, 11, 22), target, "")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn plain() -> Vec<u8> {
    Tar::default()
        .dir("in/")
        .file("in/f", "tarred\n")
        .link("in/l", "f")
        .hard("in/h", "in/f")
        .file("./.wh.x", "just a name")
        .end()
}

fn inline(name: &str, content: &[u8]) -> Selection {
    let now = Time { seconds: 77, nanoseconds: 7, kind: TimeKind::Now };
    Selection::from_inline(name.as_bytes(), content.into(), 0o644, now)
}

fn no_tree(_: &Origin) -> io::Result<File> {
    panic!("there is no tree")
}

fn expanded(name: &str, content: &[u8], spool: &Path) -> Result<Selection, String> {
    expand_archives(inline(name, content), 0, &no_tree, spool).map_err(|error| message(&error))
}

const EXTRACTED: [&str; 6] = [
    "t 0755 0:0 dir",
    "t/.wh.x 0640 11:22 file of 11 @1000000000",
    "t/in 0700 5:0 dir @1000000000",
    "t/in/f 0640 11:22 file of 7 @1000000000",
    "t/in/h 0640 11:22 same as t/in/f @1000000000",
    "t/in/l 0777 0:0 link to f @1000000000",
];

#[test]
fn archives_are_known_by_their_content_in_every_compression() {
    let mut gzip = GzipEncoder::new(Vec::new(), 6, 1).unwrap();
    gzip.write_all(&plain()).unwrap();
    let mut zstd = ZstdEncoder::new(Vec::new(), 3, 1).unwrap();
    zstd.write_all(&plain()).unwrap();
    for content in [plain(), gzip.finish().unwrap(), zstd.finish().unwrap()] {
        let spool = TempDir::new().unwrap();
        let selection = expanded("whatever.txt", &content, spool.path()).unwrap();
        let placement = place_on(&[&selection], &TestTree::new(), "/t", None, None).unwrap();
        assert_eq!(describe(&placement), EXTRACTED);
    }
}

#[test]
fn what_is_no_archive_stays_a_file() {
    for content in [&b""[..], b"text", &[0; 1024], &[0x1f, 0x8b, 8, 0]] {
        let spool = TempDir::new().unwrap();
        let selection = expanded("x.tar.gz", content, spool.path()).unwrap();
        assert_eq!(selection, inline("x.tar.gz", content));
    }
    let spool = TempDir::new().unwrap();
    let tree = TestTree::new().file("d/x.tar", "").link("l", "d");
    let selection = copy(&["d"]).select(&tree).unwrap();
    let same = expand_archives(selection.clone(), 0, &no_tree, spool.path()).unwrap();
    assert_eq!(same, selection, "archives inside of directories are not looked at");
}

#[test]
fn files_of_the_tree_are_opened_through_the_caller() {
    let spool = TempDir::new().unwrap();
    let archive = spool.path().join("archive");
    fs::write(&archive, plain()).unwrap();
    let tree = TestTree::new().file("a.tar", "its size does not matter here").file("b.tar", "");
    let selection = copy(&["*.tar"]).select(&tree).unwrap();
    let open = |origin: &Origin| match origin {
        Origin::Tree { selection: 3, entry } if entry.path == b"a.tar" => File::open(&archive),
        Origin::Tree { selection: 3, .. } => File::open("/dev/null"),
        other => panic!("{other:?}"),
    };
    let members = TempDir::new().unwrap();
    let selection = expand_archives(selection, 3, &open, members.path()).unwrap();
    assert_eq!(selection.items[0].shape, Shape::Members);
    assert_eq!(selection.items[1].shape, Shape::Named(b"b.tar".to_vec()));
    let tree = TestTree::new().file("a.tar", "");
    let selection = copy(&["a.tar"]).select(&tree).unwrap();
    let gone = |_: &Origin| Err(io::ErrorKind::NotFound.into());
    let error = expand_archives(selection, 0, &gone, members.path()).unwrap_err();
    assert_eq!(message(&error), "cannot open `a.tar`: entity not found");
}

#[test]
fn members_arrive_in_the_layer_and_the_spool_is_emptied() {
    let (spool, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let selection = expanded("x.tar", &plain(), spool.path()).unwrap();
    let placement = place_on(&[&selection], &TestTree::new(), "/t", Some((0, 0)), None).unwrap();
    let root = rustix::process::geteuid().is_root();
    let ownership = if root { Ownership::Real } else { Ownership::Ignore };
    let options = WriteOptions::new(&no_tree, ownership);
    let index = write(placement, &RootDir::open(out.path(), Links::Refused).unwrap(), &options).unwrap();
    assert_eq!(index.entries.len(), EXTRACTED.len());
    assert_eq!(fs::read(out.path().join("t/in/h")).unwrap(), b"tarred\n");
    assert_eq!(fs::read(out.path().join("t/.wh.x")).unwrap(), b"just a name");
    assert_eq!(fs::metadata(out.path().join("t/in/f")).unwrap().modified().unwrap(), {
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)
    });
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
}

#[test]
fn members_that_replace_each_other_leave_nothing_behind() {
    let spool = TempDir::new().unwrap();
    let archive = Tar::default()
        .file("a", "one")
        .file("d/x", "two")
        .hard("b", "a")
        .file("a", "three")
        .file("d", "four")
        .end();
    let selection = expanded("x.tar", &archive, spool.path()).unwrap();
    let placement = place_on(&[&selection], &TestTree::new(), "/", None, None).unwrap();
    assert_eq!(
        describe(&placement),
        [
            "a 0640 11:22 file of 5 @1000000000",
            "b 0640 11:22 file of 3 @1000000000",
            "d 0640 11:22 file of 4 @1000000000"
        ]
    );
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 3);
}

#[test]
fn no_member_leaves_the_destination() {
    let spool = TempDir::new().unwrap();
    let image = TestTree::new().dir("srv").link("t/out", "/srv");
    let archive =
        Tar::default().link("lnk", "/srv").file("lnk/x", "x").file("out/y", "y").file("/abs", "z").end();
    let selection = expanded("x.tar", &archive, spool.path()).unwrap();
    let placement = place_on(&[&selection], &image, "/t", None, None).unwrap();
    assert_eq!(
        describe(&placement),
        [
            "(t 0755 0:0 dir)",
            "t/abs 0640 11:22 file of 1 @1000000000",
            "t/lnk 0777 0:0 link to /srv @1000000000",
            "t/srv 0755 0:0 dir",
            "t/srv/x 0640 11:22 file of 1 @1000000000",
            "t/srv/y 0640 11:22 file of 1 @1000000000"
        ]
    );
    for name in ["../x", "a/../../x"] {
        let error = expanded("evil.tar", &Tar::default().file(name, "x").end(), spool.path()).unwrap_err();
        assert!(error.starts_with("cannot extract `evil.tar`: ") && error.contains(name), "{error}");
    }
}

#[test]
fn a_broken_archive_is_named() {
    let spool = TempDir::new().unwrap();
    let mut archive = Tar::default().file("a", &"x".repeat(600)).file("b", "y").end();
    archive.truncate(700);
    let error = expanded("cut.tar", &archive, spool.path()).unwrap_err();
    assert!(error.starts_with("cannot extract `cut.tar`: "), "{error}");
}

#[test]
fn a_download_that_is_unpacked_goes_the_same_way() {
    let spool = TempDir::new().unwrap();
    let file = spool.path().join("download");
    fs::write(&file, plain()).unwrap();
    let modified = Time { seconds: 5, nanoseconds: 0, kind: TimeKind::Set };
    let known = (plain().len() as u64, mica_image::FileDigest::of(&plain()));
    let download = Selection::from_file(b"x", Arc::from(file.as_path()), known, 0o600, modified);
    let selection = expand_archives(download, 0, &no_tree, spool.path()).unwrap();
    let placement = place_on(&[&selection], &TestTree::new(), "/t/", None, None).unwrap();
    assert_eq!(describe(&placement), EXTRACTED);
}

#[test]
fn a_spool_on_another_file_system_is_copied_from() {
    use std::os::unix::fs::MetadataExt as _;
    let spool = TempDir::new().unwrap();
    let Ok(out) = TempDir::new_in("/dev/shm") else {
        eprintln!("skipped: /dev/shm cannot be written to");
        return;
    };
    let device = |directory: &TempDir| fs::metadata(directory.path()).unwrap().dev();
    if device(&spool) == device(&out) {
        eprintln!("skipped: there is no second file system");
        return;
    }
    let selection = expanded("x.tar", &Tar::default().file("f", "content").end(), spool.path()).unwrap();
    let placement = place_on(&[&selection], &TestTree::new(), "/", None, None).unwrap();
    let options = WriteOptions::new(&no_tree, Ownership::Ignore);
    write(placement, &RootDir::open(out.path(), Links::Refused).unwrap(), &options).unwrap();
    assert_eq!(fs::read(out.path().join("f")).unwrap(), b"content");
}
