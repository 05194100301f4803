//! The store: blobs, layers, cache records, image versions, cache mounts, and the scan of build contexts.
//!
//! One directory, shared by any number of processes, without a server and without a database: files are written elsewhere and renamed
//! into place, so whatever is visible is complete, and a process that is killed at any point leaves nothing but rubbish in a
//! directory of its own, which the next one removes. The layout is drawn in [`store`].
//!
//! This crate mounts nothing (it says *which* directories to mount), speaks to no network, and has no clock: times are the
//! caller's or the file system's. It is sync.
#![forbid(unsafe_code)]

pub mod store;

mod beneath;
mod files;
mod hash;
mod lease;
mod locks;
mod reserve;
mod sealed;
mod xattrs;

pub mod blob;
pub mod collect;
pub mod context;
pub mod details;
pub mod downloads;
pub mod failures;
pub mod fsck;
pub mod images;
pub mod layer;
pub mod mounts;
pub mod published;
pub mod record;
pub mod usage;

pub use blob::{BlobError, BlobStore, Ingest};
pub use collect::{Forecast, KeepImages, KeepPolicy, Report};
pub use context::{ContextTree, Decision, ScanError, ScanOptions};
pub use details::{DetailId, DetailStore};
pub use downloads::{Download, DownloadStore};
pub use failures::{Failure, FailureStore};
pub use files::FileError;
pub use fsck::{Fate, Finding, FsckReport, Repair, Subject};
pub use images::{BuiltBy, ImageRecord, ImageStore, Resolved, Version, VersionInfo};
pub use layer::{Committed, Layer, LayerError, LayerStore, Scratch, Snapshot};
pub use lease::Lease;
pub use locks::{LockError, StepLock};
pub use mounts::{CacheMount, MountLease, MountStore, Sharing};
pub use published::{Published, PublishedStore};
pub use record::{
    CacheRecord, KeyPart, OmittedFiles, PlaceId, RecordKey, RecordStore, Replace, StoredRecord, TreeHash,
};
pub use store::{OpenError, Ownership, Store};
pub use usage::Usage;
