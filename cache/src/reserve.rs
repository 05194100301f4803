//! A little room that is kept free of everything else, so that a collection can begin where the disk is full.
//!
//! ```text
//! reserve    1 MiB that means nothing
//! ```

use std::fs::{self, File};
use std::io;
use std::path::Path;

use mica_image::fault::{Point, reach};
use rustix::fs::FallocateFlags;

use crate::files::{FileError, remove_file};

/// Its bytes.
pub(crate) const SIZE: u64 = 1 << 20;

/// Makes the reserve, unless it is there. Where there is no room for it there is none to keep.
pub(crate) fn keep(root: &Path) {
    let path = root.join("reserve");
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == SIZE) {
        return;
    }
    if allocate(&path).is_err() {
        // What was not made whole is of no use, and it is tried again next time.
        let _ = remove_file(&path);
    }
}

/// Gives the reserve up; false if there was none.
pub(crate) fn give_up(root: &Path) -> Result<bool, FileError> {
    let path = root.join("reserve");
    let known = path.exists();
    remove_file(&path)?;
    Ok(known)
}

fn allocate(path: &Path) -> io::Result<()> {
    let file = reach(Point::ScratchCreate).and_then(|()| File::create(path))?;
    Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_until_it_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        keep(home.path());
        keep(home.path());
        assert_eq!(fs::metadata(home.path().join("reserve")).unwrap().len(), SIZE);
        assert!(give_up(home.path()).unwrap());
        assert!(!give_up(home.path()).unwrap());
    }
}
