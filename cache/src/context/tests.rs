//! Scanning as a whole: what counts, and that the cache is never wrong.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mica_image::FileDigest;
use mica_image::index::{LayerPath, Node};
use mica_image::tree::FileTree;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::{ContextTree, Decision, ScanError, ScanOptions};
use crate::Store;
use crate::layer::testing;

struct Fixture {
    _home: tempfile::TempDir,
    store: Store,
    root: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let (home, store) = testing::store();
        let root = home.path().join("context");
        fs::create_dir(&root).unwrap();
        Self { _home: home, store, root }
    }

    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn scan(&self) -> ContextTree {
        self.scan_with(&|_, _| Decision::Keep, None).unwrap()
    }

    fn scan_with(
        &self,
        ignored: &(dyn Fn(&[u8], bool) -> Decision + Sync),
        wanted: Option<&[LayerPath]>,
    ) -> Result<ContextTree, ScanError> {
        ContextTree::scan(&self.root, &ScanOptions { ignored, wanted, store: Some(&self.store) })
    }

    /// Scans as if everything were old enough to be trusted from now on.
    fn scan_trusting(&self, wanted: Option<&[LayerPath]>) -> ContextTree {
        let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted, store: Some(&self.store) };
        let root = super::tree::open_root(&self.root).unwrap();
        ContextTree::scan_with(&self.root, root, &options, (i64::MAX, 0)).unwrap()
    }

    /// Rewrites all digests in the stat cache; what then has this digest was not read.
    fn poison(&self, digest: FileDigest) {
        let path = self.store.context_cache(&self.root);
        let mut bytes = fs::read(&path).unwrap();
        let body = bytes.len() - 32;
        for content in [&b"one"[..], b"two"] {
            let known = FileDigest::of(content);
            for start in 0..body - 32 {
                if &bytes[start..start + 32] == known.as_bytes() {
                    bytes[start..start + 32].copy_from_slice(digest.as_bytes());
                }
            }
        }
        let checksum = blake3::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(checksum.as_bytes());
        fs::write(&path, bytes).unwrap();
    }

    /// Gives a file a time long past.
    fn age(&self, path: &Path) {
        set_mtime(path, 1_000_000_000);
    }
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn paths(tree: &ContextTree) -> Vec<String> {
    let shown = |path: Vec<u8>| String::from_utf8(path).unwrap();
    tree.subtree(b"").unwrap().into_iter().map(|found| shown(found.entry.path.clone())).collect()
}

fn digest(tree: &ContextTree, path: &str) -> FileDigest {
    match &tree.entry(path.as_bytes()).unwrap().unwrap().entry.node {
        Node::File { digest, .. } => *digest,
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn a_context_is_a_tree_of_what_is_there() {
    let fixture = Fixture::new();
    fixture.write("a/b/c", "hello");
    fixture.write("a-", "x");
    fixture.write("z", "");
    symlink("../secret", fixture.root.join("link")).unwrap();
    fs::set_permissions(fixture.root.join("z"), fs::Permissions::from_mode(0o4750)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.root.join("socket")).unwrap();
    let tree = fixture.scan();
    assert_eq!(paths(&tree), ["a", "a/b", "a/b/c", "a-", "link", "z"]);
    assert_eq!(digest(&tree, "a/b/c"), FileDigest::of(b"hello"));
    assert_eq!(tree.children(b"").unwrap(), [&b"a"[..], b"a-", b"link", b"z"]);
    assert_eq!(tree.children(b"a").unwrap(), [b"b"]);
    assert!(tree.children(b"z").unwrap().is_empty() && tree.children(b"nowhere").unwrap().is_empty());
    let entry = tree.entry(b"z").unwrap().unwrap().entry;
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o4750, 0, 0));
    assert!(matches!(tree.entry(b"link").unwrap().unwrap().entry.node, Node::Symlink { .. }));
    assert_eq!(tree.entry(b"a/b/nothing").unwrap(), None);
    assert_eq!(tree.sockets(), [b"socket"]);
    assert_eq!((tree.len(), tree.bytes()), (6, 6));
}

#[test]
fn a_second_scan_takes_digests_from_the_cache_and_is_the_same() {
    let fixture = Fixture::new();
    for number in 0..50 {
        fixture.write(&format!("d{}/f{number}", number % 5), &number.to_string());
    }
    let first = fixture.scan();
    let second = fixture.scan();
    assert_eq!(first.subtree(b"").unwrap(), second.subtree(b"").unwrap());
}

