//! Blobs: bytes named by their SHA-256 digest, as registries and OCI layouts name them.
//!
//! Only configs, manifests and what was pulled are kept; the tars of layers made here are written anew whenever needed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mica_image::ContentDigest;
use mica_image::fault::{Point, reach};
use mica_image::tar::{DiffIdReader, DiffIdWriter};

use crate::files::{At, FileError, is_absent, read_limited, remove_file, rename_over, sharded, touch};
use crate::lease::{Lease, Pin};
use crate::store::{Shared, Store};

/// A blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are not those that were announced.
    #[error("received `{actual}` where `{expected}` was expected")]
    Mismatch {
        /// The digest asked for.
        expected: ContentDigest,
        /// The digest of the bytes.
        actual: ContentDigest,
    },
    /// The store does not have it.
    #[error("the store has no blob `{0}`")]
    Missing(ContentDigest),
    /// The bytes on the disk are not what they were.
    #[error("blob `{0}` is damaged")]
    Damaged(ContentDigest),
}

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct BlobStore {
    pub(crate) shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's blobs.
    #[must_use]
    pub fn blobs(&self) -> BlobStore {
        BlobStore { shared: self.shared.clone() }
    }
}

impl BlobStore {
    /// Starts receiving a blob.
    pub fn ingest(&self) -> Result<Ingest, FileError> {
        let lease = self.shared.lease()?;
        let (file, path) = lease.fresh_file()?;
        let shared = self.shared.clone();
        let writer = Some(DiffIdWriter::new(file));
        Ok(Ingest { shared, lease, writer, path, size: 0, placed: false })
    }

    /// Stores bytes that are in memory already.
    pub fn put(&self, bytes: &[u8]) -> Result<ContentDigest, BlobError> {
        let digest = ContentDigest::of(bytes);
        if self.has(&digest)? {
            return Ok(digest);
        }
        let mut ingest = self.ingest()?;
        ingest.write_all(bytes).at("write", &ingest.path)?;
        ingest.commit(Some(digest))
    }

    /// Opens a blob; it stays in the store as long as this store is open.
    pub fn open(&self, digest: &ContentDigest) -> Result<File, BlobError> {
        let path = self.path(digest);
        let file =
            self.shared.lease()?.hold(|| match reach(Point::BlobOpen).and_then(|()| File::open(&path)) {
                Ok(file) => {
                    touch(&path).at("mark as used", &path)?;
                    Ok(Some((file, vec![Pin::Blob(*digest)])))
                }
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(FileError::new("open", &path, error)),
            })?;
        file.ok_or(BlobError::Missing(*digest))
    }

    /// Reads a small blob whole and verifies it.
    pub fn read(&self, digest: &ContentDigest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let bytes = read_limited(&mut self.open(digest)?, limit).at("read", &self.path(digest))?;
        if ContentDigest::of(&bytes) == *digest { Ok(bytes) } else { Err(BlobError::Damaged(*digest)) }
    }

