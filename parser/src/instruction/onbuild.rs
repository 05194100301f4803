//! ONBUILD.

use super::{Context, build_in};
use crate::diagnostic::{Diagnostic, RuleCode, Severity};
use crate::raw::{Arguments, RawNode};
use crate::syntax::{Instruction, InstructionNode};

impl Context<'_> {
    pub(super) fn onbuild(&mut self) -> Option<Instruction> {
        let Arguments::Trigger(trigger) = &self.node.arguments else {
            self.missing_arguments();
            return None;
        };
        self.no_flags();
        let keyword = &trigger.keyword;
        match keyword.value.to_ascii_uppercase().as_str() {
            "ONBUILD" => {
                let message = "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned();
                self.report("bad-trigger", message, keyword, "");
            }
            name @ ("MAINTAINER" | "FROM") => {
                self.report(
                    "bad-trigger",
                    format!("{name} isn't allowed as an ONBUILD trigger"),
                    keyword,
                    "",
                );
            }
            _ => return Some(Instruction::Onbuild(Box::new(self.trigger(trigger)))),
        }
        None
    }

    /// The trigger, typed; its mistakes are warnings, because the image that declares it can be built.
    fn trigger(&mut self, trigger: &RawNode) -> InstructionNode {
        let mut problems = Vec::new();
        let node = build_in(trigger, self.node, &mut problems);
        self.warnings.extend(problems.into_iter().map(|problem| {
            let problem = Diagnostic { severity: Severity::Warning, code: RuleCode::new("broken-trigger"), ..problem };
            problem.with_note("ONBUILD triggers are read when another image is built from this one, and that build would fail")
        }));
        node
    }
}
