//! The commands of `mica` and the options all of them take.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::build::BuildArguments;
use super::enter::EnterArguments;
use super::fsck::FsckArguments;
use super::history::{
    BlameArguments, DiffArguments, HistoryArguments, LogArguments, PlanArguments, PruneArguments,
    RollbackArguments, SizeArguments, UsageArguments, WhyArguments,
};
use super::image_index::ImageCommand;
use super::images::{
    CompletionArguments, ImagesArguments, ImportArguments, InspectArguments, LoadArguments, ParseArguments,
    PullArguments, RemoveArguments, SaveArguments, TagArguments,
};
use super::lock::LockArguments;
use super::push::{LoginArguments, LogoutArguments, PushArguments};
use super::repro::ReproArguments;
use super::run::RunArguments;
use super::verify::{AttestArguments, VerifyArguments};
use crate::environment::Environment;

const EXAMPLES: &str = "\
Examples:
  mica build -t app .                        build ./Dockerfile, name the image `app`
  mica run --rm app                          run it
  mica build -o type=docker,dest=app.tar .   write an archive for `docker load`
  mica build --check .                       look for mistakes, build nothing
  mica images                                list what was built, loaded and pulled

No daemon and no root are needed. `mica doctor` tells what this machine allows.
`mica help COMMAND` explains a command.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "mica",
    bin_name = "mica",
    version,
    about = "Build OCI images from Dockerfiles: one binary, no daemon, no root",
    after_help = EXAMPLES,
    arg_required_else_help = true,
    max_term_width = 100,
    disable_help_subcommand = false
)]
pub(crate) struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalOptions {
    /// Keep images, layers and records below DIR [env: MICA_ROOT] [default: /var/lib/mica as root, otherwise
    /// ~/.local/share/mica]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    root: Option<PathBuf>,
    /// Tell more of what is decided and why (repeat for more still)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
}

impl GlobalOptions {
    /// Returns where the store is to be: `--root`, then `MICA_ROOT`; `None` means the default place.
    pub(crate) fn root(&self, environment: &dyn Environment) -> Option<PathBuf> {
        let variable = || environment.var("MICA_ROOT").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.root.clone().or_else(variable)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    #[command(visible_alias = "b")]
    Build(Box<BuildArguments>),
    /// Run a command in an image, in the foreground
    Run(RunArguments),
    /// List the images in the store
    #[command(visible_alias = "ls")]
    Images(ImagesArguments),
    /// Show an image's configuration and layers as JSON
    Inspect(InspectArguments),
    /// Give an image another name
    Tag(TagArguments),
    /// Remove names, and images that have no other name
    Rmi(RemoveArguments),
    /// Fetch an image from a registry
    Pull(PullArguments),
    /// Send an image to a registry
    Push(PushArguments),
    /// Work with images in registries
    #[command(subcommand)]
    Image(ImageCommand),
    /// Keep credentials for a registry, as `docker login` does
    Login(LoginArguments),
    /// Forget the credentials for a registry
    Logout(LogoutArguments),
    /// Read an image from a docker archive or OCI layout
    Load(LoadArguments),
    /// Write an image as a docker archive or OCI layout
    Save(SaveArguments),
    /// Make an image of one layer from a tar of a root file system
    Import(ImportArguments),
    /// Tell what the last build did with each step, and why
    Why(WhyArguments),
    /// Tell what a build would do with each step, and run nothing
    Plan(Box<PlanArguments>),
    /// Hold the names in a Dockerfile to what they stand for now
    #[command(after_help = super::lock::EXAMPLES)]
    Lock(Box<LockArguments>),
    /// Sign what is said of an image
    #[command(after_help = super::verify::ATTEST_EXAMPLES)]
    Attest(AttestArguments),
    /// Tell whether an image is what somebody vouches for, or what its sources give
    #[command(after_help = super::verify::VERIFY_EXAMPLES)]
    Verify(Box<VerifyArguments>),
    /// Open a shell where a step of the last build failed, or before or after any of its steps
    Enter(EnterArguments),
    /// Build twice under other conditions, and tell why what is made differs
    #[command(after_help = "Exit codes: 0 the same bytes, 1 others, 2 that could not be told.")]
    Repro(Box<ReproArguments>),
    /// Show the versions of a name: when, from what, and what changed
    Log(LogArguments),
    /// Make an earlier version of a name the newest again
    Rollback(RollbackArguments),
    /// Show how an image was made: each instruction with its line, size and age
    History(HistoryArguments),
    /// Show what is different between two images: files, configuration, sizes
    #[command(after_help = "Exit codes: 0 nothing is different, 1 something is, 2 that could not be told.")]
    Diff(DiffArguments),
    /// Tell which line put a file into an image, and from what
    Blame(BlameArguments),
    /// Tell where the bytes of an image are, and which could be saved
    Size(SizeArguments),
    /// Remove old versions, and what is cached and not used any more
    Prune(PruneArguments),
    /// Tell how much room the store takes, and for what
    Du(UsageArguments),
    /// Tell what this kernel and user allow, and how to mend what is missing
    Doctor,
    /// Verify every digest in the store, and say what is wrong
    Fsck(FsckArguments),
    /// Look at a build's context
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a completion script for a shell
    Completion(CompletionArguments),
    /// Tools for people who work on mica
    #[command(subcommand, hide = true)]
    Debug(DebugCommand),
}

/// Commands about contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the files a build can see, and say which rule of `.dockerignore` dropped the others
    Ls {
        /// The context directory
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The Dockerfile, whose own ignore file counts instead of the context's
        #[arg(short, long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
}

/// Commands for people who work on mica.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Print what the parser makes of each file, one JSON object per line
    Parse(ParseArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::arguments::values::tests::Fake;

    fn parse(words: &[&str]) -> CommandLine {
        CommandLine::try_parse_from([&["mica"], words].concat()).unwrap()
    }

    #[test]
    fn declarations_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_root_option_beats_the_variable() {
        let environment = Fake::with(&[("MICA_ROOT", "/from/env")]);
        assert_eq!(parse(&["images"]).global.root(&environment), Some("/from/env".into()));
        assert_eq!(parse(&["images", "--root", "/r"]).global.root(&environment), Some("/r".into()));
        assert_eq!(parse(&["--root=/r", "images"]).global.root(&environment), Some("/r".into()));
        assert_eq!(parse(&["images"]).global.root(&Fake::with(&[("MICA_ROOT", "")])), None);
    }

    #[test]
    fn unknown_flags_name_the_nearest() {
        let error = CommandLine::try_parse_from(["mica", "build", "--taget", "x", "."]).unwrap_err();
        assert!(error.to_string().contains("'--target'"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = CommandLine::try_parse_from(["mica", "biuld"]).unwrap_err();
        assert!(error.to_string().contains("'build'"), "{error}");
    }

    #[test]
    fn every_visible_command_has_help() {
        for command in CommandLine::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
