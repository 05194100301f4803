//! The contents of an index: entries, what they are, and where their bytes lie.

use std::collections::BTreeMap;

use crate::{FileDigest, LayerId};

/// A path inside a layer or tree: relative, `/`-separated, no `.`/`..`/empty components; `""` is the root.
pub type LayerPath = Vec<u8>;

/// One file-system object of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: LayerPath,
    /// Permission, set-id and sticky bits (`mode & 0o7777`).
    pub mode: u32,
    /// Owner as the image sees it.
    pub uid: u32,
    /// Group as the image sees it.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes that belong to the image (never `*.overlay.*`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub node: Node,
}

/// A modification time and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
    /// Whether the time itself is part of the result.
    pub kind: TimeKind,
}

/// Whether a time was chosen by the step or is just the time at which it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKind {
    /// Set on purpose (outside the step's own run, an archive member, Last-Modified): part of the layer id.
    Set,
    /// “Made now”, or copied from where times do not count: not part of the layer id.
    Now,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of its bytes.
        digest: FileDigest,
        /// Where its bytes lie.
        bytes: Bytes,
    },
    /// A directory; `opaque` hides what layers below have in it.
    Directory {
        /// Whether lower layers' entries in it are hidden.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// The target as written.
        target: Vec<u8>,
    },
    /// Another name of the regular file (or device, fifo) at `target`, an earlier entry of the same layer. The entry repeats
    /// that entry's mode, owner, time and attributes.
    HardLink {
        /// Path of the first name.
        target: LayerPath,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The removal of what lower layers have at this path.
    Whiteout,
}

/// Where the bytes of a file lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// In this layer's own directory, at the entry's path (or in its blob, as long as it is not unpacked).
    Here,
    /// In another layer, which is pinned by this reference. Never a chain: that layer has them `Here`.
    In {
        /// The holding layer.
        layer: LayerId,
        /// The path there.
        path: LayerPath,
    },
}

impl Entry {
    /// Tells whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory { .. })
    }
}

impl Time {
    /// The start of 1970 as a time nobody chose, for what has no time of its own.
    pub const UNSET: Self = Self { seconds: 0, nanoseconds: 0, kind: TimeKind::Now };
}
