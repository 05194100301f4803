//! What a collection is to keep, and what came of it.

use std::time::Duration;

/// What a collection keeps besides what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Which images.
    pub images: KeepImages,
    /// How many versions of each tag, the newest first; `None` is all.
    pub versions: Option<usize>,
    /// How long a record (and what only it needs) may go unused; `None` is for ever.
    pub records_for: Option<Duration>,
    /// How many bytes the whole store may take on the disk: what no tag names goes by its last use.
    pub max_bytes: Option<u64>,
}

/// Which images a collection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepImages {
    /// All.
    All,
    /// Those that a tag's version names or that were pulled by name.
    Named,
    /// Those that a tag's version names.
    Tagged,
}

impl KeepPolicy {
    /// Keeps all images and records: only what nothing refers to goes (after `rmi`).
    pub const UNREACHABLE: Self =
        Self { images: KeepImages::All, versions: None, records_for: None, max_bytes: None };
    /// Keeps what tags name and nothing else.
    pub const TAGGED: Self = Self {
        images: KeepImages::Tagged,
        versions: None,
        records_for: Some(Duration::ZERO),
        max_bytes: None,
    };
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Versions of tags.
    pub versions: usize,
    /// Images.
    pub images: usize,
    /// Records.
    pub records: usize,
    /// Failures that were kept for a look.
    pub failures: usize,
    /// Layers.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
    /// Cache mounts.
    pub mounts: usize,
    /// Bytes of files that went.
    pub bytes: u64,
}

/// What a collection would do, or has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// What it would remove.
    pub report: Report,
    /// Bytes of the images that must be kept, of what is in use, and of what cannot be collected.
    pub needed_bytes: u64,
}
