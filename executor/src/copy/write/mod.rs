//! Writing a placement into a layer's directory.
//!
//! ```text
//! out/                 the layer's own files: what no other layer holds yet
//! └── path/in/image    with mode, owner, time and attributes as the image has them
//! ```
//!
//! Bytes are hashed while they are copied: a file that is not what the selection saw fails the step, whatever the reason. The
//! directory is ours alone and starts empty, so everything is created and nothing replaced. The returned index is the truth;
//! owners and devices that this process cannot make are only there.

mod bytes;
mod objects;
mod plan;

use std::fs::File;
use std::io;

use mica_image::index::{Entry, IndexError};
use mica_image::{LayerIndex, RootDir};

use super::place::{Origin, Placement};
use objects::Writer;
use plan::Plan;

/// Where bytes come from, what need not be made, and what this process may make. Files whose bytes lie in another layer are not written.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// Opens the file behind an [`Origin::Tree`].
    pub open_source: &'a (dyn Fn(&Origin) -> io::Result<File> + Sync),
    /// Tells whether what the rest of the layer lies on shows an entry just as it is: a directory, link or node that need not
    /// be made again. Directories above what is written are made in any case.
    pub shown: &'a (dyn Fn(&Entry) -> bool + Sync),
    /// What becomes of owners.
    pub ownership: Ownership,
    /// What becomes of device nodes.
    pub devices: Devices,
    /// The extended attribute by which the overlay knows a directory that hides what is below.
    pub opaque_attribute: &'a str,
    /// Asked now and then: whether to stop.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> WriteOptions<'a> {
    /// Returns options with which everything is written; device nodes are made where owners are real.
    #[must_use]
    pub fn new(open_source: &'a (dyn Fn(&Origin) -> io::Result<File> + Sync), ownership: Ownership) -> Self {
        let (devices, opaque_attribute) = match ownership {
            Ownership::Real => (Devices::Make, "trusted.overlay.opaque"),
            Ownership::Ignore => (Devices::Record, "user.overlay.opaque"),
        };
        Self { open_source, shown: &|_| false, ownership, devices, opaque_attribute, cancelled: &|| false }
    }
}

/// What becomes of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Files on disk belong to whom they belong in the image.
    Real,
    /// Files on disk are ours, whatever the index says.
    Ignore,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// They are made.
    Make,
    /// They are only in the index.
    Record,
}

/// A placement could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A source cannot be read.
    #[error("cannot read what becomes `{path}`")]
    Source {
        /// The file in the image.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A source is not what it was when it was selected.
    #[error("`{source_name}` changed while it was copied to `{path}`")]
    Changed {
        /// The source.
        source_name: String,
        /// The file in the image.
        path: String,
    },
    /// Something cannot be created in the layer.
    #[error("cannot create `{path}` in the layer")]
    Create {
        /// Its path in the image.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has no bytes anywhere.
    #[error("`{path}` has no content")]
    NoContent {
        /// The file.
        path: String,
    },
    /// The entries make no layer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Writes `placement` into the empty directory `out` and returns the layer's index.
pub fn write(
    placement: Placement,
    out: &RootDir,
    options: &WriteOptions<'_>,
) -> Result<LayerIndex, WriteError> {
    let plan = Plan::new(&placement.entries, options)?;
    let writer = Writer { entries: &placement.entries, plan: &plan, out, options };
    writer.make_directories()?;
    writer.fill_directories()?;
    writer.link_names()?;
    writer.finish_directories()?;
    let mut entries: Vec<Entry> = placement.entries.into_iter().map(|placed| placed.entry).collect();
    // They are collected where the larger values were, and stay for as long as the layer's tar is hashed.
    entries.shrink_to_fit();
    Ok(LayerIndex::from_entries(entries)?)
}
