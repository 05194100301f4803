//! Members of an archive, one after the other, whatever dialect they are written in.
//!
//! Read are V7, ustar and GNU headers, GNU long names, PAX headers and all of GNU's sparse files. Global PAX headers are passed
//! over, as the reference does. Everything read into memory is bounded by [`TarLimits`], whatever the archive claims.

use std::collections::BTreeMap;
use std::io::{self, Read};

use ::tar::Header;

use super::TarLimits;
use super::error::TarError;
use super::extension::Extensions;
use super::sparse::SparseMap;
use crate::index::{Time, TimeKind};

const BLOCK: usize = 512;
const BUFFER: usize = 256 * 1024;

/// One member of an archive, as its headers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, of kind `Set`.
    pub mtime: Time,
    /// Extended attributes, all that there are.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file of `size` bytes.
    File {
        /// Its length, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target as written.
        target: Vec<u8>,
    },
    /// Another name of an earlier member.
    HardLink {
        /// That member's name as written.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Reads the members of an archive.
pub struct TarReader<'a, R> {
    reader: R,
    limits: &'a TarLimits<'a>,
    buffer: Vec<u8>,
    headers: usize,
    total: u64,
    /// The bytes of the present member that have not been asked for.
    data: Data,
    /// The name of the last member that was come to, for errors.
    last: Vec<u8>,
}

/// What is left of a member in the stream.
#[derive(Default)]
struct Data {
    /// Bytes of data.
    stored: u64,
    /// Bytes up to the next block.
    padding: u64,
    sparse: Option<SparseMap>,
}

impl<'a, R: Read> TarReader<'a, R> {
    /// Reads from `reader`, which gives the archive uncompressed.
    pub fn new(reader: R, limits: &'a TarLimits<'a>) -> Self {
        Self {
            reader,
            limits,
            buffer: Vec::new(),
            headers: 0,
            total: 0,
            data: Data::default(),
            last: Vec::new(),
        }
    }

