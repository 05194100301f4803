//! Values printed as Go's `fmt` prints them, because the texts of an image's history are compared and parsed by other tools.

use std::fmt::Write;

/// Prints strings as `%v` prints a slice: `[a b]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Prints strings as `%q` prints a slice: `["a" "b"]`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    list(&quoted)
}

/// Prints a string as `%q` does.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        push_quoted(&mut out, character);
    }
    out.push('"');
    out
}

fn push_quoted(out: &mut String, character: char) {
    let short = match character {
        '"' | '\\' => Some(character),
        '\u{7}' => Some('a'),
        '\u{8}' => Some('b'),
        '\u{c}' => Some('f'),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\u{b}' => Some('v'),
        _ => None,
    };
    let code = u32::from(character);
    let written = match short {
        Some(letter) => write!(out, "\\{letter}"),
        None if is_printable(character) => write!(out, "{character}"),
        None if code < 0x80 => write!(out, "\\x{code:02x}"),
        None if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
        None => write!(out, "\\U{code:08x}"),
    };
    written.expect("writing to a string cannot fail");
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII blank.
fn is_printable(character: char) -> bool {
    // A string's Debug escapes exactly what is not printable, and combining marks only where they come first.
    let mut buffer = String::from("a");
    buffer.push(character);
    matches!(character, '"' | '\\' | '\'') || !buffer.escape_debug().skip(1).any(|c| c == '\\')
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Prints nanoseconds as a Go duration: `1h2m3.5s`, `500ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    match total {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{sign}{total}ns"),
        MICROSECOND..MILLISECOND => format!("{sign}{}µs", fraction(total, MICROSECOND)),
        MILLISECOND..SECOND => format!("{sign}{}ms", fraction(total, MILLISECOND)),
        _ => format!("{sign}{}", clock(total)),
    }
}

fn clock(total: u64) -> String {
    let (hours, minutes) = (total / (3600 * SECOND), total / (60 * SECOND) % 60);
    let seconds = fraction(total % (60 * SECOND), SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn fraction(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        let cases = [
            ("plain", r#""plain""#),
            ("a \"b\" \\", r#""a \"b\" \\""#),
            ("\t\n\u{7}\u{1}\u{7f}", r#""\t\n\a\x01\x7f""#),
            ("é世\u{301}", "\"é世\u{301}\""),
            ("\u{a0}\u{200b}\u{e000}", r#""\u00a0\u200b\ue000""#),
            ("it's 😀", "\"it's 😀\""),
            ("\u{10ffff}", r#""\U0010ffff""#),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
        assert_eq!(quoted_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
        assert_eq!(quoted_list(&[]), "[]");
        assert_eq!(list(&["a".into(), "b c".into()]), "[a b c]");
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (30_000_000_000, "30s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (-5_000_000_000, "-5s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(duration(nanoseconds), expected);
        }
    }
}
