//! One suite for both ways of resolving a path.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;

/// A directory with links that try to leave it, beside a file they would find.
fn playground() -> tempfile::TempDir {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("secret"), "outside").unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/file"), "inside").unwrap();
    symlink("a/b", root.join("short")).unwrap();
    symlink("/a", root.join("absolute")).unwrap();
    symlink("../../../..", root.join("a/up")).unwrap();
    symlink(outer.path(), root.join("out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("b/file", root.join("a/last")).unwrap();
    outer
}

/// Runs `check` with the kernel's resolution and with ours.
fn both(links: Links, check: impl Fn(&RootDir, &Path)) {
    for is_stepping in [false, true] {
        let outer = playground();
        let root = RootDir::open(&outer.path().join("root"), links).unwrap();
        root.is_stepping.store(is_stepping, Ordering::Relaxed);
        check(&root, outer.path());
    }
}

fn content(root: &RootDir, path: &str) -> String {
    let mut text = String::new();
    root.open_file(path.as_bytes()).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn error(result: io::Result<impl Sized>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn links_stay_inside() {
    both(Links::Inside, |root, _| {
        for path in [
            "a/b/file",
            "/a/b/file",
            "short/file",
            "absolute/b/file",
            "a/up/a/b/file",
            "a/../../a/b/file",
            "short/../b/file",
        ] {
            assert_eq!(content(root, path), "inside", "{path}");
        }
        assert_eq!(error(root.open_file(b"out/secret")), ErrorKind::NotFound);
        assert_eq!(error(root.open_file(b"a/up/secret")), ErrorKind::NotFound);
        assert_eq!(error(root.open_file(b"../secret")), ErrorKind::NotFound);
        assert!(root.open_file(b"loop/file").is_err());
        assert!(root.open_file(b"a/b/file/x").is_err());
    });
}

#[test]
fn links_can_be_refused() {
    both(Links::Refused, |root, _| {
        assert_eq!(content(root, "a/b/file"), "inside");
        for path in ["short/file", "absolute/b/file", "out/secret", "../secret", "a/../../secret"] {
            assert!(root.open_file(path.as_bytes()).is_err(), "{path}");
        }
    });
}

#[test]
fn the_last_component_is_not_followed() {
    both(Links::Inside, |root, outer| {
        assert!(root.open_file(b"a/last").is_err());
        assert_eq!(root.read_link(b"a/last").unwrap(), b"b/file");
        assert_eq!(FileType::from_raw_mode(root.stat(b"out").unwrap().st_mode), FileType::Symlink);
        assert_eq!(error(root.create_file(b"out", 0o600)), ErrorKind::AlreadyExists);
        assert!(root.set_mode(b"a/last", 0o600).is_err());
        root.set_mtime(b"a/last", 5, 6).unwrap();
        assert_eq!(std::fs::symlink_metadata(outer.join("root/a/last")).unwrap().mtime(), 5);
        assert_ne!(std::fs::metadata(outer.join("root/a/b/file")).unwrap().mtime(), 5);
        root.remove(b"out").unwrap();
        assert!(outer.join("secret").exists());
    });
}

#[test]
fn the_last_component_is_followed_where_that_is_asked_for() {
    both(Links::Inside, |root, outer| {
        symlink("../absolute/b/file", outer.join("root/a/first")).unwrap();
        symlink(outer.join("secret"), outer.join("root/escape")).unwrap();
        for path in ["a/b/file", "a/last", "a/first", "absolute/first"] {
            let mut text = String::new();
            root.open_linked_file(path.as_bytes()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        assert_eq!(error(root.open_linked_file(b"escape")), ErrorKind::NotFound);
        let looping = root.open_linked_file(b"loop").unwrap_err();
        assert_eq!(looping.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(error(root.open_linked_file(b"short")), ErrorKind::InvalidInput);
    });
    both(Links::Refused, |root, _| {
        assert!(root.open_linked_file(b"a/b/file").is_ok());
        assert!(root.open_linked_file(b"a/last").is_err());
    });
}

#[test]
fn dots_at_the_end_are_refused() {
    both(Links::Inside, |root, outer| {
        for path in ["..", "a/..", "a/.", "a/b/../.."] {
            assert!(root.stat(path.as_bytes()).is_err(), "{path}");
            assert!(root.create_dir(path.as_bytes(), 0o755).is_err());
            assert!(root.remove_all(path.as_bytes()).is_err());
        }
        assert!(outer.join("secret").exists());
        assert_eq!(root.stat(b"").unwrap().st_ino, std::fs::metadata(outer.join("root")).unwrap().ino());
        assert_eq!(root.stat(b"/").unwrap().st_ino, root.stat(b".").unwrap().st_ino);
    });
}

#[test]
fn things_are_made_where_they_should_be() {
    both(Links::Inside, |root, outer| {
        root.create_file(b"absolute/new", 0o600).unwrap().write_all(b"made").unwrap();
        assert_eq!(std::fs::read(outer.join("root/a/new")).unwrap(), b"made");
        root.create_dirs(b"x/y/z", 0o755).unwrap();
        root.create_dirs(b"x/y/z", 0o755).unwrap();
        assert!(root.create_dirs(b"a/b/file/below", 0o755).is_err());
        assert!(root.create_dirs(b"a/b/file", 0o755).is_err());
        root.link(b"a/new", b"x/y/other").unwrap();
        root.symlink(b"../..", b"x/y/z/link").unwrap();
        root.mknod(b"x/pipe", FileType::Fifo, 0o600, 0, 0).unwrap();
        assert_eq!(error(root.open_file(b"x/pipe")), ErrorKind::InvalidInput);
        root.rename(b"x/y/other", b"x/moved").unwrap();
        assert_eq!(content(root, "x/moved"), "made");
        root.set_mode(b"x/moved", 0o640).unwrap();
        assert_eq!(
            std::fs::metadata(outer.join("root/x/moved")).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        let names: Vec<_> =
            root.list(b"x").unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
        let expected = [
            (b"moved".to_vec(), FileType::RegularFile),
            (b"pipe".to_vec(), FileType::Fifo),
            (b"y".to_vec(), FileType::Directory),
        ];
        assert_eq!(names, expected);
        root.remove_all(b"x").unwrap();
        root.remove_all(b"x").unwrap();
        assert!(!outer.join("root/x").exists() && outer.join("root/a/b/file").exists());
    });
}

#[test]
fn what_moved_is_not_remembered() {
    both(Links::Inside, |root, _| {
        root.stat(b"a/b/file").unwrap();
        root.rename(b"a/b", b"a/c").unwrap();
        assert_eq!(error(root.stat(b"a/b/file")), ErrorKind::NotFound);
        root.create_dir(b"a/b", 0o755).unwrap();
        assert_eq!(error(root.stat(b"a/b/file")), ErrorKind::NotFound);
        assert_eq!(content(root, "a/c/file"), "inside");
    });
}

#[test]
fn attributes_are_kept_by_name() {
    both(Links::Inside, |root, _| {
        if root.set_xattr(b"a/b/file", b"user.probe", b"").is_err() {
            eprintln!("skipped: the file system has no extended attributes");
            return;
        }
        let long = vec![7; 3000];
        root.set_xattr(b"absolute/b/file", b"user.long", &long).unwrap();
        assert_eq!(root.xattr(b"a/b/file", b"user.long").unwrap(), Some(long));
        assert_eq!(root.xattr(b"a/b/file", b"user.none").unwrap(), None);
        let names = root.xattr_names(b"a/b/file").unwrap();
        assert!(names.contains(&b"user.probe".to_vec()) && names.contains(&b"user.long".to_vec()));
        root.set_xattr(b"", b"user.root", b"r").unwrap();
        assert_eq!(root.xattr(b"", b"user.root").unwrap().as_deref(), Some(&b"r"[..]));
    });
}

#[test]
fn a_subdirectory_is_a_root_of_its_own() {
    both(Links::Inside, |root, _| {
        let inner = root.open_dir(b"short").unwrap();
        assert_eq!(content(&inner, "file"), "inside");
        assert_eq!(content(&inner, "../../file"), "inside");
    });
}
