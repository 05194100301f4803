//! Why a build failed.

use std::path::PathBuf;

use mica_parser::diagnostic::Diagnostic;
use mica_solver::Step;

use super::attest::say::SayError;
use super::bases::BaseError;
use super::context::{ContextError, DockerfileText};
use super::exchange::ExchangeError;
use super::lock::LockError;
use super::output::OutputError;
use super::runner::StepError;

/// A build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The Dockerfile has mistakes.
    #[error("the Dockerfile has mistakes")]
    Diagnostics {
        /// All of them, warnings included.
        diagnostics: Vec<Diagnostic>,
        /// The file.
        dockerfile: DockerfileText,
    },
    /// A step failed.
    #[error("{error}")]
    Step {
        /// Its name and place.
        step: Box<Step>,
        /// The file, for showing the line.
        dockerfile: DockerfileText,
        /// Why.
        #[source]
        error: StepError,
        /// Whether what it left is kept, to be entered.
        kept: bool,
    },
    /// The context or Dockerfile could not be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A base image could not be had.
    #[error("{error}")]
    Base {
        /// Where the Dockerfile asks for it.
        diagnostic: Box<Diagnostic>,
        /// The file.
        dockerfile: DockerfileText,
        /// Why.
        #[source]
        error: BaseError,
    },
    /// An image could not be stored.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// A blob could not be stored.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// Nothing could be said of an image.
    #[error(transparent)]
    Say(#[from] SayError),
    /// An output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A cache could not be exported.
    #[error("cannot write the cache `{cache}`")]
    Cache {
        /// Where to.
        cache: String,
        /// Why.
        #[source]
        source: ExchangeError,
    },
    /// A root file system could not be imported.
    #[error("cannot import `{}`", path.display())]
    Import {
        /// The tar.
        path: PathBuf,
        /// Why.
        #[source]
        source: super::import::ImportError,
    },
    /// The build was interrupted.
    #[error("the build was canceled")]
    Canceled,
    /// A bug.
    #[error("a step's task panicked: {0}")]
    Panicked(String),
}

impl BuildError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Step { error, kept, .. } => {
                error.hint().or_else(|| kept.then(|| "`mica enter` opens a shell where it failed".to_owned()))
            }
            Self::Base { error, .. } => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Layer(error) => error.hint().map(str::to_owned),
            Self::Output(error) => error.hint(),
            Self::Cache { source, .. } => source.hint(),
            _ => None,
        }
    }
}
