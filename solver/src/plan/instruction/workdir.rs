//! WORKDIR.

use mica_parser::lint::workdir_relative_path;
use mica_parser::syntax::Spanned;
use mica_parser::words::expand;

use crate::graph::{Op, WorkdirOp};
use crate::plan::dispatch::StageBuilder;
use crate::plan::paths;
use crate::plan::report::Problem;
use crate::plan::stages::Command;
use crate::plan::title::with_capitals;

impl StageBuilder<'_, '_> {
    pub(super) fn workdir(&mut self, command: &Command<'_>, word: &Spanned<String>) -> Result<(), Problem> {
        let written = self.expand(command, word)?;
        if !self.state.workdir_set {
            let span = command.place(word.span);
            self.report.for_node(&command.node).add(workdir_relative_path(&written, span));
        }
        self.state.workdir_set = true;
        let path = paths::resolve(&self.state.image.config.working_dir, &written);
        self.state.image.config.working_dir.clone_from(&path);
        // The configuration keeps an absolute path as it was written, as in the reference builder.
        let directory = paths::clean(&path);
        self.state.cwd.clone_from(&directory);
        let step = (directory != "/").then(|| {
            let title = self.expanded_title(command);
            let op = Op::Workdir(WorkdirOp { path: directory, user: self.state.user.clone() });
            self.add_step(command, title, op, Vec::new())
        });
        self.record(command, format!("WORKDIR {path}"), step);
        Ok(())
    }

    /// Names a step by its line with variables replaced, where that is possible.
    pub(super) fn expanded_title(&mut self, command: &Command<'_>) -> String {
        let line = command.node.line.trim();
        let expanded = expand(line, self.plan.escape, &self.state.env);
        let text = with_capitals(expanded.as_ref().map_or(line, |expansion| &expansion.text));
        self.title(command, &text)
    }
}
