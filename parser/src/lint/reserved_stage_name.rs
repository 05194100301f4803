//! ReservedStageName: `scratch` and `context` mean something else.

use super::{Linter, Rule};

pub(super) const RULE: Rule =
    Rule::new("ReservedStageName", "reserved-stage-name", "`scratch` and `context` are no names for a stage");

pub(super) fn check(linter: &mut Linter<'_>) {
    for stage in linter.stages.clone() {
        let (Some(name), Some(lower)) = (stage.from.and_then(|from| from.name.as_ref()), stage.name()) else {
            continue;
        };
        if matches!(lower.as_str(), "context" | "scratch") {
            let message = format!("Stage name should not use the same name as reserved stage \"{lower}\"");
            linter.report(stage.node, RULE.finding(message, name.span, "choose another name"));
        }
    }
}
