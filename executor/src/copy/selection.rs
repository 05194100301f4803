//! A selection: what one COPY or ADD takes from one source, before anybody knows where it lands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use mica_image::FileDigest;
use mica_image::index::{Bytes, Entry, LayerPath, Node, Time, TimeKind, belongs_to_image};
use mica_image::tree::{TreeEntry, join};

use super::paths::name;
use super::place::Origin;

/// What one COPY or ADD takes from one source, in the order in which it is placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The items, in order: one for each source, or for each match of a wildcard.
    pub items: Vec<Item>,
}

/// One source that was named or matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The source as it was named or matched, for messages.
    pub source: Vec<u8>,
    /// How it relates to the destination.
    pub shape: Shape,
    /// Its entries: a directory before what is in it; members of an archive in their order there.
    pub parts: Vec<Part>,
}

/// How an item relates to the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The content of a directory: the destination takes the directory's place.
    Contents {
        /// The directory's own time.
        mtime: Time,
    },
    /// One thing that is no directory; it has this name where the destination is a directory.
    Named(Vec<u8>),
    /// The members of an archive: they are extracted into the destination and replace what is in their way.
    Members,
}

/// One entry of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path below the item; empty for the one part of a [`Shape::Named`].
    pub path: LayerPath,
    /// The entry. Its own path is where it lies in the source.
    pub entry: TreeEntry,
    /// Why it was taken.
    pub reason: Reason,
    /// Where a file's bytes come from.
    pub content: Content,
}

/// Why an entry belongs to a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was selected.
    Chosen,
    /// It is a directory on the way to something selected.
    Leading,
}

/// Where the bytes of a selected file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// From the source tree.
    Tree,
    /// They are here.
    Inline(Arc<[u8]>),
    /// From a file of their own, which stays where it is.
    File(Arc<Path>),
    /// From a file of their own, which is moved away when the layer is written.
    Spooled(Arc<Path>),
}

/// One line of a selection for people: where an entry is and a digest-like summary of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Listed<'a> {
    /// The path, with the item's name.
    pub path: &'a str,
    /// Everything about the entry that counts.
    pub state: &'a str,
}

impl Selection {
    /// Returns a selection of one file whose bytes are at hand: a here-document (no time: it was made now) or a download.
    #[must_use]
    pub fn from_inline(file_name: &[u8], content: Arc<[u8]>, mode: u32, mtime: Time) -> Self {
        let node =
            Node::File { size: content.len() as u64, digest: FileDigest::of(&content), bytes: Bytes::Here };
        Self::from_one(file_name, node, mode, mtime, Content::Inline(content))
    }

    /// Returns a selection of one file that lies in a file of its own, such as a download; that file stays where it is.
    #[must_use]
    pub fn from_file(
        file_name: &[u8],
        file: Arc<Path>,
        (size, digest): (u64, FileDigest),
        mode: u32,
        mtime: Time,
    ) -> Self {
        let node = Node::File { size, digest, bytes: Bytes::Here };
        Self::from_one(file_name, node, mode, mtime, Content::File(file))
    }

    fn from_one(file_name: &[u8], node: Node, mode: u32, mtime: Time, content: Content) -> Self {
        let base = name(file_name).to_vec();
        let entry =
            Entry { path: base.clone(), mode, uid: 0, gid: 0, mtime, xattrs: Default::default(), node };
        let part = Part {
            path: LayerPath::new(),
            entry: TreeEntry { entry: Arc::new(entry), link: None },
            reason: Reason::Chosen,
            content,
        };
        Self {
            items: vec![Item { source: file_name.to_vec(), shape: Shape::Named(base), parts: vec![part] }],
        }
    }

