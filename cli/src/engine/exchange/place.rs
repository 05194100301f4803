//! Where a cache lies: a store of blobs, and of documents that have names.

use std::sync::Arc;

use futures_util::StreamExt as _;
use mica_image::{BlobVerifier, Descriptor};
use mica_remote::registry::{BlobContent, ContentStream};

use super::bucket::BucketPlace;
use super::directory::DirectoryPlace;
use super::error::ExchangeError;
use super::options::{CachePlace, DocumentName};
use super::registry::RegistryPlace;
use crate::engine::Host;

/// A place that is open.
#[derive(Debug, Clone)]
pub(super) struct Place {
    name: DocumentName,
    shown: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Registry(RegistryPlace),
    Directory(Arc<DirectoryPlace>),
    Bucket(BucketPlace),
}

impl Place {
    /// Opens a place; nothing is asked yet.
    pub(super) fn open(host: &Host, place: &CachePlace) -> Result<Self, ExchangeError> {
        let (name, kind) = match place {
            CachePlace::Registry { reference, insecure } => {
                let name = match reference.digest() {
                    Some(digest) => DocumentName::Digest(*digest),
                    None => DocumentName::Tag(reference.tag().unwrap_or("latest").to_owned()),
                };
                (name, Kind::Registry(RegistryPlace::open(host, reference, *insecure)?))
            }
            CachePlace::Directory { path, name } => {
                (name.clone(), Kind::Directory(Arc::new(DirectoryPlace::new(path))))
            }
            CachePlace::Bucket(options) => {
                (DocumentName::Tag(options.name.clone()), Kind::Bucket(BucketPlace::open(options)?))
            }
        };
        Ok(Self { name, shown: place.shown(), kind })
    }

    /// Returns how people call it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the name of the cache's own document.
    pub(super) fn name(&self) -> &DocumentName {
        &self.name
    }

    /// Returns the manifest of a document; `None` when there is none of this name.
    pub(super) async fn manifest(&self, name: &DocumentName) -> Result<Option<Vec<u8>>, ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => place.manifest(name).await,
            Kind::Directory(place) => place.clone().manifest(name.clone()).await,
            Kind::Bucket(place) => place.manifest(name).await,
        }
    }

    /// Gives a manifest a name; everything it names must be there.
    pub(super) async fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => place.put_manifest(name, bytes).await,
            Kind::Directory(place) => place.clone().put_manifest(name.to_owned(), bytes).await,
            Kind::Bucket(place) => place.put_manifest(name, bytes).await,
        }
    }

    /// Lists the names of documents that begin with `prefix`.
    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>, ExchangeError> {
        let mut names = match &self.kind {
            Kind::Registry(place) => place.names().await,
            Kind::Directory(place) => place.clone().names().await,
            Kind::Bucket(place) => place.names().await,
        }?;
        names.retain(|name| name.starts_with(prefix));
        Ok(names)
    }

    /// Takes a document away, where that is allowed.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => place.remove(name).await,
            Kind::Directory(place) => place.clone().remove(name.to_owned()).await,
            Kind::Bucket(place) => place.remove(name).await,
        }
    }

    /// Opens a blob; the stream ends in an error unless all of its bytes came and are right.
    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<ContentStream, ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => Ok(place.blob(blob)),
            Kind::Directory(place) => Ok(verified(place.blob(blob).await?, blob)),
            Kind::Bucket(place) => Ok(verified(place.blob(blob).await?, blob)),
        }
    }

    /// Reads a small blob whole.
    pub(super) async fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, ExchangeError> {
        let wrong = |source| ExchangeError::Blob { digest: blob.digest, source };
        if blob.size > limit {
            return Err(wrong(std::io::Error::other("it is larger than any real one")));
        }
        let mut stream = self.blob(blob).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(wrong)?);
        }
        Ok(bytes)
    }

    /// Returns whether a blob is there.
    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => place.has(blob).await,
            Kind::Directory(place) => place.has(blob),
            Kind::Bucket(place) => place.has(blob).await,
        }
    }

    /// Writes a blob.
    pub(super) async fn put(
        &self,
        blob: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), ExchangeError> {
        match &self.kind {
            Kind::Registry(place) => place.put(blob, content).await,
            Kind::Directory(place) => place.put(blob, content).await,
            Kind::Bucket(place) => place.put(blob, content).await,
        }
    }
}

/// Ends a stream in an error unless it was the blob.
fn verified(stream: ContentStream, blob: &Descriptor) -> ContentStream {
    let verifier = BlobVerifier::new(blob);
    let wrong = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    futures_util::stream::unfold(Some((stream, verifier)), move |state| async move {
        let (mut stream, mut verifier) = state?;
        match stream.next().await {
            Some(Ok(piece)) => match verifier.update(&piece) {
                Ok(()) => Some((Ok(piece), Some((stream, verifier)))),
                Err(error) => Some((Err(wrong(error)), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None => verifier.finish().err().map(|error| (Err(wrong(error)), None)),
        }
    })
    .boxed()
}
