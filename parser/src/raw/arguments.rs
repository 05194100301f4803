//! The arguments of each instruction, cut the way that instruction wants them.

use super::file::CutContext;
use super::joined::Slice;
use super::json::{NotStrings, read_array};
use super::split::{cut_at_blanks, split_blanks, split_words};
use super::{Arguments, RawNode};
use crate::diagnostic::{Diagnostic, RuleCode};
use crate::keyword::Keyword;
use crate::syntax::{Escape, KeyValue, Spanned};

/// The arguments, or why they cannot be cut.
type Cut = Result<Arguments, Box<Diagnostic>>;

/// One ONBUILD in another is a mistake already; this many are an attack on the stack.
const MAX_DEPTH: usize = 50;

/// Cuts `rest` for `keyword`; `Err` says why that cannot be done.
pub(super) fn read(keyword: &Spanned<String>, rest: Slice<'_>, cx: &mut CutContext<'_>) -> Cut {
    let Some(known) = Keyword::parse(&keyword.value) else {
        return Ok(Arguments::Unknown);
    };
    let name = known.name();
    match known {
        Keyword::Add | Keyword::Copy | Keyword::Volume => {
            Ok(json_or(rest, name)?.unwrap_or_else(|| words(rest)))
        }
        Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => {
            Ok(json_or(rest, name)?.unwrap_or_else(|| text(rest)))
        }
        Keyword::Expose | Keyword::From => Ok(words(rest)),
        Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir => Ok(text(rest)),
        Keyword::Arg => {
            let words: Vec<_> = split_words(rest, cx.escape).iter().map(Slice::spanned).collect();
            Ok(if words.is_empty() { Arguments::None } else { Arguments::Words(words) })
        }
        Keyword::Env | Keyword::Label => pairs(rest, name, keyword, cx.escape),
        Keyword::Healthcheck => health(rest),
        Keyword::Onbuild if rest.is_empty() => Ok(Arguments::None),
        Keyword::Onbuild => trigger(rest, cx),
    }
}

fn text(rest: Slice<'_>) -> Arguments {
    if rest.is_empty() { Arguments::None } else { Arguments::Text(rest.spanned()) }
}

fn words(rest: Slice<'_>) -> Arguments {
    if rest.is_empty() { Arguments::None } else { Arguments::Words(split_blanks(rest)) }
}

/// Reads the JSON form; `None` when the text has another form.
fn json_or(rest: Slice<'_>, name: &str) -> Result<Option<Arguments>, Box<Diagnostic>> {
    match read_array(rest) {
        Ok(array) => Ok(Some(Arguments::Json(array))),
        Err(NotStrings::NotArray) => Ok(None),
        Err(NotStrings::Element(span)) => {
            let message = format!("{name}: the JSON array form takes strings only");
            let problem = Diagnostic::error(RuleCode::new("json-not-strings"), message, span, "not a string");
            Err(Box::new(problem.with_help("put double quotes around every element")))
        }
    }
}

fn pairs(rest: Slice<'_>, name: &str, keyword: &Spanned<String>, escape: Escape) -> Cut {
    let words = split_words(rest, escape);
    let Some(first) = words.first() else {
        return Ok(Arguments::None);
    };
    if !first.text().contains('=') {
        return legacy_pair(rest, name, keyword);
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        let Some(equals) = word.text().find('=') else {
            let message = format!("{name}: no `=` in `{}`", word.text());
            let code = RuleCode::new("missing-equals");
            let problem = Diagnostic::error(code, message, word.span(), "expected `name=value`");
            return Err(Box::new(problem.with_help("a value with blanks needs quotes around it")));
        };
        let (key, value) = (word.to(equals).spanned(), word.from(equals + 1).spanned());
        pairs.push(KeyValue { key, value, equals: true });
    }
    Ok(Arguments::Pairs(pairs))
}

/// `ENV name the rest of the line`.
fn legacy_pair(rest: Slice<'_>, name: &str, keyword: &Spanned<String>) -> Cut {
    let (key, value) = cut_at_blanks(rest);
    match value {
        Some(value) => {
            Ok(Arguments::Pairs(vec![KeyValue { key: key.spanned(), value: value.spanned(), equals: false }]))
        }
        None => {
            let message = format!("{name} must have two arguments");
            let problem =
                Diagnostic::error(RuleCode::new("missing-value"), message, key.span(), "has no value")
                    .with_secondary(keyword.span, "");
            Err(Box::new(problem.with_help(format!("write `{name} {}=value`", key.text()))))
        }
    }
}

fn health(rest: Slice<'_>) -> Cut {
    if rest.is_empty() {
        return Ok(Arguments::None);
    }
    let is_space = |byte: u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let bytes = rest.text().as_bytes();
    let end = bytes.iter().position(|byte| is_space(*byte)).unwrap_or(bytes.len());
    let next =
        bytes[end..].iter().position(|byte| !is_space(*byte)).map_or(bytes.len(), |length| end + length);
    let command = rest.from(next);
    let arguments = json_or(command, "HEALTHCHECK")?.unwrap_or_else(|| text(command));
    Ok(Arguments::Health(rest.to(end).spanned(), Box::new(arguments)))
}

/// The instruction inside an ONBUILD; its heredocs belong to the ONBUILD.
fn trigger(rest: Slice<'_>, cx: &mut CutContext<'_>) -> Cut {
    if cx.depth == MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} ONBUILDs in each other");
        return Err(Box::new(Diagnostic::error(RuleCode::new("bad-trigger"), message, rest.span(), "")));
    }
    cx.depth += 1;
    let parts = cx.cut(rest);
    cx.depth -= 1;
    Ok(Arguments::Trigger(Box::new(RawNode {
        span: rest.span(),
        start_line: 0,
        end_line: 0,
        keyword: parts.keyword,
        flags: parts.flags,
        arguments: parts.arguments,
        rest: parts.rest,
        line: rest.text().to_owned(),
        heredocs: Vec::new(),
        comments: Vec::new(),
        blank_lines: Vec::new(),
    })))
}
