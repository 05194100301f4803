//! MaintainerDeprecated: a label instead of MAINTAINER.

use super::{Linter, Rule};
use crate::syntax::Instruction;

pub(super) const RULE: Rule = Rule::new(
    "MaintainerDeprecated",
    "maintainer-deprecated",
    "MAINTAINER is deprecated; a label says it better",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.nodes() {
        let Instruction::Maintainer(author) = &node.instruction else {
            continue;
        };
        let message = "Maintainer instruction is deprecated in favor of using label";
        let mut finding = RULE.finding(message, node.keyword.span, "");
        if author.value.contains(['"', '\\', '$', '\'', '`']) {
            finding = finding.with_help("use `LABEL org.opencontainers.image.authors=…`");
        } else {
            let label = format!("LABEL org.opencontainers.image.authors=\"{}\"", author.value);
            finding = finding.with_suggestion(node.span, label);
        }
        linter.report(node, finding);
    }
}
