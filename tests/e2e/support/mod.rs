//! What the tests share: a place to run the real `mica` in, archives and images to hand to it and to read back, a registry.
//!
//! Nothing here uses mica's own crates: what mica writes is read by other code than its own.

mod archive;
mod bench;
mod git;
mod image;
mod layout;
mod person;
mod process;
mod registry;
mod requirement;

pub(crate) use archive::{Entry, directory, file, gzip, hard_link, symlink, tar};
pub(crate) use bench::{Bench, Ran};
pub(crate) use git::{GitDaemon, git};
pub(crate) use image::{Image, digest};
pub(crate) use layout::Layout;
pub(crate) use person::Person;
pub(crate) use process::{Running, files_holding, processes_saying, reading_as_owner, wait_until};
pub(crate) use registry::{Access, Fault, Registry};
pub(crate) use requirement::{has_peer, run_peer, skip};
