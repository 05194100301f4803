//! Pushing: blobs first, then the manifests that name them.
//!
//! A blob is sent in one request. If that does not get through, it is sent again in chunks, so that a connection that keeps
//! breaking gets a little further each time: after each failure the registry is asked how far it got.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mica_image::{Descriptor, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, StatusCode, Url};

use super::authority::{Scopes, push_scope};
use super::client::{Answer, Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use crate::transport::{TransportError, is_transient};

const BINARY: &str = "application/octet-stream";

/// The bytes of a blob from some position on.
pub type ContentStream = BoxStream<'static, io::Result<Bytes>>;
/// A [`ContentStream`] that is being opened.
pub type OpeningContent<'a> = BoxFuture<'a, io::Result<ContentStream>>;

/// A blob to push. It is opened again, perhaps further on, when a connection broke.
pub trait BlobContent: Send + Sync {
    /// Returns the bytes from `offset` to the end.
    fn open(&self, offset: u64) -> OpeningContent<'_>;
}

impl BlobContent for Bytes {
    fn open(&self, offset: u64) -> OpeningContent<'_> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let rest = self.slice(start..);
        Box::pin(async move { Ok(stream::iter([Ok(rest)]).boxed()) })
    }
}

impl RegistryClient {
    /// Returns whether the repository of `reference` has a blob.
    pub async fn has_blob(&self, reference: &Reference, blob: &Descriptor) -> Result<bool, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let push = Push { client: self, endpoint: &endpoint, reference, blob };
        let call = push.call(Method::HEAD);
        let url = endpoint.url(reference.repository(), &format!("blobs/{}", blob.digest));
        let answer = self.call(&endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(&endpoint, &call, answer).await),
        }
    }

    /// Asks the registry to take a blob over from another of its repositories; returns whether it did.
    pub async fn mount_blob(
        &self,
        reference: &Reference,
        from: &str,
        blob: &Descriptor,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let push = Push { client: self, endpoint: &endpoint, reference, blob };
        let mut call = push.call(Method::POST);
        call.scopes.insert(format!("repository:{from}:pull"));
        let mut url = push.uploads_url();
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from);
        let answer = self.call(&endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                // It started an upload instead. It is not used, so that mounting and uploading stay apart.
                push.abandon(answer).await;
                Ok(false)
            }
            // Being denied the other repository is no reason not to upload.
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            _ => Err(self.refusal(&endpoint, &call, answer).await),
        }
    }

    /// Uploads a blob.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let push = Push { client: self, endpoint: &endpoint, reference, blob };
        let retry = self.transport().retry();
        let mut failures = 0;
        loop {
            let in_chunks = failures > 0 && blob.size > self.chunk_size() as u64;
            let result = if in_chunks { push.in_chunks(content).await } else { push.at_once(content).await };
            let Err(Failure { error, may_pass: true }) = result else {
                return result.map_err(|failure| failure.error);
            };
            let Some(pause) = retry.pause(failures) else { return Err(error) };
            failures += 1;
            tracing::debug!(digest = %blob.digest, failures, %error, "uploading again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Puts a manifest or index under the tag or digest of `reference`; everything it names must be there.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        manifest: &Descriptor,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let name = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => manifest.digest.to_string(),
        };
        let repository = reference.repository();
        let call = Call::new(Method::PUT, repository, reference.familiar(), push_scope(repository))
            .header(CONTENT_TYPE, manifest.media_type.as_str())
            .body(bytes);
        let answer =
            self.call(&endpoint, endpoint.url(repository, &format!("manifests/{name}")), &call).await?;
        if !answer.response().status().is_success() {
            return Err(self.refusal(&endpoint, &call, answer).await);
        }
        let stored = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        match stored.filter(|stored| *stored != manifest.digest) {
            None => Ok(()),
            Some(actual) => Err(RegistryError::ManifestDigest {
                reference: reference.familiar(),
                expected: manifest.digest,
                actual,
            }),
        }
    }
}

/// An upload that did not get through.
struct Failure {
    error: RegistryError,
    /// Whether trying again may help.
    may_pass: bool,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let may_pass = match &error {
            RegistryError::Transport(TransportError::Broken { .. }) => true,
            RegistryError::Status { status, .. } => is_transient(*status),
            _ => false,
        };
        Self { error, may_pass }
    }
}

/// One blob on its way to one repository.
struct Push<'a> {
    client: &'a RegistryClient,
    endpoint: &'a Endpoint,
    reference: &'a Reference,
    blob: &'a Descriptor,
}

