//! The layer index: every entry of one layer, with everything about it but its bytes.
//!
//! An index is a sorted list of [`Entry`]s. Paths are relative, without a leading slash, `""` is the root directory itself.
//! They are ordered component by component (as if `/` were the lowest byte), so a directory comes before what is in it and
//! every subtree is one contiguous run.
//!
//! [`LayerIndex::layer_id`] hashes what a layer *means*: it covers path, kind, mode, owner, extended attributes, size, link
//! target, content digest and the times that were set on purpose ([`TimeKind::Set`]); it does not cover times that merely say
//! “made now” ([`TimeKind::Now`]) nor where the bytes lie ([`Bytes`]).
//!
//! In memory an index is a [`LayerIndex`], on disk an [`IndexFile`]; [`LayerLookup`] is what both answer.

mod encoding;
mod entry;
mod file;
mod files;
mod layer;
mod layer_id;
mod lookup;
mod path;
mod tables;

pub use entry::{Bytes, Entry, LayerPath, Node, Time, TimeKind};
pub use file::IndexFile;
pub use files::{RawFile, RawIndex};
pub use layer::{IndexError, LayerIndex};
pub use lookup::{Child, LayerLookup, Lookup};
pub(crate) use path::shown;
pub use path::{belongs_to_image, compare_paths, is_below, name, parent};

#[cfg(test)]
pub(crate) mod testing;
