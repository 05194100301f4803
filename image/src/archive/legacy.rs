//! Docker archives from before Docker 25: configs and layers lie under names of their own and there is no manifest.
//!
//! ```text
//! manifest.json           [{"Config": "<hex>.json", "RepoTags": […], "Layers": ["<hex>/layer.tar", …]}]
//! <hex>.json              the config
//! <hex>/layer.tar         a layer, or a link to one
//! ```

use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::read::ReadArchiveError;
use crate::compress::Codec;
use crate::lenient::null_as_default;
use crate::{ContentDigest, Descriptor, Dialect, DiffId, LayerCompression, MediaType};

/// One entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) layers: Vec<String>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Why a layer could not be described.
pub(super) enum LayerError {
    Open(ReadArchiveError),
    Read(io::Error),
}

impl LayerError {
    pub(super) fn naming(self, path: &Path, name: &str) -> ReadArchiveError {
        match self {
            Self::Open(error) => error,
            Self::Read(source) => {
                ReadArchiveError::Content { path: path.to_owned(), name: name.to_owned(), source }
            }
        }
    }
}

/// Describes the blob of a layer. What is not compressed has its diff id for a digest (which reading it will verify);
/// anything else must be read to know.
pub(super) fn describe_layer(
    open: impl Fn() -> Result<Box<dyn Read + Send>, ReadArchiveError>,
    size: u64,
    diff_id: &DiffId,
) -> Result<Descriptor, LayerError> {
    let mut head = Vec::new();
    open().map_err(LayerError::Open)?.take(8).read_to_end(&mut head).map_err(LayerError::Read)?;
    let compression = match Codec::detect(&head) {
        Codec::Plain => {
            let digest = ContentDigest::from_bytes(*diff_id.as_bytes());
            return Ok(Descriptor::new(MediaType::DOCKER_LAYER_TAR, digest, size));
        }
        Codec::Gzip => LayerCompression::Gzip,
        Codec::Zstd => LayerCompression::Zstd,
        Codec::Bzip2 | Codec::Xz => return Err(LayerError::Read(io::ErrorKind::Unsupported.into())),
    };
    let mut hasher = Sha256::new();
    io::copy(&mut open().map_err(LayerError::Open)?, &mut hasher).map_err(LayerError::Read)?;
    let digest = ContentDigest::from_bytes(hasher.finalize().into());
    Ok(Descriptor::new(MediaType::layer(Dialect::Docker, compression), digest, size))
}