impl<'a> Push<'a> {
    fn call(&self, method: Method) -> Call<'a> {
        let subject = format!("blob {} of {}", self.blob.digest, self.reference.name());
        Call::new(method, self.reference.repository(), subject, self.scopes())
    }

    fn scopes(&self) -> Scopes {
        push_scope(self.reference.repository())
    }

    fn uploads_url(&self) -> Url {
        self.endpoint.url(self.reference.repository(), "blobs/uploads/")
    }

    /// Starts an upload and returns where it goes.
    async fn start(&self) -> Result<Url, RegistryError> {
        let url = self.uploads_url();
        let call = self.call(Method::POST).header(CONTENT_LENGTH, "0");
        let answer = self.client.call(self.endpoint, url.clone(), &call).await?;
        if answer.response().status() != StatusCode::ACCEPTED {
            return Err(self.client.refusal(self.endpoint, &call, answer).await);
        }
        self.location(&answer, &url)
    }

    async fn at_once(&self, content: &dyn BlobContent) -> Result<(), Failure> {
        let url = with_digest(self.start().await?, self.blob);
        let call = self.call(Method::PUT).header(CONTENT_TYPE, BINARY);
        let stream = self.open(content, 0).await?;
        let body = Body::wrap_stream(stream);
        let answer = self.client.call_with_stream(self.endpoint, url, &call, self.blob.size, body).await?;
        self.expect_created(&call, answer).await
    }

    async fn in_chunks(&self, content: &dyn BlobContent) -> Result<(), Failure> {
        let mut url = self.start().await?;
        let mut offset = 0;
        let mut chunks = Chunks::new(self.open(content, 0).await?, self.client.chunk_size());
        let mut failures = 0;
        while offset < self.blob.size {
            let chunk = chunks.next_from(offset).await.map_err(|source| self.content_error(source))?;
            match self.send_chunk(&url, offset, chunk).await {
                Ok((next, end)) => (url, offset, failures) = (next, end, 0),
                Err(failure) => {
                    let pause = self.client.transport().retry().pause(failures).filter(|_| failure.may_pass);
                    let Some(pause) = pause else { return Err(failure) };
                    failures += 1;
                    tokio::time::sleep(pause).await;
                    (url, offset) = self.progress(&url).await?;
                }
            }
            if !chunks.holds(offset) {
                chunks =
                    Chunks::starting_at(offset, self.open(content, offset).await?, self.client.chunk_size());
            }
        }
        let call = self.call(Method::PUT).header(CONTENT_LENGTH, "0");
        let answer = self.client.call(self.endpoint, with_digest(url, self.blob), &call).await?;
        self.expect_created(&call, answer).await
    }

    async fn send_chunk(&self, url: &Url, offset: u64, chunk: Bytes) -> Result<(Url, u64), Failure> {
        if chunk.is_empty() {
            return Err(self.content_error(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let end = offset + chunk.len() as u64;
        let call = self
            .call(Method::PATCH)
            .header(CONTENT_TYPE, BINARY)
            .header(CONTENT_RANGE, &format!("{offset}-{}", end - 1));
        let length = chunk.len() as u64;
        let answer =
            self.client.call_with_stream(self.endpoint, url.clone(), &call, length, chunk.into()).await?;
        match answer.response().status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                let next = self.location(&answer, url)?;
                Ok((next, answer.header(RANGE.as_str()).and_then(range_end).unwrap_or(end)))
            }
            // The registry is elsewhere than we think: asking it will tell where.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let error = self.client.refusal(self.endpoint, &call, answer).await;
                Err(Failure { error, may_pass: true })
            }
            _ => Err(self.refused(&call, answer).await),
        }
    }

    /// Asks how many bytes the registry has.
    async fn progress(&self, url: &Url) -> Result<(Url, u64), Failure> {
        let call = self.call(Method::GET);
        let answer = self.client.call(self.endpoint, url.clone(), &call).await?;
        if answer.response().status() != StatusCode::NO_CONTENT {
            // The upload is gone; a new one may do better.
            let error = self.client.refusal(self.endpoint, &call, answer).await;
            return Err(Failure { error, may_pass: true });
        }
        let offset = answer.header(RANGE.as_str()).and_then(range_end).unwrap_or(0);
        Ok((self.location(&answer, url)?, offset))
    }

    async fn open(&self, content: &dyn BlobContent, offset: u64) -> Result<ContentStream, RegistryError> {
        content.open(offset).await.map_err(|source| self.content_error(source))
    }

    fn content_error(&self, source: io::Error) -> RegistryError {
        RegistryError::Content { digest: self.blob.digest, source }
    }

    async fn expect_created(&self, call: &Call<'_>, answer: Answer) -> Result<(), Failure> {
        match answer.response().status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused(call, answer).await),
        }
    }

    /// A challenge in the middle of an upload has been answered for the next attempt.
    async fn refused(&self, call: &Call<'_>, answer: Answer) -> Failure {
        let challenged = answer.response().status() == StatusCode::UNAUTHORIZED;
        let failure = Failure::from(self.client.refusal(self.endpoint, call, answer).await);
        Failure { may_pass: failure.may_pass || challenged, ..failure }
    }

    /// Ends an upload that is not needed. If that fails the registry will clean up by itself.
    async fn abandon(&self, answer: Answer) {
        let Ok(url) = self.location(&answer, &self.uploads_url()) else { return };
        drop(answer);
        let call = self.call(Method::DELETE);
        if let Err(error) = self.client.call(self.endpoint, url, &call).await {
            tracing::debug!(%error, "an upload that was not needed could not be ended");
        }
    }

    fn location(&self, answer: &Answer, base: &Url) -> Result<Url, RegistryError> {
        let location = answer.header(LOCATION.as_str()).and_then(|location| base.join(location).ok());
        location.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(|| {
            RegistryError::Protocol { host: self.endpoint.host(), what: "no address for the upload" }
        })
    }
}