#[test]
fn a_proven_file_is_not_read_again_until_anything_about_it_changes() {
    let fixture = Fixture::new();
    let path = fixture.write("d/f", "one");
    fixture.scan_trusting(None);
    fixture.poison(FileDigest::of(b"poison"));
    assert_eq!(digest(&fixture.scan(), "d/f"), FileDigest::of(b"poison"));
    // Same size and, by hand, the same time: the change time tells.
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(digest(&fixture.scan(), "d/f"), FileDigest::of(b"two"));
    fixture.scan_trusting(None);
    fixture.poison(FileDigest::of(b"poison"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(digest(&fixture.scan(), "d/f"), FileDigest::of(b"two"));
    fixture.scan_trusting(None);
    fixture.poison(FileDigest::of(b"poison"));
    fs::copy(&path, fixture.root.join("d/g")).unwrap();
    fs::rename(fixture.root.join("d/g"), &path).unwrap();
    assert_eq!(digest(&fixture.scan(), "d/f"), FileDigest::of(b"two"));
}

#[test]
fn a_young_file_is_read_again() {
    let fixture = Fixture::new();
    fixture.write("f", "one");
    fixture.scan();
    fixture.poison(FileDigest::of(b"poison"));
    assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(b"one"));
}

#[test]
fn scans_of_different_parts_keep_what_each_other_knows() {
    let fixture = Fixture::new();
    for path in ["a/f", "b/f", "top"] {
        fixture.write(path, "one");
    }
    fixture.scan_trusting(None);
    fixture.poison(FileDigest::of(b"poison"));
    let cache = fixture.store.context_cache(&fixture.root);
    let before = fs::read(&cache).unwrap();
    fixture.scan_trusting(Some(&[b"a".to_vec()]));
    assert_eq!(fs::read(&cache).unwrap(), before, "nothing new was learnt");
    fixture.write("a/g", "new");
    fixture.scan_trusting(Some(&[b"a".to_vec()]));
    let tree = fixture.scan();
    for path in ["a/f", "b/f", "top"] {
        assert_eq!(digest(&tree, path), FileDigest::of(b"poison"), "{path}");
    }
    fs::remove_file(fixture.root.join("b/f")).unwrap();
    fixture.scan_trusting(None);
    assert_eq!(paths(&fixture.scan()), ["a", "a/f", "a/g", "b", "top"]);
}

#[test]
fn changed_content_is_noticed_whatever_size_and_time_say() {
    let fixture = Fixture::new();
    let path = fixture.write("f", "one");
    fixture.age(&path);
    assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(b"one"));
    // As `touch -r` would: same size, same modification time.
    fs::write(&path, "two").unwrap();
    fixture.age(&path);
    assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(b"two"));
    // Another inode with the same size and time.
    let other = fixture.write("other", "six");
    fixture.age(&other);
    fs::rename(&other, &path).unwrap();
    assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(b"six"));
    // Many changes within the granularity of the clock.
    for number in 0..100 {
        fs::write(&path, format!("{number:03}")).unwrap();
        assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(format!("{number:03}").as_bytes()));
    }
}

#[test]
fn a_directory_replaced_by_a_link_is_a_link() {
    let fixture = Fixture::new();
    fixture.write("d/f", "inside");
    fixture.write("e/f", "outside");
    fixture.scan();
    fs::remove_dir_all(fixture.root.join("d")).unwrap();
    symlink("e", fixture.root.join("d")).unwrap();
    let tree = fixture.scan();
    assert_eq!(paths(&tree), ["d", "e", "e/f"]);
    assert!(tree.open(b"d/f").is_err());
}

#[test]
fn a_damaged_cache_is_as_good_as_none() {
    let fixture = Fixture::new();
    fixture.write("f", "one");
    fixture.scan();
    let cache = fixture.store.context_cache(&fixture.root);
    let whole = fs::read(&cache).unwrap();
    for damaged in [&whole[..0], &whole[..whole.len() / 2], b"nonsense"] {
        fs::write(&cache, damaged).unwrap();
        assert_eq!(digest(&fixture.scan(), "f"), FileDigest::of(b"one"));
    }
}

#[test]
fn ignored_directories_stay_only_for_what_is_kept_in_them() {
    let fixture = Fixture::new();
    for path in ["a/keep", "a/drop", "b/drop", "c/d/drop", "keep", "skipped/keep"] {
        fixture.write(path, "x");
    }
    let ignored = |path: &[u8], is_directory: bool| match path {
        b"skipped" => Decision::Skip,
        _ if is_directory => Decision::SkipButDescend,
        path if path.ends_with(b"keep") => Decision::Keep,
        _ => Decision::SkipButDescend,
    };
    let tree = fixture.scan_with(&ignored, None).unwrap();
    assert_eq!(paths(&tree), ["a", "a/keep", "keep"]);
    assert_eq!(tree.children(b"").unwrap(), [&b"a"[..], b"keep"]);
}