    /// Returns the canonical digest of everything that the result of placing this selection can depend on.
    ///
    /// A file counts with its base name but not with the directory it lies in; a directory whose content is taken counts with
    /// that content only. Times count where they are set on purpose.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Canonical::new(b"mica selection 1");
        hash.number(self.items.len() as u64);
        for item in &self.items {
            match &item.shape {
                Shape::Contents { .. } => hash.number(0),
                Shape::Named(name) => hash.number(1).bytes(name),
                Shape::Members => hash.number(2),
            };
            hash.number(item.parts.len() as u64);
            let groups = item.link_groups();
            for part in &item.parts {
                hash.part(part, &groups);
            }
        }
        hash.finish()
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.iter().map(|item| item.parts.len()).sum()
    }

    /// Hands on one line for each entry, in order, to compare two selections with. All of them would take several times the room
    /// of the selection.
    pub fn list<E>(&self, mut take: impl FnMut(Listed<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut line = String::new();
        for item in &self.items {
            let groups = item.link_groups();
            for part in &item.parts {
                line.clear();
                put_state(&mut line, part, &groups);
                let path = item.shown_path(part);
                take(Listed { path: &String::from_utf8_lossy(&path), state: &line })?;
            }
        }
        Ok(())
    }
}

impl Part {
    /// Returns where a file's bytes come from, as part of the selection with the given number.
    pub(super) fn origin(&self, selection: usize) -> Option<Origin> {
        let Node::File { .. } = &self.entry.entry.node else { return None };
        Some(match &self.content {
            Content::Tree => Origin::Tree { selection, entry: Arc::clone(&self.entry.entry) },
            Content::Inline(content) => Origin::Inline(Arc::clone(content)),
            Content::File(file) => Origin::File(Arc::clone(file)),
            Content::Spooled(file) => Origin::Spooled(Arc::clone(file)),
        })
    }
}

impl Item {
    /// For each group of hard links with several names here: the first name.
    fn link_groups(&self) -> HashMap<u64, &[u8]> {
        let mut first: HashMap<u64, (&[u8], usize)> = HashMap::new();
        for part in &self.parts {
            if let Some(link) = part.entry.link {
                first.entry(link).or_insert((&part.path, 0)).1 += 1;
            }
        }
        first.into_iter().filter(|(_, (_, names))| *names > 1).map(|(link, (path, _))| (link, path)).collect()
    }

    fn shown_path<'a>(&'a self, part: &'a Part) -> Cow<'a, [u8]> {
        match &self.shape {
            Shape::Named(name) => Cow::Borrowed(name),
            Shape::Contents { .. } | Shape::Members if self.source.is_empty() => Cow::Borrowed(&part.path),
            Shape::Contents { .. } | Shape::Members => Cow::Owned(join(&self.source, &part.path)),
        }
    }
}

/// The extended attributes that travel and count: capabilities, and what is neither a security module's nor the file system's.
pub(super) fn counts(xattr: &[u8]) -> bool {
    let local = xattr.starts_with(b"security.") || xattr.starts_with(b"system.");
    belongs_to_image(xattr) && (!local || xattr == b"security.capability")
}

/// A hasher of length-prefixed fields, which are hashed many at a time.
struct Canonical {
    hasher: blake3::Hasher,
    pending: Vec<u8>,
}

impl Canonical {
    const MANY: usize = 64 * 1024;

