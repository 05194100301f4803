//! Copying a file's bytes and checking them on the way.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};

use mica_image::FileDigest;
use mica_image::fault::{Point, reach};

const BUFFER: usize = 256 * 1024;

/// From this size on it is worth asking the file system to share the bytes.
const WORTH_SHARING: u64 = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Whether the file system may be able to share bytes between source and layer; one refusal is enough.
pub(super) struct Sharing(AtomicBool);

/// What came of copying.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// All bytes, and they are the right ones.
    Right,
    /// Something else than what was expected.
    Different,
    /// Nothing more: it was cancelled.
    Cancelled,
}

/// On which side copying failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl Sharing {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    /// Makes `target` share all bytes of `source`, if the file system can.
    fn share(&self, source: &File, target: &File, size: u64) -> bool {
        if size < WORTH_SHARING || !self.0.load(Ordering::Relaxed) {
            return false;
        }
        let shared = rustix::fs::ioctl_ficlone(target, source).is_ok();
        if !shared {
            self.0.store(false, Ordering::Relaxed);
        }
        shared
    }
}

/// Copies `size` bytes from the start of `source` to the empty file `target` and compares their digest.
///
/// `copy_file_range` has no place here: every byte passes through the hash, and reading it twice costs more than it saves.
pub(super) fn copy_file(
    source: &File,
    target: &File,
    (size, digest): (u64, &FileDigest),
    sharing: &Sharing,
    cancelled: &dyn Fn() -> bool,
) -> Result<Copied, CopyError> {
    if sharing.share(source, target, size) {
        // What is checked is what the layer holds, not what the source holds by now.
        let length = target.metadata().map_err(CopyError::Write)?.len();
        if length != size {
            return Ok(Copied::Different);
        }
        return stream(target, None, size, digest, cancelled);
    }
    let metadata = source.metadata().map_err(CopyError::Read)?;
    if metadata.len() != size {
        return Ok(Copied::Different);
    }
    let has_holes = metadata.blocks() * 512 < size;
    stream(source, Some(Target { file: target, has_holes }), size, digest, cancelled)
}

/// Writes `content`, whose digest is known to be right, to `target`.
pub(super) fn write_inline(content: &[u8], target: &File) -> Result<(), CopyError> {
    reach(Point::CopyWrite).and_then(|()| target.write_all_at(content, 0)).map_err(CopyError::Write)
}

struct Target<'a> {
    file: &'a File,
    has_holes: bool,
}

fn stream(
    mut source: &File,
    target: Option<Target<'_>>,
    size: u64,
    digest: &FileDigest,
    cancelled: &dyn Fn() -> bool,
) -> Result<Copied, CopyError> {
    let mut hasher = blake3::Hasher::new();
    let mut done = 0;
    SCRATCH.with_borrow_mut(|buffer| {
        while done < size {
            let wanted = usize::try_from(size - done).unwrap_or(BUFFER).min(BUFFER);
            let length = match source.read(&mut buffer[..wanted]) {
                Ok(0) => return Ok(Copied::Different),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            let chunk = &buffer[..length];
            hasher.update(chunk);
            if let Some(target) = &target
                && !(target.has_holes && is_zero(chunk))
            {
                reach(Point::CopyWrite)
                    .and_then(|()| target.file.write_all_at(chunk, done))
                    .map_err(CopyError::Write)?;
            }
            done += length as u64;
            if done < size && cancelled() {
                return Ok(Copied::Cancelled);
            }
        }
        if let Some(Target { file, has_holes: true }) = &target {
            file.set_len(size).map_err(CopyError::Write)?;
        }
        let right = hasher.finalize().as_bytes() == digest.as_bytes();
        Ok(if right { Copied::Right } else { Copied::Different })
    })
}

fn is_zero(chunk: &[u8]) -> bool {
    chunk.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(content: &[u8], expect: &[u8]) -> (Copied, Vec<u8>, u64) {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(content, 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        let sharing = Sharing::new();
        let wanted = (expect.len() as u64, &FileDigest::of(expect));
        let outcome = copy_file(&source, &target, wanted, &sharing, &|| false).unwrap();
        let mut bytes = vec![0; target.metadata().unwrap().len() as usize];
        target.read_exact_at(&mut bytes, 0).unwrap();
        (outcome, bytes, target.metadata().unwrap().blocks())
    }

    #[test]
    fn bytes_arrive_and_are_checked() {
        let large: Vec<u8> = (0..700_001_u32).map(|number| (number % 251) as u8).collect();
        for content in [&b""[..], b"x", &large] {
            let (outcome, bytes, _) = copied(content, content);
            assert_eq!(outcome, Copied::Right);
            assert!(bytes == content);
        }
        assert_eq!(copied(b"abc", b"abd").0, Copied::Different);
        assert_eq!(copied(b"abc", b"abcd").0, Copied::Different);
        assert_eq!(copied(b"abcd", b"abc").0, Copied::Different);
    }

    #[test]
    fn holes_stay_holes() {
        let source = tempfile::tempfile().unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let mut content = vec![0; 64 << 20];
        source.read_exact_at(&mut content, 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        let wanted = (64 << 20, &FileDigest::of(&content));
        let sharing = Sharing(AtomicBool::new(false));
        assert_eq!(copy_file(&source, &target, wanted, &sharing, &|| false).unwrap(), Copied::Right);
        let metadata = target.metadata().unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_long_copy_can_be_cancelled() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(&vec![1; 2 * BUFFER], 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        let wanted = (2 * BUFFER as u64, &FileDigest::of(&vec![1; 2 * BUFFER]));
        let sharing = Sharing(AtomicBool::new(false));
        assert_eq!(copy_file(&source, &target, wanted, &sharing, &|| true).unwrap(), Copied::Cancelled);
    }
}
