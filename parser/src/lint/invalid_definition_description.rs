//! InvalidDefinitionDescription: a comment above FROM or ARG starts with the name it describes.

use super::{Linter, Rule};
use crate::syntax::Instruction;

pub(super) const RULE: Rule = Rule::new(
    "InvalidDefinitionDescription",
    "invalid-definition-description",
    "the comment above a stage or argument describes it when it starts with its name",
)
.experimental();

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.nodes() {
        let (instruction, names): (_, Vec<String>) = match &node.instruction {
            Instruction::From(from) => {
                ("FROM", from.name.iter().map(|name| name.value.to_lowercase()).collect())
            }
            Instruction::Arg(arg) => {
                ("ARG", arg.arguments.iter().map(|argument| argument.name.value.clone()).collect())
            }
            _ => continue,
        };
        let (Some(comment), Some(first)) = (node.comments.last(), names.first()) else {
            continue;
        };
        let word = comment.value.split(' ').next().unwrap_or_default();
        if names.iter().any(|name| name == word) {
            continue;
        }
        let name = if names.len() > 1 { "<arg_key>" } else { first };
        let message = format!("Comment for {instruction} should follow the format: `# {name} <description>`");
        let finding = RULE.finding(message, comment.span, "does not start with the name");
        linter.report(
            node,
            finding.with_help("or put an empty line with `#` between the comment and the instruction"),
        );
    }
}
