//! One line of a file made fit to be shown, with the cells its bytes are at.

use std::ops::Range;

use unicode_width::UnicodeWidthChar;

const TAB: usize = 4;
/// A line wider than this is shown in part.
const WIDEST: usize = 160;
/// How much is shown before the place of interest then.
const LEAD: usize = 60;

/// A line without tabs and control characters.
pub(super) struct ShownLine {
    text: String,
    /// For each shown character: the byte it comes from, counted from the line's start, its first cell and where it is in `text`.
    places: Vec<Place>,
    cells: usize,
}

struct Place {
    byte: usize,
    cell: usize,
    at: usize,
}

impl ShownLine {
    pub(super) fn new(line: &[u8]) -> Self {
        let mut shown = Self { text: String::new(), places: Vec::new(), cells: 0 };
        let mut byte = 0;
        for chunk in line.utf8_chunks() {
            for character in chunk.valid().chars() {
                shown.push(byte, character);
                byte += character.len_utf8();
            }
            if !chunk.invalid().is_empty() {
                shown.push(byte, char::REPLACEMENT_CHARACTER);
                byte += chunk.invalid().len();
            }
        }
        shown
    }

    fn push(&mut self, byte: usize, character: char) {
        self.places.push(Place { byte, cell: self.cells, at: self.text.len() });
        match character {
            '\t' => {
                let blanks = TAB - self.cells % TAB;
                self.text.extend(std::iter::repeat_n(' ', blanks));
                self.cells += blanks;
            }
            '\u{feff}' => {}
            // Marks of writing direction would show the line as something it is not.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.replace(),
            _ => match character.width() {
                None => self.replace(),
                Some(width) => {
                    self.text.push(character);
                    self.cells += width;
                }
            },
        }
    }

    fn replace(&mut self) {
        self.text.push(char::REPLACEMENT_CHARACTER);
        self.cells += 1;
    }

    /// Returns the whole text.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Returns the cells of a range of bytes; at least one.
    pub(super) fn cells(&self, bytes: Range<usize>) -> Range<usize> {
        let start = self.cell(bytes.start);
        start..self.cell(bytes.end).max(start + 1)
    }

    fn cell(&self, byte: usize) -> usize {
        self.places.iter().find(|place| place.byte >= byte).map_or(self.cells, |place| place.cell)
    }

    /// Returns the text and how many cells of it were left out before the start: `focus` is in sight.
    pub(super) fn window(&self, focus: usize) -> (String, usize) {
        if self.cells <= WIDEST {
            return (self.text.trim_end().to_owned(), 0);
        }
        let from = if focus < WIDEST - LEAD { 0 } else { focus - LEAD };
        let first = self.places.iter().position(|place| place.cell >= from).unwrap_or(0);
        let last =
            self.places.iter().position(|place| place.cell >= from + WIDEST).unwrap_or(self.places.len());
        let end = self.places.get(last).map_or(self.text.len(), |place| place.at);
        let (start, skipped) = self.places.get(first).map_or((0, 0), |place| (place.at, place.cell));
        let before = if start > 0 { "…" } else { "" };
        let after = if end < self.text.len() { "…" } else { "" };
        let text = format!("{before}{}{after}", self.text[start..end].trim_end());
        // The mark takes a cell of its own.
        (text, skipped.saturating_sub(usize::from(start > 0)))
    }

    /// Returns the bytes from the first character that is no blank to the last.
    pub(super) fn written(line: &[u8]) -> Range<usize> {
        let is_text = |byte: &u8| !byte.is_ascii_whitespace();
        let start = line.iter().position(is_text).unwrap_or(0);
        start..line.iter().rposition(is_text).map_or(start, |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_count_what_is_seen() {
        let line = ShownLine::new("\ta日é\u{1}x".as_bytes());
        assert_eq!(line.window(0).0, "    a日é\u{fffd}x");
        let cases = [
            (0..1, 0..4),
            (1..2, 4..5),
            (2..5, 5..7),
            (5..7, 7..8),
            (7..8, 8..9),
            (8..9, 9..10),
            (9..9, 10..11),
        ];
        for (bytes, cells) in cases {
            assert_eq!(line.cells(bytes.clone()), cells, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let line = ShownLine::new(text.as_bytes());
        let (shown, skipped) = line.window(500);
        let cells = line.cells(500..504);
        let here = shown.chars().skip(cells.start - skipped).take(4).collect::<String>();
        assert_eq!(here, "HERE");
        assert!(shown.starts_with('…') && shown.ends_with('…') && shown.chars().count() <= WIDEST + 2);
        assert!(line.window(3).0.starts_with("aaa"));
    }

    #[test]
    fn invalid_bytes_are_one_cell() {
        let line = ShownLine::new(b"a\xffb");
        assert_eq!(line.window(0).0, "a\u{fffd}b");
        assert_eq!(line.cells(2..3), 2..3);
    }
}
