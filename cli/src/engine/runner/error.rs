//! What can go wrong in a step.

use std::io;
use std::path::PathBuf;

use mica_executor::copy::{ArchiveError, InvalidMode, OwnerError, PlaceError, SelectError, WriteError};
use mica_executor::{ExitStatus, SandboxError};
use mica_image::Platform;
use mica_solver::Step;

use crate::engine::bases::BaseError;
use crate::engine::context::ContextError;

/// What programs print where the disk is full: what a step writes lies in the store.
const NO_SPACE: &str = "No space left on device";

/// What to do where the disk is full.
pub(crate) const FREE_SPACE: &str =
    "free some space: `mica prune` removes what no kept version needs, `mica du` tells what there is";

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A command ended with something else than 0.
    #[error("process \"{command}\" did not complete successfully: {status}")]
    Command {
        /// Its arguments, joined.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        tail: Vec<String>,
        /// Where all of its output is.
        log: Option<PathBuf>,
    },
    /// A source path is not there, or cannot be taken.
    #[error("{instruction}: {error}")]
    Select {
        instruction: String,
        #[source]
        error: SelectError,
    },
    /// Something cannot be placed where it should go.
    #[error("{instruction}: {error}")]
    Place {
        instruction: String,
        #[source]
        error: PlaceError,
    },
    /// Files could not be written.
    #[error("{instruction}: {error}")]
    Write {
        instruction: String,
        #[source]
        error: WriteError,
    },
    /// `--chown` or USER could not be looked up.
    #[error("{instruction}: {error}")]
    Owner {
        instruction: String,
        #[source]
        error: OwnerError,
    },
    /// `--chmod` is no mode.
    #[error("{instruction}: {error}")]
    Mode {
        instruction: String,
        #[source]
        error: InvalidMode,
    },
    /// An archive could not be unpacked.
    #[error("{instruction}: {error}")]
    Archive {
        instruction: String,
        #[source]
        error: ArchiveError,
    },
    /// A file could not be read.
    #[error("{instruction}: cannot read `{path}`")]
    Read {
        instruction: String,
        path: String,
        #[source]
        error: io::Error,
    },
    /// A secret or ssh agent that must be there was not given.
    #[error("{instruction}: {what} `{id}` is required but was not given")]
    Missing { instruction: String, what: &'static str, id: String, help: String },
    /// A mount cannot be made.
    #[error("{instruction}: {reason}")]
    Mount { instruction: String, reason: String },
    /// The sandbox failed.
    #[error("{instruction}: {error}")]
    Sandbox {
        instruction: String,
        #[source]
        error: SandboxError,
    },
    /// A program for another architecture could not be executed.
    #[error("{instruction}: {error}; the step is for {platform}, and no emulator for it is registered here")]
    Foreign {
        instruction: String,
        platform: Box<Platform>,
        #[source]
        error: SandboxError,
    },
    /// A source of files could not be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A base image could not be had.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A record or detail could not be read or written.
    #[error(transparent)]
    File(#[from] mica_cache::FileError),
    /// A layer could not be read or stored.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// A tree could not be read.
    #[error(transparent)]
    Tree(#[from] mica_image::tree::TreeError),
    /// The step's lock could not be taken.
    #[error(transparent)]
    Lock(#[from] mica_cache::LockError),
    /// The build is being canceled.
    #[error("canceled")]
    Canceled,
}

impl StepError {
    pub(super) fn select(step: &Step, error: SelectError) -> Self {
        Self::Select { instruction: instruction(step), error }
    }

    pub(super) fn place(step: &Step, error: PlaceError) -> Self {
        Self::Place { instruction: instruction(step), error }
    }

    pub(super) fn write(step: &Step, error: WriteError) -> Self {
        Self::Write { instruction: instruction(step), error }
    }

    pub(super) fn owner(step: &Step, error: OwnerError) -> Self {
        Self::Owner { instruction: instruction(step), error }
    }

    pub(super) fn mode(step: &Step, error: InvalidMode) -> Self {
        Self::Mode { instruction: instruction(step), error }
    }

    pub(super) fn archive(step: &Step, error: ArchiveError) -> Self {
        Self::Archive { instruction: instruction(step), error }
    }

    pub(super) fn read(step: &Step, path: &[u8], error: io::Error) -> Self {
        Self::Read { instruction: instruction(step), path: String::from_utf8_lossy(path).into_owned(), error }
    }

    pub(super) fn missing(step: &Step, what: &'static str, id: &str, help: String) -> Self {
        Self::Missing { instruction: instruction(step), what, id: id.to_owned(), help }
    }

    pub(super) fn mount(step: &Step, reason: impl Into<String>) -> Self {
        Self::Mount { instruction: instruction(step), reason: reason.into() }
    }

    pub(super) fn sandbox(step: &Step, error: SandboxError) -> Self {
        let instruction = instruction(step);
        if matches!(error, SandboxError::Execute { is_foreign: true, .. })
            && !Platform::host().runs(&step.platform)
        {
            return Self::Foreign { instruction, platform: Box::new(step.platform.clone()), error };
        }
        Self::Sandbox { instruction, error }
    }

    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { help, .. } => Some(help.clone()),
            Self::Base(error) => error.hint(),
            Self::Foreign { .. } => Some(
                "register one with binfmt_misc, as the packages qemu-user-static and binfmt-support do (it needs the flag F); \
                 or let the step run on this machine's platform: `FROM --platform=$BUILDPLATFORM …`"
                    .to_owned(),
            ),
            Self::File(error) => error.hint().map(str::to_owned),
            Self::Command { tail, .. } if tail.iter().any(|line| line.contains(NO_SPACE)) => {
                Some(FREE_SPACE.to_owned())
            }
            _ => None,
        }
    }
}

/// The instruction of a step as its name shows it, without the `[stage 2/5]` before it.
fn instruction(step: &Step) -> String {
    step.name.split_once("] ").map_or(step.name.as_str(), |(_, instruction)| instruction).to_owned()
}
