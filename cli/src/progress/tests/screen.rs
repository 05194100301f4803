//! A terminal small enough to be a test: what the live view's sequences leave on a screen of a given size.

use unicode_width::UnicodeWidthChar;

use crate::terminal::Size;

/// The lines of a terminal, those scrolled away included.
pub(super) struct Screen {
    size: Size,
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    cursor_visible: bool,
    may_wrap: bool,
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        Self { size, lines: vec![Vec::new()], row: 0, column: 0, cursor_visible: true, may_wrap: true }
    }

    /// Lines longer than the new width are folded, as terminals that reflow do; the cursor stays with its line.
    pub(super) fn resize(&mut self, size: Size) {
        if size.columns < self.size.columns {
            let columns = usize::from(size.columns);
            let (mut lines, mut row) = (Vec::new(), 0);
            for (index, line) in self.lines.drain(..).enumerate() {
                if index == self.row {
                    row = lines.len();
                }
                if line.is_empty() {
                    lines.push(line);
                } else {
                    lines.extend(line.chunks(columns).map(<[char]>::to_vec));
                }
            }
            (self.lines, self.row) = (lines, row);
        }
        self.size = size;
    }

    pub(super) fn forbid_wrapping(&mut self) {
        self.may_wrap = false;
    }

    pub(super) fn allow_wrapping(&mut self) {
        self.may_wrap = true;
    }

    pub(super) fn cursor_is_visible(&self) -> bool {
        self.cursor_visible
    }

    pub(super) fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            match character {
                '\x1b' => rest = self.sequence(rest),
                '\r' => self.column = 0,
                '\n' => self.new_line(),
                _ => self.put(character),
            }
        }
    }

    fn sequence<'a>(&mut self, rest: &'a str) -> &'a str {
        let body = rest.strip_prefix('[').expect("only control sequences are written");
        let end = body.find(|c: char| c.is_ascii_alphabetic()).expect("a sequence has an end");
        match (&body[..end], &body[end..=end]) {
            (count, "A") => {
                let top = self.lines.len().saturating_sub(usize::from(self.size.rows));
                self.row = self.row.saturating_sub(count.parse().unwrap()).max(top);
            }
            ("", "K") => self.lines[self.row].truncate(self.column),
            ("", "J") => {
                self.lines[self.row].truncate(self.column);
                self.lines.truncate(self.row + 1);
            }
            ("?25", "l") => self.cursor_visible = false,
            ("?25", "h") => self.cursor_visible = true,
            ("?2026", "h" | "l") => {}
            other => panic!("a sequence this screen does not know: {other:?}"),
        }
        &body[end + 1..]
    }

    fn new_line(&mut self) {
        self.row += 1;
        self.column = 0;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn put(&mut self, character: char) {
        let width = character.width().expect("no control character reaches the screen");
        if self.column + width > usize::from(self.size.columns) {
            assert!(self.may_wrap, "a line of the view is wider than the terminal");
            self.new_line();
        }
        let line = &mut self.lines[self.row];
        line.truncate(self.column);
        // A wide character fills its second cell with a mark that is not printed.
        line.push(character);
        line.extend(std::iter::repeat_n('\0', width.saturating_sub(1)));
        self.column += width;
    }

    /// Returns all lines, the scrolled ones too, without blanks at their ends.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let line: String = line.iter().filter(|character| **character != '\0').collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let trimmed = text.trim_end_matches('\n').len();
        text.truncate(trimmed);
        text.push('\n');
        text
    }
}
