//! What every build did and the complete output of its steps, kept for a look after the build.
//!
//! ```text
//! <store>/builds/<seconds>-<process id>/<step>.log
//! <store>/builds/<seconds>-<process id>/report.json
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mica_image::fault::{Point, reach};
use mica_solver::StepId;

use super::build_record::{BuildRecord, FILE};

/// How many builds' logs are kept.
const KEPT_BUILDS: usize = 100;

/// The log directory of one build, made when the first step writes.
#[derive(Debug, Clone)]
pub(crate) struct BuildLog {
    directory: PathBuf,
    started: i64,
}

impl BuildLog {
    /// Names the log directory of a build that starts at `seconds`.
    pub(crate) fn new(store: &Path, seconds: i64) -> Self {
        let name = format!("{seconds}-{}", std::process::id());
        Self { directory: store.join("builds").join(name), started: seconds }
    }

    /// Returns when the build began, in seconds since 1970.
    pub(crate) fn started(&self) -> i64 {
        self.started
    }

    /// Opens a step's log.
    pub(crate) fn step_file(&self, step: StepId) -> io::Result<(File, PathBuf)> {
        self.make()?;
        let path = self.directory.join(format!("{}.log", step.0 + 1));
        let file = reach(Point::LogWrite).and_then(|()| File::create(&path))?;
        Ok((file, path))
    }

    /// Writes what the build did; a build whose report cannot be written is none the worse.
    pub(crate) fn write_report(&self, report: &BuildRecord) {
        let bytes = serde_json::to_vec(report).expect("a report has text keys");
        if self.make().is_ok() {
            // A report that cannot be written (a full disk) is not there.
            let _ = reach(Point::LogWrite).and_then(|()| fs::write(self.directory.join(FILE), bytes));
        }
    }

    /// Returns where the logs are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn make(&self) -> io::Result<()> {
        if !self.directory.exists() {
            reach(Point::LogWrite).and_then(|()| fs::create_dir_all(&self.directory))?;
            self.directory.parent().into_iter().for_each(forget_oldest);
        }
        Ok(())
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
        let _ = reach(Point::Remove).and_then(|()| fs::remove_dir_all(path));
    }
}
