//! Arguments of `mica lock`.

use clap::Args;

use super::build::BuildArguments;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  mica lock .                          make mica.lock, or add what it does not have
  mica lock --update .                 look at everything again, and tell what moved
  mica lock --update=debian:12 .       look at one name again
  mica build --locked .                refuse what the lock file does not cover

What changed is printed on standard output, a line each.";

/// `mica lock`.
#[derive(Debug, Args)]
#[command(override_usage = "mica lock [--update[=NAME]] [OPTIONS] PATH")]
pub(crate) struct LockArguments {
    /// The build whose names are locked.
    #[command(flatten)]
    pub(crate) build: BuildArguments,
    /// Look again at what is locked already: at everything, or at this image or address
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) update: Vec<String>,
}

impl LockArguments {
    /// Returns whether everything is looked at again.
    pub(crate) fn updates_all(&self) -> bool {
        self.update.iter().any(String::is_empty)
    }
}
