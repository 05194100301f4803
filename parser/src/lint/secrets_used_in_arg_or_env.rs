//! SecretsUsedInArgOrEnv: secrets do not belong into images and their history.

use super::{Linter, Rule};
use crate::syntax::{Instruction, InstructionNode, Spanned};

pub(super) const RULE: Rule = Rule::new(
    "SecretsUsedInArgOrEnv",
    "secrets-used-in-arg-or-env",
    "what ARG and ENV say can be read by everybody who has the image",
);

/// Words that make a name the name of a secret.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Words that make it harmless again.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.stage_nodes() {
        match &node.instruction {
            Instruction::Arg(arg) => {
                arg.arguments.iter().for_each(|argument| check_name(linter, node, "ARG", &argument.name));
            }
            Instruction::Env(pairs) => {
                pairs.iter().for_each(|pair| check_name(linter, node, "ENV", &pair.key))
            }
            _ => {}
        }
    }
}

fn check_name(linter: &mut Linter<'_>, node: &InstructionNode, instruction: &str, name: &Spanned<String>) {
    let parts: Vec<String> = name.value.split('_').map(str::to_ascii_lowercase).collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(&part.as_str()));
    if has(&SECRET) && !has(&HARMLESS) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{}\")",
            name.value
        );
        let finding = RULE.finding(message, name.span, "stays readable in the image");
        linter.report(
            node,
            finding.with_help("give it to the one step that needs it: `RUN --mount=type=secret,id=…`"),
        );
    }
}
