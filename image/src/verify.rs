//! Checking that a stream of bytes is the blob it claims to be, while it passes.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::fault::{Point, reach};
use crate::{ContentDigest, Descriptor};

/// A blob that is not what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobMismatch {
    /// It ended early.
    #[error("blob {digest} ended after {actual} of {expected} bytes")]
    TooShort {
        /// The digest it should have.
        digest: ContentDigest,
        /// The size it should have.
        expected: u64,
        /// The bytes that came.
        actual: u64,
    },
    /// It did not end in time.
    #[error("blob {digest} is longer than the {expected} bytes it should have")]
    TooLong {
        /// The digest it should have.
        digest: ContentDigest,
        /// The size it should have.
        expected: u64,
    },
    /// It has other bytes.
    #[error("blob {expected} has other content: its digest is {actual}")]
    Digest {
        /// The digest it should have.
        expected: ContentDigest,
        /// The digest it has.
        actual: ContentDigest,
    },
}

/// Compares size and digest of the bytes it is shown with a descriptor.
#[derive(Debug, Clone)]
pub struct BlobVerifier {
    digest: ContentDigest,
    size: u64,
    seen: u64,
    hasher: Sha256,
}

impl BlobVerifier {
    /// Starts at the first byte of the blob.
    #[must_use]
    pub fn new(blob: &Descriptor) -> Self {
        Self { digest: blob.digest, size: blob.size, seen: 0, hasher: Sha256::new() }
    }

    /// Returns the number of bytes seen so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), BlobMismatch> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(BlobMismatch::TooLong { digest: self.digest, expected: self.size });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Decides, at the end of the stream.
    pub fn finish(&self) -> Result<(), BlobMismatch> {
        if self.seen < self.size {
            return Err(BlobMismatch::TooShort {
                digest: self.digest,
                expected: self.size,
                actual: self.seen,
            });
        }
        let actual = ContentDigest::from_bytes(self.hasher.clone().finalize().into());
        if actual == self.digest {
            Ok(())
        } else {
            Err(BlobMismatch::Digest { expected: self.digest, actual })
        }
    }
}

/// A reader that ends in an error unless everything read through it is the expected blob.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    verifier: BlobVerifier,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects `blob` from `inner`.
    pub fn new(inner: R, blob: &Descriptor) -> Self {
        Self { inner, verifier: BlobVerifier::new(blob) }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            self.verifier.update(&buffer[..count]).map_err(invalid_data)?;
        } else if !buffer.is_empty() {
            self.verifier.finish().map_err(invalid_data)?;
        }
        Ok(count)
    }
}

/// A writer that refuses more bytes than the expected blob has; [`VerifyingWriter::finish`] decides about the rest.
pub(crate) struct VerifyingWriter<'a> {
    inner: &'a mut dyn Write,
    verifier: BlobVerifier,
}

impl<'a> VerifyingWriter<'a> {
    pub(crate) fn new(inner: &'a mut dyn Write, blob: &Descriptor) -> Self {
        Self { inner, verifier: BlobVerifier::new(blob) }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.verifier.finish().map_err(invalid_data)
    }
}

impl Write for VerifyingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        reach(Point::OutputWrite)?;
        let count = self.inner.write(bytes)?;
        self.verifier.update(&bytes[..count]).map_err(invalid_data)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn invalid_data(mismatch: BlobMismatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn read(expected: &[u8], actual: &[u8]) -> Result<Vec<u8>, String> {
        let blob = Descriptor::of(MediaType::OCI_LAYER_TAR, expected);
        let mut bytes = Vec::new();
        match VerifyingReader::new(actual, &blob).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn only_the_expected_bytes_pass() {
        assert_eq!(read(b"blob", b"blob"), Ok(b"blob".to_vec()));
        assert_eq!(read(b"", b""), Ok(Vec::new()));
        assert!(read(b"blob", b"blo").unwrap_err().contains("ended after 3 of 4 bytes"));
        assert!(read(b"blob", b"blobs").unwrap_err().contains("longer than the 4 bytes"));
        assert!(read(b"blob", b"blab").unwrap_err().contains("has other content"));
    }
}
