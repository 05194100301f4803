//! The resolution of `openat2`, one component after the other, for kernels before 5.6.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Links;

const MOST_LINKS: usize = 40;

/// Opens `path` below `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    let passage = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = || fs::openat(root, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // The directories from the root down to where we are: `..` steps back, and asks nobody.
    let mut trail = vec![top()?];
    let mut pending: Vec<Vec<u8>> = components(path);
    let mut followed = 0;
    while let Some(component) = pending.pop() {
        match &component[..] {
            b"" | b"." => continue,
            b".." if trail.len() > 1 => {
                trail.pop();
                continue;
            }
            b".." if links == Links::Refused => return Err(Errno::XDEV),
            b".." => continue,
            _ => {}
        }
        let here = trail.last().expect("the root is never popped");
        let next = fs::openat(here, &component[..], passage, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&next)?.st_mode) != FileType::Symlink {
            trail.push(next);
            continue;
        }
        followed += 1;
        if links == Links::Refused || followed > MOST_LINKS {
            return Err(Errno::LOOP);
        }
        let target = fs::readlinkat(&next, c"", Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            trail.truncate(1);
        }
        pending.extend(components(&target));
    }
    let found = trail.last().expect("the root is never popped");
    // Only directories are opened this way; a descriptor found by path becomes a readable one by its `.`.
    fs::openat(found, c".", flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect()
}
