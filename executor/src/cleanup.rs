//! Removing mount points that had to be made in the upper directory.
//!
//! The step had the directory to itself in between and may have put a symbolic link anywhere: nothing here follows
//! one, and only what is still as empty as it was made is removed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fstat, futimens,
    openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

use crate::wire::Created;

/// Removes what was made, last first, and gives directories their times back where the step did not change them.
pub(crate) fn remove_created(upper: &Path, created: &[Created]) -> Result<(), Errno> {
    if created.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = openat(CWD, upper, flags, Mode::empty())?;
    created.iter().rev().try_for_each(|one| match remove(&upper, one) {
        // The step has removed or replaced it, or put something in it: then that is its result.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        result => result,
    })
}

fn remove(upper: &OwnedFd, created: &Created) -> Result<(), Errno> {
    let (parent, name) = split(&created.path.0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = openat2(upper, OsStr::from_bytes(parent), flags, Mode::empty(), beneath)?;
    let name = OsStr::from_bytes(name);
    let directory = fstat(&parent)?;
    if created.is_directory {
        unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    } else {
        let file = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(file.st_mode) != FileType::RegularFile || file.st_size != 0 {
            return Ok(());
        }
        unlinkat(&parent, name, AtFlags::empty())?;
    }
    let found = (directory.st_mtime, directory.st_mtime_nsec as i64);
    let untouched = found == created.parent_after;
    set_modified(&parent, if untouched { created.parent_before } else { found })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

fn set_modified(directory: &OwnedFd, (seconds, nanoseconds): (i64, i64)) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    futimens(directory, &times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Bytes;
    use std::os::unix::fs::{MetadataExt, symlink};

    const LONG_AGO: (i64, i64) = (1_000_000_000, 5);

    fn times(path: &Path) -> (i64, i64) {
        let metadata = path.metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    }

    fn made(path: &str, is_directory: bool, parent: &Path) -> Created {
        let path = Bytes(path.as_bytes().to_vec());
        Created { path, is_directory, parent_before: LONG_AGO, parent_after: times(parent) }
    }

    #[test]
    fn empty_mount_points_go_and_times_come_back() {
        let upper = tempfile::tempdir().unwrap();
        let etc = upper.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let first = made("etc", true, upper.path());
        std::fs::write(etc.join("hosts"), "").unwrap();
        let second = made("etc/hosts", false, &etc);
        remove_created(upper.path(), &[first, second]).unwrap();
        assert!(!etc.exists());
        assert_eq!(times(upper.path()), LONG_AGO);
    }

    #[test]
    fn what_the_step_used_stays() {
        let upper = tempfile::tempdir().unwrap();
        let dir = upper.path().join("d");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("f"), "content").unwrap();
        let created = [made("d", true, upper.path()), made("d/f", false, &dir)];
        remove_created(upper.path(), &created).unwrap();
        assert!(dir.join("f").exists());
    }

    #[test]
    fn links_put_in_the_way_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("hosts"), "").unwrap();
        let upper = tempfile::tempdir().unwrap();
        symlink(outside.path(), upper.path().join("etc")).unwrap();
        remove_created(upper.path(), &[made("etc/hosts", false, outside.path())]).unwrap();
        assert!(outside.path().join("hosts").exists());
    }
}