    /// Returns the next member, passing over what was not read of the one before; `None` at the end of the archive.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.read_member().map_err(|error| self.located(error))
    }

    /// Says near which member an archive is damaged, where one was come to.
    fn located(&self, error: TarError) -> TarError {
        match error {
            TarError::Damaged(problem) if !self.last.is_empty() => {
                TarError::DamagedNear { path: self.last.clone(), problem }
            }
            error => error,
        }
    }

    fn read_member(&mut self) -> Result<Option<Member>, TarError> {
        self.pass_over_data()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(TarError::Damaged("it ends after an extended header")),
                };
            };
            let size = size_field(&header)?;
            match header.as_old().linkflag[0] {
                b'x' | b'X' => extensions.pax(&self.extension(size)?)?,
                b'L' => extensions.long_name(&self.extension(size)?),
                b'K' => extensions.long_link(&self.extension(size)?),
                b'g' => {
                    self.data = Data::of(size);
                    self.pass_over_data()?;
                }
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
    }

    /// Hands all bytes of the member that was returned last to `take`, holes as zeros.
    pub fn read_data(&mut self, take: impl FnMut(&[u8]) -> Result<(), TarError>) -> Result<(), TarError> {
        self.hand_over(take).map_err(|error| self.located(error))
    }

    fn hand_over(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), TarError>) -> Result<(), TarError> {
        let Some(map) = self.data.sparse.take() else {
            let stored = self.data.stored;
            return self.take_stored(stored, &mut take);
        };
        let zeros = [0; BLOCK * 16];
        for extent in map.extents() {
            let mut hole = extent.hole;
            while hole > 0 {
                let piece = hole.min(zeros.len() as u64);
                take(&zeros[..piece as usize])?;
                hole -= piece;
            }
            self.take_stored(extent.data, &mut take)?;
        }
        Ok(())
    }

    /// Reads what follows the end of the archive, so that whoever hashes the stream has seen all of it.
    pub fn drain(mut self) -> Result<(), TarError> {
        self.buffer.resize(BUFFER, 0);
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }

    fn take_stored(
        &mut self,
        length: u64,
        take: &mut impl FnMut(&[u8]) -> Result<(), TarError>,
    ) -> Result<(), TarError> {
        self.buffer.resize(BUFFER, 0);
        let mut missing = length;
        while missing > 0 {
            let piece = missing.min(BUFFER as u64) as usize;
            match self.reader.read(&mut self.buffer[..piece]) {
                Ok(0) => return Err(TarError::Damaged("it is cut short")),
                Ok(read) => {
                    missing -= read as u64;
                    self.data.stored -= read as u64;
                    take(&self.buffer[..read])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(())
    }

    fn pass_over_data(&mut self) -> Result<(), TarError> {
        self.data.stored += std::mem::take(&mut self.data.padding);
        self.data.sparse = None;
        let stored = self.data.stored;
        self.take_stored(stored, &mut |_: &[u8]| Ok(()))
    }

    /// Reads the next header block with a right checksum; two blocks of zeros, or nothing at all, end the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        self.headers += 1;
        if self.headers > self.limits.entries {
            return Err(TarError::Limit { what: "headers", most: self.limits.entries as u64 });
        }
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            return match !self.block(&mut block)? || block == [0; BLOCK] {
                true => Ok(None),
                false => Err(TarError::Damaged("a block of zeros stands between its members")),
            };
        }
        check_sum(&block)?;
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    /// Reads a whole block; returns `false` when there is nothing more.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Damaged("it is cut short")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(true)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > self.limits.extension {
            return Err(TarError::Limit {
                what: "bytes of one extended header",
                most: self.limits.extension,
            });
        }
        self.data = Data::of(size);
        let mut extension = Vec::with_capacity(size as usize);
        self.read_data(|bytes| {
            extension.extend_from_slice(bytes);
            Ok(())
        })?;
        self.pass_over_data()?;
        Ok(extension)
    }

    fn member(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Member, TarError> {
        let old = header.as_old();
        let path = extensions.path().map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec);
        self.last.clone_from(&path);
        let target = || {
            let written = || header.link_name_bytes().unwrap_or_default().into_owned();
            extensions.link().map_or_else(written, <[u8]>::to_vec)
        };
        let kind = match old.linkflag[0] {
            // Archives from before ustar mark a directory by the slash alone.
            0 if path.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => {
                let size = self.start_file(header, extensions.size()?.unwrap_or(size), &extensions)?;
                MemberKind::File { size }
            }
            b'1' => MemberKind::HardLink { target: target() },
            b'2' => MemberKind::Symlink { target: target() },
            b'3' => device(header).map(|(major, minor)| MemberKind::CharDevice { major, minor })?,
            b'4' => device(header).map(|(major, minor)| MemberKind::BlockDevice { major, minor })?,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            flag => return Err(TarError::Unsupported { path, flag: char::from(flag) }),
        };
        let seconds = number(&old.mtime).ok_or(TarError::Damaged("a time is no number"))?;
        let written = Time { seconds, nanoseconds: 0, kind: TimeKind::Set };
        Ok(Member {
            path,
            kind,
            mode: field(&old.mode, "a mode is no number")? & 0o7777,
            uid: owner(extensions.id("uid")?.map_or_else(|| field(&old.uid, "an owner is no number"), Ok)?)?,
            gid: owner(extensions.id("gid")?.map_or_else(|| field(&old.gid, "a group is no number"), Ok)?)?,
            mtime: extensions.mtime()?.unwrap_or(written),
            xattrs: extensions.xattrs(),
        })
    }

    /// Gets ready to read a file's bytes; returns its length. Other kinds have none, whatever their size field says.
    fn start_file(&mut self, header: &Header, stored: u64, extensions: &Extensions) -> Result<u64, TarError> {
        self.data = Data::of(stored);
        let map = match header.as_gnu() {
            Some(gnu) if header.as_old().linkflag[0] == b'S' => Some(self.gnu_map(gnu)?),
            _ => extensions.sparse(self)?,
        };
        let size = map.as_ref().map_or(stored, SparseMap::size);
        if let Some(map) = &map {
            map.check(self.data.stored)?;
        }
        self.data.sparse = map;
        self.total = self.total.saturating_add(size);
        match self.total > self.limits.bytes {
            true => Err(TarError::Limit { what: "bytes of files", most: self.limits.bytes }),
            false => Ok(size),
        }
    }

    fn gnu_map(&mut self, header: &::tar::GnuHeader) -> Result<SparseMap, TarError> {
        let mut map = SparseMap::new(number_u64(&header.realsize)?);
        for sparse in &header.sparse {
            map.push_field(sparse)?;
        }
        let mut is_extended = header.isextended[0] == 1;
        while is_extended {
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(TarError::Damaged("it is cut short"));
            }
            let mut more = ::tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            for sparse in more.sparse() {
                map.push_field(sparse)?;
            }
            is_extended = more.is_extended();
        }
        Ok(map)
    }

    /// Takes one block of the present file's data, for a sparse map that lies before the bytes.
    pub(super) fn data_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        if self.data.stored < BLOCK as u64 || !self.block(&mut block)? {
            return Err(TarError::Damaged("a sparse file's map is cut short"));
        }
        self.data.stored -= BLOCK as u64;
        Ok(block)
    }
}

