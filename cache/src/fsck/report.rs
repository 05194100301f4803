//! What a check of the store found.

use std::fmt;

/// What happens to what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It is reported.
    Nothing,
    /// It is removed: the next build makes it anew, a pull fetches it again.
    Drop,
}

/// The kinds of things a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Bytes named by their digest.
    Blob,
    /// A layer, or what is known of one.
    Layer,
    /// What a step made, or what is remembered of one.
    Record,
    /// A log or a listing.
    Detail,
    /// An image.
    Image,
    /// A version of a tag.
    Version,
    /// What a registry or server said.
    Reference,
}

/// What became of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is still there: nothing was to be changed.
    Kept,
    /// It was removed.
    Dropped,
    /// It is still there: a process that lives uses it.
    InUse,
    /// It was gone, or right, by the time it was to be removed.
    Mended,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of thing.
    pub subject: Subject,
    /// Which one.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// What became of it.
    pub fate: Fate,
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Blobs.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Files of layers whose bytes were read.
    pub files: usize,
    /// Records.
    pub records: usize,
    /// Logs and listings.
    pub details: usize,
    /// Images.
    pub images: usize,
    /// Versions of tags.
    pub versions: usize,
    /// Bytes that were read of blobs and files.
    pub bytes: u64,
    /// What is wrong, in the order it was found.
    pub findings: Vec<Finding>,
}

impl FsckReport {
    /// Whether nothing wrong is left in the store.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.fate == Fate::Dropped)
    }
}

impl Subject {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Record => "record",
            Self::Detail => "detail",
            Self::Image => "image",
            Self::Version => "version",
            Self::Reference => "reference",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.subject.as_str(), self.name, self.problem)?;
        match self.fate {
            Fate::Dropped => f.write_str("; dropped"),
            Fate::InUse => f.write_str("; in use by a running mica, not dropped"),
            Fate::Kept | Fate::Mended => Ok(()),
        }
    }
}
