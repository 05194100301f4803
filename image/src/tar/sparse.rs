//! Files with holes, in each of the forms GNU tar writes them.

use std::io::Read;

use super::error::TarError;
use super::extension::decimal;
use super::member::{TarReader, number_u64};

/// No honest file has more pieces than this.
const MOST_EXTENTS: usize = 1 << 20;
const OUT_OF_RANGE: TarError = TarError::Damaged("a sparse file's map is out of range");

/// Where the bytes of a file with holes go.
pub(super) struct SparseMap {
    size: u64,
    /// Offset and length of each piece of data.
    pieces: Vec<(u64, u64)>,
}

/// A hole, and the data after it.
pub(super) struct Extent {
    pub(super) hole: u64,
    pub(super) data: u64,
}

impl SparseMap {
    pub(super) fn new(size: u64) -> Self {
        Self { size, pieces: Vec::new() }
    }

    /// The length of the file, holes included.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn push_pairs(&mut self, numbers: &[u64]) -> Result<(), TarError> {
        if !numbers.len().is_multiple_of(2) {
            return Err(OUT_OF_RANGE);
        }
        numbers.chunks(2).try_for_each(|pair| self.push(pair[0], pair[1]))
    }

    /// Adds a piece as a GNU header has it; an empty field is none.
    pub(super) fn push_field(&mut self, field: &::tar::GnuSparseHeader) -> Result<(), TarError> {
        if field.is_empty() {
            return Ok(());
        }
        self.push(number_u64(&field.offset)?, number_u64(&field.numbytes)?)
    }

    /// Reads the map that stands before the file's bytes: a count, then offsets and lengths, one number a line.
    pub(super) fn read_from_data<R: Read>(&mut self, reader: &mut TarReader<'_, R>) -> Result<(), TarError> {
        let mut text = Vec::new();
        let mut next = || -> Result<u64, TarError> {
            loop {
                if let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    return decimal(&line[..end]);
                }
                if text.len() > 32 {
                    return Err(OUT_OF_RANGE);
                }
                text.extend_from_slice(&reader.data_block()?);
            }
        };
        for _ in 0..next()? {
            let (offset, length) = (next()?, next()?);
            self.push(offset, length)?;
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), TarError> {
        let end = offset.checked_add(length).filter(|&end| end <= self.size);
        let before = self.pieces.last().map_or(0, |(offset, length)| offset + length);
        if end.is_none() || offset < before || self.pieces.len() >= MOST_EXTENTS {
            return Err(OUT_OF_RANGE);
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// Checks that the pieces take all of the bytes that are stored.
    pub(super) fn check(&self, stored: u64) -> Result<(), TarError> {
        let sum: u64 = self.pieces.iter().map(|(_, length)| length).sum();
        if sum == stored {
            Ok(())
        } else {
            Err(TarError::Damaged("a sparse file's map does not fit its bytes"))
        }
    }

    /// Returns holes and data in turn; the last hole has no data after it.
    pub(super) fn extents(&self) -> impl Iterator<Item = Extent> {
        let mut position = 0;
        self.pieces.iter().copied().chain([(self.size, 0)]).map(move |(offset, data)| {
            let hole = offset - position;
            position = offset + data;
            Extent { hole, data }
        })
    }
}
