//! The form of an index on disk. One index has exactly one form.
//!
//! Integers are little-endian; `bytes` is a `u32` length and that many bytes.
//!
//! ```text
//! "micaindx"                      8 bytes
//! version, entries, holders, links: u32
//! holders × 32 bytes              layers that hold bytes of this one's files, ascending
//! links × u32                     positions of the hard links, ascending
//! (entries + 1) × u64             where each entry starts in the file; last, where they all end
//! entries:
//!     path: bytes  kind: u8  mode, uid, gid: u32
//!     seconds: i64  nanoseconds: u32  set: u8
//!     attributes: u32, each  name: bytes  value: bytes
//!     1 file          size: u64  digest: 32 bytes  then where the bytes lie:
//!                     0 here | 1 holder: u32, same path | 2 holder: u32, path: bytes
//!     2 directory     opaque: u8
//!     3 symlink, 4 hard link      target: bytes
//!     5 character, 6 block device major, minor: u32
//!     7 fifo, 8 whiteout
//! BLAKE3 of all of the above      32 bytes
//! ```

use std::collections::BTreeMap;

use super::tables::Tables;
use super::{Bytes, Entry, IndexError, LayerIndex, Node, RawFile, Time, TimeKind};
use crate::{FileDigest, LayerId};

/// The version of the format.
pub(super) const VERSION: u32 = 1;
/// Length of magic, version and the three counts.
pub(super) const HEADER: usize = 24;
/// Length of the checksum at the end.
pub(super) const CHECKSUM: usize = 32;
/// Fewer bytes than this no entry has.
const SMALLEST_ENTRY: usize = 4 + 1 + ATTRIBUTES + 4;
/// Length of mode, owner and time.
const ATTRIBUTES: usize = 12 + 13;

const MAGIC: &[u8; 8] = b"micaindx";

/// The fixed start of an index file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) entries: usize,
    pub(super) holders: usize,
    pub(super) links: usize,
}

impl Header {
    /// Reads the start of a file of `length` bytes; what it claims then fits into the file.
    pub(super) fn parse(bytes: &[u8], length: u64) -> Result<Self, IndexError> {
        let mut fields = Fields { rest: bytes };
        if fields.take(8)? != MAGIC {
            return Err(IndexError::Damaged("it does not begin like one"));
        }
        let version = fields.u32()?;
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let [entries, holders, links] =
            [fields.u32()?, fields.u32()?, fields.u32()?].map(|count| count as usize);
        let header = Self { entries, holders, links };
        let least = header.entries_start() + entries as u64 * SMALLEST_ENTRY as u64 + CHECKSUM as u64;
        if least > length {
            return Err(IndexError::Damaged("it is cut short"));
        }
        Ok(header)
    }

    pub(super) fn links_start(&self) -> u64 {
        HEADER as u64 + 32 * self.holders as u64
    }

    pub(super) fn offsets_start(&self) -> u64 {
        self.links_start() + 4 * self.links as u64
    }

    pub(super) fn entries_start(&self) -> u64 {
        self.offsets_start() + 8 * (self.entries as u64 + 1)
    }

    pub(super) fn holders_in<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[HEADER..self.links_start() as usize]
    }

    /// Checks that the bytes are those that were written.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), IndexError> {
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        match blake3::hash(body).as_bytes() == checksum {
            true => Ok(()),
            false => Err(IndexError::Damaged("its checksum is wrong")),
        }
    }
}

impl LayerIndex {
    /// Returns the index in its form on disk.
    ///
    /// # Panics
    ///
    /// When the index has 2³² entries or a path or attribute of 4 GiB, which no file system and no tar yields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let holders: Vec<LayerId> = self.holders().into_iter().collect();
        let is_link = |entry: &Entry| matches!(entry.node, Node::HardLink { .. });
        let links: Vec<usize> =
            self.entries.iter().enumerate().filter(|(_, entry)| is_link(entry)).map(|(at, _)| at).collect();
        let header = Header { entries: self.entries.len(), holders: holders.len(), links: links.len() };
        let mut out =
            Vec::with_capacity(header.entries_start() as usize + 128 * self.entries.len() + CHECKSUM);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for count in [header.entries, header.holders, header.links] {
            put_u32(&mut out, count);
        }
        holders.iter().for_each(|holder| out.extend_from_slice(holder.as_bytes()));
        links.iter().for_each(|&position| put_u32(&mut out, position));
        self.put_entries(&mut out, &header, &holders);
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// Reads an index in its form on disk, all of which is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let header = Header::parse(bytes, bytes.len() as u64)?;
        header.verify(bytes)?;
        let body = &bytes[..bytes.len() - CHECKSUM];
        let holders = parse_holders(header.holders_in(body));
        let mut tables = Tables::read(&header, body);
        let mut fields = Fields { rest: &body[header.entries_start() as usize..] };
        let mut entries = Vec::with_capacity(header.entries);
        for position in 0..header.entries {
            tables.starts(position, body.len() - fields.rest.len())?;
            let entry = fields.entry(&holders)?;
            tables.see(position, &entry);
            entries.push(entry);
        }
        tables.finish(body.len() - fields.rest.len(), body.len(), &holders)?;
        let index = Self { entries };
        index.check()?;
        Ok(index)
    }

    fn put_entries(&self, out: &mut Vec<u8>, header: &Header, holders: &[LayerId]) {
        let table = header.offsets_start() as usize;
        out.resize(header.entries_start() as usize, 0);
        for (position, entry) in self.entries.iter().enumerate() {
            let start = out.len() as u64;
            out[table + 8 * position..][..8].copy_from_slice(&start.to_le_bytes());
            put_entry(out, entry, holders);
        }
        let end = out.len() as u64;
        out[table + 8 * self.entries.len()..][..8].copy_from_slice(&end.to_le_bytes());
    }
}

