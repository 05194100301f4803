//! Layers: an index plus a directory of the objects the layer brings itself.
//!
//! A layer is named by what it contains, so the second one with the same content is dropped and the first, with its times and its
//! diff id, is kept: later steps and the image do not change. Bytes of files may lie in other layers ([`mica_image::index::Bytes`]),
//! at most [`MAX_HOLDERS`] of them, which are kept as long as the layer is.
//!
//! `files/` of a layer made here holds every entry of its index, except files whose bytes lie elsewhere, hard links to them and
//! objects nothing else needs because another layer shows them: [`view`] looks at what is really there before it relies on it.

mod bytes;
mod commit;
mod derived;
mod error;
mod flatten;
mod held;
mod import;
mod meta;
mod mount;
mod mounted;
mod promise;
mod search;
mod snapshot;
mod store;
mod unpacking;
mod upper;
mod view;
mod write;

pub use bytes::LayerReader;
pub use commit::{Committed, Scratch};
pub use error::LayerError;
pub use flatten::MAX_HOLDERS;
pub use held::{Place, Wanted};
pub use import::ImportedBlob;
pub use meta::{CompressedBlob, Instance, LayerKind, LayerMeta};
pub use promise::{Promise, Supplier};
pub use snapshot::{FsTime, Snapshot, StepWindow};
pub use store::{Layer, LayerStore};
pub use unpacking::Unpacking;
pub use upper::{LeftOut, UpperError, Written};

pub(crate) use derived::is_ready as is_derived_ready;
pub(crate) use meta::{layer_directory, needed_by, read_meta};
pub(crate) use store::{Held, hold};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upper_tests;
