//! What is wrong or doubtful in a user's file, as plain data.
//!
//! Nothing here is rendered: a front end turns spans into lines with a [`LineIndex`] and prints. Planning reports through the same
//! type, so [`RuleCode`] is open.

use serde::Serialize;

pub use crate::line_index::{LineIndex, Position};
pub use crate::suggest::{did_you_mean, did_you_mean_exact};
use crate::syntax::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// The file can be built.
    Warning,
}

/// The name of a rule: `kebab-case` for mistakes, `PascalCase` for build checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RuleCode(&'static str);

impl RuleCode {
    /// Creates the code of that name.
    pub const fn new(name: &'static str) -> Self {
        RuleCode(name)
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for RuleCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A place with a remark; the remark may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What to say there.
    pub text: String,
}

/// A change that would settle the matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// What to replace.
    pub span: Span,
    /// By what.
    pub replacement: String,
}

/// One remark on a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The rule it comes from.
    pub code: RuleCode,
    /// What is the matter, in one line.
    pub message: String,
    /// The place it is about.
    pub primary: Label,
    /// Other places that matter.
    pub secondary: Vec<Label>,
    /// Further facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// A change that can be made by a machine.
    pub suggestion: Option<Suggestion>,
    /// Where to read more.
    pub url: Option<String>,
}

impl Diagnostic {
    /// Creates an error.
    pub fn error(code: RuleCode, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Diagnostic::new(Severity::Error, code, message.into(), Label { span, text: label.into() })
    }

    /// Creates a warning.
    pub fn warning(code: RuleCode, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Diagnostic::new(Severity::Warning, code, message.into(), Label { span, text: label.into() })
    }

    fn new(severity: Severity, code: RuleCode, message: String, primary: Label) -> Self {
        let (secondary, notes) = (Vec::new(), Vec::new());
        Diagnostic {
            severity,
            code,
            message,
            primary,
            secondary,
            notes,
            help: None,
            suggestion: None,
            url: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a further fact.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn with_secondary(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// Adds a change that settles the matter.
    #[must_use]
    pub fn with_suggestion(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.suggestion = Some(Suggestion { span, replacement: replacement.into() });
        self
    }

    /// Adds where to read more.
    #[must_use]
    pub fn with_url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Adds the candidate most like `word`, if one is near, as help and as a change of `span`.
    #[must_use]
    pub fn with_nearest<'a>(
        self,
        span: Span,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match did_you_mean(word, candidates) {
            Some(nearest) => {
                self.with_help(format!("did you mean `{nearest}`?")).with_suggestion(span, nearest)
            }
            None => self,
        }
    }
}

/// Sorts by place, errors before warnings at the same one.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|diagnostic| (diagnostic.primary.span, diagnostic.severity, diagnostic.code));
}
