//! What was asked of a tree, and whether another tree would answer the same.
//!
//! A fact is about one path: that nothing is there, what is there (kind, mode, owner, attributes, link target; neither size nor
//! times nor what a directory has in it), which names a directory has, or which content a file has. A fact holds only what was
//! really asked, so that a result depends on nothing it did not see.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FileTree, TreeEntry, TreeError};
use crate::index::{Entry, LayerPath, Node};
use crate::{FileDigest, StateDigest};

/// Something observed in a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// Where.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub path: LayerPath,
    /// What.
    pub observed: Observed,
}

/// What was observed at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// Nothing is there.
    Absent,
    /// Kind, mode, owner, attributes and link target have this digest.
    State(StateDigest),
    /// The list of names in the directory has this digest.
    Names(StateDigest),
    /// It is a file with these bytes.
    Content(FileDigest),
}

/// A tree that notes what it is asked.
pub struct RecordingTree<'a> {
    tree: &'a dyn FileTree,
    facts: Mutex<BTreeSet<Fact>>,
}

impl<'a> RecordingTree<'a> {
    /// Shows `tree`, of which nothing has been asked yet.
    #[must_use]
    pub fn new(tree: &'a dyn FileTree) -> Self {
        Self { tree, facts: Mutex::default() }
    }

    /// Returns the digest of the file at exactly `path`, or `None` when no file is there.
    pub fn content(&self, path: &[u8]) -> Result<Option<FileDigest>, TreeError> {
        let found = self.entry(path)?;
        let Some(Node::File { digest, .. }) = found.as_ref().map(|found| &found.entry.node) else {
            return Ok(None);
        };
        self.note(path, Observed::Content(*digest));
        Ok(Some(*digest))
    }

    /// Returns what was observed so far, each fact once and in order.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, path: &[u8], observed: Observed) {
        let fact = Fact { path: path.to_vec(), observed };
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).insert(fact);
    }
}

impl FileTree for RecordingTree<'_> {
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        let found = self.tree.entry(path)?;
        self.note(path, observe_entry(found.as_ref()));
        Ok(found)
    }

    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let names = self.tree.children(path)?;
        self.note(path, Observed::Names(digest_names(&names)));
        Ok(names)
    }
}

/// Tells whether every one of `facts` is so in `tree`.
pub fn holds(facts: &[Fact], tree: &dyn FileTree) -> Result<bool, TreeError> {
    Ok(first_broken(facts, tree)?.is_none())
}

/// Returns the first of `facts` that is not so in `tree`.
pub fn first_broken<'f>(facts: &'f [Fact], tree: &dyn FileTree) -> Result<Option<&'f Fact>, TreeError> {
    for fact in facts {
        if !is_so(fact, tree)? {
            return Ok(Some(fact));
        }
    }
    Ok(None)
}

fn is_so(fact: &Fact, tree: &dyn FileTree) -> Result<bool, TreeError> {
    Ok(match fact.observed {
        Observed::Absent | Observed::State(_) => {
            observe_entry(tree.entry(&fact.path)?.as_ref()) == fact.observed
        }
        Observed::Names(names) => digest_names(&tree.children(&fact.path)?) == names,
        Observed::Content(content) => {
            let found = tree.entry(&fact.path)?;
            let node = found.as_ref().map(|found| &found.entry.node);
            matches!(node, Some(Node::File { digest, .. }) if *digest == content)
        }
    })
}

fn observe_entry(found: Option<&TreeEntry>) -> Observed {
    found.map_or(Observed::Absent, |found| Observed::State(digest_state(&found.entry)))
}

fn digest_names(names: &[Vec<u8>]) -> StateDigest {
    let mut hasher = Hasher::new(b"mica names 1\n");
    names.iter().for_each(|name| hasher.bytes(name));
    hasher.finish()
}

fn digest_state(entry: &Entry) -> StateDigest {
    let mut hasher = Hasher::new(b"mica state 1\n");
    for number in [entry.mode, entry.uid, entry.gid] {
        hasher.number(number);
    }
    hasher.number(entry.xattrs.len() as u32);
    for (name, value) in &entry.xattrs {
        hasher.bytes(name);
        hasher.bytes(value);
    }
    match &entry.node {
        Node::File { .. } => hasher.number(1),
        Node::Directory { .. } => hasher.number(2),
        Node::Symlink { target } => {
            hasher.number(3);
            hasher.bytes(target);
        }
        // No tree shows these two.
        Node::HardLink { .. } | Node::Whiteout => hasher.number(4),
        Node::CharDevice { major, minor } => [5, *major, *minor].into_iter().for_each(|n| hasher.number(n)),
        Node::BlockDevice { major, minor } => [6, *major, *minor].into_iter().for_each(|n| hasher.number(n)),
        Node::Fifo => hasher.number(7),
    }
    hasher.finish()
}

struct Hasher(blake3::Hasher);

