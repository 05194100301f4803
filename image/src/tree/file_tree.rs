//! The trait every tree implements, and what it answers with.

use std::sync::Arc;

use crate::LayerId;
use crate::index::Entry;

/// A read-only tree of files.
///
/// Paths are [`crate::index::LayerPath`]s: relative, without leading slash, `""` is the root. No method follows a symbolic link.
pub trait FileTree: Send + Sync {
    /// Returns the entry at exactly `path`, or `None` when there is none (or an ancestor is not a directory).
    /// The root always exists: a directory, mode 0755, owner 0:0, unless the tree says otherwise.
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError>;

    /// Returns the names in the directory `path`, sorted by bytes; empty when it is absent or no directory.
    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError>;

    /// Returns all entries below the directory `path` (itself left out), in index order.
    fn subtree(&self, path: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
        let mut found = Vec::new();
        for name in self.children(path)? {
            let below = join(path, &name);
            let Some(entry) = self.entry(&below)? else { continue };
            let is_directory = matches!(entry.entry.node, crate::index::Node::Directory { .. });
            found.push(entry);
            if is_directory {
                found.extend(self.subtree(&below)?);
            }
        }
        Ok(found)
    }
}

/// An entry as a tree shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The entry. Its node is never `Whiteout` and never `HardLink` (a hard link shows what it links to). In a tree of layers a
    /// file's bytes are always `Bytes::In` the layer that holds them; in a context they are `Here`, at the entry's path.
    /// Shared with the tree where that keeps its entries in memory.
    pub entry: Arc<Entry>,
    /// Names of one inode have the same number here; `None` when it has one name only.
    pub link: Option<u64>,
}

/// One layer of an ordered tree, from the base up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TreeLayer {
    /// What the layer contains; cache keys use this.
    pub id: LayerId,
    /// For an imported layer, which of its tars is meant; images use this. `None`: the canonical tar of the layer.
    pub diff_id: Option<crate::DiffId>,
    /// The clamp of the canonical tar ([`crate::tar::TarOptions`]); `None`: its times are as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<i64>,
}

impl TreeLayer {
    /// Returns a layer that was made here, with its times as they are.
    #[must_use]
    pub const fn made(id: LayerId) -> Self {
        Self { id, diff_id: None, clamp: None }
    }

    /// Returns a layer that was imported as the tar `diff_id`.
    #[must_use]
    pub const fn imported(id: LayerId, diff_id: crate::DiffId) -> Self {
        Self { id, diff_id: Some(diff_id), clamp: None }
    }

    /// Returns how the layer's canonical tar is written.
    #[must_use]
    pub const fn tar_options(&self) -> crate::tar::TarOptions {
        crate::tar::TarOptions { clamp: self.clamp }
    }
}

/// The ordered layers of a tree, from the base up; empty is `scratch`.
pub type Tree = Vec<TreeLayer>;

/// A tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An index or directory could not be read.
    #[error("cannot read `{subject}`")]
    Read {
        /// The path or layer.
        subject: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An index is not what it should be.
    #[error("`{subject}` is damaged: {reason}")]
    Damaged {
        /// The path or layer.
        subject: String,
        /// What is wrong.
        reason: String,
    },
}

/// Joins a directory path and a name.
#[must_use]
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}
