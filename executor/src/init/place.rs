//! Paths inside a root that is not ours: found and made without ever leaving it.
//!
//! The kernel resolves what exists ([`find`]). What does not exist is made by a walk of our own that follows symbolic
//! links inside the root, because the kernel only creates a last component.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::wire::{Bytes, Created};

const MAX_LINKS: usize = 40;

/// What to make where a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stub {
    Directory,
    File,
}

/// Opens what a path leads to inside `root`, for its path only.
pub(super) fn find(root: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::PATH)
}

/// Opens what a path leads to inside `root`. Links of /proc that leave it are refused (ELOOP).
pub(super) fn open(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), inside))
}

/// The kernel gives up with EAGAIN when something is renamed anywhere while it walks `..`.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..64 {
        match call() {
            Err(Errno::AGAIN) => continue,
            result => return result,
        }
    }
    call()
}

/// Opens what a path leads to inside `root`, makes it where it is missing and records what was made.
pub(super) fn find_or_make(
    root: &OwnedFd,
    path: &str,
    stub: Stub,
    created: &mut Vec<Created>,
) -> Result<OwnedFd, Errno> {
    match find(root, path) {
        Err(Errno::NOENT) => Walk::new(root)?.run(path, stub, created),
        result => result,
    }
}

/// Where a walk is: the directories from the root down, with their names.
struct Walk {
    root: OwnedFd,
    below: Vec<(Vec<u8>, OwnedFd)>,
    links: usize,
}

impl Walk {
    fn new(root: &OwnedFd) -> Result<Walk, Errno> {
        Ok(Walk { root: rustix::io::fcntl_dupfd_cloexec(root, 0)?, below: Vec::new(), links: 0 })
    }

    fn run(mut self, path: &str, stub: Stub, created: &mut Vec<Created>) -> Result<OwnedFd, Errno> {
        let mut rest = components(path.as_bytes());
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                self.below.pop();
                continue;
            }
            let here = match self.step(&name) {
                Err(Errno::NOENT) => {
                    let stub = if rest.is_empty() { stub } else { Stub::Directory };
                    created.push(self.make(&name, stub)?);
                    self.step(&name)?
                }
                here => here?,
            };
            if file_type(&here)? == FileType::Symlink {
                self.follow(&here, &mut rest)?;
            } else {
                self.below.push((name, here));
            }
        }
        Ok(self.below.pop().map_or(self.root, |(_, fd)| fd))
    }

    fn current(&self) -> &OwnedFd {
        self.below.last().map_or(&self.root, |(_, fd)| fd)
    }

    fn step(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.current(), OsStr::from_bytes(name), flags, Mode::empty())
    }

    fn follow(&mut self, link: &OwnedFd, rest: &mut VecDeque<Vec<u8>>) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, "", Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            self.below.clear();
        }
        for name in components(&target).into_iter().rev() {
            rest.push_front(name);
        }
        Ok(())
    }

    fn make(&self, name: &[u8], stub: Stub) -> Result<Created, Errno> {
        let directory = self.current();
        let parent_before = modified(directory)?;
        let name_text = OsStr::from_bytes(name);
        match stub {
            Stub::Directory => mkdirat(directory, name_text, Mode::from_raw_mode(0o755))?,
            Stub::File => {
                let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(openat(directory, name_text, new, Mode::from_raw_mode(0o644))?);
            }
        }
        Ok(Created {
            path: Bytes(self.path_of(name)),
            is_directory: stub == Stub::Directory,
            parent_before,
            parent_after: modified(directory)?,
        })
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let above = self.below.iter().map(|(name, _)| name.as_slice());
        above.chain([name]).collect::<Vec<_>>().join(&b'/')
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// Returns what kind of file a descriptor stands for.
pub(super) fn file_type(fd: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

fn modified(directory: &OwnedFd) -> Result<(i64, i64), Errno> {
    let stat = statat(directory, "", AtFlags::EMPTY_PATH)?;
    Ok((stat.st_mtime, stat.st_mtime_nsec as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn made(directory: &Path, path: &str, stub: Stub) -> Result<Vec<String>, Errno> {
        let mut created = Vec::new();
        find_or_make(&root(directory), path, stub, &mut created)?;
        Ok(created.iter().map(|one| String::from_utf8(one.path.0.clone()).unwrap()).collect())
    }

    #[test]
    fn missing_components_are_made_and_recorded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(made(dir.path(), "/a/b/./c", Stub::File).unwrap(), ["a", "a/b", "a/b/c"]);
        assert!(dir.path().join("a/b/c").is_file());
        assert!(made(dir.path(), "/a/b/c", Stub::File).unwrap().is_empty());
    }

    #[test]
    fn dangling_links_are_followed_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/systemd/stub.conf", dir.path().join("etc/resolv.conf")).unwrap();
        let created = made(dir.path(), "/etc/resolv.conf", Stub::File).unwrap();
        assert_eq!(created, ["run", "run/systemd", "run/systemd/stub.conf"]);
    }

    #[test]
    fn links_and_dots_cannot_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        symlink("../../../../escape", inner.join("up")).unwrap();
        symlink("/absolute", inner.join("abs")).unwrap();
        assert_eq!(made(&inner, "up/x", Stub::Directory).unwrap(), ["escape", "escape/x"]);
        assert_eq!(made(&inner, "abs", Stub::Directory).unwrap(), ["absolute"]);
        assert_eq!(made(&inner, "/../../y", Stub::Directory).unwrap(), ["y"]);
        assert!(!dir.path().join("escape").exists());
    }

    #[test]
    fn circles_of_links_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(made(dir.path(), "a/x", Stub::File), Err(Errno::LOOP));
    }

    #[test]
    fn magic_links_are_refused() {
        let proc = root(Path::new("/proc"));
        assert_eq!(find(&proc, "/self/fd/0").unwrap_err(), Errno::LOOP);
        assert_eq!(find(&proc, "/self/root/etc").unwrap_err(), Errno::LOOP);
    }
}
