//! The few file operations the store is built from: naming what failed, sharded names, renaming into place, removing trees.
//!
//! Nothing here syncs: a process killed at any point leaves complete files only (a file is written elsewhere and renamed),
//! and power loss is the business of [`crate::Store::sync`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mica_image::fault::{Point, reach};
use rustix::fs::{CWD, RenameFlags};

/// A file operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// Makes the error of doing `action` to `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// Returns the file or directory that could not be worked on.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the operating system's error.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// Returns the way out, where the failure is one a person can mend.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "free some space (`mica prune` removes what no image needs) or choose another store with --root",
            ),
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("the store lies on a read-only file system: choose another with --root or MICA_ROOT")
            }
            io::ErrorKind::PermissionDenied => {
                Some("the store belongs to another user: choose another with --root or MICA_ROOT")
            }
            _ => None,
        }
    }
}

/// Names the action and the path when a result is an error.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError::new(action, path, source))
    }
}

/// Returns `base/ab/abcdef…`: directories of many files are split by the first two digits.
pub(crate) fn sharded(base: &Path, hex: &str) -> PathBuf {
    base.join(&hex[..2]).join(hex)
}

/// Reads a small file whole; `None` when there is none.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match reach(Point::StoreRead).and_then(|()| fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(FileError::new("read", path, error)),
    }
}

/// Reads at most `limit` bytes of a file and tells when it is longer.
pub(crate) fn read_limited(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Whether the error says that there is no such file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Creates a new file for writing that must not exist yet.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    reach(Point::ScratchCreate)?;
    OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)
}

/// How a rename into place went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// What was renamed is now in place.
    New,
    /// Something was there already and was left alone.
    Existed,
}

/// Renames over whatever file is there, making the directory when it is missing.
pub(crate) fn rename_over(from: &Path, to: &Path) -> Result<(), FileError> {
    with_parent(to, || reach(Point::Replace).and_then(|()| fs::rename(from, to)))?.at("rename into place", to)
}

/// Renames a file or directory to a name that must be free, making the directory when it is missing.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<Placed, FileError> {
    placed(with_parent(to, || reach(Point::Place).and_then(|()| rename_noreplace(from, to)))?, to)
}

/// Renames to a place whose directory may be missing, and may be removed by a collection each time it has just been made.
fn with_parent(to: &Path, rename: impl Fn() -> io::Result<()>) -> Result<io::Result<()>, FileError> {
    const TRIES: usize = 100;
    let mut result = rename();
    for _ in 0..TRIES {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_parent(to)?,
            _ => break,
        }
        result = rename();
    }
    Ok(result)
}

fn placed(result: io::Result<()>, to: &Path) -> Result<Placed, FileError> {
    match result {
        Ok(()) => Ok(Placed::New),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) =>
        {
            Ok(Placed::Existed)
        }
        Err(error) => Err(FileError::new("rename into place", to, error)),
    }
}

fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without the flag. A link never replaces; a directory's rename fails on any directory that is not empty,
        // and those of the store never are.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if from.is_dir() => fs::rename(from, to),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

fn make_parent(path: &Path) -> Result<(), FileError> {
    make_directories(path.parent().expect("paths of the store have parents"))
}

/// Makes a directory that must not exist yet.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    reach(Point::DirectoryMake).and_then(|()| fs::create_dir(path)).at("create directory", path)
}

/// Makes a directory with those above it; that it is there already is fine.
pub(crate) fn make_directories(path: &Path) -> Result<(), FileError> {
    reach(Point::DirectoryMake).and_then(|()| fs::create_dir_all(path)).at("create directory", path)
}

/// Renames something to where it can be removed from; false when it is gone already.
pub(crate) fn rename_away(path: &Path, away: &Path) -> Result<bool, FileError> {
    match reach(Point::Remove).and_then(|()| fs::rename(path, away)) {
        Err(error) if is_absent(&error) => Ok(false),
        result => result.at("remove", path).map(|()| true),
    }
}

/// Removes a file; that it is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), FileError> {
    match reach(Point::Remove).and_then(|()| fs::remove_file(path)) {
        Err(error) if is_absent(&error) => Ok(()),
        result => result.at("remove", path),
    }
}