    fn new(domain: &[u8]) -> Self {
        let mut canonical = Self { hasher: blake3::Hasher::new(), pending: Vec::with_capacity(Self::MANY) };
        canonical.bytes(domain);
        canonical
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.pending);
        *self.hasher.finalize().as_bytes()
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64).put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        if self.pending.len() + bytes.len() > Self::MANY {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        self.pending.extend_from_slice(bytes);
        self
    }

    fn part(&mut self, part: &Part, groups: &HashMap<u64, &[u8]>) {
        let entry = &part.entry.entry;
        self.bytes(&part.path).number(match part.reason {
            Reason::Chosen => 0,
            Reason::Leading => 1,
        });
        self.number(entry.mode.into()).number(entry.uid.into()).number(entry.gid.into());
        self.node(&entry.node);
        self.time(&entry.mtime);
        let xattrs: Vec<_> = entry.xattrs.iter().filter(|(key, _)| counts(key)).collect();
        self.number(xattrs.len() as u64);
        for (key, value) in xattrs {
            self.bytes(key).bytes(value);
        }
        match part.entry.link.and_then(|link| groups.get(&link)) {
            Some(first) => self.number(1).bytes(first),
            None => self.number(0),
        };
    }

    fn node(&mut self, node: &Node) -> &mut Self {
        match node {
            Node::File { size, digest, .. } => self.number(0).number(*size).bytes(digest.as_bytes()),
            Node::Directory { opaque } => self.number(1).number(u64::from(*opaque)),
            Node::Symlink { target } => self.number(2).bytes(target),
            Node::HardLink { target } => self.number(3).bytes(target),
            Node::CharDevice { major, minor } => {
                self.number(4).number((*major).into()).number((*minor).into())
            }
            Node::BlockDevice { major, minor } => {
                self.number(5).number((*major).into()).number((*minor).into())
            }
            Node::Fifo => self.number(6),
            Node::Whiteout => self.number(7),
        }
    }

    fn time(&mut self, time: &Time) -> &mut Self {
        match time.kind {
            TimeKind::Now => self.number(0),
            TimeKind::Set => {
                self.number(1).number(time.seconds.cast_unsigned()).number(time.nanoseconds.into())
            }
        }
    }
}

/// Writes a number with at least so many digits: there may be a million of them, and `write!` takes most of the time then.
fn put_number<const BASE: u64>(line: &mut String, number: u64, least: usize) {
    // As many as 2⁶⁴ has in base 8.
    let mut digits = [b'0'; 22];
    let (mut at, mut rest) = (digits.len(), number);
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % BASE) as u8;
        rest /= BASE;
    }
    let at = at.min(digits.len() - least);
    digits[at..].iter().for_each(|digit| line.push(char::from(*digit)));
}

fn put_state(line: &mut String, part: &Part, groups: &HashMap<u64, &[u8]>) {
    let entry = &part.entry.entry;
    line.push_str(match &entry.node {
        Node::File { .. } => "file",
        Node::Directory { .. } => "directory",
        Node::Symlink { .. } => "symlink",
        Node::HardLink { .. } => "hard link",
        Node::CharDevice { .. } => "character device",
        Node::BlockDevice { .. } => "block device",
        Node::Fifo => "fifo",
        Node::Whiteout => "whiteout",
    });
    line.push(' ');
    put_number::<8>(line, entry.mode.into(), 4);
    line.push(' ');
    put_number::<10>(line, entry.uid.into(), 1);
    line.push(':');
    put_number::<10>(line, entry.gid.into(), 1);
    if let Node::File { size, .. } = &entry.node {
        line.push(' ');
        put_number::<10>(line, *size, 1);
    }
    let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).expect("a string takes every text");
    match &entry.node {
        Node::File { digest, .. } => add(format_args!(" {digest}")),
        Node::Symlink { target } | Node::HardLink { target } => {
            add(format_args!(" -> {}", String::from_utf8_lossy(target)));
        }
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            add(format_args!(" {major},{minor}"));
        }
        Node::Directory { .. } | Node::Fifo | Node::Whiteout => {}
    }
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| counts(key)) {
        let key = String::from_utf8_lossy(key);
        add(format_args!(" {key}={}", FileDigest::of(value).hex()));
    }
    if entry.mtime.kind == TimeKind::Set {
        add(format_args!(" @{}.{:09}", entry.mtime.seconds, entry.mtime.nanoseconds));
    }
    if let Some(first) = part.entry.link.and_then(|link| groups.get(&link)) {
        add(format_args!(" linked with {}", String::from_utf8_lossy(first)));
    }
}
