//! Caches that travel: what a build learned goes to a registry, a directory or a bucket, and another machine's build takes it from there.
//!
//! ```text
//! options      what was asked for: `--cache-to`, `--cache-from`
//! document     what is sent: records and layers in one small document, blobs beside it (docs/cache.md has the format)
//! place        where it lies: registry · directory · bucket, each a store of blobs and of named documents
//! inline       what an image carries in its own config instead
//! import       finds records, promises their layers, brings the bytes that are needed
//! export       sends records and layers
//! mounts       cache mounts, over `mount_tree`, which joins what several writers made of one
//! ```
//!
//! A cache may be wrong, cut short or hostile: everything that comes from one is verified, and what is not what it should be counts as
//! a miss, with one warning. What a record *claims* (this key gave that layer) cannot be verified, so a cache is trusted as a base
//! image is.

mod bucket;
mod directory;
mod document;
mod error;
mod export;
mod import;
mod inline;
mod mount_tree;
mod mounts;
pub(crate) mod options;
mod place;
mod registry;

pub(crate) use error::ExchangeError;
pub(crate) use export::{Learned, export, has_value, portable_parts};
pub(crate) use import::Imports;
pub(crate) use inline::carry;