#[test]
fn only_what_is_wanted_is_read() {
    let fixture = Fixture::new();
    fixture.write("src/a", "a");
    fixture.write("other/b", "b");
    let wanted = [b"src".to_vec()];
    let tree = fixture.scan_with(&|_, _| Decision::Keep, Some(&wanted)).unwrap();
    assert_eq!(paths(&tree), ["src", "src/a"]);
    assert!(tree.entry(b"other/b").is_err(), "an answer about what was not looked at would be a guess");
    assert!(tree.entry(b"src/none").unwrap().is_none());
}

#[test]
fn a_wanted_link_that_leads_elsewhere_widens_the_scan() {
    let fixture = Fixture::new();
    fixture.write("real/a", "a");
    symlink("real", fixture.root.join("src")).unwrap();
    for wanted in [b"src".to_vec(), b"src/a".to_vec()] {
        let tree = fixture.scan_with(&|_, _| Decision::Keep, Some(&[wanted])).unwrap();
        assert_eq!(paths(&tree), ["real", "real/a", "src"]);
    }
}

#[test]
fn what_cannot_be_read_is_named_if_it_is_wanted() {
    if rustix::process::geteuid().is_root() {
        // Root reads everything; a file that is no longer there when it is opened must do.
        return;
    }
    let fixture = Fixture::new();
    let path = fixture.write("secret/key", "x");
    fixture.write("src/a", "a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    let error = fixture.scan_with(&|_, _| Decision::Keep, None).unwrap_err();
    assert!(error.to_string().contains("secret/key"), "{error}");
    let wanted = [b"src".to_vec()];
    assert!(fixture.scan_with(&|_, _| Decision::Keep, Some(&wanted)).is_ok());
}

#[test]
fn names_of_one_inode_have_one_number() {
    let fixture = Fixture::new();
    let path = fixture.write("a", "x");
    fs::hard_link(&path, fixture.root.join("b")).unwrap();
    let outside = fixture.write("c", "y");
    fs::hard_link(&outside, fixture.root.parent().unwrap().join("elsewhere")).unwrap();
    let tree = fixture.scan();
    let link = |path: &[u8]| tree.entry(path).unwrap().unwrap().link;
    assert!(link(b"a").is_some());
    assert_eq!(link(b"a"), link(b"b"));
    assert_eq!(link(b"c"), None);
}

#[test]
fn a_tree_that_changes_all_the_time_can_be_scanned() {
    let fixture = Fixture::new();
    for number in 0..20 {
        fixture.write(&format!("d/{number}"), "start");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                round += 1;
                let path = fixture.root.join(format!("d/{}", round % 20));
                // What this does to a scan is the point; that it works each time is not.
                let _ = fs::remove_file(&path);
                let _ = fs::write(&path, round.to_string());
                let _ = fs::rename(fixture.root.join("d"), fixture.root.join("e"));
                let _ = fs::rename(fixture.root.join("e"), fixture.root.join("d"));
            }
        });
        for _ in 0..30 {
            match fixture.scan_with(&|_, _| Decision::Keep, None) {
                Ok(tree) => assert!(paths(&tree).len() <= 42),
                Err(error) => assert!(matches!(error, ScanError::Changing(_)), "{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let tree = fixture.scan();
    for path in paths(&tree).iter().filter(|path| path.contains('/')) {
        assert_eq!(digest(&tree, path), FileDigest::of(&fs::read(fixture.root.join(path)).unwrap()));
    }
}

#[test]
fn an_index_over_a_directory_is_a_context() {
    use mica_image::index::LayerIndex;
    let fixture = Fixture::new();
    fixture.write("deep/er/f", "x");
    let mut link = testing::file("deep/er/g", b"");
    link.node = Node::HardLink { target: b"deep/er/f".to_vec() };
    let index = LayerIndex::from_entries(vec![testing::file("deep/er/f", b"x"), link]).unwrap();
    let tree = ContextTree::from_index(&fixture.root, index).unwrap();
    assert_eq!(paths(&tree), ["deep", "deep/er", "deep/er/f", "deep/er/g"]);
    assert_eq!(tree.children(b"deep").unwrap(), [b"er"]);
    assert_eq!(digest(&tree, "deep/er/g"), FileDigest::of(b"x"));
    assert_eq!(tree.entry(b"deep/er/f").unwrap().unwrap().link, Some(0));
    let unique: BTreeSet<_> = paths(&tree).into_iter().collect();
    assert_eq!(unique.len(), tree.len());
}
