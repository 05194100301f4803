//! An index on disk, read in the places a question touches.
//!
//! Small files are read whole, larger ones by `pread`: there is no mapping, as a file cut short by a full disk would then kill
//! the process. Only [`IndexFile::load`] checks the checksum; lookups refuse what they cannot make sense of.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::encoding::{self, CHECKSUM, HEADER, Header};
use super::{Entry, IndexError, LayerIndex, LayerLookup, RawIndex};
use crate::LayerId;
use crate::fault::{Point, reach};

/// Files up to this size are read at once.
const SMALL: u64 = 256 * 1024;

/// An index file that is open for lookups.
#[derive(Debug)]
pub struct IndexFile {
    path: PathBuf,
    source: Source,
    header: Header,
    holders: Vec<LayerId>,
    /// Where the entries start, and where they end.
    offsets: OnceLock<Vec<u64>>,
}

#[derive(Debug)]
enum Source {
    Whole(Vec<u8>),
    File { file: File, length: u64 },
}

impl IndexFile {
    /// Opens the index file at `path`.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let failed = |source| IndexError::Read { path: path.to_owned(), source };
        let file = reach(Point::IndexOpen).and_then(|()| File::open(path)).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut source = Source::File { file, length };
        if length <= SMALL {
            source = Source::Whole(source.read(0, length).map_err(failed)?.into_owned());
        }
        Self::from_source(path, source)
    }

    /// Returns an index whose bytes are in memory, for lookups.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, IndexError> {
        Self::from_source(Path::new("memory"), Source::Whole(bytes))
    }

    fn from_source(path: &Path, source: Source) -> Result<Self, IndexError> {
        let failed = |source| IndexError::Read { path: path.to_owned(), source };
        let start = source.read(0, source.length().min(HEADER as u64)).map_err(failed)?;
        let header = Header::parse(&start, source.length())?;
        let list = source.read(HEADER as u64, 32 * header.holders as u64).map_err(failed)?;
        let holders = encoding::parse_holders(&list);
        Ok(Self { path: path.to_owned(), source, header, holders, offsets: OnceLock::new() })
    }

    /// Reads the whole index, and checks all of it.
    pub fn load(&self) -> Result<LayerIndex, IndexError> {
        LayerIndex::decode(&self.read(0, self.source.length())?)
    }

    /// Reads the whole index as it is on disk, and verifies its checksum.
    pub fn raw(&self) -> Result<RawIndex, IndexError> {
        RawIndex::new(self.read(0, self.source.length())?.into_owned())
    }

    fn read(&self, offset: u64, length: u64) -> Result<Cow<'_, [u8]>, IndexError> {
        self.source
            .read(offset, length)
            .map_err(|source| IndexError::Read { path: self.path.clone(), source })
    }

    /// The table of offsets, 8 bytes an entry, checked once to ascend and to stay inside the file.
    fn offsets(&self) -> Result<&[u64], IndexError> {
        if let Some(offsets) = self.offsets.get() {
            return Ok(offsets);
        }
        let table = self.read(self.header.offsets_start(), 8 * (self.header.entries as u64 + 1))?;
        let offsets: Vec<u64> = table.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let end = self.source.length() - CHECKSUM as u64;
        if offsets.first() != Some(&self.header.entries_start())
            || offsets.last() != Some(&end)
            || !offsets.is_sorted()
        {
            return Err(IndexError::Damaged("its table of offsets is wrong"));
        }
        Ok(self.offsets.get_or_init(|| offsets))
    }
}

impl LayerLookup for IndexFile {
    fn count(&self) -> usize {
        self.header.entries
    }

