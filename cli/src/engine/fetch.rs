//! Files from the network: http downloads, git checkouts, contexts that are one or the other.

use mica_cache::ContextTree;
use mica_solver::graph::{GitSource, HttpSource};
use mica_solver::plan::NamedContext;
use mica_solver::{EventSender, StepContext, StepId};

use super::context::{BuildContext, ContextError};
use super::runner::Download;
use super::{Engine, Host};

/// Something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not done yet.
    #[error("cannot fetch `{0}`: this version of mica does not fetch from http servers and git repositories")]
    Unsupported(String),
}

impl Host {
    pub(super) async fn download(&self, source: &HttpSource, _step: StepId, _cx: &StepContext) -> Result<Download, FetchError> {
        Err(FetchError::Unsupported(source.url.clone()))
    }

    pub(super) async fn checkout(&self, source: &GitSource, _cx: &StepContext) -> Result<ContextTree, FetchError> {
        Err(FetchError::Unsupported(source.url.clone()))
    }
}

impl Engine {
    pub(super) async fn fetch_context(&self, url: &str, _events: &EventSender) -> Result<BuildContext, ContextError> {
        Err(FetchError::Unsupported(url.to_owned()).into())
    }

    /// Tells what a named context is; opens it when it is files.
    pub(super) async fn named_context(
        &self,
        name: &str,
        value: &str,
        _events: &EventSender,
    ) -> Result<(NamedContext, Option<BuildContext>), ContextError> {
        let refused = |reason: &str| ContextError::Named { name: name.to_owned(), value: value.to_owned(), reason: reason.to_owned() };
        if let Some(image) = value.strip_prefix("docker-image://") {
            if image == "scratch" {
                return Ok((NamedContext::Scratch, None));
            }
            let reference = mica_image::Reference::parse(image).map_err(|error| refused(&error.to_string()))?;
            return Ok((NamedContext::Image(reference), None));
        }
        if let Some(layout) = value.strip_prefix("oci-layout://") {
            return Ok((NamedContext::OciLayout(layout.to_owned()), None));
        }
        if value.starts_with("target:") {
            return Err(refused("names a target of a bake file, which this command does not read"));
        }
        let path = std::path::Path::new(value);
        let mut files = if path.is_file() { BuildContext::archive(&self.host.store, path)? } else { BuildContext::directory(path)? };
        files.read_ignore_file(None)?;
        Ok((NamedContext::Local, Some(files)))
    }
}
