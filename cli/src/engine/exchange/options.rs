//! What is asked for: where caches come from and go to.

use std::path::PathBuf;
use std::time::Duration;

use mica_image::{ContentDigest, LayerCompression, Reference};

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheImport {
    /// Where it lies.
    pub place: CachePlace,
    /// Which cache mounts are taken from it.
    pub mounts: Mounts,
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheExport {
    /// Where it goes.
    pub place: CachePlace,
    /// Which steps' results.
    pub mode: CacheMode,
    /// Which cache mounts; they may hold what nobody else is to see.
    pub mounts: Mounts,
    /// How layers are compressed.
    pub compression: LayerCompression,
    /// The compressor's level.
    pub level: Option<i32>,
    /// Whether layers that are there in another compression are sent again.
    pub force: bool,
    /// Whether a failure is only told.
    pub ignore_error: bool,
    /// How long it may take.
    pub deadline: Duration,
}

/// Where a cache lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CachePlace {
    /// A repository.
    Registry {
        /// Its name, with a tag or (to import) a digest.
        reference: Reference,
        /// Plain HTTP, or a certificate nobody vouches for, will do.
        insecure: bool,
    },
    /// An OCI layout.
    Directory {
        /// Its directory.
        path: PathBuf,
        /// Which of its documents.
        name: DocumentName,
    },
    /// A bucket of S3, or of what speaks like it.
    Bucket(BucketPlaceOptions),
}

/// A cache in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketPlaceOptions {
    /// The bucket.
    pub bucket: mica_remote::BucketOptions,
    /// What every object's name begins with.
    pub prefix: String,
    /// What follows in the names of blobs.
    pub blobs_prefix: String,
    /// What follows in the names of documents.
    pub manifests_prefix: String,
    /// The cache's own name.
    pub name: String,
}

/// Cache mounts, by what their steps call them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// All that the build uses.
    All,
    /// Those with these ids.
    Ids(Vec<String>),
}

impl Mounts {
    /// Returns whether a mount is among them.
    pub(crate) fn include(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.iter().any(|known| known == id),
        }
    }
}

/// A document of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DocumentName {
    /// The one that has this name now.
    Tag(String),
    /// This one.
    Digest(ContentDigest),
}

/// Which steps' results are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CacheMode {
    /// Those the image is made of.
    #[default]
    Min,
    /// All.
    Max,
}

impl CachePlace {
    /// Returns how people call it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Registry { reference, .. } => reference.familiar(),
            Self::Directory { path, name: DocumentName::Tag(tag) } => format!("{}:{tag}", path.display()),
            Self::Directory { path, name: DocumentName::Digest(digest) } => {
                format!("{}@{digest}", path.display())
            }
            Self::Bucket(options) => {
                format!("s3://{}/{}{}", options.bucket.name, options.prefix, options.name)
            }
        }
    }
}
