//! The joined text of an instruction, and the way back to the bytes it came from.

use std::ops::Range;

use super::lines::decode;
use crate::syntax::{Span, Spanned};

/// Pieces of a file put together, as continuation lines are; bytes that are not UTF-8 become U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Joined {
    text: String,
    pieces: Vec<Piece>,
    /// Where an empty text would be.
    origin: u32,
}

/// A run of the joined text that is a run of the original too.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u32,
    origin: u32,
    original_length: u32,
}

impl Joined {
    pub(super) fn new(origin: usize) -> Self {
        Joined { text: String::new(), pieces: Vec::new(), origin: origin as u32 }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], mut origin: usize) {
        while !bytes.is_empty() {
            let valid = match std::str::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
            };
            if valid.is_empty() {
                let (character, width) = decode(bytes).unwrap_or((char::REPLACEMENT_CHARACTER, 1));
                self.push_piece(character.encode_utf8(&mut [0; 4]), origin, width);
                (bytes, origin) = (&bytes[width..], origin + width);
            } else {
                self.push_piece(valid, origin, valid.len());
                (bytes, origin) = (&bytes[valid.len()..], origin + valid.len());
            }
        }
    }

    fn push_piece(&mut self, text: &str, origin: usize, original_length: usize) {
        self.pieces.push(Piece {
            at: self.text.len() as u32,
            origin: origin as u32,
            original_length: original_length as u32,
        });
        self.text.push_str(text);
    }

    pub(super) fn whole(&self) -> Slice<'_> {
        Slice { joined: self, start: 0, end: self.text.len() }
    }

    fn piece_at(&self, at: usize) -> Option<&Piece> {
        let index = self.pieces.partition_point(|piece| piece.at as usize <= at);
        self.pieces.get(index.checked_sub(1)?)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let place = |at: usize| {
            self.piece_at(at)
                .map_or(self.origin, |piece| piece.origin + (at as u32 - piece.at).min(piece.original_length))
        };
        if start == end {
            return Span { start: place(start), end: place(start) };
        }
        let last = self
            .piece_at(end - 1)
            .map_or(self.origin, |piece| piece.origin + (end as u32 - piece.at).min(piece.original_length));
        Span { start: place(start), end: last }
    }
}

/// A part of a joined text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a> {
    joined: &'a Joined,
    start: usize,
    end: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn text(&self) -> &'a str {
        &self.joined.text[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn span(&self) -> Span {
        self.joined.span(self.start, self.end)
    }

    pub(super) fn spanned(&self) -> Spanned<String> {
        Spanned { span: self.span(), value: self.text().to_owned() }
    }

    pub(super) fn sub(&self, range: Range<usize>) -> Slice<'a> {
        Slice { joined: self.joined, start: self.start + range.start, end: self.start + range.end }
    }

    pub(super) fn from(&self, start: usize) -> Slice<'a> {
        self.sub(start..self.end - self.start)
    }

    pub(super) fn to(&self, end: usize) -> Slice<'a> {
        self.sub(0..end)
    }

    pub(super) fn trim_start(&self) -> Slice<'a> {
        let text = self.text();
        self.from(text.len() - text.trim_start().len())
    }

    pub(super) fn trim_end(&self) -> Slice<'a> {
        self.to(self.text().trim_end().len())
    }

    pub(super) fn trim(&self) -> Slice<'a> {
        self.trim_start().trim_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_reach_back_over_joins_and_bad_bytes() {
        let file = b"RUN a\\\nb\xffc";
        let mut joined = Joined::new(0);
        joined.push(&file[..5], 0);
        joined.push(&file[7..], 7);
        let whole = joined.whole();
        assert_eq!(whole.text(), "RUN ab\u{fffd}c");
        assert_eq!(whole.span(), Span { start: 0, end: 10 });
        assert_eq!(whole.sub(4..6).span(), Span { start: 4, end: 8 });
        assert_eq!(whole.sub(6..9).span(), Span { start: 8, end: 9 });
        assert_eq!(whole.sub(9..10).span(), Span { start: 9, end: 10 });
        assert_eq!(whole.sub(10..10).span(), Span { start: 10, end: 10 });
    }
}
