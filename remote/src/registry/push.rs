//! Pushing: blobs first, then the manifests that name them.
//!
//! A blob is sent in one request. If that does not get through, it is sent again in chunks, so that a connection that keeps
//! breaking gets a little further each time: after each failure the registry is asked how far it got.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mica_image::{Descriptor, Reference};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::authority::push_scope;
use super::client::{Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::upload::{BINARY, Failure, Upload, with_digest};

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
        let push = Push::new(self, &endpoint, reference, blob);
        let call = push.to.call(Method::HEAD);
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
        let push = Push::new(self, &endpoint, reference, blob);
        let mut call = push.to.call(Method::POST);
        call.scopes.insert(format!("repository:{from}:pull"));
        let mut url = push.to.uploads_url();
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from);
        let answer = self.call(&endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                // It started an upload instead. It is not used, so that mounting and uploading stay apart.
                let started = push.to.location(&answer, &push.to.uploads_url());
                drop(answer);
                if let Ok(url) = started {
                    push.to.abandon(url).await;
                }
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
        let push = Push::new(self, &endpoint, reference, blob);
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

/// One blob on its way to one repository.
struct Push<'a> {
    to: Upload<'a>,
    blob: &'a Descriptor,
}

impl<'a> Push<'a> {
    fn new(
        client: &'a RegistryClient,
        endpoint: &'a Endpoint,
        reference: &'a Reference,
        blob: &'a Descriptor,
    ) -> Self {
        let what = format!("blob {} of {}", blob.digest, reference.name());
        Self { to: Upload { client, endpoint, reference, what }, blob }
    }

    async fn at_once(&self, content: &dyn BlobContent) -> Result<(), Failure> {
        let url = with_digest(self.to.start().await?, self.blob);
        let call = self.to.call(Method::PUT).header(CONTENT_TYPE, BINARY);
        let body = self.open(content, 0).await?;
        let Upload { client, endpoint, .. } = &self.to;
        let answer = client.call_with_stream(endpoint, url, &call, Some(self.blob.size), body).await?;
        self.to.expect_created(&call, answer).await
    }

    async fn in_chunks(&self, content: &dyn BlobContent) -> Result<(), Failure> {
        let mut url = self.to.start().await?;
        let client = self.to.client;
        let mut offset = 0;
        let mut chunks = Chunks::new(self.open(content, 0).await?, client.chunk_size());
        let mut failures = 0;
        while offset < self.blob.size {
            let chunk = chunks.next_from(offset).await.map_err(|source| self.content_error(source))?;
            match self.send_chunk(&url, offset, chunk).await {
                Ok((next, end)) => (url, offset, failures) = (next, end, 0),
                Err(failure) => {
                    let pause = client.transport().retry().pause(failures).filter(|_| failure.may_pass);
                    let Some(pause) = pause else { return Err(failure) };
                    failures += 1;
                    tokio::time::sleep(pause).await;
                    (url, offset) = self.progress(&url).await?;
                }
            }
            if !chunks.holds(offset) {
                chunks = Chunks::starting_at(offset, self.open(content, offset).await?, client.chunk_size());
            }
        }
        self.to.finish(url, self.blob).await
    }

    async fn send_chunk(&self, url: &Url, offset: u64, chunk: Bytes) -> Result<(Url, u64), Failure> {
        if chunk.is_empty() {
            return Err(self.content_error(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let end = offset + chunk.len() as u64;
        let Upload { client, endpoint, .. } = &self.to;
        let call = self
            .to
            .call(Method::PATCH)
            .header(CONTENT_TYPE, BINARY)
            .header(CONTENT_RANGE, &format!("{offset}-{}", end - 1));
        let length = Some(chunk.len() as u64);
        let body = stream::iter([Ok(chunk)]).boxed();
        let answer = client.call_with_stream(endpoint, url.clone(), &call, length, body).await?;
        match answer.response().status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                let next = self.to.location(&answer, url)?;
                Ok((next, answer.header(RANGE.as_str()).and_then(range_end).unwrap_or(end)))
            }
            // The registry is elsewhere than we think: asking it will tell where.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let error = client.refusal(endpoint, &call, answer).await;
                Err(Failure { error, may_pass: true })
            }
            _ => Err(self.to.refused(&call, answer).await),
        }
    }

    /// Asks how many bytes the registry has.
    async fn progress(&self, url: &Url) -> Result<(Url, u64), Failure> {
        let Upload { client, endpoint, .. } = &self.to;
        let call = self.to.call(Method::GET);
        let answer = client.call(endpoint, url.clone(), &call).await?;
        if answer.response().status() != StatusCode::NO_CONTENT {
            // The upload is gone; a new one may do better.
            let error = client.refusal(endpoint, &call, answer).await;
            return Err(Failure { error, may_pass: true });
        }
        let offset = answer.header(RANGE.as_str()).and_then(range_end).unwrap_or(0);
        Ok((self.to.location(&answer, url)?, offset))
    }

    async fn open(&self, content: &dyn BlobContent, offset: u64) -> Result<ContentStream, RegistryError> {
        content.open(offset).await.map_err(|source| self.content_error(source))
    }

    fn content_error(&self, source: io::Error) -> RegistryError {
        RegistryError::Content { digest: self.blob.digest, source }
    }
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
