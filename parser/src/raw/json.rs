//! The JSON form of arguments: an array of strings, or else the text is no JSON form.
//!
//! Written by hand because the shell form is what remains when this fails: it must accept exactly what the reference's JSON package
//! accepts (lone surrogates, U+FFFD for bad bytes) and say where each string stands.

use super::joined::Slice;
use crate::syntax::{Span, Spanned};

/// Arrays and objects inside each other beyond this are no JSON to the reference.
const MAX_DEPTH: usize = 10_000;

/// Why a text is not an array of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotStrings {
    /// It is not a JSON array at all.
    NotArray,
    /// It is one, but the element here is no string.
    Element(Span),
}

/// Reads an array of strings.
pub(super) fn read_array(slice: Slice<'_>) -> Result<Spanned<Vec<Spanned<String>>>, NotStrings> {
    let slice = slice.trim_start();
    if !slice.text().starts_with('[') {
        return Err(NotStrings::NotArray);
    }
    let mut reader = Reader { bytes: slice.text().as_bytes(), at: 0 };
    let elements = reader.document().ok_or(NotStrings::NotArray)?;
    let mut strings = Vec::with_capacity(elements.len());
    for (start, end) in elements {
        let element = slice.sub(start..end);
        if !element.text().starts_with('"') {
            return Err(NotStrings::Element(element.span()));
        }
        strings.push(Spanned { span: element.span(), value: unquote(element.text()) });
    }
    Ok(Spanned { span: slice.trim_end().span(), value: strings })
}

/// Checks a document byte by byte; `None` everywhere means that it is not JSON.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads the array and nothing after it; returns the ranges of its elements.
    fn document(&mut self) -> Option<Vec<(usize, usize)>> {
        let mut elements = Vec::new();
        self.take(b'[')?;
        self.skip_space();
        if self.take(b']').is_none() {
            loop {
                self.skip_space();
                let start = self.at;
                self.value()?;
                elements.push((start, self.at));
                self.skip_space();
                if self.take(b',').is_none() {
                    self.take(b']')?;
                    break;
                }
            }
        }
        self.skip_space();
        (self.at == self.bytes.len()).then_some(elements)
    }

    /// Reads one value; containers are kept on a stack of their closing brackets, so depth costs no stack frames.
    fn value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.skip_space();
            match self.peek()? {
                bracket @ (b'[' | b'{') => {
                    self.at += 1;
                    self.skip_space();
                    let close = if bracket == b'[' { b']' } else { b'}' };
                    // The outer array of the document is one level already.
                    if open.len() + 2 > MAX_DEPTH {
                        return None;
                    }
                    if self.take(close).is_none() {
                        open.push(close);
                        self.key_if(close)?;
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.word()?,
            }
            loop {
                let Some(close) = open.last().copied() else {
                    return Some(());
                };
                self.skip_space();
                if self.take(b',').is_some() {
                    self.key_if(close)?;
                    break;
                }
                self.take(close)?;
                open.pop();
            }
        }
    }

    /// Reads `"key":` when the innermost container is an object.
    fn key_if(&mut self, close: u8) -> Option<()> {
        if close == b']' {
            return Some(());
        }
        self.skip_space();
        self.string()?;
        self.skip_space();
        self.take(b':')
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let _ = self.take(b'-'); // the sign is optional
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        text.parse::<f64>().ok()?.is_finite().then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn word(&mut self) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        Some(())
    }
}

/// Returns the value of a checked JSON string with its quotes; half a surrogate pair becomes U+FFFD.
fn unquote(text: &str) -> String {
    let mut rest = &text[1..text.len() - 1];
    let mut value = String::with_capacity(rest.len());
    while let Some(backslash) = rest.find('\\') {
        value.push_str(&rest[..backslash]);
        let escape = rest.as_bytes()[backslash + 1];
        rest = &rest[backslash + 2..];
        match escape {
            b'b' => value.push('\x08'),
            b'f' => value.push('\x0c'),
            b'n' => value.push('\n'),
            b'r' => value.push('\r'),
            b't' => value.push('\t'),
            b'u' => {
                let (character, length) = unicode_escape(rest);
                value.push(character);
                rest = &rest[length..];
            }
            other => value.push(char::from(other)),
        }
    }
    value.push_str(rest);
    value
}

/// Decodes the digits after `\u`, and a second `\u` when both are a surrogate pair.
fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |digits: Option<&str>| digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let first = unit(text.get(..4)).unwrap_or_default();
    let second = text.get(4..6).filter(|marker| *marker == "\\u").and_then(|_| unit(text.get(6..10)));
    if let Some(second) = second
        && let Some(Ok(character)) = char::decode_utf16([first, second]).next()
        && character.len_utf16() == 2
    {
        return (character, 10);
    }
    (char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

#[cfg(test)]
mod tests {
    use super::super::joined::Joined;
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, bool> {
        let mut joined = Joined::new(0);
        joined.push(text.as_bytes(), 0);
        let array = read_array(joined.whole());
        array
            .map(|array| array.value.into_iter().map(|word| word.value).collect())
            .map_err(|error| error == NotStrings::NotArray)
    }

    #[test]
    fn arrays_of_strings_are_read() {
        for (text, expected) in [
            (r#"[]"#, vec![]),
            (r#" [ "a" , "b c" ] "#, vec!["a", "b c"]),
            (r#"["\"\\\/\b\f\n\r\t"]"#, vec!["\"\\/\u{8}\u{c}\n\r\t"]),
            (r#"["\u00e9\ud83d\ude00"]"#, vec!["é😀"]),
            (r#"["\ud800x","\ud800\u0041"]"#, vec!["\u{fffd}x", "\u{fffd}A"]),
        ] {
            assert_eq!(read(text), Ok(expected.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }

    #[test]
    fn other_json_is_told_from_no_json() {
        for text in
            [r#"[1]"#, r#"["a",null]"#, r#"["a",["b"]]"#, r#"[{"a":[1,{"b":-0.5e+3}]},true]"#, "[[],{}]"]
        {
            assert_eq!(read(text), Err(false), "{text}");
        }
        let deep = format!("[{}{}]", "[".repeat(20_000), "]".repeat(20_000));
        for text in [
            "",
            "a",
            "[",
            "['a']",
            r#"["a"] x"#,
            r#"["a",]"#,
            r#"["a"#,
            r#"["\'"]"#,
            "[01]",
            "[1e999]",
            "[\"\t\"]",
            &deep,
        ] {
            assert_eq!(read(text), Err(true), "{text}");
        }
    }
}
