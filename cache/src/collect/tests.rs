//! What a collection removes and, above all, what it does not.

use mica_image::tree::{Fact, Tree, TreeLayer};
use mica_image::{ContentDigest, LayerId};

use crate::layer::testing::{commit, file, file_in, ownership, store};
use crate::{
    CacheRecord, Failure, ImageRecord, KeepImages, KeepPolicy, KeyPart, RecordKey, Replace, Report, Store,
    VersionInfo,
};

const NEVER: &dyn Fn() -> bool = &|| false;

pub(super) fn layer(store: &Store, name: &str) -> LayerId {
    commit(&store.layers(), vec![file(name, name.as_bytes())], &[(name, name.as_bytes())]).layer.id()
}

pub(super) fn image(store: &Store, layers: &[LayerId], config: &[u8]) -> ContentDigest {
    let id = store.blobs().put(config).unwrap();
    let tree: Tree = layers.iter().map(|id| TreeLayer::made(*id)).collect();
    let platform = "linux/amd64".to_owned();
    store
        .images()
        .put(&ImageRecord { id, tree, platform, created: 0, manifest: None, lines: vec![], built_by: None })
        .unwrap();
    id
}

pub(super) fn record(store: &Store, key: u8, layer: LayerId) {
    let detail = Some(store.details().put(&[key]).unwrap());
    let parts = vec![KeyPart { name: "content".into(), value: String::new(), detail }];
    let key = RecordKey([key; 32]);
    let conditions = Vec::<Fact>::new();
    let record = CacheRecord {
        key,
        parts,
        layer,
        conditions,
        log: None,
        step: "s".into(),
        started: 0,
        duration: 0,
        left_out: Vec::new(),
    };
    store.records().put(&record, Replace::Keep).unwrap();
}

/// Closes the store and collects with a fresh one, a moment later.
pub(super) fn collect(home: &tempfile::TempDir, policy: &KeepPolicy) -> Report {
    let store = reopen(home);
    wait_for_the_clock(&store);
    store.collect(policy, NEVER).unwrap()
}

pub(super) fn reopen(home: &tempfile::TempDir) -> Store {
    Store::open(&home.path().join("store"), ownership()).unwrap()
}

/// What was used in the very tick in which a collection begins counts as used since.
pub(super) fn wait_for_the_clock(store: &Store) {
    let start = store.shared.fs_time().unwrap();
    while store.shared.fs_time().unwrap() <= start {
        std::thread::yield_now();
    }
}

pub(super) fn has(home: &tempfile::TempDir, id: &LayerId) -> bool {
    reopen(home).layers().list().unwrap().contains(id)
}

#[test]
fn what_nothing_refers_to_goes() {
    let (home, store) = store();
    let (kept, gone) = (layer(&store, "kept"), layer(&store, "gone"));
    image(&store, &[kept], b"config");
    let blob = store.blobs().put(b"nobody's").unwrap();
    drop(store);
    let report = collect(&home, &KeepPolicy::UNREACHABLE);
    assert_eq!((report.layers, report.blobs, report.images), (1, 1, 0));
    assert!(report.bytes > 0);
    assert!(has(&home, &kept) && !has(&home, &gone));
    assert!(!reopen(&home).blobs().has(&blob).unwrap());
    assert!(reopen(&home).blobs().has(&ContentDigest::of(b"config")).unwrap());
}

#[test]
fn what_an_open_store_looked_up_stays_until_it_is_closed() {
    let (home, store) = store();
    let id = layer(&store, "used");
    let blob = store.blobs().put(b"used").unwrap();
    assert_eq!(collect(&home, &KeepPolicy::TAGGED).layers, 0);
    assert!(has(&home, &id) && reopen(&home).blobs().has(&blob).unwrap());
    drop(store);
    assert_eq!(collect(&home, &KeepPolicy::TAGGED).layers, 1);
}

#[test]
fn what_comes_into_use_after_a_collection_began_stays() {
    let (home, store) = store();
    let id = layer(&store, "late");
    drop(store);
    let (collector, user) = (reopen(&home), reopen(&home));
    wait_for_the_clock(&user);
    // The collector asks whether it may go on after it took its first look, and so lets the other in.
    let root = collector.root().to_owned();
    let blocked =
        crate::locks::LockFile::try_acquire(&root.join("locks/collect"), crate::locks::Hold::Exclusive);
    let blocked = std::cell::RefCell::new(blocked.unwrap());
    let waited = collector.collect(&KeepPolicy::TAGGED, &|| {
        assert!(user.layers().get(&id).unwrap().is_some());
        blocked.borrow_mut().take();
        false
    });
    assert_eq!(waited.unwrap().layers, 0);
    assert!(has(&home, &id));
}

#[test]
fn holders_stay_with_the_layers_that_need_them() {
    let (home, store) = store();
    let holder = layer(&store, "a");
    let needs = commit(&store.layers(), vec![file_in("b", b"a", holder, b"a")], &[]).layer.id();
    image(&store, &[needs], b"config");
    drop(store);
    assert_eq!(collect(&home, &KeepPolicy::UNREACHABLE).layers, 0);
    assert!(has(&home, &holder) && has(&home, &needs));
}

#[test]
fn records_keep_their_layers_for_as_long_as_the_policy_says() {
    let (home, store) = store();
    let id = layer(&store, "cached");
    record(&store, 1, id);
    drop(store);
    assert_eq!(collect(&home, &KeepPolicy::UNREACHABLE), Report::default());
    let hour =
        KeepPolicy { records_for: Some(std::time::Duration::from_secs(3600)), ..KeepPolicy::UNREACHABLE };
    assert_eq!(collect(&home, &hour), Report::default());
    let report = collect(&home, &KeepPolicy::TAGGED);
    assert_eq!((report.records, report.layers), (1, 1));
    assert!(reopen(&home).records().get(&RecordKey([1; 32])).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(home.path().join("store/records/01")).unwrap().count(), 0);
}

