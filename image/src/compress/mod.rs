//! Compressed streams: reading any that layers and archives come in, writing gzip and zstd whose bytes depend on nothing but
//! content, codec and level.
//!
//! What enters a digest is part of the format: the gzip block size, the encoders and their versions (pinned in the manifest of
//! the workspace). Golden tests hold the digests.

mod ahead;
mod decode;
mod gzip;
mod zstandard;

pub use ahead::ReadAhead;
pub use decode::{Codec, Decoder, is_archive};
pub use gzip::GzipEncoder;
pub use zstandard::ZstdEncoder;

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::{ContentDigest, FileDigest};

/// Hands bytes on and keeps count and SHA-256 digest of them.
#[derive(Debug)]
pub struct DigestWriter<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> DigestWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    /// Returns the writer, the digest and the size of what was written.
    pub fn finish(self) -> (W, ContentDigest, u64) {
        (self.inner, ContentDigest::from_bytes(self.hasher.finalize().into()), self.size)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hands bytes on and keeps their digest as that of a file of a layer.
#[derive(Debug)]
pub struct FileDigestWriter<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> FileDigestWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    /// Returns the writer.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// Returns the writer and the digest of what was written.
    pub fn finish(self) -> (W, FileDigest) {
        (self.inner, FileDigest::from_bytes(*self.hasher.finalize().as_bytes()))
    }
}

impl<W: Write> Write for FileDigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
