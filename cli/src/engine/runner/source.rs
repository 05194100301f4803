//! Source steps: what is there before anything runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_cache::{ContextTree, Scratch};
use mica_executor::copy::Selection;
use mica_image::index::{Time, TimeKind};
use mica_image::{ContentDigest, FileDigest};
use mica_solver::graph::ContextSource;
use mica_solver::{Op, Step, StepContext, StepResult};

use super::copy::seconds_now;
use super::{Shared, StepError};
use crate::engine::blocking::blocking;
use crate::engine::context::ContextError;
use crate::engine::fetch::Checkout;
use crate::engine::import::Unpack;

/// Files that are no layer.
pub(crate) enum SourceFiles {
    /// A context or a checkout.
    Context {
        /// Its files.
        tree: Arc<ContextTree>,
        /// The commit, of a checkout.
        commit: Option<String>,
        /// Keeps a checkout on disk.
        _scratch: Option<Scratch>,
    },
    /// One downloaded file.
    Download(Download),
    /// Files written in the Dockerfile: name and content.
    Inline(Vec<(String, String)>),
}

/// A downloaded file.
#[derive(Debug)]
pub(crate) struct Download {
    /// Where it came from.
    pub url: String,
    /// Where it lies.
    pub file: PathBuf,
    /// Its bytes as a blob of the store.
    pub blob: ContentDigest,
    /// Its size.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: FileDigest,
    /// The name the server or the URL gives it.
    pub name: String,
    /// Last-Modified, in seconds since 1970.
    pub last_modified: Option<i64>,
}

impl Download {
    /// Returns the file as what ADD takes: mode 0600, with the server's time, under `name` or its own.
    pub(super) fn selection(&self, name: &str) -> Selection {
        let name = if name.is_empty() { &self.name } else { name };
        let mtime = match self.last_modified {
            Some(seconds) => Time { seconds, nanoseconds: 0, kind: TimeKind::Set },
            None => {
                let (seconds, nanoseconds) = seconds_now();
                Time { seconds, nanoseconds, kind: TimeKind::Now }
            }
        };
        let file: Arc<Path> = Arc::from(self.file.as_path());
        Selection::from_file(name.as_bytes(), file, (self.size, self.digest), 0o600, mtime)
    }
}

/// Resolves a source step.
pub(super) async fn resolve(
    shared: &Arc<Shared>,
    step: &Step,
    cx: &StepContext,
) -> Result<StepResult, StepError> {
    let files = match &step.op {
        Op::Image(source) => {
            let unpack = if shared.entered.contains(&step.id) { Unpack::AtOnce } else { Unpack::WhenNeeded };
            let tree = shared.resolved.bases.tree(&shared.host, source, step.id, unpack, cx).await?;
            return Ok(StepResult::Tree(tree));
        }
        Op::Context(source) => scan(shared, source).await?,
        Op::Http(source) => SourceFiles::Download(
            shared
                .host
                .download(source, shared.lock(), &shared.request, step.id, cx)
                .await
                .map_err(ContextError::from)?,
        ),
        Op::Git(source) => {
            let checkout = shared.host.checkout(source, shared.lock(), &shared.request);
            let Checkout { tree, scratch, commit } = checkout.await.map_err(ContextError::from)?;
            SourceFiles::Context { tree: Arc::new(tree), commit: Some(commit), _scratch: Some(scratch) }
        }
        Op::Inline(source) => SourceFiles::Inline(source.files.clone()),
        Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => unreachable!("the scheduler resolves sources only"),
    };
    shared.keep_files(step.id, files);
    Ok(StepResult::Files(step.id))
}

async fn scan(shared: &Arc<Shared>, source: &ContextSource) -> Result<SourceFiles, StepError> {
    let (shared, source) = (shared.clone(), source.clone());
    blocking(move || {
        let context = &shared.resolved.contexts[&source.name];
        let tree = context.scan(&shared.store, &source.wanted)?;
        Ok(SourceFiles::Context { tree: Arc::new(tree), commit: None, _scratch: None })
    })
    .await
}
