//! Steps that failed: what they left is kept for a look, although no image and no record needs it.
//!
//! ```text
//! failures/ab/<hash of the project>   the last failure of one project, sealed; its next one replaces it
//! ```
//!
//! Those of the [`MOST`] projects that failed last are kept. Their layers are layers as any other: a collection that finds a failure
//! unused for too long removes it with all that only it needs.

use std::path::PathBuf;
use std::sync::Arc;

use mica_image::LayerId;
use serde::{Deserialize, Serialize};

use crate::details::DetailId;
use crate::files::{FileError, list_sharded, read_optional, remove_file, sharded, touch};
use crate::sealed::{read_sealed, seal};
use crate::store::{Shared, Store};

/// How many failures are kept.
pub const MOST: usize = 5;

/// How a step left its files when it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in seconds since 1970.
    pub when: i64,
    /// The steps of the build, a detail.
    pub steps: DetailId,
    /// The number of the step among them.
    pub step: u32,
    /// All layers that showing it takes.
    pub layers: Vec<LayerId>,
}

/// The failures of a store.
#[derive(Debug, Clone)]
pub struct FailureStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the failures that are kept.
    #[must_use]
    pub fn failures(&self) -> FailureStore {
        FailureStore { shared: self.shared.clone() }
    }
}

impl FailureStore {
    /// Keeps a failure instead of the project's last one, and returns whether anything was let go for it.
    pub fn keep(&self, project: &str, failure: &Failure) -> Result<bool, FileError> {
        let name = blake3::hash(project.as_bytes()).to_hex();
        let path = sharded(&self.shared.root.join("failures"), name.as_str());
        let replaced = read_optional(&path)?.is_some();
        self.shared.write(&path, &seal(failure))?;
        let mut surplus = self.all()?.into_iter().skip(MOST).peekable();
        let is_full = surplus.peek().is_some();
        surplus.try_for_each(|(path, _)| remove_file(&path))?;
        Ok(replaced || is_full)
    }

    /// Returns the failures that are kept, the newest first.
    pub fn list(&self) -> Result<Vec<Failure>, FileError> {
        Ok(self.all()?.into_iter().map(|(_, failure)| failure).collect())
    }

    /// Keeps a failure that is looked at from a collection for as long as a new one.
    pub fn note_use(&self, failure: &Failure) -> Result<(), FileError> {
        for (path, _) in self.all()?.into_iter().filter(|(_, known)| known == failure) {
            match touch(&path) {
                Err(error) if crate::files::is_absent(&error) => {}
                result => result.map_err(|source| FileError::new("mark as used", &path, source))?,
            }
        }
        Ok(())
    }

    /// Returns the failures with their files, the newest first.
    pub(crate) fn all(&self) -> Result<Vec<(PathBuf, Failure)>, FileError> {
        let mut found = Vec::new();
        for (_, path) in list_sharded(&self.shared.root.join("failures"))? {
            found.extend(read_sealed::<Failure>(&path)?.map(|failure| (path, failure)));
        }
        found.sort_by(|(a_path, a), (b_path, b)| b.when.cmp(&a.when).then_with(|| a_path.cmp(b_path)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::store;

    #[test]
    fn a_project_has_one_failure_and_the_oldest_projects_have_none() {
        let (_home, store) = store();
        let steps = store.details().put(b"steps").unwrap();
        let failure = |when| Failure { when, steps, step: 1, layers: vec![] };
        let failures = store.failures();
        assert!(!failures.keep("a", &failure(1)).unwrap());
        assert!(failures.keep("a", &failure(2)).unwrap());
        for when in 3..=6 {
            assert!(!failures.keep(&format!("project {when}"), &failure(when)).unwrap());
        }
        assert!(failures.keep("b", &failure(7)).unwrap());
        let times: Vec<i64> = failures.list().unwrap().iter().map(|failure| failure.when).collect();
        assert_eq!(times, [7, 6, 5, 4, 3]);
    }
}
