//! Reading one file of a context: its digest and attributes, sure to be of one moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use mica_image::FileDigest;
use mica_image::fault::{Point, reach};
use rustix::fs::{FileType, Stat};

use super::stat_cache::StatKey;
use crate::beneath::{Beneath, kind};
use crate::xattrs;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: u32 = 4;

/// What reading a file gave.
#[derive(Debug)]
pub(super) struct Hashed {
    /// What the file was while it was read.
    pub(super) stat: Stat,
    pub(super) digest: FileDigest,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What became of a file that was to be read.
#[derive(Debug)]
pub(super) enum Reading {
    Hashed(Box<Hashed>),
    /// It is no regular file any more, or gone.
    Replaced,
    /// It kept changing.
    Changing,
}

/// Reads the regular file at `path`.
pub(super) fn read(root: &Beneath, path: &[u8]) -> io::Result<Reading> {
    for _ in 0..ATTEMPTS {
        let file = match reach(Point::ContextRead).and_then(|()| root.file(path)) {
            Ok(file) => file,
            Err(error) if is_replaced(&error) => return Ok(Reading::Replaced),
            Err(error) => return Err(error),
        };
        let before = rustix::fs::fstat(&file)?;
        if kind(&before) != FileType::RegularFile {
            return Ok(Reading::Replaced);
        }
        let (digest, size) = crate::hash::digest(&file)?;
        let xattrs = wanted_xattrs(&file);
        let after = rustix::fs::fstat(&file)?;
        if StatKey::of(&before) == StatKey::of(&after) && size == after.st_size as u64 {
            return Ok(Reading::Hashed(Box::new(Hashed { stat: after, digest, xattrs })));
        }
    }
    Ok(Reading::Changing)
}

/// Reads the attributes of a directory; best effort, as for files.
pub(super) fn directory_xattrs(root: &Beneath, path: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    root.directory(path).map(|directory| wanted_xattrs(&directory)).unwrap_or_default()
}

/// Attributes of the host's files count only if they can mean something in an image; a file system that has none, or keeps them
/// secret, is fine.
fn wanted_xattrs(file: &OwnedFd) -> BTreeMap<Vec<u8>, Vec<u8>> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]));
    let wanted = |name: &[u8]| {
        (name.starts_with(b"user.") || name == b"security.capability")
            && mica_image::index::belongs_to_image(name)
    };
    BUFFER.with_borrow_mut(|buffer| xattrs::of_file(file, &wanted, buffer)).unwrap_or_default()
}

fn is_replaced(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(
        code,
        Some(
            rustix::io::Errno::NOENT
                | rustix::io::Errno::NOTDIR
                | rustix::io::Errno::LOOP
                | rustix::io::Errno::NXIO
        )
    )
}
