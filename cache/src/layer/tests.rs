//! Layers as a whole: stored once, shown right, unpacked as they came.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mica_image::index::{Bytes, Entry, LayerIndex, LayerLookup, Node};
use mica_image::tar::TarOptions;
use mica_image::tree::{FileTree, TreeLayer};
use mica_image::{ContentDigest, DiffId, LayerId};
use proptest::prelude::*;

use super::testing::{
    base_tar, commit, directory, entry, file, file_in, import, import_into, store, symlink,
};
use super::view::View;
use super::{LayerError, LayerStore, MAX_HOLDERS, Place, Wanted};
use crate::Store;

fn layer(id: LayerId) -> TreeLayer {
    TreeLayer::made(id)
}

fn read(mut file: fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_equal_layer_is_stored_once_and_the_first_keeps_its_times() {
    let (_home, store) = store();
    let layers = store.layers();
    let first = commit(&layers, vec![file("a", b"x")], &[("a", b"x")]);
    assert!(!first.existed);
    let mut later = file("a", b"x");
    later.mtime.seconds += 100;
    let second = commit(&layers, vec![later], &[("a", b"x")]);
    assert!(second.existed);
    assert_eq!(second.layer.id(), first.layer.id());
    let kept = second.layer.index().unwrap().entry(b"a").unwrap().unwrap();
    assert_eq!(kept.mtime.seconds, 1_000_000_000);
    let root = store.root().to_owned();
    drop((first, second, layers, store));
    assert_eq!(fs::read_dir(root.join("scratch")).unwrap().count(), 0, "nothing of the second one is left");
}

#[test]
fn bytes_are_found_where_they_lie_without_chains() {
    let (_home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"aaa")], &[("a", b"aaa")]).layer.id();
    let b = commit(&layers, vec![file_in("b", b"aaa", a, b"a")], &[]).layer.id();
    let c = commit(&layers, vec![file_in("c", b"aaa", b, b"b"), file("d", b"")], &[("d", b"")]).layer;
    assert_eq!(c.meta().holders, [a]);
    assert_eq!((c.meta().own_bytes, c.meta().total_bytes), (0, 3));
    let found = c.index().unwrap().entry(b"c").unwrap().unwrap();
    let Node::File { bytes, .. } = &found.node else { panic!("{found:?}") };
    assert_eq!(*bytes, Bytes::In { layer: a, path: b"a".to_vec() });
    assert_eq!(read(layers.open_bytes(&c.id(), b"c", bytes).unwrap()), b"aaa");
}

#[test]
fn bytes_that_are_not_where_they_should_be_are_refused() {
    let (_home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"aaa")], &[("a", b"aaa")]).layer.id();
    for wrong in [file_in("b", b"bbb", a, b"a"), file_in("b", b"aaa", a, b"elsewhere")] {
        let index = LayerIndex::from_entries(vec![wrong]).unwrap();
        let refused = layers.commit(layers.begin().unwrap(), index, 0);
        assert!(matches!(refused, Err(LayerError::NotHeld { .. })));
    }
    let index =
        LayerIndex::from_entries(vec![file_in("b", b"x", LayerId::from_bytes([1; 32]), b"a")]).unwrap();
    assert!(matches!(layers.commit(layers.begin().unwrap(), index, 0), Err(LayerError::Missing(_))));
}

#[test]
fn bytes_of_too_many_layers_are_brought_in() {
    let (_home, store) = store();
    let layers = store.layers();
    let mut entries = vec![directory("d")];
    for number in 0..MAX_HOLDERS + 3 {
        let (name, content) = (format!("f{number}"), vec![b'x'; number + 1]);
        let id = commit(&layers, vec![file(&name, &content)], &[(&name, &content)]).layer.id();
        entries.push(file_in(&format!("d/{name}"), &content, id, name.as_bytes()));
    }
    let mut link = file("d/link", b"x");
    link.node = Node::HardLink { target: b"d/f0".to_vec() };
    entries.push(link);
    let made = commit(&layers, entries, &[]).layer;
    assert_eq!(made.meta().holders.len(), MAX_HOLDERS);
    let files = layers.ensure_files(&made.id()).unwrap();
    assert_eq!(fs::read(files.join("d/f1")).unwrap(), b"xx");
    assert_eq!(fs::metadata(files.join("d/link")).unwrap().nlink(), 2);
    assert!(!files.join("d/f5").exists());
    for number in 0..MAX_HOLDERS + 3 {
        let path = format!("d/f{number}");
        let found = made.index().unwrap().entry(path.as_bytes()).unwrap().unwrap();
        let opened = layers.reader().open_entry(&made.id(), &found).unwrap();
        assert_eq!(read(opened).len(), number + 1);
    }
}

