//! UnpinnedBase: a base image that may be another one tomorrow.

use std::collections::BTreeSet;

use super::{Linter, Rule};

pub(super) const RULE: Rule = Rule::without_page(
    "UnpinnedBase",
    "a base image without a tag, or with `latest`, changes under the build",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    let mut stages = BTreeSet::new();
    for stage in linter.stages.clone() {
        let Some(from) = stage.from else {
            continue;
        };
        let image = &from.image;
        let is_known = image.value == "scratch" || stages.contains(&image.value);
        if !is_known && !image.value.contains('$') && is_unpinned(&image.value) {
            let message = format!("base image `{}` is not pinned to a version", image.value);
            let finding = RULE.finding(message, image.span, "another image tomorrow, perhaps");
            linter.report(
                stage.node,
                finding.with_help("name a version (`image:1.2`) or a digest (`image@sha256:…`)"),
            );
        }
        stages.extend(stage.name());
    }
}

fn is_unpinned(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
