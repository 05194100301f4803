//! Indexes in registries: joining images into one, looking at one, copying one with all it names. The store is not touched.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _};
use mica_image::config::{CONFIG_SIZE_MAX, InvalidConfig};
use mica_image::{
    ContentDigest, Descriptor, Dialect, Document, ImageConfig, Index, Manifest, Platform, Reference,
};
use mica_remote::registry::{BlobContent, FetchedManifest, OpeningContent};
use mica_remote::{RegistryClient, RegistryError};

use super::request::{Annotated, Annotation};
use super::{Engine, NetworkSetupError};

/// An index of indexes of indexes is as deep as anything sensible goes.
const DEPTH_MAX: usize = 4;

/// An index could not be made, read or copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// A registry did not do its part.
    #[error("`{reference}`")]
    Registry {
        /// What it was asked for.
        reference: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// An image does not say what it runs on.
    #[error("the config of `{reference}` cannot be read")]
    Config {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: InvalidConfig,
    },
    /// An image's config is larger than any real one.
    #[error("the config of `{0}` is larger than any real one")]
    LargeConfig(String),
    /// Indexes name each other too deeply.
    #[error("`{0}` is nested too deeply")]
    TooDeep(String),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
}

impl IndexError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source: RegistryError::Transport(_), .. })
    }
}

impl Engine {
    /// Returns what a name stands for.
    pub(crate) async fn remote_document(&self, reference: &Reference) -> Result<FetchedManifest, IndexError> {
        let fetched = self.host.registry()?.fetch_manifest(reference).await;
        fetched.map_err(|source| failed(reference, source))
    }

    /// Makes an index of the images that `sources` name; those that are indexes bring all of theirs.
    pub(crate) async fn make_index(
        &self,
        sources: &[Reference],
        annotations: &[Annotation],
    ) -> Result<Index, IndexError> {
        let mut entries: Vec<Descriptor> = Vec::new();
        for source in sources {
            let fetched = self.remote_document(source).await?;
            let found = match fetched.document {
                Document::Index(index) => index.manifests,
                Document::Manifest(manifest) => {
                    let platform = Some(self.platform_of(source, &manifest).await?);
                    vec![Descriptor { platform, ..fetched.descriptor }]
                }
            };
            let known: Vec<ContentDigest> = entries.iter().map(|entry| entry.digest).collect();
            entries.extend(found.into_iter().filter(|entry| !known.contains(&entry.digest)));
        }
        let mut index = Index::new(Dialect::Oci, entries);
        for annotation in annotations.iter().filter(|annotation| annotation.subject == Annotated::Index) {
            index.annotations.insert(annotation.key.clone(), annotation.value.clone());
        }
        Ok(index)
    }

    /// Puts an index under a name, after what it names.
    pub(crate) async fn push_index(
        &self,
        sources: &[Reference],
        index: &Index,
        target: &Reference,
    ) -> Result<(), IndexError> {
        let client = self.host.registry()?;
        for source in sources.iter().filter(|source| source.name() != target.name()) {
            let fetched = self.remote_document(source).await?;
            Copying { client, source, target }.document(&fetched, 0).await?;
        }
        let bytes = Bytes::from(index.to_bytes());
        let pushed = client.push_manifest(target, &index.descriptor(), bytes).await;
        pushed.map_err(|source| failed(target, source))
    }

    /// Copies an image or index with everything it names, byte for byte; returns its digest.
    pub(crate) async fn copy_remote(
        &self,
        source: &Reference,
        target: &Reference,
    ) -> Result<ContentDigest, IndexError> {
        let client = self.host.registry()?;
        let fetched = self.remote_document(source).await?;
        if source.name() != target.name() {
            Copying { client, source, target }.document(&fetched, 0).await?;
        }
        let digest = fetched.descriptor.digest;
        let pushed = client.push_manifest(target, &fetched.descriptor, fetched.bytes.into()).await;
        pushed.map_err(|source| failed(target, source))?;
        Ok(digest)
    }