fn with_digest(mut url: Url, blob: &Descriptor) -> Url {
    url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    url
}

/// Reads the end of `0-41`, as the number of bytes: 42.
fn range_end(header: &str) -> Option<u64> {
    let (_, last) = header.trim().trim_start_matches("bytes=").split_once('-')?;
    last.parse::<u64>().ok().filter(|last| *last > 0).map(|last| last + 1)
}

/// Cuts a stream into chunks, and keeps the current one until it is known to have arrived.
struct Chunks {
    stream: ContentStream,
    size: usize,
    /// What has been read but not sent in full, starting at `start`.
    held: Bytes,
    start: u64,
    rest: Bytes,
}

impl Chunks {
    fn new(stream: ContentStream, size: usize) -> Self {
        Self::starting_at(0, stream, size)
    }

    fn starting_at(start: u64, stream: ContentStream, size: usize) -> Self {
        Self { stream, size, held: Bytes::new(), start, rest: Bytes::new() }
    }

    /// Whether the bytes from `offset` on are held or come next.
    fn holds(&self, offset: u64) -> bool {
        (self.start..=self.start + self.held.len() as u64).contains(&offset)
    }

    /// Returns the next chunk that starts at `offset`; empty at the end. The offset must be [held](Self::holds).
    async fn next_from(&mut self, offset: u64) -> io::Result<Bytes> {
        let sent = usize::try_from(offset - self.start).expect("a chunk fits into memory");
        self.held = self.held.slice(sent..);
        self.start = offset;
        if self.held.is_empty() {
            self.held = self.read().await?;
        }
        Ok(self.held.clone())
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let mut chunk = BytesMut::new();
        while chunk.len() < self.size {
            if self.rest.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(bytes) => self.rest = bytes,
                    None => break,
                }
            }
            let count = self.rest.len().min(self.size - chunk.len());
            chunk.extend_from_slice(&self.rest.split_to(count));
        }
        Ok(chunk.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_how_many_bytes_there_are() {
        assert_eq!(range_end("0-41"), Some(42));
        assert_eq!(range_end("bytes=0-41"), Some(42));
        // An upload without bytes has no way to say so but this.
        assert_eq!(range_end("0-0"), None);
        assert_eq!(range_end("x"), None);
    }

    #[tokio::test]
    async fn chunks_are_cut_and_held() {
        let parts = [&b"abc"[..], b"", b"defgh", b"i"].map(|part| Ok(Bytes::from_static(part)));
        let mut chunks = Chunks::new(stream::iter(parts).boxed(), 4);
        assert_eq!(chunks.next_from(0).await.unwrap(), "abcd");
        assert!(chunks.holds(0) && chunks.holds(4) && !chunks.holds(5));
        // Only half of it arrived.
        assert_eq!(chunks.next_from(2).await.unwrap(), "cd");
        assert_eq!(chunks.next_from(4).await.unwrap(), "efgh");
        assert_eq!(chunks.next_from(8).await.unwrap(), "i");
        assert_eq!(chunks.next_from(9).await.unwrap(), "");
    }
}
