//! ENV.

use mica_parser::syntax::KeyValue;

use crate::plan::dispatch::StageBuilder;
use crate::plan::environment::set_in_list;
use crate::plan::report::Problem;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn env(&mut self, command: &Command<'_>, pairs: &[KeyValue]) -> Result<(), Problem> {
        let pairs = self.expand_pairs(command, pairs)?;
        for (name, value) in &pairs {
            self.state.env.set(name, value);
            set_in_list(&mut self.state.image.config.env, name, value);
        }
        self.record(command, created_by("ENV", &pairs), None);
        Ok(())
    }

    /// Expands all pairs before any of them takes effect: each sees the variables as they were above the instruction.
    pub(super) fn expand_pairs(
        &mut self,
        command: &Command<'_>,
        pairs: &[KeyValue],
    ) -> Result<Vec<(String, String)>, Problem> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            expanded.push((self.expand(command, &pair.key)?, self.expand(command, &pair.value)?));
        }
        Ok(expanded)
    }
}

/// Returns what the history says of an instruction of pairs.
pub(super) fn created_by(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (name, value) in pairs {
        text.extend([" ", name, "=", value]);
    }
    text
}
