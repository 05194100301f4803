//! Collects what is wrong or doubtful while planning.

use std::collections::BTreeMap;
use std::fmt::Display;

use mica_parser::diagnostic::{self, Diagnostic, RuleCode, Severity};
use mica_parser::syntax::{Dockerfile, InstructionNode, Span};

use super::outcome::Planned;

/// A mistake on its way to the [`Report`].
pub(super) type Problem = Box<Diagnostic>;

/// Makes a mistake of rule `code` at `span`.
pub(super) fn problem(code: &'static str, span: Span, message: impl Into<String>) -> Problem {
    Box::new(Diagnostic::error(RuleCode::new(code), message, span, ""))
}

/// Lets an error of another kind become a mistake.
pub(super) trait OrProblem<T> {
    /// Turns an error into a mistake whose message starts with `doing`.
    fn or_problem(self, code: &'static str, span: Span, doing: &str) -> Result<T, Problem>;
}

impl<T, E: Display> OrProblem<T> for Result<T, E> {
    fn or_problem(self, code: &'static str, span: Span, doing: &str) -> Result<T, Problem> {
        self.map_err(|error| problem(code, span, format!("{doing}: {error}")))
    }
}

/// All diagnostics of one planning.
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    hears_warnings: bool,
}

impl Report {
    /// Starts with what the build checks say of the text alone.
    pub(super) fn new(_file: &Dockerfile, _build_args: &BTreeMap<String, String>) -> Self {
        Self { diagnostics: Vec::new(), hears_warnings: true }
    }

    /// Says whether warnings are kept: every platform would give the same ones, so only the first is heard.
    pub(super) fn hear_warnings(&mut self, hear: bool) {
        self.hears_warnings = hear;
    }

    /// Adds a mistake.
    pub(super) fn error(&mut self, problem: Problem) {
        self.diagnostics.push(*problem);
    }

    /// Adds the mistake, if it is one.
    pub(super) fn unless_ok<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.error(problem)).ok()
    }

    /// Returns whether the file cannot be built.
    pub(super) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Returns where warnings about an instruction go.
    pub(super) fn for_node<'r>(&'r mut self, _node: &InstructionNode) -> Checks<'r> {
        Checks { report: self }
    }

    /// Ends the planning.
    pub(super) fn finish(mut self, planned: Option<Planned>) -> (Option<Planned>, Vec<Diagnostic>) {
        diagnostic::sort(&mut self.diagnostics);
        (planned, self.diagnostics)
    }

    fn warn(&mut self, diagnostic: Diagnostic) {
        if self.hears_warnings {
            self.diagnostics.push(diagnostic);
        }
    }
}

/// The build checks that need planning, for one instruction.
pub(super) struct Checks<'r> {
    report: &'r mut Report,
}

impl Checks<'_> {
    /// Adds a warning.
    pub(super) fn add(self, diagnostic: Diagnostic) {
        self.report.warn(diagnostic);
    }
}
