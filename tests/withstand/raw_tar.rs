//! Tars written byte by byte, so that every lie can be told.

use std::io::Write;

/// A tar under construction.
#[derive(Clone, Default)]
pub(crate) struct Raw(Vec<u8>);

/// The letters of kinds.
pub(crate) const FILE: u8 = b'0';
pub(crate) const HARD_LINK: u8 = b'1';
pub(crate) const SYMLINK: u8 = b'2';
pub(crate) const CHARACTER_DEVICE: u8 = b'3';
pub(crate) const BLOCK_DEVICE: u8 = b'4';
pub(crate) const DIRECTORY: u8 = b'5';
pub(crate) const FIFO: u8 = b'6';

/// Returns a header with a right checksum.
pub(crate) fn header(name: &[u8], kind: u8, link: &[u8], size: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    let put = |block: &mut [u8; 512], at: usize, most: usize, bytes: &[u8]| {
        let length = bytes.len().min(most);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(&mut block, 0, 100, name);
    put(&mut block, 100, 8, b"0004755\0");
    put(&mut block, 108, 8, b"0000000\0");
    put(&mut block, 116, 8, b"0000000\0");
    put(&mut block, 124, 12, size);
    put(&mut block, 136, 12, b"07346545742\0");
    block[156] = kind;
    put(&mut block, 157, 100, link);
    put(&mut block, 257, 8, b"ustar\x0000");
    put(&mut block, 329, 8, b"0000001\0");
    put(&mut block, 337, 8, b"0000003\0");
    sign(&mut block);
    block
}

/// Writes the checksum.
pub(crate) fn sign(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn octal(size: usize) -> Vec<u8> {
    format!("{size:011o}\0").into_bytes()
}

impl Raw {
    /// Adds a member that has no content.
    pub(crate) fn member(self, name: &str, kind: u8, link: &str) -> Self {
        self.block(&header(name.as_bytes(), kind, link.as_bytes(), &octal(0)))
    }

    /// Adds a file.
    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.block(&header(name.as_bytes(), FILE, b"", &octal(content.len()))).content(content)
    }

    /// Adds an extended header of these records, or of any other letter.
    pub(crate) fn extension(self, kind: u8, content: &[u8]) -> Self {
        self.block(&header(b"extension", kind, b"", &octal(content.len()))).content(content)
    }

    /// Adds bytes as they are.
    pub(crate) fn block(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds content, filled up to a block.
    pub(crate) fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Returns the tar with its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    /// Returns the bytes so far.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }
}

/// Returns one record of an extended header.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    let mut bytes = format!("{} {key}=", length.unwrap()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
    bytes
}

/// Returns the bytes compressed by gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a gzip stream of a file of so many zeros.
pub(crate) fn bomb(name: &str, size: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&header(name.as_bytes(), FILE, b"", &octal(size))).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size as u64 + 1024), &mut encoder).unwrap();
    encoder.finish().unwrap()
}