impl Hasher {
    fn new(version: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(version);
        Self(hasher)
    }

    fn number(&mut self, number: u32) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> StateDigest {
        StateDigest::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// Writes a path as text: what is not UTF-8 as `\xNN`, a backslash twice.
fn write_path<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    serializer.serialize_str(&text)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LayerPath, D::Error> {
    let text = String::deserialize(deserializer)?;
    unescape(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no written path")))
}

fn unescape(text: &str) -> Option<LayerPath> {
    let mut path = LayerPath::with_capacity(text.len());
    let mut parts = text.split('\\');
    path.extend_from_slice(parts.next()?.as_bytes());
    while let Some(part) = parts.next() {
        if part.is_empty() {
            path.push(b'\\');
            path.extend_from_slice(parts.next()?.as_bytes());
            continue;
        }
        let digits = part.strip_prefix('x')?;
        path.push(u8::from_str_radix(digits.get(..2)?, 16).ok()?);
        path.extend_from_slice(&digits.as_bytes()[2..]);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{arbitrary_layers, merged, universe};
    use super::super::{FollowLast, MergedTree, resolve};
    use super::*;
    use crate::index::LayerIndex;
    use crate::index::testing::{directory, file, symlink};

    fn tree(entries: Vec<Entry>) -> MergedTree {
        merged(&[LayerIndex::from_entries(entries).unwrap()])
    }

    #[test]
    fn only_what_was_asked_counts() {
        let before = tree(vec![directory("app"), file("app/main", b"1"), file("etc/passwd", b"root")]);
        let recording = RecordingTree::new(&before);
        resolve(&recording, b"/app/new", FollowLast::Yes).unwrap();
        recording.content(b"etc/passwd").unwrap();
        let facts = recording.facts();
        let so = |entries: Vec<Entry>| holds(&facts, &tree(entries)).unwrap();
        let passwd = || file("etc/passwd", b"root");
        assert!(so(vec![directory("app"), passwd()]));
        assert!(so(vec![directory("app"), passwd(), file("app/other", b""), file("etc/group", b"")]));
        assert!(!so(vec![directory("app"), passwd(), file("app/new", b"")]));
        assert!(!so(vec![Entry { uid: 5, ..directory("app") }, passwd()]));
        assert!(!so(vec![symlink("app", "etc"), passwd()]));
        assert!(!so(vec![directory("app"), file("etc/passwd", b"toor")]));
        assert!(!so(vec![passwd()]));
    }

    #[test]
    fn a_list_of_names_is_one_fact() {
        let before = tree(vec![file("d/a", b""), file("d/b", b"")]);
        let recording = RecordingTree::new(&before);
        recording.children(b"d").unwrap();
        let facts = recording.facts();
        assert!(holds(&facts, &tree(vec![symlink("d/a", "b"), directory("d/b")])).unwrap());
        let broken = tree(vec![file("d/a", b"")]);
        assert_eq!(first_broken(&facts, &broken).unwrap(), Some(&facts[0]));
    }

    #[test]
    fn the_state_of_a_file_is_not_its_content() {
        let before = tree(vec![file("f", b"short")]);
        let recording = RecordingTree::new(&before);
        recording.entry(b"f").unwrap();
        assert!(holds(&recording.facts(), &tree(vec![file("f", b"other bytes")])).unwrap());
        assert!(
            !holds(&recording.facts(), &tree(vec![Entry { mode: 0o4755, ..file("f", b"short") }])).unwrap()
        );
    }

    #[test]
    fn facts_are_pinned() {
        let before = tree(vec![symlink("d/a", "b")]);
        let recording = RecordingTree::new(&before);
        recording.subtree(b"d").unwrap();
        recording.entry(b"none\\\xff").unwrap();
        let text = serde_json::to_string(&recording.facts()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"[{"path":"d","observed":{"names":"#,
                r#""blake3:c3d3212c5bd9abaf2895cd89b4018fcbb402deebab57ce95e58a601080103c31"}},"#,
                r#"{"path":"d/a","observed":{"state":"#,
                r#""blake3:f254b1c5fa3b86c6e459440ed6670027f5d0bfe1b61d504962175b13ec59700e"}},"#,
                r#"{"path":"none\\\\\\xff","observed":"absent"}]"#,
            )
        );
        assert_eq!(serde_json::from_str::<Vec<Fact>>(&text).unwrap(), recording.facts());
    }

    proptest! {
        #[test]
        fn facts_hold_where_they_were_seen_and_paths_survive_json(layers in arbitrary_layers(), path: Vec<u8>) {
            let tree = merged(&layers);
            let recording = RecordingTree::new(&tree);
            recording.subtree(b"").unwrap();
            for path in universe() {
                recording.content(&path).unwrap();
            }
            prop_assert!(holds(&recording.facts(), &tree).unwrap());
            let fact = Fact { path, observed: Observed::Absent };
            let text = serde_json::to_string(&fact).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        }
    }
}
