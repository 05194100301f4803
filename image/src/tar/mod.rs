//! Layers as tars: the one tar mica writes for a layer, and whatever tars others wrote.
//!
//! [`write_layer`] gives the same bytes for the same index everywhere, so a layer's tar need not be kept: its digest, the
//! [`DiffId`](crate::DiffId), comes from writing it to [`DiffIdWriter`]. The dialect is fixed; a change is a new format version:
//!
//! * ustar headers without user and group names, times in whole seconds, directories with a trailing slash; the root is left out.
//! * What a ustar header cannot hold is in PAX records, sorted by key, in one extended header before the entry: `path`,
//!   `linkpath`, `uid`, `gid`, `size`, `mtime`, `SCHILY.xattr.*`. Access and change times never; no sparse files.
//! * Entries in index order, but an opaque marker and then the removals of a directory come before all else in it.
//! * Hard links repeat mode, owner and time of their first name. Removals and markers have mode, owner and time 0.
//! * Two blocks of zeros at the end, and no padding after them.
//!
//! [`read_layer`] reads a tar of any dialect into an index, without trusting it.

mod diff_id;
mod error;
mod extension;
mod header;
mod member;
mod placement;
mod read;
mod remainder;
mod sparse;
mod spool;
mod write;

pub use diff_id::{DiffIdReader, DiffIdWriter, diff_id};
pub use error::TarError;
pub use member::{Member, MemberKind, TarReader};
pub use read::{IndexOnly, LayerSink, Removals, TarLimits, read_layer};
pub use remainder::Remainder;
pub use spool::Spool;
pub use write::{TarOptions, WriteTarError, write_layer};

#[cfg(test)]
mod tests;
