//! What goes where the store is to take no more than so many bytes.

use mica_image::tree::{Tree, TreeLayer};
use mica_image::{ContentDigest, LayerId};

use super::tests::{collect, has, image, layer, record, reopen, wait_for_the_clock};
use crate::layer::testing::{base_tar, commit, directory, file, file_in, import, store, symlink};
use crate::{ImageRecord, KeepImages, KeepPolicy, RecordKey, Sharing, Store, VersionInfo};

fn at_most(max: u64) -> KeepPolicy {
    KeepPolicy { max_bytes: Some(max), images: KeepImages::Named, ..KeepPolicy::UNREACHABLE }
}

/// Returns what the store takes, and what of that cannot be collected.
fn taken(home: &tempfile::TempDir) -> (u64, u64) {
    let store = reopen(home);
    (store.room_taken().unwrap(), store.would_collect(&at_most(u64::MAX)).unwrap().needed_bytes)
}

#[test]
fn what_was_used_least_recently_goes() {
    let (home, store) = store();
    let ids: Vec<_> = (1..=4_u8)
        .map(|number| {
            let content = [number; 1000];
            commit(&store.layers(), vec![file("f", &content)], &[("f", &content)]).layer.id()
        })
        .collect();
    for (key, id) in (1..=4).zip(&ids) {
        record(&store, key, *id);
        wait_for_the_clock(&store);
    }
    assert_eq!(store.records().get(&RecordKey([1; 32])).unwrap().len(), 1);
    drop(store);
    let (all, needed) = taken(&home);
    let each = (all - needed) / 4;
    assert!(each > 0);
    let max = needed + 2 * each + each / 2;
    assert_eq!(collect(&home, &at_most(max)).records, 2);
    let left: Vec<bool> = ids.iter().map(|id| has(&home, id)).collect();
    assert_eq!(left, [true, false, false, true]);
    assert!(taken(&home).0 <= max, "{:?} {max}", taken(&home));
}

#[test]
fn what_is_needed_stays_whatever_it_takes() {
    let (home, store) = store();
    let (tagged, loose) = (layer(&store, "tagged"), layer(&store, "loose"));
    let id = image(&store, &[tagged], b"1");
    image(&store, &[loose], b"2");
    store.images().tag("app:latest", id, VersionInfo::default()).unwrap();
    drop(store);
    let policy = KeepPolicy { images: KeepImages::All, ..at_most(1) };
    assert_eq!(collect(&home, &policy).images, 1);
    assert!(has(&home, &tagged) && !has(&home, &loose));
    let (all, needed) = taken(&home);
    assert!(needed > 1 && all > 1, "{all} {needed}");
}

#[test]
fn a_pulled_image_goes_by_its_last_use() {
    let (home, store) = store();
    for number in [1, 2] {
        let own = layer(&store, &format!("pulled {number}"));
        let id = image(&store, &[own], &[number]);
        let resolved = crate::Resolved { reference: String::new(), manifest: id, image: id, when: 0 };
        let name = format!("base:{number}");
        store.images().remember_resolved(&name, "linux/amd64", &resolved).unwrap();
        wait_for_the_clock(&store);
    }
    // Opening the first one's configuration is a use of it.
    store.blobs().read(&ContentDigest::of(&[1]), 10).unwrap();
    drop(store);
    let (all, _) = taken(&home);
    assert_eq!(collect(&home, &at_most(all - 1)).images, 1);
    let store = reopen(&home);
    let names = store.images().resolved_references().unwrap().len();
    let first = store.images().resolved("base:1", "linux/amd64").unwrap();
    assert!(first.is_some() && names == 0, "{first:?}");
    assert!(store.images().resolved("base:2", "linux/amd64").unwrap().is_none());
}

