//! What can go wrong with layers.

use mica_image::index::{IndexError, LayerPath};
use mica_image::tree::TreeError;
use mica_image::{ContentDigest, DiffId, LayerId};

use crate::blob::BlobError;
use crate::files::FileError;

/// A layer could not be made, shown or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A blob could not be used.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An index could not be read or made.
    #[error("cannot use the index of layer `{layer}`")]
    Index {
        /// The layer.
        layer: LayerId,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// A tree of layers could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store does not have it.
    #[error("the store has no layer `{0}`")]
    Missing(LayerId),
    /// A file's bytes are not where the index says.
    #[error("the bytes of `/{}` are not in layer `{holder}`", String::from_utf8_lossy(path))]
    NotHeld {
        /// The file.
        path: LayerPath,
        /// Where they should be.
        holder: LayerId,
    },
    /// A pulled layer has not been downloaded, or its blob was removed.
    #[error("the blob `{blob}` of layer `{layer}` is not in the store")]
    BlobMissing {
        /// The layer.
        layer: LayerId,
        /// Its blob.
        blob: ContentDigest,
    },
    /// A blob does not contain the layer it is said to.
    #[error("the blob `{blob}` does not unpack to layer `{layer}`")]
    BlobDiffers {
        /// The layer.
        layer: LayerId,
        /// The blob.
        blob: ContentDigest,
    },
    /// An imported layer has no such tar.
    #[error("layer `{layer}` has no tar `{diff_id}`")]
    NoInstance {
        /// The layer.
        layer: LayerId,
        /// The tar asked for.
        diff_id: DiffId,
    },
    /// The tar of a layer could not be written.
    #[error("cannot write the tar of layer `{layer}`")]
    Tar {
        /// The layer.
        layer: LayerId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Objects could not be created in a layer's directory.
    #[error("cannot create the files of layer `{layer}`")]
    Unpack {
        /// The layer.
        layer: LayerId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer that was to come from elsewhere did not.
    #[error("layer `{layer}` did not come from where it was promised")]
    Promise {
        /// The layer.
        layer: LayerId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What a step wrote could not be read.
    #[error(transparent)]
    Upper(#[from] crate::layer::UpperError),
}

impl LayerError {
    /// Returns the way out, where the failure is one a person can mend.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(error) | Self::Blob(BlobError::File(error)) => error.hint(),
            _ => None,
        }
    }
}
