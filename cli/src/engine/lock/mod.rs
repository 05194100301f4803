//! `mica.lock`: what the names in a Dockerfile stood for when somebody looked, so that they stand for it the next time.
//!
//! ```text
//! file    the document: images by digest, downloads by checksum, repositories by commit
//! place   where it lies, and reading it
//! cover   what of a plan it does not cover
//! make    `mica lock`: keeping, adding, moving entries
//! ```
//!
//! A lock decides what is fetched and nothing else: keys are made of content, so no key has the lock in it, and a lock that names
//! what was used before changes nothing. What names its content itself (a digest, `--checksum`, a whole commit id) is no affair of
//! the lock's.

mod cover;
mod file;
mod make;
mod place;

pub(crate) use cover::{not_locked, uncovered_image, uncovered_name, uncovered_source};
pub(crate) use file::{LockFile, LockedCheckout, LockedDownload, LockedImage, bare_url};
pub(crate) use make::{Change, LockReport, LockRequest, MakeLockError};
pub(crate) use place::{Lock, LockError, find};
