//! Heredocs: their openers on the instruction's line, and their bodies below it.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while};
use nom::combinator::{all_consuming, opt, recognize, value};
use nom::{IResult, Parser};

use super::joined::Slice;
use super::lines::Lines;
use crate::syntax::{Heredoc, Span, Spanned};
use crate::text::lossy;
use crate::words::{ExpandError, Word, split_heredoc_word, split_raw};

/// What `<<WORD` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opener {
    pub(crate) name: String,
    pub(crate) fd: u32,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
}

impl Opener {
    /// Reads a word as an opener; `None` when it is something else.
    pub(crate) fn parse(word: &str) -> Result<Option<Opener>, ExpandError> {
        let Ok((_, (digits, chomp, name))) = opener_parts(word) else {
            return Ok(None);
        };
        if name.is_empty() {
            return Ok(None);
        }
        let (plain, raw) = split_heredoc_word(name)?;
        let ([plain], [raw]) = (&plain[..], &raw[..]) else {
            return Ok(None);
        };
        // A quote that is there only when quotes are kept was not escaped: some part of the word is quoted.
        let quotes = |word: &Word| word.text.matches(['\'', '"']).count();
        Ok(Some(Opener {
            name: plain.text.clone(),
            fd: digits.parse().unwrap_or(if digits.is_empty() { 0 } else { u32::MAX }),
            expand: quotes(plain) == quotes(raw),
            chomp,
        }))
    }
}

/// Digits, `<<`, an optional `-`, blanks, and a word without `<`.
fn opener_parts(word: &str) -> IResult<&str, (&str, bool, &str)> {
    let digits = take_while(|c: char| c.is_ascii_digit());
    let arrows = alt((value(true, tag("<<-")), value(false, tag("<<"))));
    let blanks = recognize(opt(take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r'))));
    let name = take_till(|c| c == '<');
    all_consuming((digits, arrows, blanks, name).map(|(digits, chomp, _, name)| (digits, chomp, name)))
        .parse(word)
}

/// Finds the openers of a line, in order, with their places.
pub(super) fn openers_in(line: Slice<'_>) -> Result<Vec<(Opener, Span)>, ExpandError> {
    if !line.text().contains("<<") {
        return Ok(Vec::new());
    }
    // A line the lexer cannot read (an apostrophe in a shell command) has no heredocs.
    let words = split_raw(line.text()).unwrap_or_default();
    let mut openers = Vec::new();
    for word in words {
        if let Some(opener) = Opener::parse(&word.text)? {
            openers.push((opener, line.sub(word.place).span()));
        }
    }
    Ok(openers)
}

/// A heredoc whose end is missing.
#[derive(Debug)]
pub(super) struct Unterminated {
    pub(super) opener: Opener,
    pub(super) span: Span,
    /// A line that would have ended it, were it not for blanks around the word.
    pub(super) near_miss: Option<Span>,
}

/// Reads the body of a heredoc up to and including the line that ends it.
pub(super) fn read_body(
    lines: &mut Lines<'_>,
    opener: Opener,
    span: Span,
) -> Result<(Heredoc, usize), Unterminated> {
    let mut raw = Vec::new();
    let mut body_start = None;
    let mut body_end = 0;
    let mut near_miss = None;
    for line in lines {
        body_start.get_or_insert(line.start);
        let content = line.content();
        let candidate = if opener.chomp { without_tabs(content) } else { content };
        if candidate == opener.name.as_bytes() {
            let start = body_start.unwrap_or(line.start);
            let end = line.start + line.content_length();
            let body = Span { start: start as u32, end: body_end.max(start) as u32 };
            return Ok((heredoc(opener, span, body, &raw), end));
        }
        if near_miss.is_none() && candidate.trim_ascii() == opener.name.as_bytes() {
            near_miss = Some(Span { start: line.start as u32, end: (line.start + content.len()) as u32 });
        }
        raw.extend_from_slice(line.bytes);
        body_end = line.start + line.bytes.len();
    }
    Err(Unterminated { opener, span, near_miss })
}

fn heredoc(opener: Opener, span: Span, body_span: Span, raw: &[u8]) -> Heredoc {
    let raw = lossy(raw);
    let body = if opener.chomp { chomp(&raw) } else { raw.clone() };
    Heredoc {
        span,
        name: opener.name,
        fd: opener.fd,
        expand: opener.expand,
        chomp: opener.chomp,
        body: Spanned { span: body_span, value: body },
        raw_body: raw,
    }
}

fn without_tabs(line: &[u8]) -> &[u8] {
    let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
    &line[tabs..]
}

/// Removes the tabs at the start of each line.
pub(crate) fn chomp(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_openers() {
        for (word, expected) in [
            ("<<EOF", Some(("EOF", 0, true, false))),
            ("<<-EOF", Some(("EOF", 0, true, true))),
            ("3<<EOF", Some(("EOF", 3, true, false))),
            ("<<'EOF'", Some(("EOF", 0, false, false))),
            ("<<\"EOF\"", Some(("EOF", 0, false, false))),
            ("<<E'O'F", Some(("EOF", 0, false, false))),
            ("<<eo\\'f", Some(("eo'f", 0, true, false))),
            ("<<'e'o\\'f", Some(("eo'f", 0, false, false))),
            ("<< EOF", Some(("EOF", 0, true, false))),
            ("<< -EOF", Some(("-EOF", 0, true, false))),
            ("<<- EOF", Some(("EOF", 0, true, true))),
            ("<<$EOF", Some(("$EOF", 0, true, false))),
            ("<<'one two'", Some(("one two", 0, false, false))),
            ("<<one two", None),
            ("<<", None),
            ("<<-", None),
            ("<EOF", None),
            ("<<<EOF", None),
            ("x<<EOF", None),
        ] {
            let opener = Opener::parse(word).unwrap();
            let found = opener.as_ref().map(|o| (o.name.as_str(), o.fd, o.expand, o.chomp));
            assert_eq!(found, expected, "{word}");
        }
        for word in ["<<'EOF", "<<\"EOF", "<<EOF'"] {
            assert!(Opener::parse(word).is_err(), "{word}");
        }
    }
}
