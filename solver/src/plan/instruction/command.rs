//! CMD, ENTRYPOINT and SHELL.

use mica_parser::syntax::{CommandLine, Spanned};

use crate::plan::dispatch::StageBuilder;
use crate::plan::go;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn cmd(&mut self, command: &Command<'_>, line: &CommandLine) {
        let words = self.words_of(command, line);
        let config = &mut self.state.image.config;
        config.cmd.clone_from(&words);
        config.args_escaped = true;
        self.cmd_set = true;
        self.record(command, format!("CMD {}", go::quoted_list(&words)), None);
    }

    pub(super) fn entrypoint(&mut self, command: &Command<'_>, line: &CommandLine) {
        let words = self.words_of(command, line);
        let config = &mut self.state.image.config;
        config.entrypoint.clone_from(&words);
        if !self.cmd_set {
            // A CMD of the base was meant for the base's entry point.
            config.cmd.clear();
        }
        self.record(command, format!("ENTRYPOINT {}", go::quoted_list(&words)), None);
    }

    pub(super) fn shell(&mut self, command: &Command<'_>, words: &[Spanned<String>]) {
        let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
        let created_by = format!("SHELL {}", go::list(&words));
        self.state.image.config.shell = words;
        self.record(command, created_by, None);
    }

    /// Returns the words of a command; the shell form is one word for the shell.
    fn words_of(&mut self, command: &Command<'_>, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(words) => words.value.clone(),
            CommandLine::Shell(text) => {
                if !self.state.image.config.shell.is_empty() && command.elsewhere.is_none() {
                    // Whoever set a shell, in this file or in the base image, meant it.
                    self.report.take_back(command.node.span, |code| code == "JSONArgsRecommended");
                }
                self.with_shell(text.value.clone())
            }
        }
    }

    /// Puts the shell in effect in front of a command.
    pub(super) fn with_shell(&self, text: String) -> Vec<String> {
        let shell = &self.state.image.config.shell;
        let mut words = match (shell.is_empty(), self.state.image.os.as_str()) {
            (false, _) => shell.clone(),
            (true, "windows") => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
            (true, _) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        };
        words.push(text);
        words
    }
}
