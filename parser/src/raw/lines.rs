//! Physical lines with their place in the file.

/// The longest line the reference reads, its newline not counted.
pub(super) const MAX_LINE: usize = 65_535;

/// A line with its newline, if it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// Offset of the first byte.
    pub(super) start: usize,
    /// The bytes, newline included.
    pub(super) bytes: &'a [u8],
    /// 1-based.
    pub(super) number: u32,
}

impl<'a> Line<'a> {
    /// Returns how many bytes the line has without any newline characters at its end.
    pub(super) fn content_length(&self) -> usize {
        let ending = self.bytes.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.bytes.len() - ending
    }

    pub(super) fn content(&self) -> &'a [u8] {
        &self.bytes[..self.content_length()]
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.bytes.len() - usize::from(self.bytes.ends_with(b"\n")) > MAX_LINE
    }
}

/// The lines of a file; a byte order mark at its start is no part of the first.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    position: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let position = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Lines { text, position, number: 0 }
    }

    /// Returns the number of the line that was read last.
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let line = Line { start: self.position, bytes: &rest[..length], number: self.number + 1 };
        self.position += length;
        self.number += 1;
        Some(line)
    }
}

/// Returns `bytes` without white space at the start.
pub(super) fn trim_start(bytes: &[u8]) -> &[u8] {
    &bytes[leading_space(bytes)..]
}

/// Returns how many bytes of white space `bytes` starts with.
pub(super) fn leading_space(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some((character, width)) = decode(&bytes[at..]) {
        if !character.is_whitespace() {
            break;
        }
        at += width;
    }
    at
}

/// Decodes one character; a byte that is not UTF-8 reads as U+FFFD.
pub(super) fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The part before the error is valid by what `valid_up_to` says.
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// Returns whether the first thing on the line is `#`.
pub(super) fn is_comment(bytes: &[u8]) -> bool {
    trim_start(bytes).starts_with(b"#")
}
