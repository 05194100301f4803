//! StageNameCasing: stage names in lower case.

use super::{Linter, Rule};

pub(super) const RULE: Rule = Rule::new(
    "StageNameCasing",
    "stage-name-casing",
    "names of stages are best in lower case, as they are compared",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for stage in linter.stages.clone() {
        let Some(name) = stage.from.and_then(|from| from.name.as_ref()) else {
            continue;
        };
        let lower = name.value.to_lowercase();
        if name.value != lower {
            let message = format!("Stage name '{}' should be lowercase", name.value);
            linter.report(stage.node, RULE.finding(message, name.span, "").with_suggestion(name.span, lower));
        }
    }
}
