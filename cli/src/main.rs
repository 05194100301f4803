//! `mica`: builds images from Dockerfiles, with one binary, without a daemon and without root.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod configuration;
mod diagnostics;
mod engine;
mod environment;
#[cfg(test)]
mod golden;
mod progress;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The executor starts this very binary again inside each step's namespaces: before anything else, see to that.
    mica_executor::init_stage_if_asked();
    mica_executor::share_one_heap();
    commands::run(&environment::Process)
}
