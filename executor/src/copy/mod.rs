//! COPY and ADD without a Dockerfile, a graph or a store: what a step takes, where it lands, and how it gets there.
//!
//! ```text
//! source tree ──select──▶ Selection ──place──▶ Placement ──write──▶ layer directory + LayerIndex
//!                            ▲                     ▲
//!  archive, inline, http ────┘   destination tree ─┘
//! ```
//!
//! `select` and `place` are pure: they read trees through [`mica_image::tree::FileTree`] and touch no disk. A selection's
//! digest is the source's share of a cache key; what `place` asks of the destination is the rest of what its result depends on,
//! so it asks for exact paths only and for nothing below a directory that it makes itself.
//!
//! Times: COPY never counts them ([`mica_image::index::TimeKind::Now`], with the source's value); members of archives and
//! downloads with a date carry theirs on purpose ([`mica_image::index::TimeKind::Set`]).

mod archive;
mod members;
mod mode;
mod owner;
mod paths;
mod place;
mod resolve;
mod select;
mod selection;
mod view;
mod workdir;
mod write;

#[cfg(test)]
mod tests;

pub use archive::{ArchiveError, expand_archives};
pub use mode::{Chmod, InvalidMode};
pub use owner::{ContentReader, Owner, OwnerError, resolve_owner};
pub use paths::destination_path;
pub use place::{Origin, PlaceError, PlaceOptions, PlacedEntry, Placement, place};
pub use resolve::ResolveError;
pub use select::{
    BadPattern, Layout, PathMatcher, Patterns, SelectError, SelectRequest, SourcePattern, select,
};
pub use selection::{Content, Item, Listed, Part, Reason, Selection, Shape};
pub use workdir::{WorkdirOptions, workdir};
pub use write::{Devices, Ownership, WriteError, WriteOptions, write};
