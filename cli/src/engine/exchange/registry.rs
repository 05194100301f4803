//! A cache in a registry: documents are manifests with tags, blobs those of the repository.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mica_image::{Descriptor, MediaType, Reference};
use mica_remote::registry::{BlobContent, ContentStream};
use mica_remote::{RegistryClient, RegistryError};

use super::error::ExchangeError;
use super::options::DocumentName;
use crate::engine::Host;

/// A repository.
#[derive(Clone)]
pub(super) struct RegistryPlace {
    client: RegistryClient,
    repository: Reference,
}

impl std::fmt::Debug for RegistryPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RegistryPlace").field(&self.repository.name()).finish()
    }
}

impl RegistryPlace {
    pub(super) fn open(host: &Host, reference: &Reference, insecure: bool) -> Result<Self, ExchangeError> {
        let client = match insecure {
            true => host.insecure_registry(reference.registry())?,
            false => host.registry()?.clone(),
        };
        let repository = Reference::parse(&reference.name()).expect("the name of a reference is one");
        Ok(Self { client, repository })
    }

    pub(super) async fn manifest(&self, name: &DocumentName) -> Result<Option<Vec<u8>>, ExchangeError> {
        let reference = match name {
            DocumentName::Digest(digest) => self.repository.with_digest(*digest),
            DocumentName::Tag(tag) => self.tagged(tag)?,
        };
        match self.client.fetch_manifest(&reference).await {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExchangeError> {
        let descriptor = Descriptor::of(MediaType::OCI_MANIFEST, &bytes);
        Ok(self.client.push_manifest(&self.tagged(name)?, &descriptor, Bytes::from(bytes)).await?)
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, ExchangeError> {
        match self.client.list_tags(&self.repository).await {
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            result => Ok(result?),
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), ExchangeError> {
        let digest = self.client.resolve(&self.tagged(name)?).await?.digest;
        if !self.client.delete_manifest(&self.repository, &digest).await? {
            tracing::debug!(name, "the registry lets nothing be taken away");
        }
        Ok(())
    }

    pub(super) fn blob(&self, blob: &Descriptor) -> ContentStream {
        self.client.fetch_blob(&self.repository, blob).map_err(std::io::Error::other).boxed()
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, ExchangeError> {
        Ok(self.client.has_blob(&self.repository, blob).await?)
    }

    pub(super) async fn put(
        &self,
        blob: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), ExchangeError> {
        Ok(self.client.push_blob(&self.repository, blob, content).await?)
    }

    fn tagged(&self, tag: &str) -> Result<Reference, ExchangeError> {
        self.repository.with_tag(tag).map_err(|_| ExchangeError::Format(format!("`{tag}` is no tag")))
    }
}
