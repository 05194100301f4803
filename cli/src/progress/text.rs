//! Text from elsewhere made safe to show, and made to fit.
//!
//! A step's output may hold anything: sequences that move the cursor, carriage returns, bells. None of it may disturb the view,
//! nor the terminal of somebody who reads a log.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// What becomes of colours in a step's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    /// They are kept.
    Keep,
    /// They are dropped with all other control sequences.
    Drop,
}

const TAB: usize = 8;

/// Returns a line as a terminal would show it in the end, without control characters and sequences.
///
/// What a carriage return went back over is dropped, and tabs become blanks.
pub(super) fn printable(line: &str, colours: Colours) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit_once('\r').map_or(line, |(_, last)| last);
    let mut shown = String::with_capacity(line.len());
    let mut column = 0;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        let (head, tail) = rest.split_at(character.len_utf8());
        rest = tail;
        match character {
            '\x1b' => {
                let length = sequence_length(rest);
                let (sequence, after) = rest.split_at(length);
                if colours == Colours::Keep && is_colour(sequence) {
                    shown.push_str(head);
                    shown.push_str(sequence);
                }
                rest = after;
            }
            // The one-character form of `ESC [`.
            '\u{9b}' => rest = &rest[control_sequence_length(rest)..],
            '\t' => {
                let blanks = TAB - column % TAB;
                shown.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            _ => {
                if let Some(width) = visible_width(character) {
                    shown.push(character);
                    column += width;
                }
            }
        }
    }
    if colours == Colours::Keep && shown.contains('\x1b') {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// Returns the cells a character takes; `None` for one that must not reach a terminal.
fn visible_width(character: char) -> Option<usize> {
    // Marks of writing direction can make a line read as something it is not.
    let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if reorders { None } else { character.width() }
}

/// Returns the length of the sequence that an escape character starts, counted from behind it.
fn sequence_length(rest: &str) -> usize {
    match rest.bytes().next() {
        None => 0,
        Some(b'[') => 1 + control_sequence_length(&rest[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => string_length(rest),
        Some(b' '..=b'/') => {
            let intermediate = rest.bytes().take_while(|byte| (b' '..=b'/').contains(byte)).count();
            intermediate + rest[intermediate..].chars().next().map_or(0, char::len_utf8)
        }
        Some(_) => rest.chars().next().map_or(0, char::len_utf8),
    }
}

/// Parameters, intermediates and one final byte; a sequence that is broken off ends before what breaks it.
fn control_sequence_length(rest: &str) -> usize {
    let body = rest.bytes().take_while(|byte| (b' '..=b'?').contains(byte)).count();
    body + usize::from(rest[body..].bytes().next().is_some_and(|byte| (b'@'..=b'~').contains(&byte)))
}

/// Everything up to BEL or `ESC \`, or the rest of the line.
fn string_length(rest: &str) -> usize {
    let bell = rest.find('\x07').map(|at| at + 1);
    let terminator = rest.find("\x1b\\").map(|at| at + 2);
    bell.into_iter().chain(terminator).min().unwrap_or(rest.len())
}

fn is_colour(sequence: &str) -> bool {
    let parameters = sequence.strip_prefix('[').and_then(|sequence| sequence.strip_suffix('m'));
    parameters
        .is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

/// Returns the cells that a printable text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().filter_map(|character| character.width()).sum()
}

/// Returns a printable text cut to `cells`, with `…` where something was cut.
pub(super) fn fit(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mut room = cells.saturating_sub(1);
    let mut shown: String = text
        .chars()
        .take_while(|character| {
            let needed = character.width().unwrap_or(0);
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .collect();
    if cells > 0 {
        shown.push('…');
    }
    shown
}

/// Writes a duration for reading: `0.4s`, `12.3s`, `2m05s`, `1h02m`.
pub(super) fn duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    let seconds = tenths / 10;
    match seconds {
        0..60 => format!("{seconds}.{}s", tenths % 10),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes a time inside a log as the reference does: seconds in four significant digits.
pub(super) fn log_time(at: Duration) -> String {
    let seconds = at.as_secs_f64();
    match seconds {
        ..10.0 => format!("{seconds:.3}"),
        ..100.0 => format!("{seconds:.2}"),
        ..1000.0 => format!("{seconds:.1}"),
        _ => format!("{seconds:.0}"),
    }
}

/// Writes a number of bytes: `512B`, `1.5kB`, `23.0MB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1}{}", UNITS[unit])
}

/// Writes `one step`, `2 steps`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_do_not_get_through() {
        let cases = [
            ("plain", "plain"),
            ("a\x1b[2Jb\x1b[10;5Hc", "abc"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://e\x1b\\link", "link"),
            ("\x1b(Bx\x1b=y", "xy"),
            ("\u{9b}2Jx", "x"),
            ("half \x1b[31", "half "),
            ("half \x1b", "half "),
            ("\x1b[3\u{1}1mx", "1mx"),
            ("10%\r20%\r30%", "30%"),
            ("done\r", "done"),
            ("a\tb", "a       b"),
            ("bell\x07 back\x08 nul\0", "bell back nul"),
            ("\u{202e}evil", "evil"),
            ("日本\x1b[Kx", "日本x"),
        ];
        for (line, expected) in cases {
            assert_eq!(printable(line, Colours::Drop), expected, "{line:?}");
        }
    }

    #[test]
    fn colours_may_be_kept() {
        assert_eq!(printable("\x1b[31mred\x1b[2J", Colours::Keep), "\x1b[31mred\x1b[0m");
        assert_eq!(printable("\x1b[1;38:5:9mx", Colours::Keep), "\x1b[1;38:5:9mx\x1b[0m");
        assert_eq!(printable("\x1b[?25lx", Colours::Keep), "x");
    }

    #[test]
    fn long_text_is_cut_by_cells() {
        let cases = [
            ("hello", 5, "hello"),
            ("hello", 4, "hel…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ];
        for (text, cells, expected) in cases {
            assert_eq!(fit(text, cells), expected);
            assert!(width(&fit(text, cells)) <= cells);
        }
    }

    #[test]
    fn numbers_for_people() {
        let durations = [
            (0, "0.0s"),
            (40, "0.0s"),
            (50, "0.1s"),
            (1234, "1.2s"),
            (59_940, "59.9s"),
            (59_960, "1m00s"),
            (125_000, "2m05s"),
            (3_725_000, "1h02m"),
        ];
        for (milliseconds, expected) in durations {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
        let times =
            [(0, "0.000"), (521, "0.521"), (12_345, "12.35"), (123_456, "123.5"), (1_234_567, "1235")];
        for (milliseconds, expected) in times {
            assert_eq!(log_time(Duration::from_millis(milliseconds)), expected);
        }
        let sizes = [(0, "0B"), (999, "999B"), (1500, "1.5kB"), (999_960, "1.0MB"), (23_000_000, "23.0MB")];
        for (number, expected) in sizes {
            assert_eq!(bytes(number), expected);
        }
    }
}
