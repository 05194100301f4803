//! RootUser: the image runs as root.

use std::collections::BTreeMap;

use super::{Linter, Rule};
use crate::stage::Stage;
use crate::syntax::{Instruction, InstructionNode, Spanned};

pub(super) const RULE: Rule =
    Rule::without_page("RootUser", "an image that runs as root gives an intruder more than it must");

pub(super) fn check(linter: &mut Linter<'_>) {
    let Some(last) = linter.stages.last().copied() else {
        return;
    };
    let (node, finding) = match last_user(&linter.stages) {
        Some((_, user)) if !is_root(&user.value) => return,
        Some((node, user)) => (node, RULE.finding("the image runs as root", user.span, "the last USER")),
        None => {
            let message = "the image runs as root, unless its base says otherwise";
            (last.node, RULE.finding(message, last.node.keyword.span, "no USER in this stage"))
        }
    };
    linter.report(node, finding.with_help("end the last stage with `USER name`"));
}

type User<'a> = (&'a InstructionNode, &'a Spanned<String>);

/// Finds the USER that counts in the last stage: its own last one, or that of the stage it starts from.
fn last_user<'a>(stages: &[Stage<'a>]) -> Option<User<'a>> {
    let mut by_name: BTreeMap<String, Option<User<'a>>> = BTreeMap::new();
    let mut user = None;
    for stage in stages {
        let inherited = stage.from.and_then(|from| by_name.get(&from.image.value).copied().flatten());
        user = own_user(stage).or(inherited);
        by_name.extend(stage.name().map(|name| (name, user)));
    }
    user
}

fn own_user<'a>(stage: &Stage<'a>) -> Option<User<'a>> {
    stage.instructions.iter().rev().find_map(|node| match &node.instruction {
        Instruction::User(user) => Some((node, user)),
        _ => None,
    })
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    matches!(name.trim_matches(['"', '\'']), "root" | "0")
}
