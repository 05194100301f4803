//! Contexts from the network: a repository, a tarball, or a Dockerfile alone; and what a named context is.

use std::path::Path;

use mica_image::Reference;
use mica_image::compress::is_archive;
use mica_remote::git::{CommitTimes, GitUrlUse, parse_git_url};
use mica_solver::graph::HttpSource;
use mica_solver::plan::NamedContext;
use mica_solver::{BuildEvent, EventSender, StepContext, StepId, TaskState};

use super::{FetchError, shown};
use crate::engine::Engine;
use crate::engine::blocking::blocking;
use crate::engine::context::{BuildContext, ContextError};
use crate::engine::request::BuildRequest;

/// The build argument that fixes times; with it a checked-out context has those of its commit.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The build argument that keeps `.git` in a context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

impl Engine {
    /// Fetches a context: a repository, a tarball, or a Dockerfile alone.
    pub(in crate::engine) async fn fetch_context(
        &self,
        url: &str,
        request: &BuildRequest,
        events: &EventSender,
    ) -> Result<BuildContext, ContextError> {
        let what = format!("loading context {}", shown(url));
        events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
        let git = parse_git_url(url, GitUrlUse::Context).map_err(FetchError::from)?;
        let context = match git {
            Some(mut git) => {
                if request.build_args.get(KEEP_GIT_DIR).is_some_and(|value| value == "1" || value == "true") {
                    git.keep_git_dir = Some(true);
                }
                if request.build_args.get(EPOCH).is_some_and(|value| !value.is_empty()) {
                    git.times = git.times.or(Some(CommitTimes::Commit));
                }
                let cloned = self.host.clone_repository(&git, None, request).await?;
                BuildContext::fetched(cloned.scratch, Some(cloned.made))
            }
            None => self.http_context(url, request, events).await?,
        };
        events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        Ok(context)
    }

    async fn http_context(
        &self,
        url: &str,
        request: &BuildRequest,
        events: &EventSender,
    ) -> Result<BuildContext, ContextError> {
        let source = HttpSource { url: url.to_owned(), checksum: None, filename: String::new() };
        let cx = StepContext { events: events.clone(), cancel: tokio_util::sync::CancellationToken::new() };
        let download = self.host.download(&source, None, request, StepId(0), &cx).await?;
        let store = self.host.store.clone();
        blocking(move || {
            let file = std::fs::File::open(&download.file)
                .map_err(|source| ContextError::Open { path: download.file.clone(), source })?;
            if is_archive(file) {
                let context = BuildContext::archive(&store, &download.file)?;
                return Ok(match download.last_modified {
                    Some(made) => context.made_at(made),
                    None => context,
                });
            }
            // One file that is no archive is the Dockerfile.
            let scratch = store.layers().begin()?;
            std::fs::copy(&download.file, scratch.files().join("Dockerfile"))
                .map_err(|source| ContextError::Open { path: download.file.clone(), source })?;
            Ok(BuildContext::fetched(scratch, download.last_modified))
        })
        .await
    }

    /// Tells what a named context is; opens it when it is files.
    pub(in crate::engine) async fn named_context(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(NamedContext, Option<BuildContext>), ContextError> {
        let refused =
            |reason: String| ContextError::Named { name: name.to_owned(), value: value.to_owned(), reason };
        if let Some(image) = value.strip_prefix("docker-image://") {
            if image == "scratch" {
                return Ok((NamedContext::Scratch, None));
            }
            let reference = Reference::parse(image).map_err(|error| refused(error.to_string()))?;
            return Ok((NamedContext::Image(reference), None));
        }
        if let Some(layout) = value.strip_prefix("oci-layout://") {
            return Ok((NamedContext::OciLayout(layout.to_owned()), None));
        }
        if value.starts_with("target:") {
            return Err(refused(
                "names a target of a bake file, which this command does not read".to_owned(),
            ));
        }
        if parse_git_url(value, GitUrlUse::Context).map_err(FetchError::from)?.is_some() {
            return Ok((NamedContext::Git(value.to_owned()), None));
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            return Ok((NamedContext::Http(value.to_owned()), None));
        }
        let files = if Path::new(value).is_file() {
            let (store, path) = (self.host.store.clone(), Path::new(value).to_owned());
            blocking(move || BuildContext::archive(&store, &path)).await?
        } else {
            let mut files = BuildContext::directory(Path::new(value))?;
            files.read_ignore_file(None)?;
            files
        };
        Ok((NamedContext::Local, Some(files)))
    }
}
