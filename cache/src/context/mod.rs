//! The build context: a directory of the host read as a tree, with a cache that makes the second reading cheap.
//!
//! Correctness never rests on the cache: a file's digest is reused only if device, inode, mode, size and both times are what they
//! were *and* the times were old enough when it was hashed that a later change must have changed them (the racy rule of git).
//! Symbolic links are never followed, sockets are left out, owners do not count (all is 0:0) and neither do times.
//!
//! What to leave out (`.dockerignore`) is the caller's: this module knows no patterns.

mod hash;
mod scan;
mod stat_cache;
mod tree;

#[cfg(test)]
mod tests;

pub use scan::{Decision, ScanError, ScanOptions};
pub use tree::ContextTree;
