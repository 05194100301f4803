//! WORKDIR: the directory exists before anything runs in it.

use mica_image::index::{Time, TimeKind};
use mica_image::tree::FileTree;

use super::owner::Owner;
use super::place::{PlaceError, Placement};
use super::view::{NewDirectory, View};

/// How a working directory is made.
#[derive(Debug, Clone, Copy)]
pub struct WorkdirOptions {
    /// The owner of the directories that have to be made: the stage's user.
    pub owner: Owner,
    /// Their time, in seconds and nanoseconds.
    pub now: (i64, u32),
}

/// Makes the directory `path` and those above it that are missing; empty where it exists.
pub fn workdir(
    path: &[u8],
    destination: &dyn FileTree,
    options: &WorkdirOptions,
) -> Result<Placement, PlaceError> {
    let (seconds, nanoseconds) = options.now;
    let mtime = Time { seconds, nanoseconds, kind: TimeKind::Now };
    let mut view = View::new(destination);
    let resolved = view.resolve(path)?;
    view.make_directories(&resolved, &NewDirectory { mode: 0o755, owner: options.owner, mtime })?;
    Ok(Placement::from_view(view))
}
