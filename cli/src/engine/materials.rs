//! What a build took from elsewhere, with what says which content it was.

use mica_image::ContentDigest;
use mica_solver::graph::{BuildGraph, Op};

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
    /// A file, by the SHA-256 of its bytes.
    File(ContentDigest),
    /// A commit.
    Commit(String),
}

impl std::fmt::Display for RemoteContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(digest) => digest.fmt(f),
            Self::Commit(commit) => f.write_str(commit),
        }
    }
}

/// Returns what the steps of a finished build took from the network, sorted.
pub(super) fn remote_materials(graph: &BuildGraph, runner: &EngineRunner) -> Vec<RemoteMaterial> {
    let material = |step: &mica_solver::Step| {
        let (Op::Http(mica_solver::graph::HttpSource { url, .. })
        | Op::Git(mica_solver::graph::GitSource { url, .. })) = &step.op
        else {
            return None;
        };
        Some(RemoteMaterial { url: bare_url(url), content: runner.remote_content(step.id)? })
    };
    let mut all: Vec<_> = graph.steps().filter_map(material).collect();
    all.sort();
    all.dedup();
    all
}
