//! The stat cache: what the files of a context were when they were last hashed.
//!
//! ```text
//! "mica stat cache 1\n"
//! per directory:   u32 length of its path · path · u32 number of children
//!   per child:     u16 length of its name · name · u8 flags · key (56 bytes) · digest (32 bytes, regular files)
//!                  u16 number of attributes · per attribute: u16 length · name · u32 length · value
//! BLAKE3 of all that (32 bytes)
//! ```
//!
//! Numbers are little-endian. A file that does not match its checksum is no cache.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use mica_image::FileDigest;
use rustix::fs::{FileType, Stat};

const MAGIC: &[u8] = b"mica stat cache 1\n";
/// About what a file takes.
const USUAL_CHILD: usize = 112;
const PROVEN: u8 = 1;
const FILE: u8 = 2;

/// What must be unchanged for a file to be taken as unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatKey {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) ctime: (i64, u32),
}

impl StatKey {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether both times lie before `limit`: any later change then shows in them.
    pub(super) fn is_older_than(&self, limit: (i64, u32)) -> bool {
        self.mtime < limit && self.ctime < limit
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.device.to_le_bytes());
        out.extend(self.inode.to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        for (seconds, nanoseconds) in [self.mtime, self.ctime] {
            out.extend(seconds.to_le_bytes());
            out.extend(nanoseconds.to_le_bytes());
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            device: bytes.u64()?,
            inode: bytes.u64()?,
            mode: bytes.u32()?,
            size: bytes.u64()?,
            mtime: (bytes.u64()? as i64, bytes.u32()?),
            ctime: (bytes.u64()? as i64, bytes.u32()?),
        })
    }
}

/// What is known of one file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) key: StatKey,
    /// Whether its times were old enough to trust them.
    pub(super) proven: bool,
    /// The digest of a regular file.
    pub(super) digest: Option<FileDigest>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The cache as it was read.
#[derive(Debug, Default)]
pub(super) struct StatCache {
    bytes: Vec<u8>,
    directories: HashMap<Vec<u8>, Range<usize>>,
    /// Names as ranges of `bytes`; sorted within each directory.
    children: Vec<(Range<usize>, Known)>,
}

impl StatCache {
    /// Decodes a cache; `None` when it is not one.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let body = bytes.len().checked_sub(32)?;
        if blake3::hash(&bytes[..body]).as_bytes() != &bytes[body..] || !bytes.starts_with(MAGIC) {
            return None;
        }
        let mut reader = Reader { bytes: &bytes[..body], at: MAGIC.len() };
        let (mut directories, mut children) = (HashMap::new(), Vec::with_capacity(body / USUAL_CHILD));
        while reader.at < body {
            let length = reader.u32()? as usize;
            let path = reader.take(length)?.to_vec();
            let start = children.len();
            for _ in 0..reader.u32()? {
                children.push(read_child(&mut reader)?);
            }
            directories.insert(path, start..children.len());
        }
        Some(Self { bytes, directories, children })
    }

    /// Returns what is known of the children of a directory, sorted by name.
    pub(super) fn directory(&self, path: &[u8]) -> KnownDirectory<'_> {
        let children = self.directories.get(path).map_or(&[][..], |range| &self.children[range.clone()]);
        KnownDirectory { names: &self.bytes, children }
    }

    /// Returns the paths of all directories in it.
    pub(super) fn directories(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.directories.keys().map(Vec::as_slice)
    }
}

/// The part of a cache that belongs to one directory; asked for its children in the order of their names.
#[derive(Debug, Clone)]
pub(super) struct KnownDirectory<'a> {
    names: &'a [u8],
    children: &'a [(Range<usize>, Known)],
}

impl<'a> KnownDirectory<'a> {
    /// Returns what is known of `name`, which must not be smaller than any asked for before.
    pub(super) fn next(&mut self, name: &[u8]) -> Option<&'a Known> {
        while let Some(((range, known), rest)) = self.children.split_first() {
            match self.names[range.clone()].cmp(name) {
                std::cmp::Ordering::Less => self.children = rest,
                std::cmp::Ordering::Equal => {
                    self.children = rest;
                    return Some(known);
                }
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// Returns all of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a Known)> + use<'a> {
        let names = self.names;
        self.children.iter().map(move |(range, known)| (&names[range.clone()], known))
    }
}

/// Writes a cache.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts one of about so many files and directories.
    pub(super) fn new(children: usize) -> Self {
        let mut bytes = Vec::with_capacity(MAGIC.len() + children * USUAL_CHILD);
        bytes.extend(MAGIC);
        Self { bytes }
    }