    /// Returns whether the store has a blob, which then stays as long as this store is open.
    pub fn has(&self, digest: &ContentDigest) -> Result<bool, FileError> {
        match self.open(digest) {
            Ok(_) => Ok(true),
            Err(BlobError::File(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Returns a blob's length in bytes; `None` when the store does not have it.
    pub fn size(&self, digest: &ContentDigest) -> Result<Option<u64>, FileError> {
        let path = self.path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(FileError::new("look at", path, error)),
        }
    }

    /// Removes a blob (one found damaged, say); that it is not there is fine.
    pub fn remove(&self, digest: &ContentDigest) -> Result<(), FileError> {
        remove_file(&self.path(digest))
    }

    /// Returns where a blob lies; call [`BlobStore::has`] first, which keeps it there.
    #[must_use]
    pub fn file_path(&self, digest: &ContentDigest) -> PathBuf {
        self.path(digest)
    }

    pub(crate) fn path(&self, digest: &ContentDigest) -> PathBuf {
        sharded(&self.shared.root.join("blobs/sha256"), &digest.hex())
    }
}

/// A blob on its way into the store: hashed while it is written, gone when dropped before its commit.
pub struct Ingest {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    /// Hashes what it hands on, beside the writing; taken at the commit. Digests of blobs and of tars are the same function.
    writer: Option<DiffIdWriter<File>>,
    path: PathBuf,
    size: u64,
    placed: bool,
}

impl Ingest {
    /// Returns how many bytes have been written.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    fn writer(&mut self) -> io::Result<&mut DiffIdWriter<File>> {
        self.writer.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Verifies the bytes and makes them visible; two that commit the same blob both succeed.
    pub fn commit(mut self, expected: Option<ContentDigest>) -> Result<ContentDigest, BlobError> {
        let writer = self.writer.take().expect("a blob is committed once");
        let actual = ContentDigest::from_bytes(*writer.finish().1.as_bytes());
        if let Some(expected) = expected
            && expected != actual
        {
            return Err(BlobError::Mismatch { expected, actual });
        }
        let target = BlobStore { shared: self.shared.clone() }.path(&actual);
        self.lease.hold(|| {
            rename_over(&self.path, &target)?;
            touch(&target).at("mark as used", &target)?;
            Ok::<_, FileError>(Some(((), vec![Pin::Blob(actual)])))
        })?;
        self.placed = true;
        self.shared.note_change();
        Ok(actual)
    }
}

/// A blob that is verified while somebody reads it.
pub(crate) struct Verified {
    file: Arc<Mutex<DiffIdReader<File>>>,
    expected: ContentDigest,
}

impl Verified {
    pub(crate) fn new(file: File, expected: ContentDigest) -> Self {
        Self { file: Arc::new(Mutex::new(DiffIdReader::new(file))), expected }
    }

    /// Returns a reader of the blob.
    pub(crate) fn reader(&self) -> VerifiedReader {
        VerifiedReader(self.file.clone())
    }

    /// Reads whatever the reader left over and returns whether all of it was the blob.
    pub(crate) fn finish(self) -> io::Result<bool> {
        let file = Arc::into_inner(self.file).ok_or_else(|| io::Error::other("still being read"))?;
        let digest = file.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        Ok(digest.as_bytes() == self.expected.as_bytes())
    }
}

/// Reads a [`Verified`] blob.
pub(crate) struct VerifiedReader(Arc<Mutex<DiffIdReader<File>>>);

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        reach(Point::BlobRead)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        reach(Point::BlobWrite)?;
        let written = self.writer()?.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer()?.flush()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.placed {
            // The scratch directory goes with the lease in any case.
            let _ = remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ownership;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store"), Ownership::Root).unwrap();
        (home, store)
    }

    #[test]
    fn a_blob_is_there_once_it_is_committed() {
        let (_home, store) = store();
        let blobs = store.blobs();
        let digest = ContentDigest::of(b"hello");
        let mut ingest = blobs.ingest().unwrap();
        ingest.write_all(b"hel").unwrap();
        ingest.write_all(b"lo").unwrap();
        assert!(!blobs.has(&digest).unwrap());
        assert_eq!(ingest.commit(Some(digest)).unwrap(), digest);
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(blobs.size(&digest).unwrap(), Some(5));
        blobs.remove(&digest).unwrap();
        assert!(matches!(blobs.open(&digest), Err(BlobError::Missing(_))));
    }

    #[test]
    fn wrong_bytes_are_refused_and_leave_nothing() {
        let (_home, store) = store();
        let mut ingest = store.blobs().ingest().unwrap();
        let path = ingest.path.clone();
        ingest.write_all(b"other").unwrap();
        let result = ingest.commit(Some(ContentDigest::of(b"hello")));
        assert!(matches!(result, Err(BlobError::Mismatch { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn two_writers_of_one_blob_both_succeed() {
        let (home, store) = store();
        let other = Store::open(&home.path().join("store"), Ownership::Root).unwrap();
        let mut first = store.blobs().ingest().unwrap();
        let mut second = other.blobs().ingest().unwrap();
        first.write_all(b"same").unwrap();
        second.write_all(b"same").unwrap();
        assert_eq!(first.commit(None).unwrap(), second.commit(None).unwrap());
    }

    #[test]
    fn a_damaged_blob_is_not_handed_out_as_the_real_one() {
        let (_home, store) = store();
        let digest = store.blobs().put(b"hello").unwrap();
        std::fs::write(store.blobs().path(&digest), b"hellp").unwrap();
        assert!(matches!(store.blobs().read(&digest, 10), Err(BlobError::Damaged(_))));
    }
}
