//! What can be wrong with an archive.

use std::io;

use crate::index::{IndexError, LayerPath, shown};
use crate::tree::TreeError;

/// An archive could not be read as a layer.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed, or what decompresses it.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive is not well formed.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// The archive is not well formed, at or after a member that could be named.
    #[error("the archive is damaged near `{}`: {problem}", String::from_utf8_lossy(path))]
    DamagedNear {
        /// The member's name as written.
        path: Vec<u8>,
        /// What is wrong.
        problem: &'static str,
    },
    /// A member's name cannot be a path in a layer.
    #[error("the archive has a member `{}`, whose name {problem}", String::from_utf8_lossy(path))]
    Path {
        /// The name as written.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is more of something than the caller accepts.
    #[error("the archive has more than {most} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much is accepted.
        most: u64,
    },
    /// A member lies below what is no directory.
    #[error("the archive has `{}` below `{}`, which is no directory", shown(path), shown(parent))]
    Parent {
        /// The member's path.
        path: LayerPath,
        /// What should be a directory.
        parent: LayerPath,
    },
    /// Symbolic links of the archive lead in a circle.
    #[error("the archive has `{}` below a loop of symbolic links", shown(path))]
    Loop {
        /// The member's path.
        path: LayerPath,
    },
    /// A hard link's target is missing or a directory.
    #[error("the archive has a hard link `{}` to `{}`, which {problem}", shown(path), shown(target))]
    Link {
        /// The link.
        path: LayerPath,
        /// What it links to.
        target: LayerPath,
        /// What is wrong.
        problem: &'static str,
    },
    /// A member is of a kind that has no place in a layer.
    #[error("the archive has `{}` of kind `{flag}`, which is not supported", String::from_utf8_lossy(path))]
    Unsupported {
        /// The name as written.
        path: Vec<u8>,
        /// The letter of the kind.
        flag: char,
    },
    /// A member could not be stored.
    #[error("cannot store `{}`", shown(path))]
    Store {
        /// The member's path.
        path: LayerPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tree below the layer could not be read.
    #[error(transparent)]
    Lower(#[from] TreeError),
    /// The members make no layer.
    #[error(transparent)]
    Index(#[from] IndexError),
}
