//! Trees of files as the rest of mica reads them: a context, or layers merged from the base up.
//!
//! COPY and ADD, their cache conditions, diffs and exports all read trees through [`FileTree`] and never touch a disk.
//! [`MergedTree`] shows layers as one tree, [`resolve()`] follows symbolic links inside a tree, and [`RecordingTree`] notes
//! what somebody asked of a tree, so that the answer can be used again while [`holds`] says that all of it still is so.

mod collect;
mod file_tree;
mod merge;
mod merged;
mod recording;
mod resolve;

pub use file_tree::{FileTree, Tree, TreeEntry, TreeError, TreeLayer, join};
pub use merged::MergedTree;
pub use recording::{Fact, Observed, RecordingTree, first_broken, holds};
pub use resolve::{FollowLast, ResolveError, Resolved, resolve};

#[cfg(test)]
mod model;
