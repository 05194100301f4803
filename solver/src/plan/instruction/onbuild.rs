//! ONBUILD: kept for the image; a stage built on this one finds it among the instructions.

use crate::plan::dispatch::StageBuilder;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn onbuild(&mut self, command: &Command<'_>) {
        let expression = command.node.trigger_expression();
        self.state.image.config.on_build.extend(expression);
    }
}