/// Opens the store anew: an open one does not look twice at the layers it holds.
fn reopen(home: &tempfile::TempDir) -> LayerStore {
    Store::open(&home.path().join("store"), super::testing::ownership()).unwrap().layers()
}

#[test]
fn a_damaged_layer_is_absent_and_is_replaced() {
    let (home, store) = store();
    let made = commit(&store.layers(), vec![file("a", b"x")], &[("a", b"x")]).layer;
    for name in ["index", "meta"] {
        let path = made.directory().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let layers = reopen(&home);
        assert!(layers.get(&made.id()).unwrap().is_none(), "{name}");
        let again = commit(&layers, vec![file("a", b"x")], &[("a", b"x")]);
        assert!(!again.existed);
        assert!(reopen(&home).get(&made.id()).unwrap().is_some());
    }
}

#[test]
fn a_layer_needs_its_holders() {
    let (home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"aaa")], &[("a", b"aaa")]).layer;
    let b = commit(&layers, vec![file_in("b", b"aaa", a.id(), b"a")], &[]).layer;
    fs::remove_dir_all(a.directory()).unwrap();
    assert!(reopen(&home).get(&b.id()).unwrap().is_none());
}

#[test]
fn the_diff_id_is_that_of_the_tar_and_is_remembered() {
    let (_home, store) = store();
    let layers = store.layers();
    let made = commit(&layers, vec![directory("d"), file("d/a", b"x")], &[("d/a", b"x")]).layer;
    let mut tar = Vec::new();
    made.write_tar(&mut tar, &TarOptions::default()).unwrap();
    let diff_id = layers.diff_id(&layer(made.id())).unwrap();
    assert_eq!(diff_id.as_bytes(), ContentDigest::of(&tar).as_bytes());
    let clamped_layer = TreeLayer { clamp: Some(5), ..layer(made.id()) };
    let clamped = layers.diff_id(&clamped_layer).unwrap();
    assert_ne!(clamped, diff_id);
    fs::remove_dir_all(made.directory().join("files")).unwrap();
    assert_eq!(layers.diff_id(&layer(made.id())).unwrap(), diff_id);
    assert_eq!(layers.diff_id(&clamped_layer).unwrap(), clamped);
    let given = DiffId::from_bytes([4; 32]);
    let imported = TreeLayer::imported(made.id(), given);
    assert_eq!(layers.diff_id(&imported).unwrap(), given);
}

/// What overlayfs would show of these lower directories, topmost first: kind, mode, time, links and content of each path.
fn overlay(lowers: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut shown: BTreeMap<PathBuf, String> = BTreeMap::new();
    for lower in lowers.iter().rev() {
        lay_over(lower, Path::new(""), &mut shown);
    }
    shown
}

fn lay_over(lower: &Path, directory: &Path, shown: &mut BTreeMap<PathBuf, String>) {
    let mut names: Vec<_> =
        fs::read_dir(lower.join(directory)).unwrap().map(|found| found.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(name);
        let metadata = lower.join(&path).symlink_metadata().unwrap();
        let is_whiteout = metadata.rdev() == 0 && metadata.mode() & 0o170_000 == 0o020_000;
        if !metadata.is_dir() || !shown.get(&path).is_some_and(|below| below.starts_with("dir")) {
            shown.retain(|other, _| !other.starts_with(&path));
        }
        if is_whiteout {
            continue;
        }
        shown.insert(path.clone(), describe(&lower.join(&path), &metadata));
        if metadata.is_dir() {
            lay_over(lower, &path, shown);
        }
    }
}

fn describe(path: &Path, metadata: &fs::Metadata) -> String {
    let (mode, time) = (metadata.mode() & 0o7777, metadata.mtime());
    if metadata.is_dir() {
        return format!("dir {mode:o} {time}");
    }
    if metadata.is_symlink() {
        return format!("link {}", fs::read_link(path).unwrap().display());
    }
    format!("file {mode:o} {time} {} {}", metadata.nlink(), String::from_utf8_lossy(&fs::read(path).unwrap()))
}

/// What the tree of layers says should be shown.
fn wanted(layers: &LayerStore, index: &LayerIndex) -> BTreeMap<PathBuf, String> {
    let home = tempfile::tempdir().unwrap();
    layers.write_tree(&index.layer_id(), index, home.path()).unwrap();
    overlay(&[home.path().to_owned()])
}

