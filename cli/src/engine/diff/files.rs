//! Files that are different, and in what.

use std::cmp::Ordering;
use std::collections::HashMap;

use mica_image::index::{Entry, LayerPath, Node, compare_paths};
use mica_image::tree::{FileTree, TreeEntry};

use super::DiffOptions;
use crate::engine::history::{LookError, OpenImage};

/// One path that is not the same in both images.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct FileChange {
    /// The path, with its leading slash.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// In what it is different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aspects: Vec<Aspect>,
    /// What was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<State>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<State>,
    /// The instruction that put it there or removed it, in the image it is in now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

/// Something about a file that can be different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Aspect {
    Kind,
    Content,
    Target,
    Device,
    Mode,
    Owner,
    Attributes,
    Links,
    Time,
}

/// What is at a path, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct State {
    /// `file`, `directory`, `symlink` …
    pub kind: &'static str,
    /// Four octal digits.
    pub mode: String,
    /// `uid:gid`.
    pub owner: String,
    /// Length of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest of a file's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Modification time in seconds and nanoseconds since 1970.
    pub time: String,
}

/// Returns what an entry says in words.
pub(crate) fn state(entry: &Entry) -> State {
    let (size, digest) = match &entry.node {
        Node::File { size, digest, .. } => (Some(*size), Some(digest.to_string())),
        _ => (None, None),
    };
    let target = match &entry.node {
        Node::Symlink { target } | Node::HardLink { target } => {
            Some(String::from_utf8_lossy(target).into_owned())
        }
        _ => None,
    };
    State {
        kind: kind(&entry.node),
        mode: format!("{:04o}", entry.mode),
        owner: format!("{}:{}", entry.uid, entry.gid),
        size,
        digest,
        target,
        time: format!("{}.{:09}", entry.mtime.seconds, entry.mtime.nanoseconds),
    }
}

const fn kind(node: &Node) -> &'static str {
    match node {
        Node::File { .. } => "file",
        Node::Directory { .. } => "directory",
        Node::Symlink { .. } => "symlink",
        Node::HardLink { .. } => "hard link",
        Node::CharDevice { .. } => "character device",
        Node::BlockDevice { .. } => "block device",
        Node::Fifo => "fifo",
        Node::Whiteout => "removal",
    }
}

/// Compares the files of two images.
pub(super) fn compare(
    before: &OpenImage,
    after: &OpenImage,
    options: DiffOptions,
) -> Result<Vec<FileChange>, LookError> {
    let ids = |image: &OpenImage| image.layers.iter().map(|layer| layer.id).collect::<Vec<_>>();
    if ids(before) == ids(after) {
        return Ok(Vec::new());
    }
    let (old, new) = (Listing::of(&before.tree)?, Listing::of(&after.tree)?);
    let mut changes = Vec::new();
    let (mut left, mut right) = (old.entries.iter().peekable(), new.entries.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => compare_paths(&a.entry.path, &b.entry.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(changes),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        let aspects = match (a, b) {
            (Some(a), Some(b)) => aspects((&old, a), (&new, b), options),
            _ => Vec::new(),
        };
        if a.is_some() && b.is_some() && aspects.is_empty() {
            continue;
        }
        changes.push(change(after, a, b, aspects));
    }
}

fn change(
    after: &OpenImage,
    a: Option<&TreeEntry>,
    b: Option<&TreeEntry>,
    aspects: Vec<Aspect>,
) -> FileChange {
    let path = a.or(b).map_or(&[][..], |found| &found.entry.path);
    FileChange {
        path: format!("/{}", String::from_utf8_lossy(path)),
        change: match (a, b) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        },
        aspects,
        before: a.map(|found| state(&found.entry)),
        after: b.map(|found| state(&found.entry)),
        by: after.last_deed(path).map(|(layer, _)| after.line(layer).place()),
    }
}

/// All entries of a tree, in order.
struct Listing {
    entries: Vec<TreeEntry>,
    /// The first name of each inode with several.
    first_names: HashMap<u64, LayerPath>,
}