    async fn platform_of(&self, reference: &Reference, manifest: &Manifest) -> Result<Platform, IndexError> {
        if manifest.config.size > CONFIG_SIZE_MAX {
            return Err(IndexError::LargeConfig(reference.familiar()));
        }
        let pieces: Vec<Bytes> = self
            .host
            .registry()?
            .fetch_blob(reference, &manifest.config)
            .try_collect()
            .await
            .map_err(|source| failed(reference, source))?;
        ImageConfig::parse(&pieces.concat())
            .map(|config| config.platform())
            .map_err(|source| IndexError::Config { reference: reference.familiar(), source })
    }
}

fn failed(reference: &Reference, source: RegistryError) -> IndexError {
    IndexError::Registry { reference: reference.familiar(), source }
}

/// Content on its way from one repository to another.
struct Copying<'a> {
    client: &'a RegistryClient,
    source: &'a Reference,
    target: &'a Reference,
}

impl Copying<'_> {
    /// Copies a document under its digest, after what it names.
    fn document<'b>(
        &'b self,
        fetched: &'b FetchedManifest,
        depth: usize,
    ) -> BoxFuture<'b, Result<(), IndexError>> {
        Box::pin(async move {
            if depth > DEPTH_MAX {
                return Err(IndexError::TooDeep(self.source.familiar()));
            }
            match &fetched.document {
                Document::Index(index) => {
                    // One after another: they have blobs in common, and one blob put twice at once is more than some
                    // registries bear.
                    for entry in &index.manifests {
                        self.child(entry, depth).await?;
                    }
                }
                Document::Manifest(manifest) => {
                    let blobs = manifest.layers.iter().chain([&manifest.config]);
                    let blobs: BTreeMap<_, _> = blobs.map(|blob| (blob.digest, blob)).collect();
                    try_join_all(blobs.into_values().map(|blob| self.blob(blob))).await?;
                }
            }
            let by_digest = untagged(self.target).with_digest(fetched.descriptor.digest);
            let bytes = Bytes::from(fetched.bytes.clone());
            let pushed = self.client.push_manifest(&by_digest, &fetched.descriptor, bytes).await;
            pushed.map_err(|source| failed(&by_digest, source))
        })
    }

    async fn child(&self, entry: &Descriptor, depth: usize) -> Result<(), IndexError> {
        let reference = untagged(self.source).with_digest(entry.digest);
        let fetched = self.client.fetch_manifest(&reference).await;
        let fetched = fetched.map_err(|source| failed(&reference, source))?;
        self.document(&fetched, depth + 1).await
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), IndexError> {
        if blob.media_type.is_foreign() {
            return Ok(());
        }
        let copied = async {
            if self.client.has_blob(self.target, blob).await? {
                return Ok(());
            }
            let same_registry = self.source.registry() == self.target.registry();
            if same_registry && self.client.mount_blob(self.target, self.source.repository(), blob).await? {
                return Ok(());
            }
            let (client, source) = (self.client.clone(), self.source.clone());
            self.client.push_blob(self.target, blob, &Elsewhere { client, source, blob: blob.clone() }).await
        };
        copied.await.map_err(|source| failed(self.target, source))
    }
}

fn untagged(reference: &Reference) -> Reference {
    Reference::parse(&reference.name()).expect("the name of a reference is one")
}

/// A blob in another repository, verified while it passes.
struct Elsewhere {
    client: RegistryClient,
    source: Reference,
    blob: Descriptor,
}

impl BlobContent for Elsewhere {
    fn open(&self, offset: u64) -> OpeningContent<'_> {
        let stream = self.client.fetch_blob(&self.source, &self.blob).map_err(std::io::Error::other);
        let mut skip = offset;
        let rest = stream.map_ok(move |mut piece: Bytes| {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= skipped as u64;
            piece.split_off(skipped)
        });
        Box::pin(async move { Ok(rest.boxed()) })
    }
}
