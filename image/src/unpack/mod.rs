//! Layers as directories: for overlay to mount, or for somebody to look at.
//!
//! [`materialise`] makes a directory of an index, taking files' bytes from wherever they are. [`DirectorySink`] takes them
//! from an archive while that is read, and the rest follows from the index once it is known. Both write into a directory that
//! nothing else uses and in which they meet no symbolic links: those come last. Nothing is synced.
//!
//! Order matters: mode after owner, since a change of owner clears set-id bits; times and attributes of directories last and
//! from the deepest up, since whatever is made in one changes its time.

mod build;
mod copy;
mod sink;

pub use build::{Ownership, UnpackError, UnpackOptions, materialise};
pub use copy::copy_bytes;
pub use sink::DirectorySink;

#[cfg(test)]
mod tests;
