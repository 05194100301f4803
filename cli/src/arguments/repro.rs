//! `mica repro`.

use clap::Args;

use super::build::BuildArguments;

/// `mica repro`.
#[derive(Debug, Args)]
pub(crate) struct ReproArguments {
    /// What is built, as for `mica build`.
    #[command(flatten)]
    pub(crate) build: BuildArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// A part of the work, done by a process of its own.
    #[arg(long, hide = true)]
    pub(crate) task: Option<String>,
}
