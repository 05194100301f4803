//! CopyIgnoredFile: what `.dockerignore` leaves out cannot be copied.

use super::Rule;
use crate::diagnostic::Diagnostic;
use crate::dockerignore::Patterns;
use crate::go::clean;
use crate::syntax::Span;

pub(super) const RULE: Rule = Rule::new(
    "CopyIgnoredFile",
    "copy-ignored-file",
    "a source that `.dockerignore` leaves out is not there to copy",
);

/// Checks a source of COPY or ADD after expansion against the ignore file of the context.
///
/// An ignore file with `!` lines is not judged: something below an excluded directory may be taken back.
pub fn copy_ignored_file(is_add: bool, source: &str, span: Span, patterns: &Patterns) -> Option<Diagnostic> {
    if patterns.has_negations() {
        return None;
    }
    let source = clean(source);
    if matches!(source.as_str(), "." | "/") && !patterns.excludes_root() {
        return None;
    }
    let decision = patterns.decide(source.as_bytes(), None);
    if !decision.excluded {
        return None;
    }
    let command = if is_add { "Add" } else { "Copy" };
    let message = format!("Attempting to {command} file \"{source}\" that is excluded by .dockerignore");
    let finding = RULE.finding(message, span, "left out of the context");
    Some(match decision.line {
        Some(line) => finding.with_note(format!("line {line} of the ignore file leaves it out")),
        None => finding,
    })
}
