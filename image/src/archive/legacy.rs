//! Docker archives from before Docker 25: configs and layers lie under names of their own and there is no manifest.
//!
//! ```text
//! manifest.json           [{"Config": "<hex>.json", "RepoTags": […], "Layers": ["<hex>/layer.tar", …]}]
//! <hex>.json              the config
//! <hex>/layer.tar         a layer, or a link to one
//! ```

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::read::ReadArchiveError;
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
    let Some(compression) = compression(&head) else {
        let digest = ContentDigest::from_bytes(*diff_id.as_bytes());
        return Ok(Descriptor::new(MediaType::DOCKER_LAYER_TAR, digest, size));
    };
    let mut hasher = Sha256::new();
    io::copy(&mut open().map_err(LayerError::Open)?, &mut hasher).map_err(LayerError::Read)?;
    let digest = ContentDigest::from_bytes(hasher.finalize().into());
    Ok(Descriptor::new(MediaType::layer(Dialect::Docker, compression), digest, size))
}

/// Returns how a file that starts like this is compressed, `None` if it is not.
pub(super) fn compression(head: &[u8]) -> Option<LayerCompression> {
    match head {
        [0x1f, 0x8b, ..] => Some(LayerCompression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(LayerCompression::Zstd),
        _ => None,
    }
}

/// Returns a reader of what is in a compressed file.
pub(super) fn decoder<'a>(mut file: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match compression(file.fill_buf()?) {
        Some(LayerCompression::Gzip) => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file))),
        Some(LayerCompression::Zstd) => Ok(Box::new(zstd::Decoder::with_buffer(file)?)),
        Some(LayerCompression::None) | None => Ok(Box::new(file)),
    }
}
