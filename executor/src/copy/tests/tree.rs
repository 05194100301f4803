//! A tree in memory that counts what it is asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use mica_image::FileDigest;
use mica_image::index::{Bytes, Entry, LayerPath, Node, Time, TimeKind, compare_paths, is_below, parent};
use mica_image::tree::{FileTree, TreeEntry, TreeError};

use crate::copy::ContentReader;

/// A tree in memory. Parents spring into being, mode 0755, owner 0:0.
#[derive(Debug, Default)]
pub(in crate::copy) struct TestTree {
    entries: BTreeMap<LayerPath, TreeEntry>,
    contents: BTreeMap<LayerPath, Vec<u8>>,
    asked: Mutex<Vec<LayerPath>>,
    unreadable: bool,
}

impl TestTree {
    pub(in crate::copy) fn new() -> Self {
        Self::default()
    }

    /// A tree that fails whatever it is asked.
    pub(in crate::copy) fn unreadable() -> Self {
        Self { unreadable: true, ..Self::default() }
    }

    pub(in crate::copy) fn file(self, path: &str, content: &str) -> Self {
        let bytes = content.as_bytes();
        let node = Node::File { size: bytes.len() as u64, digest: FileDigest::of(bytes), bytes: Bytes::Here };
        let mut tree = self.node(path, node, 0o644);
        tree.contents.insert(path.into(), bytes.to_vec());
        tree
    }

    pub(in crate::copy) fn dir(self, path: &str) -> Self {
        self.node(path, Node::Directory { opaque: false }, 0o755)
    }

    pub(in crate::copy) fn link(self, path: &str, target: &str) -> Self {
        self.node(path, Node::Symlink { target: target.into() }, 0o777)
    }

    pub(in crate::copy) fn fifo(self, path: &str) -> Self {
        self.node(path, Node::Fifo, 0o644)
    }

    /// Makes the files at `paths` names of one inode.
    pub(in crate::copy) fn linked(mut self, number: u64, paths: &[&str]) -> Self {
        for path in paths {
            self.entries.get_mut(path.as_bytes()).unwrap().link = Some(number);
        }
        self
    }

    pub(in crate::copy) fn mode(self, path: &str, mode: u32) -> Self {
        self.change(path, |entry| entry.mode = mode)
    }

    pub(in crate::copy) fn owner(self, path: &str, uid: u32, gid: u32) -> Self {
        self.change(path, |entry| (entry.uid, entry.gid) = (uid, gid))
    }

    pub(in crate::copy) fn mtime(self, path: &str, seconds: i64, kind: TimeKind) -> Self {
        self.change(path, |entry| entry.mtime = Time { seconds, nanoseconds: 0, kind })
    }

    pub(in crate::copy) fn xattr(self, path: &str, key: &str, value: &str) -> Self {
        self.change(path, |entry| {
            entry.xattrs.insert(key.into(), value.into());
        })
    }

    /// Returns the paths whose entries were asked for, each once, in index order.
    pub(in crate::copy) fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort_by(|a, b| compare_paths(a, b));
        asked.dedup();
        asked.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    fn change(mut self, path: &str, change: impl FnOnce(&mut Entry)) -> Self {
        change(Arc::make_mut(&mut self.entries.get_mut(path.as_bytes()).unwrap().entry));
        self
    }

    fn node(mut self, path: &str, node: Node, mode: u32) -> Self {
        let path = path.as_bytes();
        let mut above = parent(path);
        while !above.is_empty() {
            self.insert(above, Node::Directory { opaque: false }, 0o755);
            above = parent(above);
        }
        self.entries.remove(path);
        self.insert(path, node, mode);
        self
    }

    fn insert(&mut self, path: &[u8], node: Node, mode: u32) {
        let mtime = Time { seconds: 1_000, nanoseconds: 5, kind: TimeKind::Set };
        let entry = Entry { path: path.to_vec(), mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new(), node };
        self.entries.entry(path.to_vec()).or_insert(TreeEntry { entry: Arc::new(entry), link: None });
    }

    fn check(&self) -> Result<(), TreeError> {
        if self.unreadable {
            return Err(TreeError::Read { subject: "tree".into(), source: io::ErrorKind::Other.into() });
        }
        Ok(())
    }
}

impl FileTree for TestTree {
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        self.check()?;
        self.asked.lock().unwrap().push(path.to_vec());
        if path.is_empty() {
            let root = Self::new().dir("root").entries.remove(&b"root"[..]).unwrap();
            let root = Entry { path: LayerPath::new(), ..Arc::unwrap_or_clone(root.entry) };
            return Ok(Some(TreeEntry { entry: Arc::new(root), link: None }));
        }
        Ok(self.entries.get(path).cloned())
    }

    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        self.check()?;
        let inside = self.entries.keys().filter(|candidate| parent(candidate) == path);
        Ok(inside.map(|path| mica_image::index::name(path).to_vec()).collect())
    }

    fn subtree(&self, path: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
        self.check()?;
        let mut below: Vec<_> =
            self.entries.values().filter(|found| is_below(&found.entry.path, path)).cloned().collect();
        below.sort_by(|a, b| compare_paths(&a.entry.path, &b.entry.path));
        Ok(below)
    }
}

impl ContentReader for TestTree {
    fn read(&self, entry: &TreeEntry) -> io::Result<Vec<u8>> {
        self.check().map_err(io::Error::other)?;
        Ok(self.contents[&entry.entry.path].clone())
    }
}
