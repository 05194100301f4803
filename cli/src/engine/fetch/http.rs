//! Downloads of ADD.

use std::io::Write as _;

use futures_util::TryStreamExt as _;
use mica_image::{ContentDigest, FileDigest};
use mica_remote::http::{HttpFile, HttpRequest, HttpResponse, Validators, fetch};
use mica_solver::graph::HttpSource;
use mica_solver::{BuildEvent, StepContext, StepId};

use super::{FetchError, host, keep_received, receive, secret, shown};
use crate::engine::Host;
use crate::engine::blocking::blocking;
use crate::engine::lock::{Lock, LockedDownload};
use crate::engine::request::BuildRequest;
use crate::engine::runner::Download;

impl Host {
    /// Downloads a file, or finds out that the store still has it; with a checksum that is known nothing is asked.
    pub(in crate::engine) async fn download(
        &self,
        source: &HttpSource,
        lock: Option<&Lock>,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<Download, FetchError> {
        let locked = lock.and_then(|lock| lock.file.download(&source.url));
        let known = match locked.filter(|_| source.checksum.is_none()) {
            Some(locked) => self.locked_download(source, locked, request, step, cx).await?,
            None => self.fetch_download(source, request, step, cx).await?,
        };
        self.opened(source, &known)
    }

    /// Finds or downloads what an address is held to.
    async fn locked_download(
        &self,
        source: &HttpSource,
        locked: &LockedDownload,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let given = if self.store.blobs().has(&locked.checksum)? {
            let (store, blob) = (self.store.clone(), locked.checksum);
            blocking(move || stored_download(&store, blob)).await?
        } else if request.offline {
            return Err(FetchError::Offline(shown(&source.url)));
        } else {
            self.fetch_download(source, request, step, cx).await?
        };
        if given.blob != locked.checksum {
            return Err(FetchError::Locked {
                name: shown(&source.url),
                expected: locked.checksum.to_string(),
                actual: given.blob.to_string(),
            });
        }
        Ok(mica_cache::Download { name: locked.name.clone(), last_modified: locked.modified, ..given })
    }

    /// Downloads a file, or finds out that the store still has it.
    pub(in crate::engine) async fn fetch_download(
        &self,
        source: &HttpSource,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let known = self
            .store
            .downloads()
            .get(&source.url)?
            .filter(|known| matches!(self.store.blobs().has(&known.blob), Ok(true)));
        if let Some(known) = &known
            && (request.offline || source.checksum.as_deref() == Some(known.blob.to_string().as_str()))
        {
            return Ok(known.clone());
        }
        if request.offline {
            return Err(FetchError::Offline(shown(&source.url)));
        }
        let validators = known.as_ref().map_or_else(Validators::default, |known| Validators {
            etag: known.etag.clone(),
            last_modified: known.last_modified_header.clone(),
        });
        let authorization = authorization(&source.url, request)?;
        let asked = HttpRequest { validators, authorization, ..HttpRequest::new(&source.url) };
        match (fetch(self.transport()?, &asked).await?, known) {
            (HttpResponse::NotModified, Some(known)) => Ok(known),
            (HttpResponse::NotModified, None) => Err(FetchError::Unmodified(shown(&source.url))),
            (HttpResponse::Fetched(file), _) => self.receive(&source.url, file, step, cx).await,
        }
    }

    async fn receive(
        &self,
        url: &str,
        mut file: HttpFile,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let failed = |source| FetchError::Receive { url: shown(url), source };
        let mut out = receive(&self.store)?;
        while let Some(piece) = file.body.try_next().await? {
            out.write_all(&piece).map_err(failed)?;
            let what = format!("downloading {}", file.file_name);
            let progress =
                BuildEvent::StepProgress { id: step, what, current: out.get_ref().size(), total: file.size };
            cx.events.send(progress).await;
        }
        let (blob, digest, size) = keep_received(out)?;
        let download = mica_cache::Download {
            blob,
            digest,
            size,
            name: file.file_name,
            last_modified: file.last_modified,
            etag: file.validators.etag,
            last_modified_header: file.validators.last_modified,
        };
        self.store.downloads().put(url, &download)?;
        Ok(download)
    }

    fn opened(&self, source: &HttpSource, known: &mica_cache::Download) -> Result<Download, FetchError> {
        if let Some(expected) = &source.checksum
            && *expected != known.blob.to_string()
        {
            let url = shown(&source.url);
            return Err(FetchError::Checksum { url, expected: expected.clone(), actual: known.blob });
        }
        Ok(Download {
            url: shown(&source.url),
            file: self.store.blobs().file_path(&known.blob),
            blob: known.blob,
            size: known.size,
            digest: known.digest,
            name: if source.filename.is_empty() { known.name.clone() } else { source.filename.clone() },
            last_modified: known.last_modified,
        })
    }
}

/// Describes a blob of the store as if it had just been downloaded.
fn stored_download(
    store: &mica_cache::Store,
    blob: ContentDigest,
) -> Result<mica_cache::Download, FetchError> {
    let mut file = store.blobs().open(&blob)?;
    let mut hasher = blake3::Hasher::new();
    let read = |source| FetchError::Receive { url: blob.to_string(), source };
    hasher.update_reader(&mut file).map_err(read)?;
    Ok(mica_cache::Download {
        blob,
        digest: FileDigest::from_bytes(*hasher.finalize().as_bytes()),
        size: store.blobs().size(&blob)?.unwrap_or(0),
        name: String::new(),
        last_modified: None,
        etag: None,
        last_modified_header: None,
    })
}

/// `HTTP_AUTH_HEADER_<host>` is the header itself, `HTTP_AUTH_TOKEN_<host>` a bearer token, as in the reference.
fn authorization(url: &str, request: &BuildRequest) -> Result<Option<mica_remote::Secret>, FetchError> {
    let host = host(url);
    if let Some(header) = secret(request, &format!("HTTP_AUTH_HEADER_{host}"))? {
        return Ok(Some(header.as_str().into()));
    }
    let token = secret(request, &format!("HTTP_AUTH_TOKEN_{host}"))?;
    Ok(token.map(|token| format!("Bearer {token}").as_str().into()))
}
