//! A process that works on a store is killed at any moment; the next one finds a store that is right and clean.
//!
//! The test runs itself as the process to be killed: with an argument for the harness it works until it dies.

#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of a test are tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mica_cache::layer::ImportedBlob;
use mica_cache::{
    CacheRecord, ContextTree, Decision, KeepPolicy, KeyPart, Ownership, RecordKey, Replace, ScanOptions,
    Store, VersionInfo,
};
use mica_image::index::{Bytes, Entry, LayerIndex, Node, Time, TimeKind};
use mica_image::tar::{TarOptions, write_layer};
use mica_image::tree::{FileTree, TreeLayer};
use mica_image::{ContentDigest, DiffId, FileDigest};

const ROUNDS: u64 = 60;

fn ownership() -> Ownership {
    if rustix::process::geteuid().is_root() { Ownership::Root } else { Ownership::Single }
}

fn file(path: &str, content: &[u8]) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 5, nanoseconds: 0, kind: TimeKind::Now },
        xattrs: BTreeMap::new(),
        node: Node::File { size: content.len() as u64, digest: FileDigest::of(content), bytes: Bytes::Here },
    }
}

/// One build's worth of work on the store; everything in it follows from `number`.
fn work(home: &Path, number: u64) {
    let store = Store::open(&home.join("store"), ownership()).unwrap();
    let layers = store.layers();
    let key = RecordKey(*blake3(number).as_bytes());
    let lock = store.lock_step(&key.hex(), &|| false).unwrap();
    if store.records().get(&key).unwrap().is_empty() {
        let scratch = layers.begin().unwrap();
        let mut entries = Vec::new();
        for part in 0..20 {
            let (path, content) = (format!("f{part}"), content(number, part));
            fs::write(scratch.files().join(&path), &content).unwrap();
            entries.push(file(&path, &content));
        }
        let committed = layers.commit(scratch, LayerIndex::from_entries(entries).unwrap(), 0).unwrap();
        let layer = committed.layer.id();
        // Whatever another process collects meanwhile, this one's layer stays.
        layers.diff_id(&TreeLayer::made(layer)).unwrap();
        let parts = vec![KeyPart { name: "number".into(), value: number.to_string(), detail: None }];
        let step = number.to_string();
        let record = CacheRecord {
            key,
            parts,
            layer,
            conditions: Vec::new(),
            log: None,
            step,
            started: 0,
            duration: 0,
            left_out: Vec::new(),
        };
        store.records().put(&record, Replace::Keep).unwrap();
    }
    drop(lock);
    if number.is_multiple_of(2) {
        run_on_imported(&store, number);
    }
    let blob = store.blobs().put(&content(number, 99)).unwrap();
    store.images().tag("app:latest", blob, VersionInfo::default()).unwrap();
    let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: Some(&store) };
    ContextTree::scan(&home.join("context"), &options).unwrap();
    store.sync().unwrap();
    if number % 4 == 3 {
        store.collect(&KeepPolicy::TAGGED, &|| false).unwrap();
    }
}

/// Imports a layer, has it unpacked, and makes another one on top of it as a step would.
fn run_on_imported(store: &Store, number: u64) {
    let layers = store.layers();
    let (tar, index) = base(number);
    let digest = store.blobs().put(&tar).unwrap();
    let diff_id = DiffId::from_bytes(*digest.as_bytes());
    let blob = ImportedBlob { digest, size: tar.len() as u64, media_type: String::new() };
    let base = layers.import(index, diff_id, blob, &Vec::new(), 0).unwrap();
    let tree = vec![TreeLayer::imported(base.id(), diff_id)];
    let snapshot = layers.prepare(&tree).unwrap();
    assert_eq!(fs::read_dir(&snapshot.lowers()[0]).unwrap().count(), 30);
    fs::write(snapshot.upper().join("made"), content(number, 50)).unwrap();
    let parent = layers.tree(&tree).unwrap();
    layers.commit_upper(snapshot, &parent, &|_| false, 0).unwrap();
}

/// A tar of thirty files and its index.
fn base(number: u64) -> (Vec<u8>, LayerIndex) {
    let names: Vec<String> = (0..30).map(|part| format!("base{part}")).collect();
    let entries = names.iter().map(|name| {
        let mut entry = file(name, &content(number, 7));
        entry.mtime.kind = TimeKind::Set;
        entry
    });
    let index = LayerIndex::from_entries(entries.collect()).unwrap();
    let mut tar = Vec::new();
    let bytes = content(number, 7);
    write_layer(&index, |_| Ok(&bytes[..]), &mut tar, &TarOptions::default()).unwrap();
    (tar, index)
}

