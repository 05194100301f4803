//! LABEL and MAINTAINER.

use mica_parser::syntax::KeyValue;

use super::env::created_by;
use crate::plan::dispatch::StageBuilder;
use crate::plan::report::Problem;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn label(&mut self, command: &Command<'_>, pairs: &[KeyValue]) -> Result<(), Problem> {
        let pairs = self.expand_pairs(command, pairs)?;
        self.record(command, created_by("LABEL", &pairs), None);
        self.state.image.config.labels.extend(pairs);
        Ok(())
    }

    pub(super) fn maintainer(&mut self, command: &Command<'_>, name: &str) {
        name.clone_into(&mut self.state.image.author);
        self.record(command, format!("MAINTAINER {name}"), None);
    }
}
