//! Diagnostics as one JSON object: `{"version", "file", "errors", "warnings", "diagnostics": [...]}`.
//!
//! Each place has its byte offsets and its lines and columns; columns count characters from 1, and ends are exclusive.

use mica_parser::diagnostic::{Diagnostic, Label, LineIndex, Position, Severity, Suggestion};
use mica_parser::syntax::Span;
use serde::Serialize;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    file: &'a str,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    severity: Severity,
    code: &'a str,
    message: &'a str,
    primary: Place<'a>,
    secondary: Vec<Place<'a>>,
    notes: &'a [String],
    help: Option<&'a str>,
    suggestion: Option<Change<'a>>,
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct Place<'a> {
    #[serde(flatten)]
    range: Range,
    text: &'a str,
}

#[derive(Serialize)]
struct Change<'a> {
    #[serde(flatten)]
    range: Range,
    replacement: &'a str,
}

#[derive(Serialize)]
struct Range {
    span: Span,
    start: Position,
    end: Position,
}

/// Returns the diagnostics as one line of JSON with its end.
pub(crate) fn json(diagnostics: &[Diagnostic], text: &[u8], name: &str) -> String {
    let index = LineIndex::new(text);
    let number = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let report = Report {
        version: 1,
        file: name,
        errors: number(Severity::Error),
        warnings: number(Severity::Warning),
        diagnostics: diagnostics.iter().map(|diagnostic| entry(&index, diagnostic)).collect(),
    };
    serde_json::to_string(&report).expect("text, numbers and lists are always JSON") + "\n"
}

fn entry<'a>(index: &LineIndex<'_>, diagnostic: &'a Diagnostic) -> Entry<'a> {
    let place = |label: &'a Label| Place { range: range(index, label.span), text: &label.text };
    let change = |suggestion: &'a Suggestion| Change {
        range: range(index, suggestion.span),
        replacement: &suggestion.replacement,
    };
    Entry {
        severity: diagnostic.severity,
        code: diagnostic.code.as_str(),
        message: &diagnostic.message,
        primary: place(&diagnostic.primary),
        secondary: diagnostic.secondary.iter().map(place).collect(),
        notes: &diagnostic.notes,
        help: diagnostic.help.as_deref(),
        suggestion: diagnostic.suggestion.as_ref().map(change),
        url: diagnostic.url.as_deref(),
    }
}

fn range(index: &LineIndex<'_>, span: Span) -> Range {
    Range { span, start: index.position(span.start), end: index.position(span.end) }
}
