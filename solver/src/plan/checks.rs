//! The build checks that need planning: what a variable, path or platform turns out to be.

use std::collections::BTreeSet;

use mica_image::Platform;
use mica_parser::diagnostic::{Diagnostic, RuleCode};
use mica_parser::lint::{self, Rule};
use mica_parser::syntax::{InstructionNode, Span};

use super::dispatch::States;
use super::environment::Environment;
use super::planner::PlatformPlan;
use super::report::{Checks, Report};

/// Rules the reference builder applies only to the stages it builds.
const RULES_OF_BUILT_STAGES: [&str; 6] = [
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MultipleInstructionsDisallowed",
    "SecretsUsedInArgOrEnv",
];

impl Checks<'_> {
    /// A variable is used before anything sets it.
    pub(super) fn undefined_var(&mut self, span: Span, name: &str, known: &Environment) {
        self.add([lint::undefined_var(name, span, known.names())]);
    }

    /// FROM uses an argument that is not declared.
    pub(super) fn undefined_arg_in_from(&mut self, span: Span, name: &str, known: &BTreeSet<String>) {
        self.add([lint::undefined_arg_in_from(name, span, known.iter().map(String::as_str))]);
    }

    /// The base image is for another platform.
    pub(super) fn invalid_base_image_platform(
        &mut self,
        span: Span,
        name: &str,
        wanted: &Platform,
        found: &Platform,
    ) {
        let (wanted, found) = (wanted.normalized().to_string(), found.normalized().to_string());
        self.add([lint::invalid_base_image_platform(name, span, &wanted, &found)]);
    }

    /// The ignore file leaves out what is copied; which it does is for the person who asks for the plan to know.
    pub(super) fn copy_ignored_file(&mut self, span: Span, verb: &str, path: &str) {
        let code = RuleCode::new("CopyIgnoredFile");
        let message = format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
        let mut found = Diagnostic::warning(code, message, span, "left out of the context");
        found.url = Rule::by_name(code.as_str()).and_then(Rule::url);
        self.add([found]);
    }

    /// A port that came out of variables is not written as it should be.
    pub(super) fn port(&mut self, span: Span, port: &str) {
        self.add(lint::expose_proto_casing(port, span));
        self.add(lint::expose_invalid_format(port, span));
    }
}

impl PlatformPlan<'_> {
    /// Takes back what the checks of the text say of stages that turned out not to be built.
    pub(super) fn forget_unbuilt(&self, states: &States, report: &mut Report) {
        for (_, stage) in self.stages.iter().filter(|(index, _)| states[index.0].is_none()) {
            for command in stage.commands.iter().filter(|command| command.elsewhere.is_none()) {
                let node: &InstructionNode = &command.node;
                report.take_back(node.span, |code| RULES_OF_BUILT_STAGES.contains(&code));
            }
        }
    }
}
