//! A cache in a bucket, laid out as the reference's: blobs by digest, documents by name.
//!
//! ```text
//! <prefix><blobs prefix>sha256:<hex>
//! <prefix><manifests prefix><name>
//! ```

use bytes::Bytes;
use mica_image::{ContentDigest, Descriptor};
use mica_remote::Bucket;
use mica_remote::registry::{BlobContent, ContentStream};

use super::error::ExchangeError;
use super::options::{BucketPlaceOptions, DocumentName};

/// A bucket.
#[derive(Debug, Clone)]
pub(super) struct BucketPlace {
    bucket: Bucket,
    blobs: String,
    manifests: String,
}

impl BucketPlace {
    pub(super) fn open(options: &BucketPlaceOptions) -> Result<Self, ExchangeError> {
        let BucketPlaceOptions { bucket, prefix, blobs_prefix, manifests_prefix, .. } = options;
        Ok(Self {
            bucket: Bucket::open(bucket)?,
            blobs: format!("{prefix}{blobs_prefix}"),
            manifests: format!("{prefix}{manifests_prefix}"),
        })
    }

    pub(super) async fn manifest(&self, name: &DocumentName) -> Result<Option<Vec<u8>>, ExchangeError> {
        let key = match name {
            DocumentName::Tag(name) => format!("{}{name}", self.manifests),
            DocumentName::Digest(digest) => self.key(digest),
        };
        Ok(self.bucket.read(&key).await?.map(Vec::from))
    }

    pub(super) async fn put_manifest(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExchangeError> {
        Ok(self.bucket.replace(&format!("{}{name}", self.manifests), Bytes::from(bytes)).await?)
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, ExchangeError> {
        Ok(self.bucket.list(self.manifests.trim_end_matches('/')).await?)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), ExchangeError> {
        Ok(self.bucket.delete(&format!("{}{name}", self.manifests)).await?)
    }

    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<ContentStream, ExchangeError> {
        Ok(self.bucket.stream(&self.key(&blob.digest)).await?)
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, ExchangeError> {
        Ok(self.bucket.size(&self.key(&blob.digest)).await? == Some(blob.size))
    }

    pub(super) async fn put(
        &self,
        blob: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), ExchangeError> {
        let wrong = |source| ExchangeError::Blob { digest: blob.digest, source };
        let stream = content.open(0).await.map_err(wrong)?;
        Ok(self.bucket.write(&self.key(&blob.digest), blob.size, stream).await?)
    }

    fn key(&self, digest: &ContentDigest) -> String {
        format!("{}{digest}", self.blobs)
    }
}
