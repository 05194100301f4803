//! What goes wrong with caches of other machines.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mica_remote::RegistryError;

use crate::engine::NetworkSetupError;
use crate::engine::output::OutputError;

/// A cache could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// A registry refused, or did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A bucket refused, or did not answer.
    #[error(transparent)]
    Bucket(#[from] mica_remote::BucketError),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
    /// A file of a cache directory could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its bytes did not come whole, or were others.
    #[error("`{digest}` of the cache is not what it should be")]
    Blob {
        /// What was asked for.
        digest: mica_image::ContentDigest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no cache, or one of another version.
    #[error("{0}")]
    Format(String),
    /// An image cannot carry it.
    #[error("it takes {size} bytes of the image's config, where {allowed} are allowed")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most there may be.
        allowed: usize,
    },
    /// A layer could not be received.
    #[error(transparent)]
    Import(#[from] crate::engine::import::ImportError),
    /// A layer could not be packed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A blob could not be stored or read.
    #[error(transparent)]
    Stored(#[from] mica_cache::BlobError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// It took too long.
    #[error("it was not done within {}", humane(*.0))]
    Deadline(Duration),
}

impl ExchangeError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::TooLarge { .. } => {
                Some("keep it beside the image with `--cache-to type=registry,ref=NAME`".to_owned())
            }
            Self::Deadline(_) => {
                Some("give it longer with `timeout=30m`, or export less with `mode=min`".to_owned())
            }
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Transport(_)) | Self::Deadline(_))
    }

    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }
}

fn humane(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
