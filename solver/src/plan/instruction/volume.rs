//! VOLUME.

use mica_parser::syntax::Spanned;

use crate::plan::dispatch::StageBuilder;
use crate::plan::go;
use crate::plan::report::{Problem, problem};
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn volume(&mut self, command: &Command<'_>, words: &[Spanned<String>]) -> Result<(), Problem> {
        let mut volumes = Vec::with_capacity(words.len());
        for word in words {
            let volume = self.expand(command, word)?;
            if volume.is_empty() {
                let message = format!("VOLUME can not be an empty string, as `{}` is", word.value);
                return Err(problem("empty-volume", command.place(word.span), message));
            }
            volumes.push(volume);
        }
        self.record(command, format!("VOLUME {}", go::list(&volumes)), None);
        self.state.image.config.volumes.extend(volumes);
        Ok(())
    }
}
