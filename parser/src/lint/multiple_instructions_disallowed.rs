//! MultipleInstructionsDisallowed: of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last counts.

use super::{Linter, Rule};
use crate::keyword::Keyword;
use crate::syntax::{Instruction, InstructionNode};

pub(super) const RULE: Rule = Rule::new(
    "MultipleInstructionsDisallowed",
    "multiple-instructions-disallowed",
    "of several CMD, ENTRYPOINT or HEALTHCHECK in one stage only the last has an effect",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for stage in linter.stages.clone() {
        for keyword in [Keyword::Cmd, Keyword::Entrypoint, Keyword::Healthcheck] {
            let same: Vec<_> = stage.instructions.iter().filter(|node| is(node, keyword)).collect();
            for pair in same.windows(2) {
                let (ignored, later) = (pair[0], pair[1]);
                let message = format!(
                    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                    later.keyword.value
                );
                let finding = RULE.finding(message, ignored.keyword.span, "has no effect");
                linter.report(later, finding.with_secondary(later.keyword.span, "replaced here"));
            }
        }
    }
}

fn is(node: &InstructionNode, keyword: Keyword) -> bool {
    !matches!(node.instruction, Instruction::Invalid) && Keyword::parse(&node.keyword.value) == Some(keyword)
}
