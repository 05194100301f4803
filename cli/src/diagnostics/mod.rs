//! Shows diagnostics of a Dockerfile: as excerpts for people, and as JSON, SARIF 2.1.0 or annotations for machines.
//!
//! Diagnostics are plain data with byte spans; lines and columns are worked out here, from the text they are about.

mod excerpt;
mod github;
mod json;
mod line;
mod sarif;

use mica_parser::diagnostic::{Diagnostic, Severity};
use mica_parser::syntax::Span;

use crate::terminal::{Paint, Tone};

pub(crate) use github::github;
pub(crate) use json::json;
pub(crate) use sarif::sarif;

/// How text for people is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    /// Colours or none.
    pub(crate) paint: Paint,
    /// The file's path as the person knows it.
    pub(crate) name: &'a str,
}

/// A file and its text.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    name: &'a str,
    text: &'a [u8],
}

/// Returns every diagnostic with its excerpt, a blank line apart, and how many there are.
pub(crate) fn render_all(diagnostics: &[Diagnostic], text: &[u8], style: &Style<'_>) -> String {
    let source = Source { name: style.name, text };
    let mut out = String::new();
    for diagnostic in diagnostics {
        excerpt::write(&mut out, source, diagnostic, style.paint);
        out.push('\n');
    }
    if !diagnostics.is_empty() {
        out.push_str(&summary(source, diagnostics, style.paint));
        out.push('\n');
    }
    out
}

/// Returns a failure of an instruction with its excerpt; `message` may have several lines.
pub(crate) fn excerpt(name: &str, text: &[u8], span: Span, message: &str, paint: Paint) -> String {
    let mut out = String::new();
    excerpt::write_failure(&mut out, Source { name, text }, span, message, paint);
    out
}

/// Returns `Dockerfile: 2 errors, 1 warning`.
fn summary(source: Source<'_>, diagnostics: &[Diagnostic], paint: Paint) -> String {
    let number = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let count = |number: usize, noun: &str| match number {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{number} {noun}s")),
    };
    let parts = [count(number(Severity::Error), "error"), count(number(Severity::Warning), "warning")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{}: {}", paint.tint(Tone::Strong, source.name), parts.join(", "))
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

#[cfg(test)]
mod tests;
