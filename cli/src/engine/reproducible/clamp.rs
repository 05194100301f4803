//! The second that times are clamped to: SOURCE_DATE_EPOCH, else that of the commit the context is at, else the start of 1970.

use std::path::Path;

use mica_executor::{Outside, OutsideCommand};
use serde::Serialize;

use crate::engine::commit::commit_of;

/// What times are clamped to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Clamp {
    /// Seconds since 1970.
    pub(crate) seconds: i64,
    /// Where it comes from.
    pub(crate) from: ClampSource,
}

/// Where a clamp comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClampSource {
    /// SOURCE_DATE_EPOCH.
    SourceDateEpoch,
    /// This commit, which is checked out in the context.
    Commit(String),
    /// The context: an archive's newest file, or a commit that was fetched.
    Context,
    /// Whoever says what the image was made from.
    Provenance,
    /// Nothing: it is the start of 1970.
    Nothing,
}

/// Returns the commit that is checked out around a context directory, with its time.
///
/// Git is asked, outside of any namespace; without it, or without a repository, there is none.
pub(crate) fn commit_time(outside: &Outside, directory: &Path) -> Option<(String, i64)> {
    let commit = commit_of(directory)?;
    let mut argv =
        ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C"].map(str::to_owned).to_vec();
    argv.push(directory.to_str()?.to_owned());
    argv.extend(["--no-pager", "show", "-s", "--format=%ct", "--no-show-signature"].map(str::to_owned));
    argv.push(commit.clone());
    let output = outside.run(&OutsideCommand { argv, ..OutsideCommand::default() }, None).ok()?;
    let seconds = String::from_utf8(output.stdout).ok().filter(|_| output.code == 0)?.trim().parse().ok()?;
    Some((commit, seconds))
}