impl Data {
    fn of(size: u64) -> Self {
        Self { stored: size, padding: (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64, sparse: None }
    }
}

/// The highest number is nobody: the kernel takes it for “leave as it is”.
fn owner(id: u32) -> Result<u32, TarError> {
    if id == u32::MAX { Err(TarError::Damaged("an owner is out of range")) } else { Ok(id) }
}

/// Compares a header with its checksum, which some programs made of signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), TarError> {
    let field = 148..156;
    let bytes = || {
        let blank = |(at, byte): (usize, &u8)| if field.contains(&at) { b' ' } else { *byte };
        block.iter().enumerate().map(blank)
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    match number(&block[field.clone()]) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(TarError::Damaged("the checksum of a header is wrong")),
    }
}

fn size_field(header: &Header) -> Result<u64, TarError> {
    number_u64(&header.as_old().size)
}

pub(super) fn number_u64(bytes: &[u8]) -> Result<u64, TarError> {
    number(bytes).and_then(|size| u64::try_from(size).ok()).ok_or(TarError::Damaged("a size is no number"))
}

fn field(bytes: &[u8], problem: &'static str) -> Result<u32, TarError> {
    number(bytes).and_then(|id| u32::try_from(id).ok()).ok_or(TarError::Damaged(problem))
}

fn device(header: &Header) -> Result<(u32, u32), TarError> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => return Ok((0, 0)),
    };
    let problem = "a device number is no number";
    Ok((field(major, problem)?, field(minor, problem)?))
}

/// Reads a numeric field: octal digits between spaces and NULs (none is 0), or, with the first bit set, two's complement.
fn number(bytes: &[u8]) -> Option<i64> {
    if bytes[0] & 0x80 != 0 {
        // The marking bit is no part of the number; the one below it is its sign.
        let first = i128::from((bytes[0] << 1) as i8 >> 1);
        let shift = |value: i128, byte: &u8| Some((value.checked_mul(256)?) | i128::from(*byte));
        return bytes[1..].iter().try_fold(first, shift).and_then(|value| i64::try_from(value).ok());
    }
    let digits =
        bytes.split(|&byte| byte == 0).find(|part| !part.is_empty()).unwrap_or_default().trim_ascii();
    let digit = |value: i64, byte: &u8| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | i64::from(byte - b'0')),
        _ => None,
    };
    digits.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"644 \0\0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Some(1 << 21));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
    }
}
