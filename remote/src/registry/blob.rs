//! Blobs as streams: verified while they pass, taken up again where a connection broke.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use mica_image::{BlobMismatch, BlobVerifier, Descriptor, Reference};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode};

use super::authority::pull_scope;
use super::client::{Answer, Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use crate::transport::{TransportError, receive};

/// The bytes of a blob. It ends in an error unless all of them came and are right.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

impl RegistryClient {
    /// Fetches a blob.
    #[must_use]
    pub fn fetch_blob(&self, reference: &Reference, blob: &Descriptor) -> BlobStream {
        self.resume_blob(reference, blob, BlobVerifier::new(blob))
    }

    /// Fetches the rest of a blob, of which `verifier` has seen the beginning.
    #[must_use]
    pub fn resume_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        verifier: BlobVerifier,
    ) -> BlobStream {
        let fetch = Fetch {
            client: self.clone(),
            reference: reference.clone(),
            blob: blob.clone(),
            verifier,
            failures: 0,
            all_failures: 0,
            connection: None,
            done: false,
        };
        Box::pin(stream::unfold(fetch, |mut fetch| async move {
            let item = fetch.next().await.transpose()?;
            fetch.done |= item.is_err();
            Some((item, fetch))
        }))
    }
}

struct Fetch {
    client: RegistryClient,
    reference: Reference,
    blob: Descriptor,
    verifier: BlobVerifier,
    /// Failures since bytes came last.
    failures: u32,
    all_failures: u32,
    connection: Option<Connection>,
    done: bool,
}

struct Connection {
    answer: Answer,
    registry: String,
    /// Bytes to drop, where a server does not start where it was asked to.
    excess: u64,
}

impl Fetch {
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while !self.done {
            if self.is_complete() && self.connection.is_none() {
                return self.finish();
            }
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            match receive(&mut connection.answer.incoming).await {
                Ok(Some(bytes)) => {
                    let bytes = connection.take(bytes);
                    if bytes.is_empty() {
                        self.connection = Some(connection);
                        continue;
                    }
                    let mismatch =
                        |source| RegistryError::Blob { registry: connection.registry.clone(), source };
                    self.verifier.update(&bytes).map_err(mismatch)?;
                    self.failures = 0;
                    self.connection = Some(connection);
                    return Ok(Some(bytes));
                }
                Ok(None) if self.is_complete() => return self.finish(),
                Ok(None) => self.pause(None).await?,
                Err(error) => {
                    drop(connection);
                    self.pause(Some(error)).await?;
                }
            }
        }
        Ok(None)
    }

    fn is_complete(&self) -> bool {
        self.verifier.seen() >= self.blob.size
    }

    fn finish(&mut self) -> Result<Option<Bytes>, RegistryError> {
        self.done = true;
        let mismatch = |source: BlobMismatch| RegistryError::Blob {
            registry: self.reference.registry().to_owned(),
            source,
        };
        self.verifier.finish().map_err(mismatch)?;
        Ok(None)
    }

    /// Waits before the next attempt, unless there have been enough.
    async fn pause(&mut self, error: Option<TransportError>) -> Result<(), RegistryError> {
        let retry = self.client.transport().retry();
        let pause =
            retry.pause(self.failures).filter(|_| self.all_failures < retry.attempts.saturating_mul(10));
        self.failures += 1;
        self.all_failures += 1;
        let received = self.verifier.seen();
        tracing::debug!(digest = %self.blob.digest, received, ?error, "a blob's connection broke");
        let Some(pause) = pause else {
            return Err(RegistryError::Interrupted {
                digest: self.blob.digest,
                received,
                failures: self.all_failures,
            });
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, RegistryError> {
        let mut last = None;
        for endpoint in self.client.pull_endpoints(&self.reference).await? {
            match self.connect_to(&endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is always the registry itself"))
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<Connection, RegistryError> {
        let repository = self.reference.repository();
        let subject = format!("blob {} of {}", self.blob.digest, self.reference.name());
        let mut call = Call::new(Method::GET, repository, subject, pull_scope(repository));
        let seen = self.verifier.seen();
        if seen > 0 {
            call = call.header(RANGE, &format!("bytes={seen}-"));
        }
        let url = endpoint.url(repository, &format!("blobs/{}", self.blob.digest));
        let answer = self.client.call(endpoint, url, &call).await?;
        let excess = match answer.response().status() {
            StatusCode::OK => seen,
            StatusCode::PARTIAL_CONTENT => {
                let start = answer.header(CONTENT_RANGE.as_str()).and_then(range_start);
                let what = "the range of a blob it was asked for";
                let protocol = || RegistryError::Protocol { host: endpoint.host(), what };
                seen.checked_sub(start.ok_or_else(protocol)?).ok_or_else(protocol)?
            }
            // It has nothing more, however often it is asked.
            StatusCode::RANGE_NOT_SATISFIABLE if !self.is_complete() => {
                let mismatch = |source| RegistryError::Blob { registry: endpoint.registry.clone(), source };
                self.verifier.finish().map_err(mismatch)?;
                seen
            }
            _ => return Err(self.client.refusal(endpoint, &call, answer).await),
        };
        Ok(Connection { answer, registry: endpoint.registry.clone(), excess })
    }
}

impl Connection {
    /// Drops what has been seen before.
    fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let dropped = usize::try_from(self.excess).unwrap_or(usize::MAX).min(bytes.len());
        self.excess -= dropped as u64;
        bytes.split_off(dropped)
    }
}

/// Reads the first number of `bytes 5-9/10`.
fn range_start(header: &str) -> Option<u64> {
    header.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