/// A small tree with contents; each file's content says which of a few it is, so that layers share bytes.
#[derive(Debug, Clone)]
struct Model(BTreeMap<String, (u8, u32, i64)>);

fn model() -> impl Strategy<Value = Model> {
    let path = prop::sample::select(vec!["a", "b", "d/a", "d/b", "d/e/a", "e/a", "e/link"]);
    let attributes = (0..3_u8, prop::sample::select(vec![0o644, 0o755]), 0..2_i64);
    prop::collection::btree_map(path.prop_map(str::to_owned), attributes, 1..7).prop_map(Model)
}

/// Returns where the first of `earlier` that has these bytes holds them.
fn held(layers: &LayerStore, earlier: &[LayerId], bytes: &[u8]) -> Option<Place> {
    let digest = mica_image::FileDigest::of(bytes);
    let wanted = Wanted { path: b"", size: bytes.len() as u64, digest };
    layers.held(earlier, &[wanted]).unwrap().remove(0)
}

impl Model {
    /// Makes the index of this tree, with bytes where `held` has them, and the contents of the files that are new.
    fn index(&self, held: impl Fn(&[u8]) -> Option<Place>) -> (Vec<Entry>, Vec<(String, Vec<u8>)>) {
        let (mut entries, mut contents) = (Vec::new(), Vec::new());
        for (path, (content, mode, time)) in &self.0 {
            for (position, _) in path.match_indices('/') {
                entries.push(directory(&path[..position]));
            }
            if path.ends_with("link") {
                entries.push(symlink(path, "a"));
                continue;
            }
            // The first file of a content may have a second name.
            let bytes = format!("content {content}").into_bytes();
            let mut made = match held(&bytes) {
                Some((layer, there)) => file_in(path, &bytes, layer, &there),
                None => {
                    contents.push((path.clone(), bytes.clone()));
                    file(path, &bytes)
                }
            };
            made.mode = *mode;
            made.mtime.seconds += time;
            entries.push(made);
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        (entries, contents)
    }

    fn commit(&self, layers: &LayerStore, earlier: &[LayerId]) -> super::Layer {
        let (entries, contents) = self.index(|bytes| held(layers, earlier, bytes));
        let contents: Vec<(&str, &[u8])> =
            contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        commit(layers, entries, &contents).layer
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_view_shows_exactly_the_layer(models in prop::collection::vec(model(), 1..5)) {
        let (_home, store) = store();
        let layers = store.layers();
        let mut made = Vec::new();
        for model in models {
            let layer = model.commit(&layers, &made);
            let lowers = layers.lowers(&vec![super::tests::layer(layer.id())]).unwrap();
            prop_assert_eq!(overlay(&lowers), wanted(&layers, &layer.load_index().unwrap()));
            made.insert(0, layer.id());
        }
    }
}

#[test]
fn one_edited_file_is_shown_as_a_delta_again_and_again() {
    let (_home, store) = store();
    let layers = store.layers();
    let mut made: Vec<LayerId> = Vec::new();
    let mut state: Vec<Vec<u8>> = (0..20).map(|number| format!("{number}").into_bytes()).collect();
    for round in 0..4 {
        state[round] = format!("edited {round}").into_bytes();
        let (mut entries, mut contents) = (vec![directory("d")], Vec::new());
        for (number, content) in state.iter().enumerate() {
            let path = format!("d/{number}");
            match held(&layers, &made, content) {
                Some((layer, there)) => entries.push(file_in(&path, content, layer, &there)),
                None => {
                    entries.push(file(&path, content));
                    contents.push((path, content.clone()));
                }
            }
        }
        assert_eq!(contents.len(), if round == 0 { 20 } else { 1 });
        let contents: Vec<_> =
            contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let layer = commit(&layers, entries, &contents).layer;
        let View::Stack(stack) = layers.view(&layer).unwrap() else {
            panic!("round {round} is written whole")
        };
        assert_eq!(stack.len(), round + 1);
        assert!(!layer.directory().join("full").exists());
        made.insert(0, layer.id());
    }
}

#[test]
fn a_deleted_file_is_not_shown() {
    let (_home, store) = store();
    let layers = store.layers();
    let both = [("a", &b"aaa"[..]), ("b", b"bbb")];
    let a = commit(&layers, vec![file("a", b"aaa"), file("b", b"bbb")], &both).layer.id();
    let layer = commit(&layers, vec![file_in("a", b"aaa", a, b"a")], &[]).layer;
    assert_eq!(layers.view(&layer).unwrap(), View::Full);
    let lowers = layers.lowers(&vec![super::tests::layer(layer.id())]).unwrap();
    assert_eq!(overlay(&lowers).into_keys().collect::<Vec<_>>(), [Path::new("a")]);
    assert_eq!(fs::metadata(lowers[0].join("a")).unwrap().nlink(), 1, "bytes are copied, never linked");
}

#[test]
fn a_directory_never_comes_twice_among_the_lowers() {
    let (_home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"aaa")], &[("a", b"aaa")]).layer.id();
    let b = commit(&layers, vec![file("b", b"bbb")], &[("b", b"bbb")]).layer.id();
    let lowers = layers.lowers(&vec![layer(a), layer(b), layer(a)]).unwrap();
    assert_eq!(lowers, [layers.ensure_files(&a).unwrap(), layers.ensure_files(&b).unwrap()]);
}

