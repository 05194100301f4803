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

/// What the store is to keep to by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes it may take on the disk.
    pub max_bytes: Option<u64>,
    /// Versions of each name that stay whatever they take; `None` is all.
    pub versions: Option<usize>,
}

/// What became of a store that was to keep to its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What it takes now.
    pub taken: u64,
    /// What kept versions and running commands need of that.
    pub needed: u64,
    /// What was removed.
    pub report: Report,
}

impl Room {
    fn policy(self) -> KeepPolicy {
        KeepPolicy {
            images: KeepImages::Named,
            versions: self.versions,
            records_for: None,
            max_bytes: self.max_bytes,
        }
    }

    /// Returns what kept versions need.
    pub(crate) fn needed(self, store: &Store) -> Result<u64, FileError> {
        Ok(store.would_collect(&self.policy())?.needed_bytes)
    }
}

/// Removes what was used least recently where the store takes more than it may; `None` if it does not, or another process is at it.
pub(crate) fn keep_to(store: &Store, room: Room) -> Result<Option<Kept>, FileError> {
    let Some(max) = room.max_bytes else { return Ok(None) };
    if store.room_taken()? <= max {
        return Ok(None);
    }
    let Some(done) = store.try_collect(&room.policy())? else { return Ok(None) };
    Ok(Some(Kept { taken: store.room_taken()?, needed: done.needed_bytes, report: done.report }))
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
