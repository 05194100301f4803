//! What mica withstands: archives and images made to harm, full disks, power cuts.
//!
//! The real `mica` is run; what a machine may lack is probed, and without it a test says `SKIPPED: …` or, where
//! `MICA_REQUIRE_SANDBOX` is set, fails. The long runs beside this directory's tests are scripts that take a time.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud, wherever that is")]

mod bench;
mod hostile_archives;
mod hostile_bases;
mod hostile_images;
mod raw_tar;
