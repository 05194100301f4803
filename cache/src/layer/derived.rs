//! Directories made from what the store has: unpacked, written whole, merged. They can be made again at any time.
//!
//! ```text
//! <name>/          the directory
//! <name>.boot      the boot during which it was made
//! <name>.durable   present once it is known to be on the disk
//! ```
//!
//! One of another boot that is not marked durable may lack what was never written: it is made anew.

use std::path::{Path, PathBuf};

use crate::files::{FileError, Placed, read_optional, remove_file, remove_tree, rename_away, rename_new};
use crate::lease::Lease;
use crate::store::Shared;

/// Whether the directory is there and complete.
pub(crate) fn is_ready(shared: &Shared, directory: &Path) -> Result<bool, FileError> {
    if !directory.is_dir() {
        return Ok(false);
    }
    if marker(directory, "durable").exists() {
        return Ok(true);
    }
    let boot = read_optional(&marker(directory, "boot"))?;
    let is_ready = boot.as_deref() == Some(shared.boot.as_bytes());
    if is_ready {
        shared.note_volatile(marker(directory, "durable"));
    }
    Ok(is_ready)
}

/// Renames what was `made` to its place, unless somebody else was faster.
pub(super) fn place(shared: &Shared, lease: &Lease, made: &Path, directory: &Path) -> Result<(), FileError> {
    let away = lease.fresh_path();
    shared.gate.exclusive(|| {
        if is_ready(shared, directory)? {
            return Ok(());
        }
        rename_away(directory, &away)?;
        remove_file(&marker(directory, "durable"))?;
        shared.write(&marker(directory, "boot"), shared.boot.as_bytes())?;
        if rename_new(made, directory)? == Placed::New {
            shared.note_volatile(marker(directory, "durable"));
        }
        Ok::<_, FileError>(())
    })?;
    remove_tree(&away)
}

fn marker(directory: &Path, kind: &str) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".");
    name.push(kind);
    PathBuf::from(name)
}
