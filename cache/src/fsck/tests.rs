//! Every kind of damage is found, named, dropped on request and on no other, and nothing else goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use mica_image::index::LayerIndex;
use mica_image::tar::{TarOptions, write_layer};
use mica_image::tree::TreeLayer;
use mica_image::{ContentDigest, DiffId, LayerId};

use super::{Fate, FsckReport, Repair};
use crate::layer::{ImportedBlob, testing};
use crate::{
    CacheRecord, ImageRecord, PlaceId, RecordKey, Replace, Resolved, Store, StoredRecord, TreeHash,
    VersionInfo,
};

/// A store with one of everything: a pulled base that is unpacked, a step on top of it, a copy of one of its files, an image.
struct Bench {
    home: tempfile::TempDir,
    base: LayerId,
    made: LayerId,
    copy: LayerId,
    image: ContentDigest,
    blob: ContentDigest,
}

const KEY: RecordKey = RecordKey([7; 32]);

impl Bench {
    fn new() -> Self {
        let (home, store) = testing::store();
        let layers = store.layers();
        let (base, blob) = import(&store);
        layers.lowers(&vec![TreeLayer::made(base)]).unwrap();
        let entries = vec![
            testing::directory("dir"),
            testing::file("dir/made", b"made"),
            testing::symlink("link", "dir"),
        ];
        let made = testing::commit(&layers, entries, &[("dir/made", b"made")]).layer.id();
        let copied =
            vec![testing::file_in("copied", b"made", made, b"dir/made"), testing::file("own", b"own")];
        let copy = testing::commit(&layers, copied, &[("own", b"own")]).layer.id();
        for id in [made, copy] {
            layers.diff_id(&TreeLayer::made(id)).unwrap();
        }
        let log = store.details().put(b"a log").unwrap();
        for (layer, key) in [(made, KEY), (copy, RecordKey([8; 32]))] {
            let record = CacheRecord {
                key,
                parts: Vec::new(),
                layer,
                conditions: Vec::new(),
                log: Some(log),
                step: "RUN make".into(),
                started: 0,
                duration: 1,
                left_out: Vec::new(),
            };
            let number = store.records().put(&record, Replace::Keep).unwrap();
            let stored = StoredRecord { number, record };
            store.records().remember(&key, &TreeHash([1; 32]), &stored).unwrap();
        }
        store.records().note_recent(&PlaceId([2; 32]), &KEY).unwrap();
        let failure = crate::Failure { when: 1, steps: log, step: 1, layers: vec![made] };
        store.failures().keep("project", &failure).unwrap();
        layers.remember_mounted("selection", &made).unwrap();
        let image = store.blobs().put(b"{\"config\":1}").unwrap();
        let tree = [base, made].map(TreeLayer::made).to_vec();
        let platform = "linux/amd64".into();
        let record = ImageRecord {
            id: image,
            tree,
            platform,
            created: 5,
            manifest: None,
            lines: vec![],
            built_by: None,
        };
        store.images().put(&record).unwrap();
        store.images().tag("app:latest", image, VersionInfo::default()).unwrap();
        let resolved = format!("{{\"manifest\":\"{image}\",\"image\":\"{image}\",\"when\":1}}");
        let resolved: Resolved = serde_json::from_str(&resolved).unwrap();
        store.images().remember_resolved("base:1", "linux/amd64", &resolved).unwrap();
        let published = crate::Published {
            reference: "base:1".into(),
            target: mica_image::Descriptor::of(mica_image::MediaType::OCI_INDEX, b"{}"),
            documents: [image].into(),
            referrers: None,
            images: [image].into(),
        };
        store.published().put(published).unwrap();
        store.sync().unwrap();
        Self { home, base, made, copy, image, blob }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("store")
    }

    fn store(&self) -> Store {
        Store::open(&self.root(), testing::ownership()).unwrap()
    }

    fn check(&self, repair: Repair) -> FsckReport {
        self.store().fsck(repair).unwrap()
    }

    fn layer(&self, id: &LayerId, name: &str) -> PathBuf {
        self.root().join("layers").join(&id.hex()[..2]).join(id.hex()).join(name)
    }
}

