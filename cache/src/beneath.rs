//! Opening paths below a directory without ever leaving it or following a symbolic link, and walking such trees in parallel.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mica_image::index::LayerPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};

/// A directory whose tree is read.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
    /// Set once the kernel said that it has no `openat2`.
    by_steps: AtomicBool,
}

impl Beneath {
    /// Opens the directory itself; symbolic links on the way to it are the caller's.
    pub(crate) fn open_root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root, by_steps: AtomicBool::new(false) })
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Opens the directory at `path`.
    pub(crate) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the file at `path` for reading; a pipe that took its place does not block.
    pub(crate) fn file(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        if self.by_steps.load(Ordering::Relaxed) {
            return self.open_by_steps(path, flags);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // A rename somewhere on the machine raced with the look-up.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOSYS) => {
                    self.by_steps.store(true, Ordering::Relaxed);
                    return self.open_by_steps(path, flags);
                }
                result => return Ok(result?),
            }
        }
    }

    fn open_by_steps(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let mut directory: Option<OwnedFd> = None;
        let mut parts = path.split(|&byte| byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let at = directory.as_ref().unwrap_or(&self.root).as_fd();
            if part == b".." {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            if parts.peek().is_none() {
                return Ok(rustix::fs::openat(at, part, flags, Mode::empty())?);
            }
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = Some(rustix::fs::openat(at, part, step, Mode::empty())?);
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Returns the names in an open directory and what they are, sorted by bytes. A name that vanished meanwhile is left out.
pub(crate) fn read_directory(directory: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Stat)>> {
    let mut names = read_names(directory)?;
    names.sort_unstable();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        match rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => found.push((name, stat)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn read_names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    thread_local!(static SPACE: RefCell<Vec<MaybeUninit<u8>>> = RefCell::new(vec![MaybeUninit::uninit(); 32 * 1024]));
    SPACE.with_borrow_mut(|space| {
        let mut names = Vec::new();
        let mut entries = RawDir::new(directory, space.as_mut_slice());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    })
}

/// Looks at the directory with this path and returns those to visit next.
pub(crate) type Visit<'a, E> = dyn Fn(&[u8]) -> Result<Vec<LayerPath>, E> + Sync + 'a;

/// So many directories are visited before other threads are woken, which costs more than a small tree.
const VISITED_ALONE: usize = 8;

/// Visits directories on all threads, starting at `start`; `visit` returns the directories to visit next.
pub(crate) fn walk<E: Send>(mut start: Vec<LayerPath>, visit: &Visit<'_, E>) -> Result<(), E> {
    for _ in 0..VISITED_ALONE {
        let Some(path) = start.pop() else { return Ok(()) };
        start.extend(visit(&path)?);
    }
    let failure = Mutex::new(None);
    let stopped = AtomicBool::new(false);
    rayon::scope(|scope| {
        for path in start {
            spawn(scope, path, visit, &failure, &stopped);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn spawn<'scope, E: Send>(
    scope: &rayon::Scope<'scope>,
    path: Vec<u8>,
    visit: &'scope Visit<'scope, E>,
    failure: &'scope Mutex<Option<E>>,
    stopped: &'scope AtomicBool,
) {
    scope.spawn(move |scope| {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        match visit(&path) {
            Ok(next) => next.into_iter().for_each(|path| spawn(scope, path, visit, failure, stopped)),
            Err(error) => {
                stopped.store(true, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    });
}

/// Returns the kind of file a stat result speaks of.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns a path through which an object that cannot be opened (a link, a device) can be named without following it.
pub(crate) fn by_descriptor(root: &OwnedFd, path: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut named = format!("/proc/self/fd/{}/", root.as_raw_fd()).into_bytes();
    named.extend_from_slice(path);
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_visited_once_and_the_first_failure_is_told() {
        for width in [1, 2, VISITED_ALONE, 100] {
            let seen = Mutex::new(Vec::new());
            let result = walk(vec![Vec::new()], &|path| {
                seen.lock().unwrap().push(path.to_vec());
                Ok::<_, ()>(if path.is_empty() {
                    (0..width).map(|name| vec![name as u8]).collect()
                } else {
                    vec![]
                })
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort();
            seen.dedup();
            assert_eq!((result, seen.len()), (Ok(()), width + 1));
            let failing = walk(vec![Vec::new()], &|path| match path {
                [] => Ok((0..width).map(|name| vec![name as u8]).collect()),
                path if usize::from(path[0]) == width - 1 => Err("the last"),
                _ => Ok(vec![]),
            });
            assert_eq!(failing, Err("the last"));
        }
    }

    #[test]
    fn nothing_outside_is_opened_by_either_way() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(home.path().join("secret"), "x").unwrap();
        std::fs::write(root.join("a/b/c"), "y").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        for by_steps in [false, true] {
            let beneath = Beneath::open_root(&root).unwrap();
            beneath.by_steps.store(by_steps, Ordering::Relaxed);
            assert!(beneath.file(b"a/b/c").is_ok());
            assert!(beneath.directory(b"").is_ok());
            for path in [&b"link"[..], b"up/secret", b"../secret", b"a/../../secret"] {
                assert!(beneath.file(path).is_err(), "{}", String::from_utf8_lossy(path));
            }
        }
    }
}
