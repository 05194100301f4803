//! End to end: the real `mica`, run as a person would run it.
//!
//! Every test has a store, a home and a context of its own in a temporary directory; no network but the loopback device is needed.
//! What needs a sandbox is skipped where the machine has none, and says `SKIPPED: …`; `MICA_REQUIRE_SANDBOX` makes that a failure,
//! `MICA_REQUIRE_PEERS` does so for other tools. As root the tests also build as an ordinary user.
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod attest;
mod blame;
mod build;
mod cache;
mod checks;
mod command_line;
mod contexts;
mod diff;
mod edges;
mod enter;
mod exchange;
mod failures;
mod grants;
mod images;
mod inline_cache;
mod interrupts;
mod language;
mod load;
mod lock;
mod outputs;
mod people;
mod progress;
mod pull;
mod push;
mod repro;
mod reproducible;
mod room;
mod run;
mod sharing;
mod steps;
mod tidy;
mod verify;
mod versions;
mod why;
