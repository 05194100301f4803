//! From byte offsets to lines and columns.

/// A place as people count: both parts start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where each line of a text starts.
#[derive(Debug, Clone)]
pub struct LineIndex<'a> {
    text: &'a [u8],
    starts: Vec<u32>,
}

impl<'a> LineIndex<'a> {
    /// Finds the lines of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at as u32 + 1)).collect();
        LineIndex { text, starts }
    }

    /// Returns the line and column of a byte; past the end counts as the end.
    pub fn position(&self, offset: u32) -> Position {
        let offset = offset.min(self.text.len() as u32);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1] as usize;
        let before = &self.text[start..offset as usize];
        let before = before.strip_prefix(b"\xef\xbb\xbf").filter(|_| line == 1).unwrap_or(before);
        let column = before
            .utf8_chunks()
            .map(|chunk| chunk.valid().chars().count() + chunk.invalid().len())
            .sum::<usize>();
        Position { line: line as u32, column: column as u32 + 1 }
    }

    /// Returns a line (counted from 1) without its newline; `None` past the last.
    pub fn line(&self, line: u32) -> Option<&'a [u8]> {
        let index = (line as usize).checked_sub(1)?;
        let start = *self.starts.get(index)? as usize;
        let end = self.starts.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        let bytes = &self.text[start..end];
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Some(bytes.strip_suffix(b"\r").unwrap_or(bytes))
    }

    /// Returns the byte at which a line (counted from 1) starts.
    pub fn line_start(&self, line: u32) -> Option<u32> {
        self.starts.get((line as usize).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns() {
        let index = LineIndex::new("\u{feff}FROM a\r\nRUN é b\n".as_bytes());
        for (offset, line, column) in
            [(0, 1, 1), (3, 1, 1), (8, 1, 6), (11, 2, 1), (17, 2, 6), (20, 3, 1), (99, 3, 1)]
        {
            assert_eq!(index.position(offset), Position { line, column }, "{offset}");
        }
        assert_eq!(index.line(2), Some("RUN é b".as_bytes()));
        assert_eq!(index.line(3), Some(&b""[..]));
        assert_eq!((index.line(4), index.line(0)), (None, None));
        assert_eq!(index.line_start(2), Some(11));
    }
}
