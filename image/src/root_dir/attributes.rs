//! Owner, mode, times and extended attributes of what is in a [`RootDir`].

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::RootDir;

impl RootDir {
    /// Gives what is at `path` another owner and group.
    pub fn set_owner(&self, path: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the mode of what is at `path`; a symbolic link has none.
    pub fn set_mode(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // There was no chmod that does not follow before Linux 6.6; a descriptor by path cannot be exchanged for a link.
        let found = fs::openat(parent, name, flags, Mode::empty())?;
        Ok(fs::chmod(proc_path(&found, None)?, Mode::from_raw_mode(mode))?)
    }

    /// Sets the modification time of what is at `path`, a symbolic link itself.
    pub fn set_mtime(&self, path: &[u8], seconds: i64, nanoseconds: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::utimensat(parent, name, &only_mtime(seconds, nanoseconds), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets an extended attribute of what is at `path`, a symbolic link itself.
    pub fn set_xattr(&self, path: &[u8], attribute: &[u8], value: &[u8]) -> io::Result<()> {
        let (_parent, leaf) = self.leaf(path)?;
        Ok(fs::lsetxattr(leaf, attribute, value, XattrFlags::empty())?)
    }

    /// Returns an extended attribute of what is at `path`, or `None` when it has no such attribute.
    pub fn xattr(&self, path: &[u8], attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (_parent, leaf) = self.leaf(path)?;
        let found = grow(|buffer| fs::lgetxattr(&leaf, attribute, buffer));
        match found {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Returns the names of the extended attributes of what is at `path`.
    pub fn xattr_names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (_parent, leaf) = self.leaf(path)?;
        let list = match grow(|buffer| fs::llistxattr(&leaf, buffer)) {
            Err(Errno::OPNOTSUPP) => Vec::new(),
            other => other?,
        };
        Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// A path that leads to the last component of `path` and cannot be led elsewhere, while the descriptor with it is open.
    fn leaf(&self, path: &[u8]) -> io::Result<(Arc<OwnedFd>, CString)> {
        let (parent, name) = self.parent(path)?;
        let path = proc_path(&*parent, Some(name))?;
        Ok((parent, path))
    }
}

/// Times that change the modification time alone.
pub(crate) fn only_mtime(seconds: i64, nanoseconds: u32) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

fn proc_path(fd: &impl AsFd, name: Option<&[u8]>) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    Ok(CString::new(path)?)
}

/// Calls `read` with ever larger buffers until the answer fits.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}