/// Reads the list of holders, whose length is a multiple of 32.
pub(super) fn parse_holders(bytes: &[u8]) -> Vec<LayerId> {
    bytes.as_chunks::<32>().0.iter().map(|id| LayerId::from_bytes(*id)).collect()
}

/// Reads one entry, which fills `bytes` exactly.
pub(super) fn parse_entry(bytes: &[u8], holders: &[LayerId]) -> Result<Entry, IndexError> {
    let mut fields = Fields { rest: bytes };
    let entry = fields.entry(holders)?;
    match fields.rest {
        [] => Ok(entry),
        _ => Err(IndexError::Damaged("an entry is too long")),
    }
}

/// Reads the path of the entry that starts with `bytes`.
pub(super) fn parse_path(bytes: &[u8]) -> Result<&[u8], IndexError> {
    Fields { rest: bytes }.bytes()
}

/// Returns the number that stands for the kind of `node`.
pub(super) fn kind(node: &Node) -> u8 {
    match node {
        Node::File { .. } => 1,
        Node::Directory { .. } => 2,
        Node::Symlink { .. } => 3,
        Node::HardLink { .. } => 4,
        Node::CharDevice { .. } => 5,
        Node::BlockDevice { .. } => 6,
        Node::Fifo => 7,
        Node::Whiteout => 8,
    }
}

/// Appends a length and `bytes`.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("an index has fewer than 2³² of anything");
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, holders: &[LayerId]) {
    put_bytes(out, &entry.path);
    out.push(kind(&entry.node));
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.mtime.seconds.to_le_bytes());
    out.extend_from_slice(&entry.mtime.nanoseconds.to_le_bytes());
    out.push(u8::from(entry.mtime.kind == TimeKind::Set));
    put_u32(out, entry.xattrs.len());
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    match &entry.node {
        Node::File { size, digest, bytes } => {
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(digest.as_bytes());
            put_place(out, bytes, &entry.path, holders);
        }
        Node::Directory { opaque } => out.push(u8::from(*opaque)),
        Node::Symlink { target } | Node::HardLink { target } => put_bytes(out, target),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        Node::Fifo | Node::Whiteout => {}
    }
}

fn put_place(out: &mut Vec<u8>, bytes: &Bytes, own_path: &[u8], holders: &[LayerId]) {
    let Bytes::In { layer, path } = bytes else { return out.push(0) };
    out.push(if path == own_path { 1 } else { 2 });
    put_u32(out, holders.binary_search(layer).expect("the table has every holder"));
    if path != own_path {
        put_bytes(out, path);
    }
}

pub(super) const NOT_CANONICAL: IndexError = IndexError::Damaged("it is not in its canonical form");

