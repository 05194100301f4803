//! What a cache consists of, besides bytes: one document with its records and the layers they made.
//!
//! It is the config of an OCI manifest whose layers are all blobs it names, so that registries keep them together:
//!
//! ```text
//! manifest   application/vnd.oci.image.manifest.v1+json
//! ├── config application/vnd.mica.cache.v1+json        this document
//! └── layers of each layer
//!     ├── application/vnd.mica.layer-index.v1+zstd      its index, compressed
//!     └── application/vnd.oci.image.layer.v1.tar+gzip   its canonical tar, the very blob an image has
//! ```

use std::collections::BTreeMap;

use mica_cache::CacheRecord;
use mica_cache::layer::CompressedBlob;
use mica_image::{Descriptor, Dialect, DiffId, Document, LayerId, Manifest, MediaType};
use serde::{Deserialize, Serialize};

use super::error::ExchangeError;

/// The version of the document; another one is refused.
pub(super) const FORMAT: u32 = 1;
/// The largest document that is read.
pub(super) const DOCUMENT_SIZE_MAX: u64 = 64 << 20;
/// The largest index of one layer that is read, compressed and not.
pub(super) const INDEX_SIZE_MAX: u64 = 1 << 30;

const CONFIG_TYPE: &str = "application/vnd.mica.cache.v1+json";
const INDEX_TYPE: &str = "application/vnd.mica.layer-index.v1+zstd";

/// The document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheDocument {
    format: u32,
    /// What steps made, and what they were made from.
    pub(super) records: Vec<SentRecord>,
    /// The layers the records name.
    pub(super) layers: BTreeMap<LayerId, SentLayer>,
}

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SentRecord {
    /// Where its step stands: stage, platform, kind and number.
    pub(super) place: String,
    /// What it says.
    #[serde(flatten)]
    pub(super) record: CacheRecord,
}

/// A layer as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentLayer {
    /// The blob with its index.
    pub(super) index: Descriptor,
    /// The blob with its canonical tar.
    pub(super) blob: Descriptor,
    /// The digest of that tar.
    pub(super) diff_id: DiffId,
    /// The codec the blob was written with.
    pub(super) codec: String,
    /// When the layer was made, in seconds since 1970.
    pub(super) created: i64,
}

impl SentLayer {
    /// Returns the compressed tar as the store knows such.
    pub(super) fn compressed(&self) -> CompressedBlob {
        CompressedBlob { digest: self.blob.digest, size: self.blob.size }
    }
}

/// Returns the media type of a layer's index.
pub(super) fn index_type() -> MediaType {
    MediaType::parse(INDEX_TYPE)
}

impl CacheDocument {
    /// Returns a document of these records and layers.
    pub(super) fn new(records: Vec<SentRecord>, layers: BTreeMap<LayerId, SentLayer>) -> Self {
        Self { format: FORMAT, records, layers }
    }

    /// Returns the document's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the maps of a cache have text keys")
    }

    /// Reads a document.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ExchangeError> {
        let not_valid = |error: serde_json::Error| ExchangeError::Format(format!("it is not valid: {error}"));
        #[derive(Deserialize)]
        struct Outline {
            format: u32,
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(not_valid)?;
        if outline.format != FORMAT {
            let found = outline.format;
            return Err(ExchangeError::Format(format!("it has format {found}, this mica knows {FORMAT}")));
        }
        serde_json::from_slice(bytes).map_err(not_valid)
    }

    /// Describes the document's bytes.
    pub(super) fn describe(bytes: &[u8]) -> Descriptor {
        Descriptor::of(MediaType::parse(CONFIG_TYPE), bytes)
    }

    /// Returns the manifest that keeps the document and its blobs together.
    pub(super) fn manifest(&self, config: Descriptor) -> Manifest {
        let mut blobs: BTreeMap<_, Descriptor> = BTreeMap::new();
        for layer in self.layers.values() {
            for blob in [&layer.index, &layer.blob] {
                blobs.entry(blob.digest).or_insert_with(|| blob.clone());
            }
        }
        Manifest::new(Dialect::Oci, config, blobs.into_values().collect())
    }
}

/// What lies under the name of a cache.
pub(super) enum Named {
    /// A cache with this document.
    Cache(Descriptor),
    /// An image, which may carry a cache.
    Image(Manifest),
    /// Images, each of which may carry one.
    Images(Vec<Descriptor>),
}

/// Finds out what a manifest is of.
pub(super) fn named(manifest: &[u8]) -> Result<Named, ExchangeError> {
    match Document::parse(manifest, &MediaType::default()) {
        Ok(Document::Manifest(image)) if image.config.media_type.is_config() => Ok(Named::Image(image)),
        Ok(Document::Index(index)) => Ok(Named::Images(index.manifests)),
        _ => config_of_type(manifest, CONFIG_TYPE).map(Named::Cache),
    }
}

/// Finds the document of a type in a manifest.
pub(super) fn config_of_type(manifest: &[u8], wanted: &str) -> Result<Descriptor, ExchangeError> {
    let format = |text: &str| ExchangeError::Format(text.to_owned());
    let document = Document::parse(manifest, &MediaType::default())
        .map_err(|error| ExchangeError::Format(format!("it is no cache: {error}")))?;
    match document {
        Document::Manifest(manifest) if manifest.config.media_type.as_str() == wanted => {
            match manifest.config.size {
                0..=DOCUMENT_SIZE_MAX => Ok(manifest.config),
                _ => Err(format("it is larger than any real one")),
            }
        }
        Document::Manifest(manifest)
            if manifest.config.media_type.as_str().contains("buildkit.cacheconfig") =>
        {
            Err(format("it was written by BuildKit, whose records mean nothing here"))
        }
        _ => Err(format("it is no cache of mica")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_and_other_documents_are_refused() {
        let document = CacheDocument::new(Vec::new(), BTreeMap::new());
        let bytes = document.to_bytes();
        assert!(CacheDocument::parse(&bytes).is_ok());
        let later = String::from_utf8(bytes.clone()).unwrap().replace("\"format\":1", "\"format\":2");
        let error = CacheDocument::parse(later.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "it has format 2, this mica knows 1");
        assert!(CacheDocument::parse(&bytes[..bytes.len() - 1]).is_err());
        let manifest = document.manifest(CacheDocument::describe(&bytes));
        assert!(matches!(named(&manifest.to_bytes()), Ok(Named::Cache(_))));
        let of = |config: MediaType| Manifest::new(Dialect::Oci, Descriptor::of(config, b"{}"), Vec::new());
        assert!(matches!(named(&of(MediaType::OCI_CONFIG).to_bytes()), Ok(Named::Image(_))));
        let error = named(&of(MediaType::parse("application/vnd.example+json")).to_bytes()).err().unwrap();
        assert_eq!(error.to_string(), "it is no cache of mica");
    }
}
