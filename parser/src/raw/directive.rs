//! Parser directives: `# name=value` before anything else.

use nom::bytes::complete::take_while;
use nom::character::complete::{char, satisfy};
use nom::combinator::recognize;
use nom::sequence::terminated;
use nom::{IResult, Parser};

use super::joined::Slice;
use crate::diagnostic::{Diagnostic, RuleCode};
use crate::syntax::{Directives, Escape, Spanned};

/// Reads directives until something else comes along.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    done: bool,
    escape_seen: bool,
}

impl DirectiveReader {
    /// Reads a line into `directives`; returns whether it was a directive.
    pub(super) fn read(
        &mut self,
        line: Slice<'_>,
        directives: &mut Directives,
        problems: &mut Vec<Diagnostic>,
    ) -> bool {
        if self.done {
            return false;
        }
        let comment = line.text().strip_prefix('#').map(str::trim_start);
        let found = comment.and_then(|comment| {
            let (name, value) = directive_in(comment)?;
            let start = line.text().len() - comment.len();
            let value_start = start + (value.as_ptr() as usize - comment.as_ptr() as usize);
            Some((name.to_ascii_lowercase(), line.sub(value_start..value_start + value.len()).spanned()))
        });
        let known = found.is_some_and(|(name, value)| self.apply(&name, value, directives, problems));
        self.done = !known;
        known
    }

    /// Applies a directive; returns whether there is one of that name.
    fn apply(
        &mut self,
        name: &str,
        value: Spanned<String>,
        directives: &mut Directives,
        problems: &mut Vec<Diagnostic>,
    ) -> bool {
        let span = value.span;
        let repeated = match name {
            "syntax" => directives.syntax.is_some(),
            "check" => directives.check.is_some(),
            "escape" => self.escape_seen,
            _ => return false,
        };
        if repeated {
            let message = format!("only one `{name}` parser directive can be used");
            problems.push(Diagnostic::error(
                RuleCode::new("duplicate-directive"),
                message,
                span,
                "given again here",
            ));
            return true;
        }
        match name {
            "syntax" => directives.syntax = Some(value),
            "check" => directives.check = Some(value),
            _ => {
                self.escape_seen = true;
                match value.value.as_str() {
                    "\\" => directives.escape = Escape::Backslash,
                    "`" => directives.escape = Escape::Backtick,
                    other => problems.push(bad_escape(other, span)),
                }
            }
        }
        true
    }
}

fn bad_escape(value: &str, span: crate::syntax::Span) -> Diagnostic {
    let message = format!("invalid escape token `{value}`");
    Diagnostic::error(
        RuleCode::new("bad-escape-directive"),
        message,
        span,
        "neither a backslash nor a backtick",
    )
    .with_help("write `# escape=\\` or ``# escape=` ``")
}

/// Finds `name = value` in a comment (its `#` and blanks already removed).
pub(crate) fn directive_in(comment: &str) -> Option<(&str, &str)> {
    let (value, name) = name_and_equals(comment).ok()?;
    let trimmed = value.trim_matches(is_space);
    if !trimmed.is_empty() {
        return Some((name, trimmed));
    }
    // A value of blanks only is its last blank, as the reference's pattern has it.
    let last = value.len().checked_sub(1)?;
    Some((name, &value[last..]))
}

fn name_and_equals(comment: &str) -> IResult<&str, &str> {
    let name =
        recognize((satisfy(|c| c.is_ascii_alphabetic()), take_while(|c: char| c.is_ascii_alphanumeric())));
    terminated(name, (take_while(is_space), char('='))).parse(comment)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_found_in_comments() {
        for (comment, expected) in [
            ("escape=`", Some(("escape", "`"))),
            ("Escape  =\t\\ ", Some(("Escape", "\\"))),
            ("syntax=docker/dockerfile:1 --x", Some(("syntax", "docker/dockerfile:1 --x"))),
            ("escape=", None),
            ("escape=   ", Some(("escape", " "))),
            ("1x=y", None),
            ("some words = x", None),
        ] {
            assert_eq!(directive_in(comment), expected, "{comment}");
        }
    }
}