#[test]
fn the_lowest_of_very_many_layers_are_merged() {
    let (_home, store) = store();
    let layers = store.layers();
    let mut tree = Vec::new();
    for number in 0..500 {
        let (name, content) = (format!("f{number}"), number.to_string());
        let mut entries = vec![file(&name, content.as_bytes())];
        if number == 3 {
            entries.push(entry("f0", Node::Whiteout));
        }
        let made = commit(&layers, entries, &[(&name, content.as_bytes())]);
        tree.push(layer(made.layer.id()));
    }
    let lowers = layers.lowers(&tree).unwrap();
    assert_eq!(lowers.len(), 500 - 64 + 1);
    let shown = overlay(&lowers);
    assert_eq!(shown.len(), 499);
    assert!(!shown.contains_key(Path::new("f0")));
    assert_eq!(layers.lowers(&tree).unwrap(), lowers);
    assert_eq!(layers.tree(&tree).unwrap().children(b"").unwrap().len(), 499);
}

#[test]
fn an_imported_layer_is_unpacked_when_somebody_looks_inside() {
    let (_home, store) = store();
    let layers = store.layers();
    let (imported, diff_id, _) = import(&store, &base_tar());
    assert!(!imported.directory().join("files").exists());
    assert_eq!(layers.instance(&imported.id(), &diff_id).unwrap().unwrap().diff_id, diff_id);
    layers.ensure_files(&imported.id()).unwrap();
    assert_is_unpacked(&store, &imported, diff_id);
}

#[test]
fn a_layer_that_is_unpacked_while_it_comes_is_like_one_that_is_unpacked_later() {
    let (_home, store) = store();
    let layers = store.layers();
    let mut unpacking = layers.begin_unpacking().unwrap();
    let (imported, diff_id, blob) = import_into(&store, &base_tar(), unpacking.sink());
    layers.keep_unpacked(&imported.id(), unpacking).unwrap();
    // It is not needed any more.
    store.blobs().remove(&blob).unwrap();
    assert_is_unpacked(&store, &imported, diff_id);

    let directory = imported.directory().join("files");
    let made = fs::metadata(&directory).unwrap().ino();
    let mut again = layers.begin_unpacking().unwrap();
    import_into(&store, &base_tar(), again.sink());
    layers.keep_unpacked(&imported.id(), again).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().ino(), made, "what is there stays");
}

