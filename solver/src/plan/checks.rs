//! The build checks that need planning: what a variable, path or platform turns out to be.

use std::collections::BTreeSet;

use mica_image::Platform;
use mica_parser::diagnostic::{Diagnostic, RuleCode, did_you_mean};
use mica_parser::syntax::{FromInstruction, Span};

use super::environment::Environment;
use super::report::Checks;

const PAGES: &str = "https://docs.docker.com/go/dockerfile/rule/";

impl Checks<'_> {
    /// UndefinedVar: a variable is used before anything sets it.
    pub(super) fn undefined_var(self, span: Span, name: &str, known: &Environment) {
        let nearest = did_you_mean(name, known.names());
        let hint = nearest.map(|nearest| format!(" (did you mean ${nearest}?)")).unwrap_or_default();
        let message = format!("Usage of undefined variable '${name}'{hint}");
        self.report("UndefinedVar", span, message, Some("undefined-var"));
    }

    /// UndefinedArgInFrom: FROM uses an argument that is not declared.
    pub(super) fn undefined_arg_in_from(self, span: Span, name: &str, known: &BTreeSet<String>) {
        let nearest = did_you_mean(name, known.iter().map(String::as_str));
        let hint = nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default();
        let message = format!("FROM argument '{name}' is not declared{hint}");
        self.report("UndefinedArgInFrom", span, message, Some("undefined-arg-in-from"));
    }

    /// InvalidDefaultArgInFrom: without build arguments, FROM names nothing that could be an image.
    pub(super) fn invalid_default_arg_in_from(self, from: &FromInstruction) {
        let name = &from.image.value;
        let message = format!("Default value for ARG {name} results in empty or invalid base image name");
        self.report("InvalidDefaultArgInFrom", from.image.span, message, Some("invalid-default-arg-in-from"));
    }

    /// InvalidBaseImagePlatform: the base image is for another platform.
    pub(super) fn invalid_base_image_platform(self, span: Span, name: &str, wanted: &Platform, found: &Platform) {
        let (wanted, found) = (wanted.normalized(), found.normalized());
        let message =
            format!("Base image {name} was pulled with platform \"{found}\", expected \"{wanted}\" for current build");
        self.report("InvalidBaseImagePlatform", span, message, None);
    }

    /// CopyIgnoredFile: the ignore file leaves out what is copied.
    pub(super) fn copy_ignored_file(self, span: Span, verb: &str, path: &str) {
        let message = format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
        self.report("CopyIgnoredFile", span, message, Some("copy-ignored-file"));
    }

    /// WorkdirRelativePath: the first WORKDIR of a stage depends on the base image's.
    pub(super) fn workdir_relative_path(self, span: Span, path: &str) {
        let message = format!("Relative workdir \"{path}\" can have unexpected results if the base image changes");
        self.report("WorkdirRelativePath", span, message, Some("workdir-relative-path"));
    }

    fn report(self, rule: &'static str, span: Span, message: String, page: Option<&str>) {
        let mut diagnostic = Diagnostic::warning(RuleCode::new(rule), message, span, "");
        diagnostic.url = page.map(|page| format!("{PAGES}{page}/"));
        self.add(diagnostic);
    }
}
