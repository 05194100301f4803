//! The scanned context as a [`FileTree`].

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::fault::{Point, reach};
use mica_image::index::{Bytes, Entry, LayerIndex, LayerPath, Node, Time, TimeKind, compare_paths, is_below};
use mica_image::tree::{FileTree, TreeEntry, TreeError};
use rustix::fs::FileType;

use super::scan::{Found, ProofLimit, ScanError, ScanOptions, Scanned, proof_limit, scan};
use super::stat_cache::StatKey;
use crate::beneath::Beneath;

/// A build context: the files of a directory, with their digests.
#[derive(Debug)]
pub struct ContextTree {
    root: Beneath,
    path: PathBuf,
    /// In index order; the first is the root.
    entries: Vec<ContextEntry>,
    sockets: Vec<LayerPath>,
    wanted: Option<Vec<LayerPath>>,
}

#[derive(Debug)]
struct ContextEntry {
    entry: Arc<Entry>,
    link: Option<u64>,
    /// Position after the last entry below this one.
    end: usize,
}

impl ContextTree {
    /// Scans the directory at `path`.
    pub fn scan(path: &Path, options: &ScanOptions<'_>) -> Result<Self, ScanError> {
        let root = open_root(path)?;
        let proof = proof_limit(&root, options)?;
        Self::scan_with(path, root, options, proof)
    }

    pub(super) fn scan_with(
        path: &Path,
        root: Beneath,
        options: &ScanOptions<'_>,
        proof: ProofLimit,
    ) -> Result<Self, ScanError> {
        let mut scanned = scan(path, &root, options, proof)?;
        let entries = Vec::with_capacity(1 + scanned.count());
        let mut builder = Builder { scanned: &mut scanned, entries, links: HashMap::new() };
        builder.root();
        builder.children(&[]);
        let Builder { entries, links, .. } = builder;
        let mut tree = Self {
            root,
            path: path.to_owned(),
            entries,
            sockets: std::mem::take(&mut scanned.sockets),
            wanted: scanned.wanted.take(),
        };
        tree.number_links(links);
        Ok(tree)
    }

    /// Makes a tree of files that lie in `directory` as `index` says (an unpacked archive, a checkout).
    pub fn from_index(directory: &Path, index: LayerIndex) -> Result<Self, ScanError> {
        Ok(Self {
            root: open_root(directory)?,
            path: directory.to_owned(),
            entries: from_index(index),
            sockets: Vec::new(),
            wanted: None,
        })
    }

    /// Returns the directory that was scanned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the sockets that were left out.
    #[must_use]
    pub fn sockets(&self) -> &[LayerPath] {
        &self.sockets
    }

    /// Returns how many entries the context has, its root left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - 1
    }

    /// Returns whether there is nothing in the context.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the total size of its regular files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |entry: &ContextEntry| match entry.entry.node {
            Node::File { size, .. } => size,
            _ => 0,
        };
        self.entries.iter().map(size).sum()
    }

    /// Opens a file of the context again. What it holds may have changed since: who copies it verifies the digest.
    pub fn open(&self, path: &[u8]) -> io::Result<File> {
        reach(Point::ContextRead)?;
        let file = File::from(self.root.file(path)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file any more"));
        }
        Ok(file)
    }

    fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare_paths(&entry.entry.path, path)).ok()
    }

    fn shown(&self, position: usize) -> TreeEntry {
        let entry = &self.entries[position];
        TreeEntry { entry: entry.entry.clone(), link: entry.link }
    }

    /// Answers about what was not scanned would be wrong ones.
    fn check_scanned(&self, path: &[u8]) -> Result<(), TreeError> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let known = |prefix: &LayerPath| {
            path == prefix.as_slice() || is_below(path, prefix) || is_below(prefix, path) || path.is_empty()
        };
        if wanted.iter().any(known) {
            return Ok(());
        }
        Err(TreeError::Read {
            subject: String::from_utf8_lossy(path).into_owned(),
            source: io::Error::other("outside the part of the context that was scanned"),
        })
    }

    fn number_links(&mut self, links: HashMap<(u64, u64), Vec<usize>>) {
        let mut groups: Vec<_> = links.into_values().filter(|names| names.len() > 1).collect();
        groups.sort();
        for (number, names) in (0..).zip(groups) {
            for position in names {
                self.entries[position].link = Some(number);
            }
        }
    }
}

pub(super) fn open_root(path: &Path) -> Result<Beneath, ScanError> {
    Beneath::open_root(path).map_err(|source| ScanError::Read { path: path.to_owned(), source })
}

impl FileTree for ContextTree {
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        self.check_scanned(path)?;
        Ok(self.position(path).map(|position| self.shown(position)))
    }

    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        self.check_scanned(path)?;
        let Some(position) = self.position(path) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        let mut child = position + 1;
        while child < self.entries[position].end {
            names.push(mica_image::index::name(&self.entries[child].entry.path).to_vec());
            child = self.entries[child].end;
        }
        Ok(names)
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
        self.check_scanned(path)?;
        let Some(position) = self.position(path) else { return Ok(Vec::new()) };
        Ok((position + 1..self.entries[position].end).map(|position| self.shown(position)).collect())
    }
}

struct Builder<'a> {
    scanned: &'a mut Scanned,
    entries: Vec<ContextEntry>,
    links: HashMap<(u64, u64), Vec<usize>>,
}

