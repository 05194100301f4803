//! What tests compare with files of `fixtures/`. `UPDATE_GOLDENS=1` writes the expected files anew.

use std::path::{Path, PathBuf};

/// Returns where the fixtures of an area are.
pub(crate) fn fixtures(area: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(area)
}

/// Returns the cases of an area, a directory each.
pub(crate) fn cases(area: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures(area)).expect("the fixtures are there");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("they can be listed").path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Compares with an expected file.
#[track_caller]
pub(crate) fn check(path: &Path, actual: &str) {
    if updating() {
        std::fs::write(path, actual).expect("fixtures can be written");
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == actual, "{} differs; this was made:\n{actual}", path.display());
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether expected files are written anew is for the person at the keyboard"
)]
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDENS").is_some()
}
