//! RedundantTargetPlatform: `--platform=$TARGETPLATFORM` is what happens anyway.

use std::collections::BTreeMap;

use super::{Linter, Rule};
use crate::syntax::Span;
use crate::words::expand;

pub(super) const RULE: Rule = Rule::new(
    "RedundantTargetPlatform",
    "redundant-target-platform",
    "a stage is for the target platform when nothing else is said",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    let escape = linter.dockerfile.directives.escape;
    let variables = BTreeMap::from([("TARGETPLATFORM".to_owned(), "\u{1}".to_owned())]);
    for stage in linter.stages.clone() {
        let Some(platform) = stage.from.and_then(|from| from.platform.as_ref()) else {
            continue;
        };
        let Ok(expansion) = expand(&platform.value, escape, &variables) else {
            continue;
        };
        if expansion.text != "\u{1}" || !expansion.unmatched.is_empty() {
            continue;
        }
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            platform.value
        );
        let mut finding = RULE.finding(message, platform.span, "the default");
        if let (Some(flag), Some(from)) = (stage.node.flags.first(), stage.from) {
            let unwanted = Span { start: flag.span.start, end: from.image.span.start };
            if stage.node.flags.len() == 1 && unwanted.start < unwanted.end {
                finding = finding.with_suggestion(unwanted, "");
            }
        }
        linter.report(stage.node, finding);
    }
}
