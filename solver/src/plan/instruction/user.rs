//! USER.

use mica_parser::syntax::Spanned;

use crate::plan::dispatch::StageBuilder;
use crate::plan::report::Problem;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn user(&mut self, command: &Command<'_>, word: &Spanned<String>) -> Result<(), Problem> {
        let user = self.expand(command, word)?;
        self.record(command, format!("USER {user}"), None);
        self.state.image.config.user.clone_from(&user);
        self.state.user = user;
        Ok(())
    }
}
