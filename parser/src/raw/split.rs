//! Cutting a joined line into keyword, flags and words.

use std::ops::Range;

use super::RawFlag;
use super::joined::Slice;
use crate::syntax::{Escape, Spanned};

/// An instruction line in its three parts.
pub(super) struct Split<'a> {
    pub(super) keyword: Slice<'a>,
    pub(super) flags: Vec<RawFlag>,
    pub(super) rest: Slice<'a>,
}

/// The blanks that separate words; other Unicode white space does not.
pub(super) fn is_separator(character: char) -> bool {
    matches!(character, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

pub(super) fn split_line<'a>(line: Slice<'a>, escape: Escape) -> Split<'a> {
    let line = line.trim();
    let (keyword, rest) = cut_at_blanks(line);
    let Some(rest) = rest else {
        return Split { keyword, flags: Vec::new(), rest: line.from(line.text().len()) };
    };
    let mut flags = Vec::new();
    let length = read_flags(rest, escape.character(), &mut flags);
    Split { keyword, flags, rest: rest.from(length).trim() }
}

/// Cuts at the first run of blanks.
pub(super) fn cut_at_blanks<'a>(slice: Slice<'a>) -> (Slice<'a>, Option<Slice<'a>>) {
    let text = slice.text();
    let Some(end) = text.find(is_separator) else {
        return (slice, None);
    };
    let after = text[end..].find(|c| !is_separator(c)).map_or(text.len(), |length| end + length);
    (slice.to(end), Some(slice.from(after)))
}

/// Splits at every run of blanks.
pub(super) fn split_blanks(slice: Slice<'_>) -> Vec<Spanned<String>> {
    let mut words = Vec::new();
    let mut rest = Some(slice);
    while let Some(current) = rest {
        let (word, after) = cut_at_blanks(current);
        words.push(word.spanned());
        rest = after;
    }
    words
}

/// Reads the words that start with `--`; returns where the arguments begin.
fn read_flags(rest: Slice<'_>, escape: char, flags: &mut Vec<RawFlag>) -> usize {
    let text = rest.text();
    let mut at = 0;
    loop {
        at += text[at..].find(|c: char| !is_separator(c)).unwrap_or(text.len() - at);
        if !text[at..].starts_with("--") {
            return at;
        }
        let (word, end) = read_flag_word(&text[at..], escape);
        let slice = rest.sub(at..at + end);
        at += end;
        if word == "--" {
            return at;
        }
        flags.push(flag(slice, word));
    }
}

/// Reads one flag; returns its text without quotes and escapes, and its length.
fn read_flag_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if is_separator(character) => return (word, at),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ if character == escape => word.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

fn flag(slice: Slice<'_>, word: String) -> RawFlag {
    let whole = slice.span();
    let verbatim = slice.text() == word;
    let place = |range: Range<usize>| if verbatim { slice.sub(range).span() } else { whole };
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word.as_str(), None),
    };
    RawFlag {
        name: Spanned { span: place(0..name.len()), value: name.to_owned() },
        value: value
            .map(|value| Spanned { span: place(name.len() + 1..word.len()), value: value.to_owned() }),
        text: Spanned { span: whole, value: word },
    }
}

/// Splits into words, with blanks inside quotes kept; quotes and escapes stay in the words.
pub(super) fn split_words<'a>(slice: Slice<'a>, escape: Escape) -> Vec<Slice<'a>> {
    let text = slice.text();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].find(|c: char| !c.is_whitespace()).unwrap_or(text.len() - at);
        if at == text.len() {
            return words;
        }
        let (kept, read) = word_length(&text[at..], escape.character());
        if kept > 0 {
            words.push(slice.sub(at..at + kept));
        }
        at += read;
    }
}

/// Returns how much of `text` is the first word, and how much of it was read: an escape at the very end is dropped.
fn word_length(text: &str, escape: char) -> (usize, usize) {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (at, at),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            // Nothing can be escaped inside single quotes.
            _ if character == escape && quote != Some('\'') && characters.next().is_none() => {
                return (at, text.len());
            }
            _ => {}
        }
    }
    (text.len(), text.len())
}
