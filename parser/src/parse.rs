//! The two stages put together, and what only the file as a whole can get wrong.

use crate::diagnostic::{self, Diagnostic, RuleCode};
use crate::instruction;
use crate::keyword::Keyword;
use crate::raw::{self, RawFile};
use crate::suggest::did_you_mean;
use crate::syntax::{Dockerfile, InstructionNode};

/// A Dockerfile and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What the file says; an instruction with a mistake is [`crate::syntax::Instruction::Invalid`].
    pub dockerfile: Dockerfile,
    /// The mistakes, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Returns whether the file cannot be built.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == diagnostic::Severity::Error)
    }
}

/// Parses a Dockerfile; never fails, whatever the bytes.
pub fn parse(text: &[u8]) -> Parsed {
    let (dockerfile, mut diagnostics) = build(raw::read(text));
    if !dockerfile.instructions.is_empty() {
        check_stages(&dockerfile, &mut diagnostics);
    }
    finish(dockerfile, diagnostics)
}

/// Parses the text of an ONBUILD trigger, as the config of a base image holds it: exactly one instruction, and no FROM.
pub fn parse_trigger(text: &[u8]) -> Parsed {
    let (dockerfile, mut diagnostics) = build(raw::read(text));
    if let [_, second, ..] = &dockerfile.instructions[..] {
        let message = "an ONBUILD trigger should be a single instruction";
        diagnostics.push(Diagnostic::error(
            RuleCode::new("bad-trigger"),
            message,
            second.keyword.span,
            "a second one",
        ));
    }
    for node in dockerfile.instructions.iter().filter(|node| is_keyword(node, Keyword::From)) {
        let message = "FROM isn't allowed as an ONBUILD trigger";
        diagnostics.push(Diagnostic::error(RuleCode::new("bad-trigger"), message, node.keyword.span, ""));
    }
    finish(dockerfile, diagnostics)
}

fn build(file: RawFile) -> (Dockerfile, Vec<Diagnostic>) {
    let mut diagnostics = file.problems;
    let instructions = file.nodes.iter().map(|node| instruction::build(node, &mut diagnostics)).collect();
    (Dockerfile { directives: file.directives, instructions }, diagnostics)
}

fn finish(dockerfile: Dockerfile, mut diagnostics: Vec<Diagnostic>) -> Parsed {
    diagnostic::sort(&mut diagnostics);
    Parsed { dockerfile, diagnostics }
}

/// Only ARG may stand before the first FROM, and there must be one.
fn check_stages(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let first_stage = dockerfile.instructions.iter().position(starts_stage);
    let before = &dockerfile.instructions[..first_stage.unwrap_or(dockerfile.instructions.len())];
    let known =
        |node: &&InstructionNode| Keyword::parse(&node.keyword.value).is_some_and(|k| k != Keyword::Arg);
    if let Some(node) = before.iter().find(known) {
        let message =
            format!("no build stage in current context: {} before the first FROM", node.keyword.value);
        diagnostics.push(
            Diagnostic::error(
                RuleCode::new("no-stage"),
                message,
                node.keyword.span,
                "only ARG may stand before FROM",
            )
            .with_help("start the file with `FROM image`"),
        );
    } else if first_stage.is_none()
        && let Some(last) = before.iter().rfind(|node| is_keyword(node, Keyword::Arg))
    {
        let message = "dockerfile contains no stages to build";
        diagnostics.push(
            Diagnostic::error(RuleCode::new("no-stage"), message, last.span, "nothing but ARG")
                .with_help("add `FROM image` below"),
        );
    }
}

fn is_keyword(node: &InstructionNode, keyword: Keyword) -> bool {
    Keyword::parse(&node.keyword.value) == Some(keyword)
}

/// A misspelt FROM counts too, so that one slip is one error.
fn starts_stage(node: &InstructionNode) -> bool {
    is_keyword(node, Keyword::From)
        || Keyword::parse(&node.keyword.value).is_none()
            && did_you_mean(&node.keyword.value, Keyword::ALL.map(Keyword::name))
                .is_some_and(|nearest| nearest.eq_ignore_ascii_case("from"))
}
