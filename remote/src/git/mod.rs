//! Git repositories as sources, by driving the `git` program.
//!
//! ```text
//! url       text to GitUrl, by the rules of the reference builder
//! command   one run of git: arguments, the whole environment, who runs it
//! resolve   a branch, tag or nothing to a commit
//! checkout  a commit to a directory
//! ```
//!
//! Nothing the user or a repository wrote can become an option, a hook or a program: references are checked, `--` ends
//! options, and git reads no configuration but what is given here.

mod checkout;
mod command;
mod resolve;
#[cfg(test)]
mod tests;
mod url;

pub use checkout::{Checkout, CheckoutOptions};
pub use command::{Command, CommandOutput, CommandRunner, GitEnvironment, ProcessRunner};
pub use resolve::ResolvedCommit;
pub use url::{CommitTimes, GitUrl, GitUrlUse, InvalidGitUrl, parse_git_url};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Drives git.
#[derive(Clone)]
pub struct Git {
    environment: GitEnvironment,
    runner: Arc<dyn CommandRunner>,
}

/// A repository that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program could not be run.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("git cannot {action} {remote}: {message}")]
    Failed {
        /// What it should do.
        action: &'static str,
        /// The repository, without user and password.
        remote: String,
        /// What git said.
        message: String,
    },
    /// The repository has no such branch or tag.
    #[error("the repository {remote} has no branch or tag `{reference}`")]
    NoSuchReference {
        /// The repository, without user and password.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// The repository has no default branch.
    #[error("the repository {remote} has no default branch")]
    NoDefaultBranch {
        /// The repository, without user and password.
        remote: String,
    },
    /// A reference would be taken for an option or is none.
    #[error("`{reference}` is not a valid git reference")]
    Reference {
        /// As it was given.
        reference: String,
    },
    /// The checksum is not a commit, or only part of one where all of it is needed.
    #[error("`{checksum}` is not a {}commit", if *.full { "full " } else { "" })]
    Checksum {
        /// As it was given.
        checksum: String,
        /// Whether all digits are needed.
        full: bool,
    },
    /// The reference is another commit than was said.
    #[error("expected checksum to match {expected}, but {reference} of {remote} is {}", actual.join(" or "))]
    Mismatch {
        /// The repository, without user and password.
        remote: String,
        /// The reference.
        reference: String,
        /// What was said.
        expected: String,
        /// What it is.
        actual: Vec<String>,
    },
    /// Git's answer cannot be understood.
    #[error("git gave an answer about {remote} that makes no sense")]
    Answer {
        /// The repository, without user and password.
        remote: String,
    },
    /// There is no such directory in the repository.
    #[error("the repository {remote} has no directory `{subdir}`")]
    Subdir {
        /// The repository, without user and password.
        remote: String,
        /// The directory that was asked for.
        subdir: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the checkout could not be handled.
    #[error("cannot prepare {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Git {
    /// Drives git in `environment`, with `runner` running it.
    #[must_use]
    pub fn new(environment: GitEnvironment, runner: Arc<dyn CommandRunner>) -> Self {
        Self { environment, runner }
    }
}

/// Whether a text is a full commit id.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