    fn path_at(&self, position: usize) -> Result<Cow<'_, [u8]>, IndexError> {
        let offsets = self.offsets()?;
        let bytes = self.read(offsets[position], offsets[position + 1] - offsets[position])?;
        Ok(match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(encoding::parse_path(bytes)?),
            Cow::Owned(bytes) => Cow::Owned(encoding::parse_path(&bytes)?.to_vec()),
        })
    }

    fn entries_at(&self, positions: Range<usize>) -> Result<Cow<'_, [Entry]>, IndexError> {
        let offsets = self.offsets()?;
        let start = offsets[positions.start];
        let bytes = self.read(start, offsets[positions.end] - start)?;
        let entry = |position: usize| {
            let within = (offsets[position] - start) as usize..(offsets[position + 1] - start) as usize;
            encoding::parse_entry(&bytes[within], &self.holders)
        };
        Ok(Cow::Owned(positions.map(entry).collect::<Result<_, _>>()?))
    }

    fn links(&self) -> Result<Vec<usize>, IndexError> {
        let table = self.read(self.header.links_start(), 4 * self.header.links as u64)?;
        let positions: Vec<usize> =
            table.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect();
        match positions.iter().all(|&position| position < self.header.entries) {
            true => Ok(positions),
            false => Err(IndexError::Damaged("its table of hard links is wrong")),
        }
    }

    fn holders(&self) -> Result<BTreeSet<LayerId>, IndexError> {
        Ok(self.holders.iter().copied().collect())
    }
}

impl Source {
    fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    fn read(&self, offset: u64, length: u64) -> io::Result<Cow<'_, [u8]>> {
        let end = offset.checked_add(length).filter(|&end| end <= self.length());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match self {
            Self::Whole(bytes) => Ok(Cow::Borrowed(&bytes[offset as usize..end as usize])),
            Self::File { file, .. } => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{arbitrary_index, file, hard_link, sample};
    use super::*;

    fn open(bytes: &[u8]) -> Result<IndexFile, IndexError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        std::fs::write(&path, bytes).unwrap();
        IndexFile::open(&path)
    }

    /// Answers from `pread`, however small the file is.
    fn open_unread(bytes: &[u8]) -> IndexFile {
        let mut index = open(bytes).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        index.source = Source::File { file, length: bytes.len() as u64 };
        index
    }

    #[test]
    fn a_large_index_is_not_read_whole() {
        let entries =
            (0..20_000).map(|number| file(&format!("d{}/f{number:05}", number % 7), b"x")).collect();
        let index = LayerIndex::from_entries(entries).unwrap();
        let bytes = index.encode();
        assert!(bytes.len() as u64 > SMALL);
        let opened = open(&bytes).unwrap();
        assert!(matches!(opened.source, Source::File { .. }));
        assert_eq!(opened.entry(b"d3/f00010").unwrap().as_ref(), index.find(b"d3/f00010"));
        assert_eq!(opened.subtree(b"d4").unwrap(), index.subtree(b"d4").unwrap());
        assert_eq!(opened.children(b"").unwrap().len(), 7);
    }

    #[test]
    fn nonsense_is_refused_or_harmless() {
        let bytes = sample().encode();
        for length in 0..HEADER + CHECKSUM {
            assert!(open(&bytes[..length]).is_err(), "cut to {length}");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0xff;
            let Ok(opened) = open(&changed) else { continue };
            assert!(opened.load().is_err());
            // What these say does not matter, only that they return.
            let _ = (
                opened.lookup(b"usr/bin/tool"),
                opened.children(b"usr"),
                opened.subtree(b""),
                opened.links(),
            );
        }
    }

    #[test]
    fn tables_answer_without_the_entries() {
        let index =
            LayerIndex::from_entries(vec![file("a", b""), file("b", b""), hard_link("c", "a")]).unwrap();
        let opened = open_unread(&index.encode());
        assert_eq!(opened.links().unwrap(), [2]);
        assert_eq!(LayerLookup::holders(&open_unread(&sample().encode())).unwrap(), sample().holders());
    }

    proptest! {
        #[test]
        fn the_file_answers_as_the_index_does(index in arbitrary_index()) {
            let bytes = index.encode();
            for opened in [open(&bytes).unwrap(), open_unread(&bytes)] {
                prop_assert_eq!(&opened.load().unwrap(), &index);
                prop_assert_eq!(LayerLookup::links(&opened).unwrap(), LayerLookup::links(&index).unwrap());
                for path in index.entries.iter().map(|entry| &entry.path[..]).chain([&b""[..], b"absent", b"a/absent"]) {
                    prop_assert_eq!(opened.lookup(path).unwrap(), index.lookup(path).unwrap());
                    prop_assert_eq!(opened.children(path).unwrap(), index.children(path).unwrap());
                    prop_assert_eq!(opened.subtree(path).unwrap(), index.subtree(path).unwrap());
                }
            }
        }
    }
}
