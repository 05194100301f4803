//! The wildcard patterns of `${name#…}`, `${name%…}` and `${name/…/…}`.
//!
//! `*` and `?` do not match a newline, `\` escapes `*`, `?` and itself, and there are no bracket classes. Of several matches at one
//! place the one a backtracking matcher would find first is taken, which for a shortest `*` need not be the shortest overall.

use super::ExpandError;

/// How much a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Literal(char),
}

const NO_MATCH: usize = usize::MAX;

pub(super) fn trim_prefix(pattern: &str, value: &str, reach: Reach) -> Result<String, ExpandError> {
    let tokens = parse(pattern)?;
    let characters: Vec<char> = value.chars().collect();
    let end = match_ends(&tokens, &characters, reach)[0];
    Ok(characters[if end == NO_MATCH { 0 } else { end }..].iter().collect())
}

pub(super) fn trim_suffix(pattern: &str, value: &str, reach: Reach) -> Result<String, ExpandError> {
    let tokens =
        parse(&reversed(pattern)).map_err(|_| ExpandError::InvalidPattern { pattern: pattern.to_owned() })?;
    let characters: Vec<char> = value.chars().rev().collect();
    let end = match_ends(&tokens, &characters, reach)[0];
    Ok(characters[if end == NO_MATCH { 0 } else { end }..].iter().rev().collect())
}

pub(super) fn replace_first(pattern: &str, value: &str, replacement: &str) -> Result<String, ExpandError> {
    let tokens = parse(pattern)?;
    let characters: Vec<char> = value.chars().collect();
    let ends = match_ends(&tokens, &characters, Reach::Longest);
    let Some(start) = ends.iter().position(|end| *end != NO_MATCH) else {
        return Ok(value.to_owned());
    };
    let mut text: String = characters[..start].iter().collect();
    text.push_str(replacement);
    text.extend(&characters[ends[start]..]);
    Ok(text)
}

/// Replaces every match; an empty match directly after another one is skipped.
pub(super) fn replace_all(pattern: &str, value: &str, replacement: &str) -> Result<String, ExpandError> {
    let tokens = parse(pattern)?;
    let replacement = drop_group_names(replacement);
    let characters: Vec<char> = value.chars().collect();
    let ends = match_ends(&tokens, &characters, Reach::Longest);
    let mut text = String::new();
    let (mut copied, mut from) = (0, 0);
    while let Some(start) = (from..ends.len()).find(|start| ends[*start] != NO_MATCH) {
        let end = ends[start];
        text.extend(&characters[copied..start]);
        if end > copied || start == 0 {
            text.push_str(&replacement);
        }
        copied = end;
        from = end.max(from + 1);
    }
    text.extend(&characters[copied..]);
    Ok(text)
}

fn parse(pattern: &str) -> Result<Vec<Token>, ExpandError> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Star,
            '?' => Token::Any,
            // `}` and `/` had to be escaped to get here; the escape is no part of the pattern.
            '\\' if matches!(characters.peek(), Some('}' | '/')) => continue,
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\')) => Token::Literal(escaped),
                _ => return Err(ExpandError::InvalidPattern { pattern: pattern.to_owned() }),
            },
            _ => Token::Literal(character),
        });
    }
    Ok(tokens)
}

/// Returns the pattern backwards, each escape still in front of what it escapes.
///
/// The text is reversed and not the tokens, because under another escape character a pattern can end in a lone `\`, and that then
/// escapes what came before it, as in the reference.
fn reversed(pattern: &str) -> String {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next() } else { None };
        parts.extend([escaped, Some(character)]);
    }
    parts.into_iter().rev().flatten().collect()
}

/// For every start, where the preferred match ends.
///
/// Worked out from the last token to the first, so the cost is the product of the lengths and nothing backtracks.
fn match_ends(tokens: &[Token], text: &[char], reach: Reach) -> Vec<usize> {
    let mut ends: Vec<usize> = (0..=text.len()).collect();
    for token in tokens.iter().rev() {
        match token {
            Token::Star => extend_over_star(&mut ends, text, reach),
            Token::Any => shift(&mut ends, text, |character| character != '\n'),
            Token::Literal(literal) => shift(&mut ends, text, |character| character == *literal),
        }
    }
    ends
}

fn extend_over_star(ends: &mut [usize], text: &[char], reach: Reach) {
    for at in (0..text.len()).rev() {
        let longer = if text[at] == '\n' { NO_MATCH } else { ends[at + 1] };
        let (first, second) = if reach == Reach::Longest { (longer, ends[at]) } else { (ends[at], longer) };
        ends[at] = if first == NO_MATCH { second } else { first };
    }
}

fn shift(ends: &mut [usize], text: &[char], accepts: impl Fn(char) -> bool) {
    for at in 0..text.len() {
        ends[at] = if accepts(text[at]) { ends[at + 1] } else { NO_MATCH };
    }
    ends[text.len()] = NO_MATCH;
}

/// Removes `$name` and `${name}` and turns `$$` into `$`.
///
/// The reference hands the replacement of `//` to its regular expression package, where these name groups, and there are none.
fn drop_group_names(replacement: &str) -> String {
    let mut text = String::new();
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        text.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some(length) = group_name_length(rest) {
            rest = &rest[length..];
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    text
}

fn group_name_length(text: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(braced) = text.strip_prefix('{') {
        let end = braced.find('}')?;
        return (end > 0 && braced[..end].chars().all(is_name)).then_some(end + 2);
    }
    let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
    (length > 0).then_some(length)
}