fn blake3(number: u64) -> FileDigest {
    FileDigest::of(&number.to_le_bytes())
}

fn content(number: u64, part: u64) -> Vec<u8> {
    format!("content {part} of {number} ").repeat(200).into_bytes()
}

/// Everything that is visible is whole.
fn check(home: &Path) {
    let store = Store::open(&home.join("store"), ownership()).unwrap();
    for number in 0..8 {
        for found in store.records().get(&RecordKey(*blake3(number).as_bytes())).unwrap() {
            assert_eq!(found.record.step, number.to_string());
            let layer = TreeLayer::made(found.record.layer);
            let tree = store.layers().tree(&[layer]).unwrap();
            assert_eq!(tree.children(b"").unwrap().len(), 20);
            let reader = store.layers().reader();
            for found in tree.subtree(b"").unwrap() {
                let mut opened = reader.open_entry(&layer.id, &found.entry).unwrap();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut opened, &mut bytes).unwrap();
                let Node::File { digest, .. } = found.entry.node else { panic!("{found:?}") };
                assert_eq!(FileDigest::of(&bytes), digest);
            }
            let mut tar = Vec::new();
            let stored = store.layers().require(&layer.id).unwrap();
            stored.write_tar(&mut tar, &TarOptions::default()).unwrap();
            let diff_id = store.layers().diff_id(&layer).unwrap();
            assert_eq!(diff_id.as_bytes(), ContentDigest::of(&tar).as_bytes());
        }
        let id = base(number).1.layer_id();
        if let Some(base) = store.layers().get(&id).unwrap() {
            let tree = vec![TreeLayer::made(base.id())];
            let lowers = store.layers().lowers(&tree).unwrap();
            assert_eq!(fs::read(lowers[0].join("base29")).unwrap(), content(number, 7));
            assert_eq!(fs::read_dir(&lowers[0]).unwrap().count(), 30);
        }
        let blob = ContentDigest::of(&content(number, 99));
        if store.blobs().size(&blob).unwrap().is_some() {
            store.blobs().read(&blob, 1 << 20).unwrap();
        }
    }
    let versions = store.images().versions("app:latest").unwrap();
    assert!(versions.iter().map(|version| version.number).eq(1..=versions.len() as u64));
    let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: Some(&store) };
    let context = ContextTree::scan(&home.join("context"), &options).unwrap();
    let plain = ScanOptions { store: None, ..options };
    let uncached = ContextTree::scan(&home.join("context"), &plain).unwrap();
    assert_eq!(context.subtree(b"").unwrap(), uncached.subtree(b"").unwrap());
    drop(store);
    let store = Store::open(&home.join("store"), ownership()).unwrap();
    assert_eq!(store.root().join("scratch").read_dir().map_or(0, Iterator::count), 0, "nothing is left over");
}

/// Works until it is killed, if this process was started for that.
#[test]
fn worker() {
    // The harness hands its own arguments on; the directory is the last of them.
    let mut arguments = std::env::args().skip_while(|argument| argument != "--skip").skip(1);
    let Some(home) = arguments.next().filter(|home| Path::new(home).join("context").is_dir()) else { return };
    for number in (0..8).cycle() {
        work(Path::new(&home), number);
    }
}

#[test]
fn a_killed_process_leaves_a_store_that_is_right() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("context")).unwrap();
    for number in 0..50_u64 {
        fs::write(home.path().join(format!("context/{number}")), number.to_string()).unwrap();
    }
    let mut seed = 0x9e37_79b9_u64;
    for round in 0..ROUNDS {
        // Two at once, killed at moments that differ from round to round.
        let mut children: Vec<_> = (0..2).map(|_| start(home.path())).collect();
        for child in &mut children {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Not a wait for anything: the moment of death is what is tested.
            std::thread::sleep(Duration::from_micros(2_000 + (seed >> 33) % 40_000));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        check(home.path());
        fs::write(home.path().join("context/0"), round.to_string()).unwrap();
    }
    let store = Store::open(&home.path().join("store"), ownership()).unwrap();
    // Collections take layers away again, versions stay.
    let versions = store.images().versions("app:latest").unwrap();
    assert!(versions.len() > 2, "the killed processes got something done");
}

fn start(home: &Path) -> std::process::Child {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args(["--exact", "worker", "--nocapture", "--skip"]).arg(home);
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
}