#[test]
fn images_go_by_what_names_them() {
    let (home, store) = store();
    let images = store.images();
    let (tagged, pulled, loose) = (layer(&store, "tagged"), layer(&store, "pulled"), layer(&store, "loose"));
    let tagged_id = image(&store, &[tagged], b"1");
    let pulled_id = image(&store, &[pulled], b"2");
    let loose_id = image(&store, &[loose], b"3");
    images.tag("app:latest", tagged_id, VersionInfo::default()).unwrap();
    let resolved =
        crate::Resolved { reference: String::new(), manifest: pulled_id, image: pulled_id, when: 0 };
    images.remember_resolved("alpine:3", "linux/amd64", &resolved).unwrap();
    let documents = [b"said of 1", b"said of 2", b"said of 3"].map(|said| store.blobs().put(said).unwrap());
    for (document, image) in documents.iter().zip([tagged_id, pulled_id, loose_id]) {
        let published = crate::Published {
            reference: document.to_string(),
            target: mica_image::Descriptor::of(mica_image::MediaType::OCI_INDEX, b"{}"),
            documents: [*document].into(),
            referrers: None,
            images: [image].into(),
        };
        store.published().put(published).unwrap();
    }
    drop((images, store));
    let known = || {
        let store = reopen(&home);
        documents.map(|document| {
            let is_known = store.published().get(&document.to_string()).unwrap().is_some();
            assert_eq!(store.blobs().size(&document).unwrap().is_some(), is_known);
            is_known
        })
    };
    let named = KeepPolicy { images: KeepImages::Named, ..KeepPolicy::UNREACHABLE };
    assert_eq!(collect(&home, &named).images, 1);
    assert!(has(&home, &tagged) && has(&home, &pulled) && !has(&home, &loose));
    assert_eq!(known(), [true, true, false]);
    assert_eq!(collect(&home, &KeepPolicy::TAGGED).images, 1);
    assert_eq!(known(), [true, false, false]);
    assert!(has(&home, &tagged) && !has(&home, &pulled));
    assert_eq!(reopen(&home).images().resolved("alpine:3", "linux/amd64").unwrap(), None);
    reopen(&home).images().untag("app:latest").unwrap();
    reopen(&home).images().remove(&tagged_id).unwrap();
    assert_eq!(collect(&home, &KeepPolicy::UNREACHABLE).layers, 1);
}

#[test]
fn old_versions_go_and_what_newer_ones_need_stays() {
    let (home, store) = store();
    let base = layer(&store, "base");
    let layers: Vec<_> = (0..5).map(|number| layer(&store, &format!("own{number}"))).collect();
    for (number, own) in layers.iter().enumerate() {
        let id = image(&store, &[base, *own], number.to_string().as_bytes());
        store.images().tag("app:latest", id, VersionInfo::default()).unwrap();
    }
    drop(store);
    let policy = KeepPolicy { versions: Some(2), ..KeepPolicy::TAGGED };
    let store = reopen(&home);
    wait_for_the_clock(&store);
    let forecast = store.would_collect(&policy).unwrap();
    assert_eq!(store.images().versions("app:latest").unwrap().len(), 5);
    drop(store);
    let report = collect(&home, &policy);
    assert_eq!(forecast.report, report);
    assert!(forecast.needed_bytes > 0);
    assert_eq!((report.versions, report.images, report.layers), (3, 3, 3));
    let left: Vec<bool> = layers.iter().map(|id| has(&home, id)).collect();
    assert_eq!(left, [false, false, false, true, true]);
    assert!(has(&home, &base));
    let numbers: Vec<_> =
        reopen(&home).images().versions("app:latest").unwrap().iter().map(|version| version.number).collect();
    assert_eq!(numbers, [4, 5]);
}

#[test]
fn a_failure_keeps_its_layers_until_it_is_old_or_in_the_way() {
    let keep = |store: &Store| {
        let layer = layer(store, "left by a step");
        let steps = store.details().put(b"steps").unwrap();
        store.failures().keep("project", &Failure { when: 1, steps, step: 2, layers: vec![layer] }).unwrap();
        layer
    };
    let (home, store) = store();
    let layer = keep(&store);
    drop(store);
    for spare in [
        KeepPolicy::UNREACHABLE,
        KeepPolicy { records_for: Some(std::time::Duration::from_secs(1000)), ..KeepPolicy::TAGGED },
        KeepPolicy { max_bytes: Some(1 << 30), ..KeepPolicy::UNREACHABLE },
    ] {
        assert_eq!(collect(&home, &spare).failures, 0);
        assert!(has(&home, &layer));
        let failure = reopen(&home).failures().list().unwrap().remove(0);
        assert!(reopen(&home).details().get(&failure.steps).unwrap().is_some());
    }
    let report = collect(&home, &KeepPolicy::TAGGED);
    assert_eq!((report.failures, report.layers), (1, 1));
    assert!(!has(&home, &layer) && reopen(&home).failures().list().unwrap().is_empty());
    let layer = keep(&reopen(&home));
    record(&reopen(&home), 1, self::layer(&reopen(&home), "recorded"));
    assert_eq!(collect(&home, &KeepPolicy { max_bytes: Some(1), ..KeepPolicy::UNREACHABLE }).failures, 1);
    assert!(!has(&home, &layer));
}