impl Listing {
    fn of(tree: &dyn FileTree) -> Result<Self, LookError> {
        let mut entries: Vec<TreeEntry> = tree.entry(b"")?.into_iter().collect();
        entries.extend(tree.subtree(b"")?);
        let mut first_names = HashMap::new();
        for found in &entries {
            if let Some(link) = found.link {
                first_names.entry(link).or_insert_with(|| found.entry.path.clone());
            }
        }
        Ok(Self { entries, first_names })
    }

    fn first_name(&self, found: &TreeEntry) -> Option<&LayerPath> {
        found.link.and_then(|link| self.first_names.get(&link))
    }
}

fn aspects(
    (old, a): (&Listing, &TreeEntry),
    (new, b): (&Listing, &TreeEntry),
    options: DiffOptions,
) -> Vec<Aspect> {
    let mut found = Vec::new();
    found.extend(node_aspect(&a.entry.node, &b.entry.node));
    let (before, after) = (&a.entry, &b.entry);
    let mut check = |differs: bool, aspect| found.extend(differs.then_some(aspect));
    check(before.mode != after.mode, Aspect::Mode);
    check((before.uid, before.gid) != (after.uid, after.gid), Aspect::Owner);
    check(before.xattrs != after.xattrs, Aspect::Attributes);
    check(old.first_name(a) != new.first_name(b), Aspect::Links);
    check(!options.semantic && has_other_time(before, after), Aspect::Time);
    found
}

/// Most tars know whole seconds only.
fn has_other_time(before: &Entry, after: &Entry) -> bool {
    let told = before.mtime.nanoseconds != 0 && after.mtime.nanoseconds != 0;
    before.mtime.seconds != after.mtime.seconds
        || (told && before.mtime.nanoseconds != after.mtime.nanoseconds)
}

fn node_aspect(before: &Node, after: &Node) -> Option<Aspect> {
    match (before, after) {
        (Node::File { digest: a, .. }, Node::File { digest: b, .. }) => (a != b).then_some(Aspect::Content),
        (Node::Directory { .. }, Node::Directory { .. }) => None,
        (Node::Symlink { target: a }, Node::Symlink { target: b }) => (a != b).then_some(Aspect::Target),
        (a, b) if a == b => None,
        (Node::CharDevice { .. }, Node::CharDevice { .. })
        | (Node::BlockDevice { .. }, Node::BlockDevice { .. }) => Some(Aspect::Device),
        _ => Some(Aspect::Kind),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use mica_image::FileDigest;
    use mica_image::index::{Bytes, Time};

    fn file(content: &[u8]) -> Node {
        Node::File { size: content.len() as u64, digest: FileDigest::of(content), bytes: Bytes::Here }
    }

    fn entry(node: Node, mode: u32) -> TreeEntry {
        let entry = Entry {
            path: b"a".to_vec(),
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::UNSET,
            xattrs: Default::default(),
            node,
        };
        TreeEntry { entry: Arc::new(entry), link: None }
    }

    fn differences(a: &TreeEntry, b: &TreeEntry, semantic: bool) -> Vec<Aspect> {
        let none = Listing { entries: vec![], first_names: HashMap::new() };
        aspects((&none, a), (&none, b), DiffOptions { semantic })
    }

    #[test]
    fn each_aspect_is_told_alone() {
        let plain = entry(file(b"x"), 0o644);
        let mut owner = plain.clone();
        Arc::make_mut(&mut owner.entry).gid = 7;
        let mut later = plain.clone();
        Arc::make_mut(&mut later.entry).mtime.seconds = 9;
        let link = |target: &[u8]| entry(Node::Symlink { target: target.to_vec() }, 0o777);
        assert_eq!(differences(&plain, &entry(file(b"y"), 0o644), true), [Aspect::Content]);
        assert_eq!(differences(&plain, &entry(file(b"x"), 0o755), true), [Aspect::Mode]);
        assert_eq!(differences(&plain, &owner, true), [Aspect::Owner]);
        assert_eq!(differences(&plain, &later, false), [Aspect::Time]);
        assert_eq!(differences(&plain, &later, true), []);
        assert_eq!(differences(&link(b"x"), &link(b"y"), true), [Aspect::Target]);
        assert_eq!(differences(&plain, &link(b"x"), true), [Aspect::Kind, Aspect::Mode]);
        assert_eq!(differences(&plain, &plain, false), []);
    }
}