/// Removes a directory unless there is something in it; that it is gone already is fine.
pub(crate) fn remove_empty_directory(path: &Path) -> Result<(), FileError> {
    match reach(Point::Remove).and_then(|()| fs::remove_dir(path)) {
        Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result.at("remove", path),
    }
}

/// Removes a file or directory with all that is in it; that it is gone already is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    match reach(Point::Remove).and_then(|()| remove_any(path)) {
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // An ordinary user may not list or empty directories whose mode forbids it, though they are its own.
            open_modes(path);
            remove_any(path).at("remove", path)
        }
        // A step can nest directories deeper than there are descriptors to walk them.
        Err(_) if path.is_dir() => remove_nested(path).at("remove", path),
        result => result.at("remove", path),
    }
}

/// Empties a directory by moving what is nested to its top, so that no path gets long and no descriptor stays open.
fn remove_nested(top: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    while let Some(entry) = fs::read_dir(top)?.next() {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
            continue;
        }
        for below in fs::read_dir(entry.path())? {
            let below = below?;
            if below.file_type()?.is_dir() {
                let free = loop {
                    moved += 1;
                    let name = top.join(format!("moved-{moved}"));
                    if name.symlink_metadata().is_err() {
                        break name;
                    }
                };
                fs::rename(below.path(), free)?;
            } else {
                fs::remove_file(below.path())?;
            }
        }
        fs::remove_dir(entry.path())?;
    }
    fs::remove_dir(top)
}

fn remove_any(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn open_modes(directory: &Path) {
    // What cannot be opened up makes the removal that follows fail, and that failure is reported.
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_modes(&entry.path());
        }
    }
}

/// Marks a file as used now, by the file system's own time.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    reach(Point::Touch)?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::empty())?)
}

/// Returns the entries of a directory as (name, path); none when it is absent. Names that are not UTF-8 are not ours.
pub(crate) fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, FileError> {
    let entries = match reach(Point::StoreList).and_then(|()| fs::read_dir(directory)) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("list", directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("list", directory)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the entries of all shards below `base`.
pub(crate) fn list_sharded(base: &Path) -> Result<Vec<(String, PathBuf)>, FileError> {
    let mut found = Vec::new();
    for (_, shard) in list(base)? {
        found.extend(list(&shard)?);
    }
    Ok(found)
}

/// Returns how many bytes the files below a path hold; what cannot be looked at counts nothing.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| disk_usage(&entry.path())).sum()
}

/// Returns how many bytes of the disk the files and directories at and below a path take; what cannot be looked at counts nothing.
pub(crate) fn allocated(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    own + fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| allocated(&entry.path()))
        .sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_into_place_while_their_directory_is_removed_again_and_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("place");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // Gone already, or not empty: both are fine.
                    let _ = fs::remove_dir(&directory);
                }
            });
            for number in 0..300 {
                let (from, to) = (home.path().join("from"), directory.join(number.to_string()));
                fs::write(&from, "x").unwrap();
                let renamed = rename_over(&from, &to);
                fs::remove_file(&to).ok();
                if renamed.is_err() {
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                renamed.unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut directory = rustix::fs::open(
            &top,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&directory, "moved-1", rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
            directory = rustix::fs::openat(&directory, "moved-1", flags, rustix::fs::Mode::empty()).unwrap();
        }
        fs::write(top.join("moved-1/file"), "x").unwrap();
        remove_nested(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("a/b/to"));
        fs::write(&from, "first").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap(), Placed::New);
        fs::write(&from, "second").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap(), Placed::Existed);
        assert_eq!(fs::read(&to).unwrap(), b"first");
        rename_over(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"second");
    }

    #[test]
    fn failures_say_the_path_and_the_way_out() {
        let error = FileError::new("write", "/store/x", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.to_string(), "cannot write `/store/x`");
        assert!(error.hint().unwrap().contains("mica prune"));
        let error = FileError::new("write", "/store/x", io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(error.hint().unwrap().contains("--root"));
    }
}
