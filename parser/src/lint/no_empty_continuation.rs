//! NoEmptyContinuation: no blank lines inside an instruction.

use super::{Linter, Rule};

pub(super) const RULE: Rule = Rule::new(
    "NoEmptyContinuation",
    "no-empty-continuation",
    "a blank line between continuation lines is going to be an error",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.nodes() {
        let [first, others @ ..] = &node.blank_lines[..] else {
            continue;
        };
        let mut finding = RULE.finding("Empty continuation line", *first, "remove this line");
        for other in others {
            finding = finding.with_secondary(*other, "");
        }
        if others.is_empty() {
            finding = finding.with_suggestion(*first, "");
        }
        linter.report(node, finding);
    }
}