impl Builder<'_> {
    fn root(&mut self) {
        let entry = Entry {
            path: Vec::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: time(StatKey::of(&self.scanned.root).mtime),
            xattrs: BTreeMap::new(),
            node: Node::Directory { opaque: false },
        };
        self.entries.push(ContextEntry { entry: Arc::new(entry), link: None, end: 1 });
    }

    /// Adds what is in `directory` in index order. The stack is on the heap: contexts may be deep.
    fn children(&mut self, directory: &[u8]) {
        let list = |scanned: &mut Scanned, path: &[u8]| scanned.directories.remove(path).unwrap_or_default();
        let mut open = vec![(0, list(self.scanned, directory).into_iter())];
        while let Some((position, children)) = open.last_mut() {
            let Some(found) = children.next() else {
                let position = *position;
                self.close(position);
                open.pop();
                continue;
            };
            let below =
                self.scanned.directories.contains_key(&found.path) && found.kind() == FileType::Directory;
            if !below && found.only_if_needed {
                continue;
            }
            let path = found.path.clone();
            let position = self.add(found);
            if below {
                open.push((position, list(self.scanned, &path).into_iter()));
            }
        }
    }

    /// Ends a directory; one that is there only for what is in it goes again when that is nothing.
    fn close(&mut self, position: usize) {
        let end = self.entries.len();
        if end == position + 1 && self.entries[position].end == ONLY_IF_NEEDED {
            self.entries.pop();
            return;
        }
        self.entries[position].end = end;
    }

    fn add(&mut self, found: Found) -> usize {
        let position = self.entries.len();
        if found.kind() == FileType::RegularFile && found.links > 1 {
            let key = &found.known.key;
            self.links.entry((key.device, key.inode)).or_default().push(position);
        }
        let end = if found.only_if_needed { ONLY_IF_NEEDED } else { position + 1 };
        self.entries.push(ContextEntry { entry: Arc::new(entry(found)), link: None, end });
        position
    }
}

/// Marks a directory that was added on probation.
const ONLY_IF_NEEDED: usize = usize::MAX;

fn entry(found: Found) -> Entry {
    let kind = found.kind();
    let known = found.known;
    let device = (rustix::fs::major(found.device), rustix::fs::minor(found.device));
    let node = match (kind, known.digest, found.link_target) {
        (FileType::RegularFile, Some(digest), _) => {
            Node::File { size: known.key.size, digest, bytes: Bytes::Here }
        }
        (FileType::Symlink, _, Some(target)) => Node::Symlink { target },
        (FileType::CharacterDevice, ..) => {
            let (major, minor) = device;
            Node::CharDevice { major, minor }
        }
        (FileType::BlockDevice, ..) => {
            let (major, minor) = device;
            Node::BlockDevice { major, minor }
        }
        (FileType::Fifo, ..) => Node::Fifo,
        _ => Node::Directory { opaque: false },
    };
    Entry {
        path: found.path,
        mode: known.key.mode & 0o7777,
        uid: 0,
        gid: 0,
        mtime: time(known.key.mtime),
        xattrs: known.xattrs,
        node,
    }
}

/// Times of a context never count.
fn time((seconds, nanoseconds): (i64, u32)) -> Time {
    Time { seconds, nanoseconds, kind: TimeKind::Now }
}

/// Turns an index into entries, hard links into what they link to.
fn from_index(index: LayerIndex) -> Vec<ContextEntry> {
    let mut entries: Vec<ContextEntry> = Vec::with_capacity(index.entries.len() + 1);
    if index.find(b"").is_none() {
        entries.push(ContextEntry { entry: Arc::new(implied(Vec::new())), link: None, end: 0 });
    }
    let mut numbers: HashMap<LayerPath, u64> = HashMap::new();
    for entry in &index.entries {
        if let Node::HardLink { target } = &entry.node {
            let next = numbers.len() as u64;
            numbers.entry(target.clone()).or_insert(next);
        }
    }
    let mut known: std::collections::HashSet<LayerPath> = std::collections::HashSet::from([Vec::new()]);
    for entry in &index.entries {
        if entry.node == Node::Whiteout {
            continue;
        }
        imply_parents(&mut entries, &mut known, &entry.path);
        known.insert(entry.path.clone());
        let (shown, link) = resolve_link(&index, entry, &numbers);
        entries.push(ContextEntry { entry: Arc::new(shown), link, end: 0 });
    }
    set_ends(&mut entries);
    entries
}

fn resolve_link(
    index: &LayerIndex,
    entry: &Entry,
    numbers: &HashMap<LayerPath, u64>,
) -> (Entry, Option<u64>) {
    let Node::HardLink { target } = &entry.node else {
        return (entry.clone(), numbers.get(&entry.path).copied());
    };
    let first = index.find(target).expect("an index holds the targets of its hard links");
    (Entry { node: first.node.clone(), ..entry.clone() }, numbers.get(target).copied())
}

fn imply_parents(
    entries: &mut Vec<ContextEntry>,
    known: &mut std::collections::HashSet<LayerPath>,
    path: &[u8],
) {
    let mut missing = Vec::new();
    let mut directory = mica_image::index::parent(path);
    while !known.contains(directory) {
        missing.push(directory.to_vec());
        directory = mica_image::index::parent(directory);
    }
    for path in missing.into_iter().rev() {
        known.insert(path.clone());
        entries.push(ContextEntry { entry: Arc::new(implied(path)), link: None, end: 0 });
    }
}

/// A directory that an archive has only as part of names.
fn implied(path: LayerPath) -> Entry {
    Entry {
        path,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::UNSET,
        xattrs: BTreeMap::new(),
        node: Node::Directory { opaque: false },
    }
}

fn set_ends(entries: &mut [ContextEntry]) {
    let mut open: Vec<usize> = Vec::new();
    for position in 0..entries.len() {
        while let Some(&top) = open.last()
            && !is_below(&entries[position].entry.path, &entries[top].entry.path)
        {
            entries[top].end = position;
            open.pop();
        }
        open.push(position);
    }
    let length = entries.len();
    for top in open {
        entries[top].end = length;
    }
}