    /// Adds a directory; its children come in the order of their names.
    pub(super) fn directory<'a>(
        &mut self,
        path: &[u8],
        children: impl ExactSizeIterator<Item = (&'a [u8], &'a Known)>,
    ) {
        self.bytes.extend((path.len() as u32).to_le_bytes());
        self.bytes.extend(path);
        self.bytes.extend((children.len() as u32).to_le_bytes());
        for (name, known) in children {
            self.child(name, known);
        }
    }

    fn child(&mut self, name: &[u8], known: &Known) {
        let out = &mut self.bytes;
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(name);
        out.push((u8::from(known.proven) * PROVEN) | (u8::from(known.digest.is_some()) * FILE));
        known.key.write(out);
        if let Some(digest) = &known.digest {
            out.extend(digest.as_bytes());
        }
        out.extend((known.xattrs.len() as u16).to_le_bytes());
        for (name, value) in &known.xattrs {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name);
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(value);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let checksum = blake3::hash(&self.bytes);
        self.bytes.extend(checksum.as_bytes());
        self.bytes
    }
}

fn read_child(reader: &mut Reader<'_>) -> Option<(Range<usize>, Known)> {
    let length = usize::from(reader.u16()?);
    let start = reader.at;
    reader.take(length)?;
    let name = start..reader.at;
    let flags = reader.take(1)?[0];
    let key = StatKey::read(reader)?;
    let digest = match flags & FILE {
        0 => None,
        _ => Some(FileDigest::from_bytes(reader.take(32)?.try_into().ok()?)),
    };
    let mut xattrs = BTreeMap::new();
    for _ in 0..reader.u16()? {
        let length = usize::from(reader.u16()?);
        let name = reader.take(length)?.to_vec();
        let length = reader.u32()? as usize;
        xattrs.insert(name, reader.take(length)?.to_vec());
    }
    Some((name, Known { key, proven: flags & PROVEN != 0, digest, xattrs }))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(inode: u64, digest: Option<FileDigest>) -> Known {
        let key = StatKey { device: 1, inode, mode: 0o100_644, size: 3, mtime: (-5, 7), ctime: (9, 11) };
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"b".to_vec())]);
        Known { key, proven: true, digest, xattrs }
    }

    fn sample() -> Vec<u8> {
        let (file, directory) = (known(2, Some(FileDigest::of(b"abc"))), known(3, None));
        let mut writer = Writer::new(1);
        writer.directory(b"", [(&b"a"[..], &directory), (b"z", &file)].into_iter());
        writer.directory(b"a", std::iter::empty());
        writer.finish()
    }

    #[test]
    fn what_was_written_is_found_again() {
        let cache = StatCache::decode(sample()).unwrap();
        let mut root = cache.directory(b"");
        assert_eq!(root.next(b"0"), None);
        assert_eq!(root.next(b"a"), Some(&known(3, None)));
        assert_eq!(root.next(b"b"), None);
        assert_eq!(root.next(b"z"), Some(&known(2, Some(FileDigest::of(b"abc")))));
        assert_eq!(cache.directory(b"absent").iter().count(), 0);
        assert_eq!(cache.directories().count(), 2);
    }

    #[test]
    fn a_damaged_cache_is_none() {
        let sample = sample();
        for cut in 0..sample.len() {
            assert!(StatCache::decode(sample[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        for flipped in 0..sample.len() {
            let mut damaged = sample.clone();
            damaged[flipped] ^= 0x40;
            assert!(StatCache::decode(damaged).is_none(), "flipped at {flipped}");
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let expected = "d380d3c45d1310202cf4d47b5386f833cf6a2fa008730f31dd55693105188839";
        assert_eq!(blake3::hash(&sample()).to_hex().as_str(), expected);
    }
}
