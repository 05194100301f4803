//! What a build took from elsewhere, with what says which content it was.

use std::fmt::Write as _;

use mica_cache::{ContextTree, Store};
use mica_image::ContentDigest;
use mica_image::index::Node;
use mica_image::tree::{FileTree as _, TreeError};
use mica_solver::graph::{BuildGraph, GitSource, HttpSource, Op};

use super::context::{BuildContext, ContextError};
use super::lock::bare_url;
use super::runner::EngineRunner;

/// A download or a repository of a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RemoteMaterial {
    /// The address, without user and password.
    pub url: String,
    /// What it gave.
    pub content: RemoteContent,
}

/// What an address gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RemoteContent {
    /// A file.
    File {
        /// SHA-256 of its bytes.
        digest: ContentDigest,
        /// How many there are.
        size: u64,
        /// The name it got.
        name: String,
        /// Its time in seconds since 1970.
        modified: Option<i64>,
    },
    /// A commit.
    Commit(String),
}

impl std::fmt::Display for RemoteContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { digest, .. } => digest.fmt(f),
            Self::Commit(commit) => f.write_str(commit),
        }
    }
}

/// Returns what the steps of a finished build took from the network, sorted.
pub(super) fn remote_materials(graph: &BuildGraph, runner: &EngineRunner) -> Vec<RemoteMaterial> {
    let material = |step: &mica_solver::Step| {
        let (Op::Http(HttpSource { url, .. }) | Op::Git(GitSource { url, .. })) = &step.op else {
            return None;
        };
        Some(RemoteMaterial { url: bare_url(url), content: runner.remote_content(step.id)? })
    };
    let mut all: Vec<_> = graph.steps().filter_map(material).collect();
    all.sort();
    all.dedup();
    all
}

/// A context could not be described.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescribeError {
    /// It could not be scanned.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// It could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Names all that a build can see of a context: SHA-256 over one line for each path, in order.
///
/// ```text
/// <path> NUL <kind> <mode in octal> <size> <BLAKE3 of the bytes, or the target of a link> LF
/// ```
///
/// Times and owners are not in it: a build takes none of them from a context.
pub(super) fn context_digest(store: &Store, context: &BuildContext) -> Result<String, DescribeError> {
    let tree = context.scan(store, &["/".to_owned()])?;
    Ok(ContentDigest::of(&listing(&tree)?).hex())
}

fn listing(tree: &ContextTree) -> Result<Vec<u8>, TreeError> {
    let mut lines = Vec::new();
    for found in tree.subtree(b"")? {
        let entry = found.entry;
        lines.extend_from_slice(&entry.path);
        let mut rest = String::new();
        let mode = entry.mode;
        // Writing to a text cannot fail.
        let _ = match &entry.node {
            Node::File { size, digest, .. } => writeln!(rest, "\0file {mode:o} {size} {digest}"),
            Node::Symlink { target } => {
                writeln!(rest, "\0symlink {mode:o} 0 {}", String::from_utf8_lossy(target))
            }
            Node::Directory { .. } => writeln!(rest, "\0directory {mode:o} 0 -"),
            other => writeln!(rest, "\0other {mode:o} 0 {other:?}"),
        };
        lines.extend_from_slice(rest.as_bytes());
    }
    Ok(lines)
}
