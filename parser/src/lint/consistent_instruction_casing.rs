//! ConsistentInstructionCasing: all keywords in one case.

use super::{Linter, Rule};
use crate::keyword::Keyword;

pub(super) const RULE: Rule = Rule::new(
    "ConsistentInstructionCasing",
    "consistent-instruction-casing",
    "keywords are best all in upper case or all in lower case",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    let in_stages = linter.nodes().iter().skip(linter.dockerfile.preamble().len());
    let in_stages = in_stages.filter(|node| Keyword::parse(&node.keyword.value).is_some());
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let lower = in_stages.clone().filter(|node| is_lower(&node.keyword.value)).count();
    let upper = in_stages.clone().filter(|node| is_upper(&node.keyword.value)).count();
    for node in in_stages {
        let word = &node.keyword.value;
        let (wanted, casing) = if lower > upper {
            (word.to_lowercase(), "lowercase")
        } else {
            (word.to_uppercase(), "uppercase")
        };
        if *word != wanted {
            let message =
                format!("Command '{word}' should match the case of the command majority ({casing})");
            let span = node.keyword.span;
            linter.report(node, RULE.finding(message, span, "").with_suggestion(span, wanted));
        }
    }
}
