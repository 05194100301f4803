//! The functions that a build over many files spends its time in: `cargo bench --manifest-path bench/micro/Cargo.toml [NAME]`.
//!
//! Everything is made up here, from fixed seeds; nothing but the scan touches a disk.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write as _};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, main as divan_main};
use mica_cache::{ContextTree, Decision, Ownership, ScanOptions, Store};
use mica_executor::copy::{
    BadPattern, Layout, PathMatcher, Patterns, PlaceOptions, SelectRequest, Selection, SourcePattern, place, select,
};
use mica_image::FileDigest;
use mica_image::compress::{GzipEncoder, ZstdEncoder};
use mica_image::index::{Bytes, Entry, IndexFile, LayerIndex, Node, Time};
use mica_image::tar::{TarOptions, diff_id};
use mica_image::tree::MergedTree;

const FILES: usize = 50_000;
const CONTENT: [u8; 4096] = [b'm'; 4096];

fn main() {
    divan_main();
}

fn entry(path: String, node: Node) -> Entry {
    let mode = if matches!(node, Node::Directory { .. }) { 0o755 } else { 0o644 };
    Entry { path: path.into_bytes(), mode, uid: 0, gid: 0, mtime: Time::UNSET, xattrs: BTreeMap::new(), node }
}

/// A layer of fifty thousand files, a hundred in each directory.
fn layer() -> LayerIndex {
    let directories = (0..FILES / 100).map(|number| entry(format!("d{number:03}"), Node::Directory { opaque: false }));
    let files = (0..FILES).map(|number| {
        let digest = FileDigest::of(&number.to_le_bytes());
        let node = Node::File { size: CONTENT.len() as u64, digest, bytes: Bytes::Here };
        entry(format!("d{:03}/file-{number:05}", number / 100), node)
    });
    LayerIndex::from_entries(directories.chain(files).collect()).expect("the paths are valid")
}

/// Half noise, half text.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 128);
    while bytes.len() < length {
        for _ in 0..8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.extend_from_slice(b"the quick brown fox jumps over the lazy dog, again and again.\n\n\n");
    }
    bytes.truncate(length);
    bytes
}

#[divan::bench]
fn index_encode(bencher: Bencher<'_, '_>) {
    let index = layer();
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| black_box(&index).encode());
}

#[divan::bench]
fn index_decode(bencher: Bencher<'_, '_>) {
    let bytes = layer().encode();
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| LayerIndex::decode(black_box(&bytes)).expect("it is one"));
}

#[divan::bench]
fn index_files_alone(bencher: Bencher<'_, '_>) {
    let home = tempfile::tempdir().expect("there is room");
    let path = home.path().join("index");
    std::fs::write(&path, layer().encode()).expect("there is room");
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        let raw = IndexFile::open(&path).and_then(|index| index.raw()).expect("it is one");
        raw.files().map(|file| file.expect("it is one").size).sum::<u64>()
    });
}

#[divan::bench]
fn layer_id(bencher: Bencher<'_, '_>) {
    let index = layer();
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| black_box(&index).layer_id());
}

#[divan::bench]
fn tar_and_its_digest(bencher: Bencher<'_, '_>) {
    let index = layer();
    bencher.counter(BytesCount::new(FILES * (CONTENT.len() + 512))).bench_local(|| {
        diff_id(&index, |_| Ok::<_, io::Error>(&CONTENT[..]), &TarOptions::default()).expect("it can be a tar")
    });
}

#[divan::bench(args = [1, 4, 6, 9], sample_count = 5)]
fn gzip(bencher: Bencher<'_, '_>, level: u32) {
    let bytes = content(16 << 20);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let mut encoder = GzipEncoder::new(io::sink(), level, 1).expect("it starts");
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("nothing fails in memory");
    });
}

#[divan::bench(args = [1, 2, 3], sample_count = 5)]
fn zstd(bencher: Bencher<'_, '_>, level: i32) {
    let bytes = content(16 << 20);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let mut encoder = ZstdEncoder::new(io::sink(), level, 1).expect("it starts");
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("nothing fails in memory");
    });
}

#[divan::bench]
fn parse_a_long_dockerfile(bencher: Bencher<'_, '_>) {
    let mut text = String::from("FROM base\n");
    for number in 0..500 {
        text += &format!("RUN make -j4 step-{number} && \\\n    install -D out/{number} /usr/lib/app/${{NAME:-x}}\n");
    }
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| mica_parser::parse(black_box(text.as_bytes())));
}

#[divan::bench]
fn ignore_patterns(bencher: Bencher<'_, '_>) {
    let patterns = mica_parser::dockerignore::Patterns::parse(b"**/*.o\nnode_modules\n!node_modules/kept\n.git\ndist/**\n");
    let patterns = patterns.expect("they are patterns");
    let paths: Vec<String> = (0..1000).map(|number| format!("src/module-{}/file-{number}.rs", number % 40)).collect();
    bencher.counter(ItemsCount::new(paths.len())).bench_local(|| {
        paths.iter().filter(|path| patterns.decide(path.as_bytes(), None).excluded).count()
    });
}

/// No patterns are used.
struct NoPatterns;

impl Patterns for NoPatterns {
    fn glob(&self, pattern: &[u8], _: &[u8]) -> Result<bool, BadPattern> {
        Err(BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned() })
    }

    fn compile(&self, patterns: &[Vec<u8>]) -> Result<Box<dyn PathMatcher>, BadPattern> {
        Err(BadPattern { pattern: String::from_utf8_lossy(&patterns.concat()).into_owned() })
    }
}

fn selected(tree: &ContextTree) -> Selection {
    let sources = [SourcePattern { path: b".".to_vec(), wildcards: false }];
    let request = SelectRequest { sources: &sources, layout: Layout::Flat, exclude: &[], patterns: &NoPatterns };
    select(tree, &request).expect("all of it is there")
}

fn context() -> (tempfile::TempDir, ContextTree) {
    let home = tempfile::tempdir().expect("there is room");
    let tree = ContextTree::from_index(home.path(), layer()).expect("the directory is there");
    (home, tree)
}

#[divan::bench]
fn copy_select(bencher: Bencher<'_, '_>) {
    let (_home, tree) = context();
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| selected(&tree));
}

#[divan::bench]
fn copy_key(bencher: Bencher<'_, '_>) {
    let (_home, tree) = context();
    let selection = selected(&tree);
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| black_box(&selection).digest());
}

#[divan::bench]
fn copy_place(bencher: Bencher<'_, '_>) {
    let (_home, tree) = context();
    let (selection, nothing) = (selected(&tree), MergedTree::new(Vec::new()));
    let options = PlaceOptions { destination: b"/app/", owner: None, chmod: None, now: (0, 0) };
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| place(&[&selection], &nothing, &options).expect("it fits"));
}

#[divan::bench(sample_count = 20)]
fn context_scan_of_what_is_known(bencher: Bencher<'_, '_>) {
    let home = tempfile::tempdir().expect("there is room");
    let context = home.path().join("context");
    for number in 0..2000 {
        let directory = context.join(format!("{}", number / 50));
        std::fs::create_dir_all(&directory).expect("there is room");
        std::fs::write(directory.join(number.to_string()), number.to_string()).expect("there is room");
    }
    let store = Store::open(&home.path().join("store"), Ownership::Single).expect("there is room");
    let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: Some(&store) };
    // What is younger is not trusted, and would be read again.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let scan = || ContextTree::scan(&context, &options).expect("it can be read");
    scan();
    bencher.counter(ItemsCount::new(2000_usize)).bench_local(scan);
}