fn import(store: &Store) -> (LayerId, ContentDigest) {
    let index = LayerIndex::from_entries(vec![testing::file("base", b"base bytes")]).unwrap();
    let mut tar = Vec::new();
    write_layer(&index, |_| Ok(&b"base bytes"[..]), &mut tar, &TarOptions::default()).unwrap();
    let digest = store.blobs().put(&tar).unwrap();
    let blob = ImportedBlob { digest, size: tar.len() as u64, media_type: "tar".into() };
    let diff_id = DiffId::from_bytes(*digest.as_bytes());
    (store.layers().import(index, diff_id, blob, &Vec::new(), 0).unwrap().id(), digest)
}

fn names(report: &FsckReport) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

/// Changes one byte in the middle, keeping length and time.
fn flip(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn only_file(directory: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    while path.is_dir() {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

#[test]
fn a_right_store_is_clean_and_stays_as_it_is() {
    let bench = Bench::new();
    for repair in [Repair::Nothing, Repair::Drop] {
        let report = bench.check(repair);
        assert!(report.findings.is_empty() && report.is_clean(), "{:#?}", names(&report));
        let counts = (report.blobs, report.layers, report.files, report.records, report.details);
        assert_eq!(counts, (2, 3, 3, 2, 1));
        assert_eq!((report.images, report.versions), (1, 1));
        assert!(report.bytes > 0);
    }
}

/// Damages a fresh store and expects findings that begin with `expected`, in this order.
#[track_caller]
fn finds(damage: impl Fn(&Bench), expected: &[&str]) -> Bench {
    let bench = Bench::new();
    damage(&bench);
    for (repair, fate) in
        [(Repair::Nothing, Fate::Kept), (Repair::Nothing, Fate::Kept), (Repair::Drop, Fate::Dropped)]
    {
        let report = bench.check(repair);
        let found = names(&report);
        let matches = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
        assert!(matches, "found {found:#?}\nexpected {expected:#?}");
        assert!(report.findings.iter().all(|finding| finding.fate == fate), "{found:?}");
        assert_eq!(report.is_clean(), repair == Repair::Drop);
    }
    let left = bench.check(Repair::Nothing);
    assert!(left.findings.is_empty(), "{:?}", names(&left));
    bench
}

#[test]
fn a_changed_file_of_a_made_layer_takes_with_it_all_that_needs_it() {
    let needs = |damage: &dyn Fn(&Bench)| {
        let bench = finds(damage, &["layer", "which holds bytes of it", "record", "record", "image"]);
        assert!(bench.store().records().get(&KEY).unwrap().is_empty());
        assert!(bench.store().layers().get(&bench.base).unwrap().is_some());
    };
    needs(&|bench| flip(&bench.layer(&bench.made, "files/dir/made")));
    needs(&|bench| fs::remove_file(bench.layer(&bench.made, "files/dir/made")).unwrap());
    needs(&|bench| fs::remove_file(bench.layer(&bench.made, "files/link")).unwrap());
    needs(&|bench| {
        fs::remove_file(bench.layer(&bench.made, "files/link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", bench.layer(&bench.made, "files/link")).unwrap();
    });
    needs(&|bench| flip(&bench.layer(&bench.made, "index")));
    needs(&|bench| flip(&bench.layer(&bench.made, "meta")));
}

#[test]
fn a_changed_file_of_a_leaf_takes_its_record_only() {
    let bench = finds(
        |bench| flip(&bench.layer(&bench.copy, "files/own")),
        &["`/own`: its bytes are not those of its digest", "is not there any more"],
    );
    assert_eq!(bench.store().records().get(&KEY).unwrap().len(), 1);
}

#[test]
fn what_can_be_made_again_goes_alone() {
    let bench =
        finds(|bench| flip(&bench.layer(&bench.base, "files/base")), &["/files`: `/base`: its bytes"]);
    let lowers = bench.store().layers().lowers(&vec![TreeLayer::made(bench.base)]).unwrap();
    assert_eq!(fs::read(lowers[0].join("base")).unwrap(), b"base bytes");
    finds(|bench| flip(&bench.layer(&bench.made, "diff-id")), &["/diff-id`: it does not match its checksum"]);
    let wrong = |bench: &Bench| {
        fs::copy(bench.layer(&bench.copy, "diff-id"), bench.layer(&bench.made, "diff-id")).unwrap();
    };
    finds(wrong, &["/diff-id`: the layer's tar has the digest"]);
}

#[test]
fn a_damaged_blob_is_dropped_and_a_layer_lives_on_in_its_files() {
    let blob = |bench: &Bench, digest: &ContentDigest| {
        bench.root().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
    };
    let bench = finds(|bench| flip(&blob(bench, &bench.blob)), &["blob `sha256:"]);
    assert!(bench.store().layers().get(&bench.base).unwrap().is_some());
    finds(|bench| fs::write(blob(bench, &bench.blob), "").unwrap(), &["its bytes have the digest"]);
    let lost = |bench: &Bench| {
        flip(&blob(bench, &bench.blob));
        fs::remove_dir_all(bench.layer(&bench.base, "files")).unwrap();
    };
    finds(lost, &["blob `sha256:", "neither its files nor a blob", "image `sha256:"]);
    finds(|bench| flip(&blob(bench, &bench.image)), &["blob `sha256:", "image `sha256:"]);
}

#[test]
fn a_changed_mode_or_owner_is_found() {
    use std::os::unix::fs::PermissionsExt;
    let change = |path: PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o4777)).unwrap();
    let told = |bench: &Bench, what: &str| {
        let found = names(&bench.check(Repair::Nothing));
        assert!(found.iter().any(|line| line.contains(what)), "{what}: {found:?}");
    };
    let bench = Bench::new();
    change(bench.layer(&bench.made, "files/dir/made"));
    told(&bench, "its mode is 4777 and should be 644");
    let bench = Bench::new();
    change(bench.layer(&bench.made, "files/dir"));
    told(&bench, "`/dir`: its mode is 4777 and should be 755");
    if testing::ownership() == crate::Ownership::Root {
        let bench = Bench::new();
        std::os::unix::fs::chown(bench.layer(&bench.base, "files/base"), Some(7), Some(8)).unwrap();
        told(&bench, "its owner is 7:8 and should be 0:0");
    }
}

#[test]
fn small_files_are_held_to_their_checksums() {
    for (directory, expected) in [
        ("details", "detail `"),
        ("images", "image `"),
        ("tags", "version `app=latest@1`"),
        ("recent", "record `recent/"),
        ("diff-ids", "layer `diff-ids/"),
        ("failures", "record `failures/"),
        ("mounted", "layer `mounted/"),
        ("resolved", "reference `resolved/"),
        ("published", "reference `published/"),
    ] {
        finds(|bench| flip(&only_file(&bench.root().join(directory))), &[expected]);
    }
    let key = |bench: &Bench, name: String| bench.root().join("records/07").join(KEY.hex()).join(name);
    finds(|bench| flip(&key(bench, "00000001".into())), &["it does not match its checksum"]);
    let memo = format!("holds-{}", TreeHash([1; 32]).hex());
    finds(|bench| flip(&key(bench, memo.clone())), &["it does not match its checksum"]);
    // A record that lies under another key is no record of that key.
    let moved = |bench: &Bench| {
        let other = bench.root().join("records/08").join(RecordKey([8; 32]).hex()).join("00000001");
        fs::copy(other, key(bench, "00000002".into())).unwrap();
    };
    finds(moved, &["/2`: it does not match its checksum"]);
}

#[test]
fn names_that_are_none_of_ours_are_found() {
    for directory in ["blobs/sha256/zz", "layers/zz", "records/zz", "images"] {
        let damage = |bench: &Bench| {
            let directory = bench.root().join(directory);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("letter"), "dear").unwrap();
        };
        finds(damage, &["`letter`: nothing of the store has such a name"]);
    }
}

#[test]
fn what_was_never_on_the_disk_is_found_after_a_power_cut() {
    let bench = Bench::new();
    {
        let store = bench.store();
        testing::commit(&store.layers(), vec![testing::file("late", b"late")], &[("late", b"late")]);
    }
    let later = Store::open_during(&bench.root(), testing::ownership(), "another boot".into()).unwrap();
    let report = later.fsck(Repair::Drop).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", names(&report));
    assert!(report.findings[0].problem.contains("not yet on the disk"));
    assert!(bench.check(Repair::Nothing).findings.is_empty());
}

#[test]
fn what_a_living_process_uses_stays() {
    let bench = Bench::new();
    let user = bench.store();
    user.layers().get(&bench.copy).unwrap().unwrap();
    flip(&bench.layer(&bench.copy, "files/own"));
    let report = bench.check(Repair::Drop);
    assert_eq!(report.findings[0].fate, Fate::InUse);
    assert!(!report.is_clean() && bench.layer(&bench.copy, "files/own").exists());
    drop(user);
    assert!(bench.check(Repair::Drop).is_clean());
    assert!(!bench.layer(&bench.copy, "files/own").exists());
}
