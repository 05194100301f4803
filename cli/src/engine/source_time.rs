//! When the things were made that SOURCE_DATE_EPOCH can name: a commit, a download, the files of an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use mica_solver::graph::HttpSource;
use mica_solver::plan::{EpochSource, NamedContext, SourceTime};
use mica_solver::{EventSender, StepContext, StepId};
use tokio_util::sync::CancellationToken;

use super::Host;
use super::archive_tree::newest_file;
use super::blocking::blocking;
use super::context::{BuildContext, ContextError};
use super::lock::Lock;
use super::reproducible::commit_time;
use super::request::{BuildRequest, ContextInput};

/// What a time is looked for in.
pub(super) struct Sources<'a> {
    pub(super) request: &'a BuildRequest,
    pub(super) named: &'a BTreeMap<String, NamedContext>,
    pub(super) contexts: &'a BTreeMap<Option<String>, BuildContext>,
    pub(super) lock: Option<&'a Lock>,
    pub(super) events: &'a EventSender,
}

/// Finds out when `source` was made, which nobody knows of a directory or an image.
pub(super) async fn source_time(
    host: &Host,
    source: &EpochSource,
    sources: &Sources<'_>,
) -> Result<SourceTime, ContextError> {
    let Sources { request, lock, .. } = *sources;
    let context = |name| sources.contexts.get(&name).and_then(BuildContext::made);
    let made = match source {
        EpochSource::MainContext => match context(None) {
            Some(made) => Some(made),
            None => directory_commit(host, request).await.map(|(_, seconds)| seconds),
        },
        EpochSource::Download(download) => download_time(host, download, sources).await?,
        EpochSource::Checkout(checkout) => Some(host.checkout_time(checkout, lock, request).await?),
        EpochSource::NamedContext(name) => match sources.named.get(name) {
            Some(NamedContext::Git(url)) => Some(host.context_time(url, lock, request).await?),
            Some(NamedContext::Http(url)) => {
                let download = HttpSource { url: url.clone(), checksum: None, filename: String::new() };
                download_time(host, &download, sources).await?
            }
            _ => context(Some(name.clone())),
        },
    };
    Ok(made.map_or(SourceTime::Unknown, SourceTime::Seconds))
}

/// Returns the commit that is checked out in a context directory, with its time.
pub(super) async fn directory_commit(host: &Host, request: &BuildRequest) -> Option<(String, i64)> {
    let ContextInput::Directory(directory) = request.context.clone() else { return None };
    let outside = host.outside.clone();
    blocking(move || commit_time(&outside, &directory)).await
}

/// The server's word for it, otherwise that of the files of an archive.
async fn download_time(
    host: &Host,
    source: &HttpSource,
    sources: &Sources<'_>,
) -> Result<Option<i64>, ContextError> {
    let cx = StepContext { events: sources.events.clone(), cancel: CancellationToken::new() };
    let download = host.download(source, sources.lock, sources.request, StepId(0), &cx).await?;
    if download.last_modified.is_some() {
        return Ok(download.last_modified);
    }
    blocking(move || {
        let path = download.file;
        let file = File::open(&path).map_err(|source| ContextError::Open { path, source })?;
        Ok(newest_file(BufReader::new(file)))
    })
    .await
}
