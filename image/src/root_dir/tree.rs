//! Whole directories: listing them, making the ones above a path, removing all of one.

use std::io;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Links, RootDir};
use crate::index::parent;
use crate::tree::join;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: FileType,
}

impl RootDir {
    /// Returns what is in the directory `path`, sorted by the bytes of the names.
    pub fn list(&self, path: &[u8]) -> io::Result<Vec<DirEntry>> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        // Not `read_from`, which opens the directory again and so asks for more than permission to read it.
        let mut dir = Dir::new(fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = fs::statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            entries.push(DirEntry { name: name.to_vec(), kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Creates the directory `path` and those above it where they are missing.
    pub fn create_dirs(&self, path: &[u8], mode: u32) -> io::Result<()> {
        match self.create_dir(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {
                self.create_dirs(parent(path), mode)?;
                self.create_dir(path, mode)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).map(drop)
            }
            other => other,
        }
    }

    /// Removes what is at `path` with all that is in it; nothing there is fine.
    pub fn remove_all(&self, path: &[u8]) -> io::Result<()> {
        let found = match self.stat(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let (parent, name) = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inside = Self::from_fd(fs::openat(parent, name, flags, Mode::empty())?, Links::Refused);
            for entry in inside.list(b"")? {
                inside.remove_all(&join(b"", &entry.name))?;
            }
        }
        match self.remove(path) {
            // Somebody else was quicker, to the same end.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            other => other,
        }
    }
}
