//! JSONArgsRecommended: CMD and ENTRYPOINT in exec form, so that signals reach the program.

use std::collections::BTreeMap;

use super::{Linter, Rule};
use crate::syntax::{CommandLine, Instruction, Spanned};

pub(super) const RULE: Rule = Rule::new(
    "JSONArgsRecommended",
    "json-args-recommended",
    "in shell form the shell gets the signals that are meant for the program",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    // Who sets SHELL means it; a stage inherits it from the stage it starts from.
    let mut with_shell: BTreeMap<String, bool> = BTreeMap::new();
    for stage in linter.stages.clone() {
        let base = stage.from.map(|from| from.image.value.clone()).unwrap_or_default();
        let mut has_shell = with_shell.get(&base).copied().unwrap_or_default();
        for node in stage.instructions {
            match &node.instruction {
                Instruction::Shell(_) => has_shell = true,
                Instruction::Cmd(CommandLine::Shell(text))
                | Instruction::Entrypoint(CommandLine::Shell(text))
                    if !has_shell =>
                {
                    let name = &node.keyword.value;
                    let message = format!(
                        "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                    );
                    let mut finding = RULE.finding(message, text.span, "runs in a shell");
                    finding = match exec_form(text) {
                        Some(json) => finding.with_suggestion(text.span, json),
                        None => finding.with_help(format!("write `{name} [\"program\", \"argument\"]`")),
                    };
                    linter.report(node, finding);
                }
                _ => {}
            }
        }
        with_shell.extend(stage.name().map(|name| (name, has_shell)));
    }
}

/// The same command without a shell, where no shell is needed to see what it does.
fn exec_form(command: &Spanned<String>) -> Option<String> {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '/' | '_' | '-' | ':' | ',' | '@' | '%' | '+')
    };
    let words: Vec<&str> = command.value.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() || !command.value.chars().all(plain) || is_builtin(words[0]) {
        return None;
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    Some(format!("[{}]", quoted.join(", ")))
}

fn is_builtin(word: &str) -> bool {
    matches!(
        word,
        "." | ":"
            | "cd"
            | "eval"
            | "exec"
            | "exit"
            | "export"
            | "set"
            | "source"
            | "trap"
            | "ulimit"
            | "umask"
    )
}
