//! Collects what is wrong or doubtful while planning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use mica_parser::diagnostic::{self, Diagnostic, RuleCode, Severity};
use mica_parser::lint::{self, CheckConfig, Rule};
use mica_parser::syntax::{Dockerfile, InstructionNode, Span};

use super::outcome::Planned;

/// The argument that takes the place of a file's `check` directive.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The argument that takes the place of a file's `syntax` directive.
const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// A mistake on its way to the [`Report`].
pub(super) type Problem = Box<Diagnostic>;

/// Makes a mistake of rule `code` at `span`.
pub(super) fn problem(code: &'static str, span: Span, message: impl Into<String>) -> Problem {
    Box::new(Diagnostic::error(RuleCode::new(code), message, span, ""))
}

/// Lets an error of another kind become a mistake.
pub(super) trait OrProblem<T> {
    /// Turns an error into a mistake whose message starts with `doing`.
    fn or_problem(self, code: &'static str, span: Span, doing: impl Display) -> Result<T, Problem>;
}

impl<T, E: Display> OrProblem<T> for Result<T, E> {
    fn or_problem(self, code: &'static str, span: Span, doing: impl Display) -> Result<T, Problem> {
        self.map_err(|error| problem(code, span, format!("{doing}: {error}")))
    }
}

/// All diagnostics of one planning.
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    config: CheckConfig,
    /// Where the settings of checks are written.
    config_span: Span,
    hears_warnings: bool,
}

impl Report {
    /// Starts with what the build checks say of the text alone.
    pub(super) fn new(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> Self {
        let config_span = file.directives.check.as_ref().map_or(Span::default(), |check| check.span);
        let (diagnostics, config) = (Vec::new(), CheckConfig::default());
        let mut report = Self { diagnostics, config, config_span, hears_warnings: true };
        let config = check_config(file, config_span, build_args);
        report.config = report.unless_ok(config).unwrap_or_default();
        report.diagnostics.extend(lint::check(file, &report.config));
        report.diagnostics.extend(foreign_syntax(file, build_args));
        report
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
        self.diagnostics.iter().any(is_error)
    }

    /// Returns where warnings about an instruction go.
    pub(super) fn for_node<'r>(&'r mut self, node: &'r InstructionNode) -> Checks<'r> {
        Checks { report: self, node }
    }

    /// Takes back what rules said of a part of the file, having seen only its text.
    pub(super) fn take_back(&mut self, span: Span, is_meant: impl Fn(&str) -> bool) {
        self.diagnostics.retain(|diagnostic| {
            let place = diagnostic.primary.span;
            let is_inside = span.start <= place.start && place.end <= span.end;
            is_error(diagnostic) || !is_inside || !is_meant(diagnostic.code.as_str())
        });
    }

    /// Ends the planning: where a warning is to fail the build, it does.
    pub(super) fn finish(mut self, planned: Option<Planned>) -> (Option<Planned>, Vec<Diagnostic>) {
        let is_planned = matches!(planned, Some(Planned::Ready(_)));
        let codes = self.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str());
        let rules: BTreeSet<&str> = codes.filter(|code| Rule::by_name(code).is_some()).collect();
        if is_planned && self.config.error && !rules.is_empty() {
            let message = format!("lint violation found for rules: {}", Vec::from_iter(rules).join(", "));
            self.error(problem("check-failed", self.config_span, message));
        }
        diagnostic::sort(&mut self.diagnostics);
        (planned.filter(|_| !is_planned || !self.has_errors()), self.diagnostics)
    }
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

fn check_config(
    file: &Dockerfile,
    span: Span,
    build_args: &BTreeMap<String, String>,
) -> Result<CheckConfig, Problem> {
    match build_args.get(CHECK_ARGUMENT) {
        Some(text) => {
            let doing = format_args!("cannot read the build argument {CHECK_ARGUMENT}");
            CheckConfig::parse(text).or_problem("bad-check", Span::default(), doing)
        }
        None => CheckConfig::of(file).or_problem("bad-check", span, "cannot read the check directive"),
    }
}

/// Warns of a file that is written for another frontend than the usual one, since no frontend image is ever run.
fn foreign_syntax(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> Option<Diagnostic> {
    let directive = file.directives.syntax.as_ref();
    let span = directive.map_or(Span::default(), |syntax| syntax.span);
    let written = build_args.get(SYNTAX_ARGUMENT).or(directive.map(|syntax| &syntax.value))?;
    let image = written.split_whitespace().next()?;
    // Mirrors keep the last part of the name.
    let last = image.rsplit('/').next().and_then(|last| last.split(['@', ':']).next());
    if matches!(last, Some("dockerfile" | "dockerfile-upstream" | "dockerfile.v0")) {
        return None;
    }
    let message = format!("the frontend `{image}` is not run: the file is read as an ordinary Dockerfile");
    Some(Diagnostic::warning(RuleCode::new("foreign-syntax"), message, span, ""))
}

/// The build checks that need planning, for one instruction.
pub(super) struct Checks<'r> {
    report: &'r mut Report,
    node: &'r InstructionNode,
}

impl Checks<'_> {
    /// Adds a warning, unless it is not wanted here.
    pub(super) fn add(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        let Report { diagnostics, config, hears_warnings, .. } = &mut *self.report;
        if *hears_warnings {
            diagnostics
                .extend(found.into_iter().filter(|diagnostic| config.allows_at(diagnostic.code, self.node)));
        }
    }
}