fn assert_is_unpacked(store: &Store, imported: &super::Layer, diff_id: DiffId) {
    let files = store.layers().ensure_files(&imported.id()).unwrap();
    assert_eq!(fs::read(files.join("usr/a")).unwrap(), b"hello");
    assert_eq!(fs::metadata(files.join("usr/a")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(files.join("usr/link")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(files.join("usr")).unwrap().mtime(), 1_000_000_000);
    let gone = fs::symlink_metadata(files.join("gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let name = format!("{}opaque", store.ownership().overlay_prefix());
    let mut value = [0; 4];
    assert_eq!(rustix::fs::getxattr(files.join("opaque"), name, &mut value[..]).unwrap(), 1);
    // The tar made of the unpacked layer is the one it came from, which was ours.
    let mut tar = Vec::new();
    imported.write_tar(&mut tar, &TarOptions::default()).unwrap();
    assert_eq!(ContentDigest::of(&tar).as_bytes(), diff_id.as_bytes());
}

#[test]
fn a_damaged_or_missing_blob_is_told_and_leaves_nothing() {
    let (_home, store) = store();
    let layers = store.layers();
    let (imported, _, digest) = import(&store, &base_tar());
    let path = store.blobs().path(&digest);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(layers.ensure_files(&imported.id()).is_err());
    store.blobs().remove(&digest).unwrap();
    let missing = layers.ensure_files(&imported.id());
    assert!(matches!(missing, Err(LayerError::BlobMissing { blob, .. }) if blob == digest));
    assert!(!imported.directory().join("files").exists());
}

#[test]
fn an_unpacked_directory_of_another_boot_is_made_again_unless_it_was_synced() {
    let (home, store) = store();
    let (imported, ..) = import(&store, &base_tar());
    store.sync().unwrap();
    let files = store.layers().ensure_files(&imported.id()).unwrap();
    fs::remove_file(files.join("usr/s")).unwrap();
    let root = home.path().join("store");
    let later = Store::open_during(&root, store.ownership(), "another boot".into()).unwrap();
    later.layers().ensure_files(&imported.id()).unwrap();
    assert!(files.join("usr/s").symlink_metadata().is_ok(), "what a power cut lost is there again");
    later.sync().unwrap();
    let last = Store::open_during(&root, store.ownership(), "a third boot".into()).unwrap();
    let before = fs::metadata(&files).unwrap().ino();
    last.layers().ensure_files(&imported.id()).unwrap();
    assert_eq!(fs::metadata(&files).unwrap().ino(), before);
}

#[test]
fn a_layer_needs_what_its_holders_need() {
    let (home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"a")], &[("a", b"a")]).layer.id();
    let b = commit(&layers, vec![file_in("a", b"a", a, b"a"), file("b", b"b")], &[("b", b"b")]).layer.id();
    let c = commit(&layers, vec![file_in("b", b"b", b, b"b")], &[]).layer;
    assert_eq!(c.meta().holders, [b]);
    let c = c.id();
    drop((layers, store));
    let open = || Store::open(&home.path().join("store"), super::testing::ownership()).unwrap();
    assert!(open().layers().get(&c).unwrap().is_some());
    fs::remove_dir_all(super::meta::layer_directory(&open().shared, &a)).unwrap();
    assert!(open().layers().get(&b).unwrap().is_none() && open().layers().get(&c).unwrap().is_none());
}

#[test]
fn a_holder_that_is_made_anew_may_have_its_bytes_elsewhere() {
    let (home, store) = store();
    let layers = store.layers();
    let a = commit(&layers, vec![file("a", b"a")], &[("a", b"a")]).layer.id();
    let b = commit(&layers, vec![file("b", b"a")], &[("b", b"a")]).layer.id();
    let c = commit(&layers, vec![file_in("c", b"a", b, b"b")], &[]).layer.id();
    fs::remove_dir_all(super::meta::layer_directory(&store.shared, &b)).unwrap();
    drop((layers, store));
    let store = Store::open(&home.path().join("store"), super::testing::ownership()).unwrap();
    let again = commit(&store.layers(), vec![file_in("b", b"a", a, b"a")], &[]);
    assert_eq!((again.layer.id(), again.existed), (b, false));
    assert!(store.layers().get(&c).unwrap().is_none());
    // What needs it is made anew in turn, and can be used then.
    let made = commit(&store.layers(), vec![file_in("c", b"a", b, b"b")], &[]);
    assert_eq!((made.layer.id(), made.existed), (c, false));
    assert_eq!(made.layer.meta().holders, [a]);
}

#[test]
fn a_long_history_of_small_changes_needs_few_layers() {
    let (_home, store) = store();
    let layers = store.layers();
    let mut last =
        commit(&layers, vec![file("f0", b"0"), file("base", b"base")], &[("f0", b"0"), ("base", b"base")]);
    let mut most = 0;
    for number in 1..60 {
        let (name, content) = (format!("f{number}"), number.to_string());
        // One new file; the one before lies in the layer before, the base in the first.
        let before = (format!("f{}", number - 1), (number - 1).to_string());
        let id = last.layer.id();
        let entries = vec![
            file(&name, content.as_bytes()),
            file_in(&before.0, before.1.as_bytes(), id, before.0.as_bytes()),
            file_in("base", b"base", id, b"base"),
        ];
        last = commit(&layers, entries, &[(&name, content.as_bytes())]);
        let mut metas = BTreeMap::new();
        for id in layers.list().unwrap() {
            metas.insert(id, super::meta::read_meta(&store.shared, &id).unwrap().unwrap());
        }
        most = most.max(super::needed_by(&last.layer.id(), &metas).len());
    }
    assert!((3..=17).contains(&most), "{most}");
}
