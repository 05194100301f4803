//! CMD, ENTRYPOINT and SHELL, and the command line they share with RUN.

use super::Context;
use crate::raw::Arguments;
use crate::syntax::{CommandLine, Instruction, Span, Spanned};

impl Context<'_> {
    pub(super) fn command(&mut self) -> Option<CommandLine> {
        self.no_flags();
        Some(self.command_line())
    }

    /// The command line; none at all is an empty command for the shell.
    pub(super) fn command_line(&self) -> CommandLine {
        let empty = || Spanned { span: self.node.rest.span, value: String::new() };
        command_line(&self.node.arguments).unwrap_or_else(|| CommandLine::Shell(empty()))
    }

    pub(super) fn shell(&mut self) -> Option<Instruction> {
        self.no_flags();
        match &self.node.arguments {
            Arguments::Json(array) if !array.value.is_empty() => {
                Some(Instruction::Shell(array.value.clone()))
            }
            Arguments::Text(text) => {
                let message = "SHELL requires the arguments to be in JSON form".to_owned();
                self.report("shell-not-json", message, text, r#"expected `["executable", "argument"]`"#);
                None
            }
            _ => {
                self.missing_arguments();
                None
            }
        }
    }
}

/// Reads shell or exec form; `None` when there are no arguments.
pub(super) fn command_line(arguments: &Arguments) -> Option<CommandLine> {
    match arguments {
        Arguments::Text(text) => Some(CommandLine::Shell(text.clone())),
        Arguments::Json(array) => {
            let span: Span = array.span;
            let value = array.value.iter().map(|word| word.value.clone()).collect();
            Some(CommandLine::Exec(Spanned { span, value }))
        }
        _ => None,
    }
}
