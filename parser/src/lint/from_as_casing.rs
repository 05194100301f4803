//! FromAsCasing: `AS` in the case of its FROM.

use super::{Linter, Rule};

pub(super) const RULE: Rule =
    Rule::new("FromAsCasing", "from-as-casing", "`AS` is best in the same case as its FROM");

pub(super) fn check(linter: &mut Linter<'_>) {
    for stage in linter.stages.clone() {
        let Some(keyword) = stage.from.and_then(|from| from.as_keyword.as_ref()) else {
            continue;
        };
        let from = &stage.node.keyword.value;
        let wanted = if *from == from.to_lowercase() {
            "as"
        } else if *from == from.to_uppercase() {
            "AS"
        } else {
            // The casing of FROM itself is another rule's matter.
            continue;
        };
        if keyword.value != wanted {
            let message = format!("'{}' and '{from}' keywords' casing do not match", keyword.value);
            linter.report(
                stage.node,
                RULE.finding(message, keyword.span, "").with_suggestion(keyword.span, wanted),
            );
        }
    }
}
