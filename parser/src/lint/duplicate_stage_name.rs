//! DuplicateStageName: each stage its own name.

use std::collections::BTreeMap;

use super::{Linter, Rule};

pub(super) const RULE: Rule =
    Rule::new("DuplicateStageName", "duplicate-stage-name", "two stages of one name hide each other");

pub(super) fn check(linter: &mut Linter<'_>) {
    let mut seen = BTreeMap::new();
    for stage in linter.stages.clone() {
        let (Some(name), Some(lower)) = (stage.from.and_then(|from| from.name.as_ref()), stage.name()) else {
            continue;
        };
        let message = format!("Duplicate stage name \"{lower}\", stage names should be unique");
        if let Some(first) = seen.insert(lower, name.span) {
            let finding = RULE.finding(message, name.span, "again here");
            linter.report(stage.node, finding.with_secondary(first, "first here"));
        }
    }
}
