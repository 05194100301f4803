//! The complete output of every step of every build, kept for a look after the build.
//!
//! ```text
//! <store>/builds/<seconds>-<process id>/<step>.log
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mica_solver::StepId;

/// How many builds' logs are kept.
const KEPT_BUILDS: usize = 100;

/// The log directory of one build, made when the first step writes.
#[derive(Debug, Clone)]
pub(crate) struct BuildLog {
    directory: PathBuf,
}

impl BuildLog {
    /// Names the log directory of a build that starts at `seconds`.
    pub(crate) fn new(store: &Path, seconds: i64) -> Self {
        Self { directory: store.join("builds").join(format!("{seconds}-{}", std::process::id())) }
    }

    /// Opens a step's log, or nothing when it cannot be written: then the build goes on without.
    pub(crate) fn step_file(&self, step: StepId) -> Option<(File, PathBuf)> {
        if !self.directory.exists() {
            fs::create_dir_all(&self.directory).ok()?;
            forget_oldest(self.directory.parent()?);
        }
        let path = self.directory.join(format!("{}.log", step.0 + 1));
        File::create(&path).ok().map(|file| (file, path))
    }
}

/// Removes the logs of the oldest builds; names sort by time.
fn forget_oldest(builds: &Path) {
    let Ok(entries) = fs::read_dir(builds) else { return };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    let surplus = paths.len().saturating_sub(KEPT_BUILDS);
    for path in &paths[..surplus] {
        // Another build may remove the same one at this moment; what stays is removed next time.
        let _ = fs::remove_dir_all(path);
    }
}
