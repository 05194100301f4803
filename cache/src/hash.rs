//! Hashing open files with one buffer per thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use mica_image::FileDigest;

/// Large enough that a file of any size costs few system calls, small enough for a cache.
const BUFFER: usize = 256 * 1024;

/// Returns the digest of a file's bytes from where it is read now, and how many there were.
pub(crate) fn digest(file: &OwnedFd) -> io::Result<(FileDigest, u64)> {
    thread_local!(static SPACE: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]));
    SPACE.with_borrow_mut(|space| {
        let mut hasher = blake3::Hasher::new();
        let mut total = 0;
        loop {
            match rustix::io::read(file, space.as_mut_slice()) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&space[..read]);
                    total += read as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((FileDigest::from_bytes(*hasher.finalize().as_bytes()), total))
    })
}
