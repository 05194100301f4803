//! A directory whose methods never leave it, whatever the paths they get or the links they meet.
//!
//! Every path that comes from a Dockerfile, a context or a layer is opened through a [`RootDir`]. The kernel resolves it
//! (`openat2`); where it is too old, `steps` does, one component after the other. The last component is never followed, but by [`RootDir::open_dir`].
//!
//! There are two ways to treat symbolic links before the last component: [`Links::Inside`] follows them as a process would whose
//! root this directory is; [`Links::Refused`] is for trees mica writes itself, where there are none.
//!
//! Extended attributes are reached by `/proc/self/fd`, since the kernel had no other way that does not follow a last link.

mod attributes;
mod steps;
mod tree;

pub use tree::DirEntry;

pub(crate) use attributes::only_mtime;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::fault::{Point, reach};

/// A directory that is never left.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    links: Links,
    /// The directory last looked for, since neighbours come together.
    last: Mutex<Option<(Vec<u8>, Arc<OwnedFd>)>>,
    /// Whether the kernel lacks `openat2`.
    is_stepping: AtomicBool,
}

/// What happens to symbolic links before the last component of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed, and absolute ones and `..` stay inside.
    Inside,
    /// They are an error, as is a `..` that leads out.
    Refused,
}

impl RootDir {
    /// Opens the directory at `path`, whose own links are followed as usual.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(fs::open(path, flags, Mode::empty())?, links))
    }

    /// Takes an open directory.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, links: Links) -> Self {
        Self { fd, links, last: Mutex::default(), is_stepping: AtomicBool::new(false) }
    }

    /// Returns a second handle of the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_fd(self.fd.try_clone()?, self.links))
    }

    /// Opens the directory `path` as a root of its own: nothing below it leads out of *it*.
    pub fn open_dir(&self, path: &[u8]) -> io::Result<Self> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self::from_fd(fd, self.links))
    }

    /// Opens the regular file `path` for reading; a link there is an error.
    pub fn open_file(&self, path: &[u8]) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        // Without NONBLOCK a named pipe in a file's place would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = fs::openat(parent, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    /// Opens the regular file that `path` is, or that it leads to as a link, for reading.
    pub fn open_linked_file(&self, path: &[u8]) -> io::Result<File> {
        const MOST_LINKS: usize = 40;
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            let link = match self.links {
                Links::Inside => self.read_link(&path).ok(),
                Links::Refused => None,
            };
            let Some(target) = link else { return self.open_file(&path) };
            let directory = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            path.truncate(if target.starts_with(b"/") { 0 } else { directory });
            path.extend(target);
        }
        Err(Errno::LOOP.into())
    }

    /// Creates the file `path`, where nothing may be, for reading and writing.
    pub fn create_file(&self, path: &[u8], mode: u32) -> io::Result<File> {
        reach(Point::OutputMake)?;
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// Creates the directory `path`, where nothing may be.
    pub fn create_dir(&self, path: &[u8], mode: u32) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (parent, name) = self.parent(path)?;
        Ok(fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?)
    }

    /// Creates the symbolic link `path`, where nothing may be.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (parent, name) = self.parent(path)?;
        Ok(fs::symlinkat(target, parent, name)?)
    }

    /// Makes `path`, where nothing may be, another name of `existing`.
    pub fn link(&self, existing: &[u8], path: &[u8]) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (from, existing) = self.parent(existing)?;
        let (to, name) = self.parent(path)?;
        Ok(fs::linkat(from, existing, to, name, AtFlags::empty())?)
    }

    /// Creates a device, pipe or socket at `path`, where nothing may be.
    pub fn mknod(&self, path: &[u8], kind: FileType, mode: u32, major: u32, minor: u32) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (parent, name) = self.parent(path)?;
        Ok(fs::mknodat(parent, name, kind, Mode::from_raw_mode(mode), fs::makedev(major, minor))?)
    }

    /// Gives what is at `from` the path `to`, replacing what may be there.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (from, old) = self.parent(from)?;
        let (to, new) = self.parent(to)?;
        fs::renameat(from, old, to, new)?;
        self.forget();
        Ok(())
    }

    /// Removes what is at `path`; a directory must be empty.
    pub fn remove(&self, path: &[u8]) -> io::Result<()> {
        reach(Point::OutputMake)?;
        let (parent, name) = self.parent(path)?;
        match fs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?,
            other => other?,
        }
        self.forget();
        Ok(())
    }

    /// Returns what is at `path`, a symbolic link itself.
    pub fn stat(&self, path: &[u8]) -> io::Result<Stat> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the target of the symbolic link `path`.
    pub fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::readlinkat(parent, name, Vec::new())?.into_bytes())
    }

    /// Splits off the last component, and opens the directory it is in. The root itself is `.` in the root.
    fn parent<'p>(&self, path: &'p [u8]) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        let path = trim(path);
        let (directory, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (trim(&path[..slash]), &path[slash + 1..]),
            None => (&path[..0], path),
        };
        match name {
            b".." => Err(Errno::INVAL.into()),
            b"." if !directory.is_empty() => Err(Errno::INVAL.into()),
            b"" => Ok((self.directory(directory)?, b".")),
            _ => Ok((self.directory(directory)?, name)),
        }
    }

    fn directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if let Some((last, fd)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && last == path
        {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_vec(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// After a directory may have moved, what was remembered may be elsewhere.
    fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens `path`, following links as [`Links`] says, the last one too.
    fn resolve(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = trim(path);
        let path = if path.is_empty() { b"." } else { path };
        if self.is_stepping.load(Ordering::Relaxed) {
            return Ok(steps::open(self.fd.as_fd(), path, flags, self.links)?);
        }
        match self.resolve_by_kernel(path, flags) {
            Err(Errno::NOSYS) => {
                self.is_stepping.store(true, Ordering::Relaxed);
                Ok(steps::open(self.fd.as_fd(), path, flags, self.links)?)
            }
            other => Ok(other?),
        }
    }

    fn resolve_by_kernel(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        const ATTEMPTS: u32 = 32;
        let how = match self.links {
            Links::Inside => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        for _ in 0..ATTEMPTS {
            match fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
                // A rename anywhere on the system makes the kernel unsure about `..`.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn trim(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests;
