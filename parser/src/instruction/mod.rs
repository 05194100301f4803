//! The second stage: raw nodes to typed instructions, with everything the reference refuses before it plans.

mod command;
mod config;
mod from;
mod healthcheck;
mod onbuild;
mod run;
mod transfer;

use crate::diagnostic::{Diagnostic, RuleCode};
use crate::flags::{FlagSpec, Flags};
use crate::keyword::Keyword;
use crate::raw::{Arguments, RawNode};
use crate::syntax::{Instruction, InstructionNode, Spanned};

/// Gives a node its meaning; its mistakes go to `problems`.
pub(crate) fn build(node: &RawNode, problems: &mut Vec<Diagnostic>) -> InstructionNode {
    build_in(node, node, problems)
}

/// Builds a node of which lines and heredocs are those of `outer`: itself, or the ONBUILD around it.
fn build_in(node: &RawNode, outer: &RawNode, problems: &mut Vec<Diagnostic>) -> InstructionNode {
    let mut cx = Context { node, outer, name: "", problems: Vec::new(), warnings: Vec::new() };
    let instruction = cx.build();
    let instruction = instruction.filter(|_| cx.problems.is_empty()).unwrap_or(Instruction::Invalid);
    problems.append(&mut cx.problems);
    problems.append(&mut cx.warnings);
    InstructionNode {
        span: node.span,
        start_line: outer.start_line,
        end_line: outer.end_line,
        keyword: node.keyword.clone(),
        flags: node.flags.iter().map(|flag| flag.text.clone()).collect(),
        original: node.rest.value.clone(),
        line: node.line.clone(),
        blank_lines: node.blank_lines.clone(),
        comments: node.comments.clone(),
        heredocs: outer.heredocs.clone(),
        instruction,
    }
}

/// One instruction being given its meaning.
struct Context<'a> {
    node: &'a RawNode,
    /// The ONBUILD the node is the trigger of, or the node itself.
    outer: &'a RawNode,
    /// The keyword in upper case.
    name: &'static str,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Context<'a> {
    /// Returns the instruction, or `None` after reporting why there is none.
    fn build(&mut self) -> Option<Instruction> {
        let Some(keyword) = Keyword::parse(&self.node.keyword.value) else {
            self.unknown_instruction();
            return None;
        };
        if matches!(self.node.arguments, Arguments::Broken) {
            return None;
        }
        self.name = keyword.name();
        match keyword {
            Keyword::Add => self.add(),
            Keyword::Arg => self.arg(),
            Keyword::Cmd => self.command().map(Instruction::Cmd),
            Keyword::Copy => self.copy(),
            Keyword::Entrypoint => self.command().map(Instruction::Entrypoint),
            Keyword::Env => self.pairs().map(Instruction::Env),
            Keyword::Expose => self.expose(),
            Keyword::From => self.from(),
            Keyword::Healthcheck => self.healthcheck(),
            Keyword::Label => self.pairs().map(Instruction::Label),
            Keyword::Maintainer => self.one_argument().map(Instruction::Maintainer),
            Keyword::Onbuild => self.onbuild(),
            Keyword::Run => self.run(),
            Keyword::Shell => self.shell(),
            // The one instruction whose flags nobody looks at, besides ARG.
            Keyword::Stopsignal => self.exactly_one().map(Instruction::Stopsignal),
            Keyword::User => self.one_argument().map(Instruction::User),
            Keyword::Volume => self.volume(),
            Keyword::Workdir => self.one_argument().map(Instruction::Workdir),
        }
    }

    fn unknown_instruction(&mut self) {
        let keyword = &self.node.keyword;
        if keyword.value.is_empty() {
            self.report(
                "unknown-instruction",
                "an instruction is missing after the continuation".into(),
                keyword,
                "",
            );
            return;
        }
        let message = format!("unknown instruction: {}", keyword.value);
        let names = Keyword::ALL.into_iter().map(Keyword::name);
        let mut problem = Diagnostic::error(RuleCode::new("unknown-instruction"), message, keyword.span, "")
            .with_nearest(keyword.span, &keyword.value, names);
        if keyword.value.chars().any(|c| c.is_whitespace()) {
            problem = problem.with_note("the word contains a blank that is neither a space nor a tab");
        } else if self.node.heredocs.is_empty() && problem.help.is_none() {
            problem =
                problem.with_help("if it belongs to the line above, end that line with the escape character");
        }
        self.problems.push(problem);
    }

    fn report(&mut self, code: &'static str, message: String, at: &Spanned<String>, label: &str) {
        self.problems.push(Diagnostic::error(RuleCode::new(code), message, at.span, label));
    }

    /// Reports a mistake of the instruction as a whole.
    fn report_here(&mut self, code: &'static str, message: String) {
        let keyword = self.node.keyword.clone();
        self.report(code, message, &keyword, "");
    }

    fn missing_arguments(&mut self) {
        self.report_here("missing-arguments", format!("{} requires at least one argument", self.name));
    }

    fn flags(&mut self, specs: &[FlagSpec]) -> Flags<'a> {
        Flags::read(self.name, &self.node.flags, specs, &mut self.problems)
    }

    fn no_flags(&mut self) {
        self.flags(&[]);
    }

    fn one_argument(&mut self) -> Option<Spanned<String>> {
        self.no_flags();
        self.exactly_one()
    }

    fn exactly_one(&mut self) -> Option<Spanned<String>> {
        if let Arguments::Text(text) = &self.node.arguments {
            return Some(text.clone());
        }
        self.report_here("missing-arguments", format!("{} requires exactly one argument", self.name));
        None
    }

    /// Returns the words of a list in either form, and whether it is the JSON form.
    fn words(&self) -> (&'a [Spanned<String>], bool) {
        match &self.node.arguments {
            Arguments::Words(words) => (words, false),
            Arguments::Json(array) => (&array.value, true),
            _ => (&[], false),
        }
    }
}

/// Returns the flags an instruction has.
#[cfg(test)]
pub(crate) fn flags_of(keyword: Keyword) -> &'static [FlagSpec] {
    match keyword {
        Keyword::Add => &transfer::ADD_FLAGS,
        Keyword::Copy => &transfer::COPY_FLAGS,
        Keyword::From => &from::FLAGS,
        Keyword::Healthcheck => &healthcheck::FLAGS,
        Keyword::Run => &run::FLAGS,
        _ => &[],
    }
}
