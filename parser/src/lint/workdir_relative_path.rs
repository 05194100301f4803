//! WorkdirRelativePath: a relative WORKDIR depends on the base image.

use super::Rule;
use crate::diagnostic::Diagnostic;
use crate::syntax::Span;

pub(super) const RULE: Rule = Rule::new(
    "WorkdirRelativePath",
    "workdir-relative-path",
    "a relative WORKDIR before any absolute one moves when the base image changes",
);

/// Reports the first WORKDIR of a chain of stages when it is relative after expansion; `None` for an absolute one.
pub fn workdir_relative_path(path: &str, span: Span) -> Option<Diagnostic> {
    if path.starts_with('/') {
        return None;
    }
    let message =
        format!("Relative workdir \"{path}\" can have unexpected results if the base image changes");
    Some(RULE.finding(message, span, "relative to what the base image says"))
}
