//! The real `mica`, from outside: what is typed, what is printed, which exit code, what is on disk afterwards.
//!
//! Each test has a home and a store of its own and sees no network. What a machine may lack is probed; without it a test says
//! `skipped: …`, and fails where `MICA_REQUIRE_SANDBOX` is set.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

mod build;
mod checks;
mod command_line;
mod diff;
mod images;
mod run_steps;
mod support;
mod tidy;
mod versions;