#[test]
fn directories_that_can_be_made_again_go_and_come_back() {
    let (home, store) = store();
    let (imported, diff_id, _) = import(&store, &base_tar());
    let id = imported.id();
    let tree: Tree = vec![TreeLayer::imported(id, diff_id)];
    let config = store.blobs().put(b"config").unwrap();
    let platform = "linux/amd64".to_owned();
    let known = ImageRecord {
        id: config,
        tree: tree.clone(),
        platform,
        created: 0,
        manifest: None,
        lines: vec![],
        built_by: None,
    };
    store.images().put(&known).unwrap();
    store.images().tag("base:latest", config, VersionInfo::default()).unwrap();
    let files = store.layers().ensure_files(&id).unwrap();
    let full = shown_in_full(&store);
    assert!(files.is_dir() && full.is_dir());
    drop((imported, store));
    let (all, needed) = taken(&home);
    assert!(needed < all);
    collect(&home, &at_most(needed));
    assert!(!files.exists() && !full.exists());
    assert!(taken(&home).0 <= all);
    assert!(reopen(&home).layers().ensure_files(&id).unwrap().join("usr/a").exists());
}

/// Makes a layer that overlays of others cannot show and has it shown; an image keeps it.
fn shown_in_full(store: &Store) -> std::path::PathBuf {
    let layers = store.layers();
    let holder = commit(&layers, vec![directory("d"), file("d/a", b"a")], &[("d/a", b"a")]).layer.id();
    let entries = vec![symlink("d", "e"), file_in("b", b"a", holder, b"d/a")];
    let made: LayerId = commit(&layers, entries, &[]).layer.id();
    let id = image(store, &[made], b"in full");
    store.images().tag("full:latest", id, VersionInfo::default()).unwrap();
    layers.lowers(&vec![TreeLayer::made(made)]).unwrap().remove(0)
}

#[test]
fn cache_mounts_go_by_their_last_use_and_never_while_they_are_in_use() {
    let (home, store) = store();
    let fill = |path: &std::path::Path| std::fs::write(path.join("x"), [0; 10_000]);
    let take = |id: &str| store.mounts().take(id, Sharing::Shared, &fill, &|| true).unwrap();
    for id in ["old", "used", "new"] {
        drop(take(id));
        wait_for_the_clock(&store);
    }
    let used = take("used");
    let names = || {
        let mounts = reopen(&home).mounts().list().unwrap();
        mounts.into_iter().filter(|mount| mount.directories > 0).map(|mount| mount.id).collect::<Vec<_>>()
    };
    let (all, needed) = taken(&home);
    let each = (all - needed) / 3;
    assert_eq!(collect(&home, &at_most(all - each)).mounts, 1);
    assert_eq!(names(), ["new", "used"]);
    collect(&home, &at_most(1));
    assert_eq!(names(), ["used"]);
    drop(used);
    collect(&home, &at_most(1));
    assert_eq!(names(), Vec::<String>::new());
}

#[test]
fn of_two_tars_of_one_layer_the_one_that_an_image_names_stays() {
    let (home, store) = store();
    let tar = base_tar();
    let (imported, first, first_blob) = import(&store, &tar);
    // Zeros after the end change the tar and not the layer.
    let (same, second, second_blob) = import(&store, &[tar.as_slice(), &[0; 512]].concat());
    let id = imported.id();
    assert_eq!((same.id(), first == second), (id, false));
    let config = store.blobs().put(b"config").unwrap();
    let tree: Tree = vec![TreeLayer::imported(id, second)];
    let platform = "linux/amd64".to_owned();
    store
        .images()
        .put(&ImageRecord {
            id: config,
            tree,
            platform,
            created: 0,
            manifest: None,
            lines: vec![],
            built_by: None,
        })
        .unwrap();
    drop((imported, same, store));
    assert_eq!(collect(&home, &KeepPolicy::UNREACHABLE).blobs, 1);
    let store = reopen(&home);
    assert!(!store.blobs().has(&first_blob).unwrap() && store.blobs().has(&second_blob).unwrap());
    assert!(store.layers().imported(&first).unwrap().is_none());
    assert!(store.layers().imported(&second).unwrap().is_some());
    store.images().remove(&config).unwrap();
    drop(store);
    assert_eq!(collect(&home, &KeepPolicy::UNREACHABLE).layers, 1);
    let left = crate::files::list_sharded(&home.path().join("store/diff-ids")).unwrap();
    assert!(left.is_empty(), "{left:?}");
}
