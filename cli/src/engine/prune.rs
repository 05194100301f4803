//! Making room: which versions, images and records go, and what the store is full of.

use std::time::Duration;

use mica_cache::{FileError, KeepImages, KeepPolicy, LockError, Report, Store};

/// What `mica prune` is to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PruneRequest {
    /// Versions of each tag.
    pub versions: usize,
    /// How long records may go unused.
    pub unused_for: Duration,
    /// Bytes the store may take.
    pub max_size: Option<u64>,
    /// Which images stay.
    pub images: KeepImages,
}

/// Nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PruneError {
    /// The versions to be kept need more room than there is to be.
    #[error("the versions that are kept need {needed} bytes, more than {allowed}: nothing was removed")]
    KeptAlone {
        /// Bytes they need.
        needed: u64,
        /// Bytes they may have.
        allowed: u64,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] FileError),
    /// Another collection could not be waited for.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl PruneError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::KeptAlone { .. } => {
                Some("keep fewer with `--keep-versions`, or allow more with `--max-size`".to_owned())
            }
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Lock(_) => None,
        }
    }
}

impl PruneRequest {
    fn policy(&self) -> KeepPolicy {
        KeepPolicy {
            images: self.images,
            versions: Some(self.versions),
            records_for: Some(self.unused_for),
            max_bytes: self.max_size,
        }
    }
}

/// Tells what [`prune`] would remove.
pub(crate) fn forecast(store: &Store, request: &PruneRequest) -> Result<Report, PruneError> {
    let forecast = store.would_collect(&request.policy())?;
    match request.max_size {
        Some(allowed) if forecast.needed_bytes > allowed => {
            Err(PruneError::KeptAlone { needed: forecast.needed_bytes, allowed })
        }
        _ => Ok(forecast.report),
    }
}

/// Removes what the request does not keep and nothing uses.
pub(crate) fn prune(store: &Store, request: &PruneRequest) -> Result<Report, PruneError> {
    if request.max_size.is_some() {
        forecast(store, request)?;
    }
    Ok(store.collect(&request.policy(), &|| false)?)
}
