//! Copies of files' bytes, shared with the original where the file system can.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::fault::{Point, reach};

/// Whether sharing has failed before: then most likely it always will, and asking costs a call for every file.
static CANNOT_SHARE: AtomicBool = AtomicBool::new(false);

/// Copies all bytes of `from` into the empty file `to`, and returns how many there were.
///
/// Tried in turn are sharing them (XFS, btrfs), copying inside the kernel, and reading and writing.
pub fn copy_bytes(mut from: &File, mut to: &File) -> io::Result<u64> {
    reach(Point::OutputWrite)?;
    if !CANNOT_SHARE.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(to.metadata()?.len()),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS) => {
                CANNOT_SHARE.store(true, Ordering::Relaxed);
            }
            // A file of its own may refuse for reasons of its own, such as its flags.
            Err(_) => {}
        }
    }
    // Between two files this is `copy_file_range`, with a fallback.
    io::copy(&mut from, &mut to)
}