/// The part of an index that is still to be read.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], IndexError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(IndexError::Damaged("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        Ok(*self.take(N)?.first_chunk().expect("N bytes were taken"))
    }

    fn u8(&mut self) -> Result<u8, IndexError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, IndexError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(IndexError::Damaged("a flag is neither 0 nor 1")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], IndexError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(super) fn entry(&mut self, holders: &[LayerId]) -> Result<Entry, IndexError> {
        let path = self.bytes()?.to_vec();
        let kind = self.u8()?;
        let [mode, uid, gid] = [self.u32()?, self.u32()?, self.u32()?];
        let mtime = self.time()?;
        let xattrs = self.xattrs()?;
        let node = self.node(kind, &path, holders)?;
        Ok(Entry { path, mode, uid, gid, mtime, xattrs, node })
    }

    fn time(&mut self) -> Result<Time, IndexError> {
        let seconds = i64::from_le_bytes(self.array()?);
        let nanoseconds = self.u32()?;
        let kind = if self.flag()? { TimeKind::Set } else { TimeKind::Now };
        Ok(Time { seconds, nanoseconds, kind })
    }

    fn xattrs(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, IndexError> {
        let count = self.u32()?;
        let mut xattrs = BTreeMap::new();
        for _ in 0..count {
            let (name, value) = (self.bytes()?.to_vec(), self.bytes()?.to_vec());
            if xattrs.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(NOT_CANONICAL);
            }
            xattrs.insert(name, value);
        }
        Ok(xattrs)
    }

    /// Reads one entry and returns it if it is a regular file.
    pub(super) fn file(&mut self, holders: &[LayerId]) -> Result<Option<RawFile<'a>>, IndexError> {
        let path = self.bytes()?;
        let kind = self.u8()?;
        self.take(ATTRIBUTES)?;
        for _ in 0..self.u32()? {
            self.bytes()?;
            self.bytes()?;
        }
        match kind {
            1 => {
                let size = u64::from_le_bytes(self.array()?);
                let digest = FileDigest::from_bytes(self.array()?);
                let holder = self.holder(path, holders)?;
                return Ok(Some(RawFile { path, size, digest, holder }));
            }
            2 => drop(self.take(1)?),
            3 | 4 => drop(self.bytes()?),
            5 | 6 => drop(self.take(8)?),
            _ => {}
        }
        Ok(None)
    }

    fn node(&mut self, kind: u8, path: &[u8], holders: &[LayerId]) -> Result<Node, IndexError> {
        Ok(match kind {
            1 => {
                let size = u64::from_le_bytes(self.array()?);
                let digest = FileDigest::from_bytes(self.array()?);
                Node::File { size, digest, bytes: self.place(path, holders)? }
            }
            2 => Node::Directory { opaque: self.flag()? },
            3 => Node::Symlink { target: self.bytes()?.to_vec() },
            4 => Node::HardLink { target: self.bytes()?.to_vec() },
            5 => Node::CharDevice { major: self.u32()?, minor: self.u32()? },
            6 => Node::BlockDevice { major: self.u32()?, minor: self.u32()? },
            7 => Node::Fifo,
            8 => Node::Whiteout,
            _ => return Err(IndexError::Damaged("an entry is of no known kind")),
        })
    }

    fn place(&mut self, path: &[u8], holders: &[LayerId]) -> Result<Bytes, IndexError> {
        Ok(match self.holder(path, holders)? {
            None => Bytes::Here,
            Some((layer, path)) => Bytes::In { layer, path: path.to_vec() },
        })
    }

    /// Reads where a file's bytes lie, unless they are here.
    fn holder<'b>(
        &mut self,
        path: &'b [u8],
        holders: &[LayerId],
    ) -> Result<Option<(LayerId, &'b [u8])>, IndexError>
    where
        'a: 'b,
    {
        let form = self.u8()?;
        if form == 0 {
            return Ok(None);
        }
        let holder = self.u32()? as usize;
        let layer =
            *holders.get(holder).ok_or(IndexError::Damaged("bytes lie in a layer that is not listed"))?;
        let there: &'b [u8] = match form {
            1 => path,
            2 => self.bytes()?,
            _ => return Err(IndexError::Damaged("bytes lie in no known place")),
        };
        match form == 2 && there == path {
            true => Err(NOT_CANONICAL),
            false => Ok(Some((layer, there))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{arbitrary_index, sample};
    use super::*;

    #[test]
    fn the_form_of_a_fixed_index_is_pinned() {
        assert_eq!(
            FileDigest::of(&sample().encode()).hex(),
            "34a62092a365ee99b8d7599463d12d13cc9e977799e1e4368e75c61e4f11dd59"
        );
        let empty = LayerIndex::default().encode();
        assert_eq!(empty.len(), HEADER + 8 + CHECKSUM);
        assert_eq!(LayerIndex::decode(&empty).unwrap(), LayerIndex::default());
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = sample().encode();
        bytes[8] = 9;
        let error = LayerIndex::decode(&bytes).expect_err("a future version").to_string();
        assert_eq!(error, "a layer index has format version 9, this mica knows version 1");
    }

    /// Puts a right checksum on changed bytes, so that the checks behind it are reached.
    fn resign(bytes: &mut Vec<u8>) {
        bytes.truncate(bytes.len().saturating_sub(CHECKSUM));
        let checksum = blake3::hash(bytes);
        bytes.extend_from_slice(checksum.as_bytes());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let bytes = sample().encode();
        for length in 0..bytes.len() {
            assert!(LayerIndex::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0x41;
            assert!(LayerIndex::decode(&changed).is_err(), "byte {position}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(index in arbitrary_index()) {
            prop_assert_eq!(LayerIndex::decode(&index.encode()).unwrap(), index);
        }

        #[test]
        fn signed_nonsense_is_refused_or_canonical(position: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = sample().encode();
            let at = position.index(bytes.len());
            bytes[at] = byte;
            if byte % 4 == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            resign(&mut bytes);
            if let Ok(index) = LayerIndex::decode(&bytes) {
                prop_assert_eq!(index.encode(), bytes);
            }
        }
    }
}
