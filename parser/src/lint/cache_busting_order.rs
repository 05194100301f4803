//! CacheBustingOrder: everything is copied before dependencies are installed.

use super::{Linter, Rule};
use crate::syntax::{CommandLine, Instruction, InstructionNode, RunInstruction, Spanned};

pub(super) const RULE: Rule = Rule::without_page(
    "CacheBustingOrder",
    "when the whole context is copied first, any changed file installs all dependencies again",
);

/// Commands that install what a manifest names.
const INSTALLS: [&str; 21] = [
    "npm ci",
    "npm install",
    "npm i ",
    "yarn install",
    "pnpm install",
    "pnpm i ",
    "bun install",
    "pip install",
    "pip3 install",
    "uv sync",
    "poetry install",
    "pipenv install",
    "bundle install",
    "composer install",
    "go mod download",
    "cargo fetch",
    "dotnet restore",
    "mix deps.get",
    "apt-get install",
    "apk add",
    "dnf install",
];

pub(super) fn check(linter: &mut Linter<'_>) {
    for stage in linter.stages.clone() {
        let Some(at) = stage.instructions.iter().position(|node| whole_context(node).is_some()) else {
            continue;
        };
        let (copy, later) = (&stage.instructions[at], &stage.instructions[at + 1..]);
        let install = later.iter().find_map(|node| Some((node, installs(node)?)));
        let (Some(source), Some((run, command))) = (whole_context(copy), install) else {
            continue;
        };
        let message =
            format!("everything is copied before `{}`, which any changed file repeats", command.trim());
        let finding = RULE.finding(message, source.span, "copies the whole context");
        let finding = finding.with_secondary(run.keyword.span, "repeated after each change");
        linter.report(copy, finding.with_help("copy the manifest, install, and copy the rest afterwards"));
    }
}

/// Returns the source that is the whole context, if one is.
fn whole_context(node: &InstructionNode) -> Option<&Spanned<String>> {
    let sources = match &node.instruction {
        Instruction::Copy(copy) if copy.from.is_none() => &copy.transfer.sources,
        Instruction::Add(add) => &add.transfer.sources,
        _ => return None,
    };
    sources.iter().find(|source| matches!(source.value.as_str(), "." | "./" | "/" | "*" | "./*"))
}

fn installs(node: &InstructionNode) -> Option<&'static str> {
    let Instruction::Run(run) = &node.instruction else {
        return None;
    };
    let text = script(run);
    INSTALLS.into_iter().find(|command| text.contains(command))
}

/// The text of a RUN, blanks reduced to one.
fn script(run: &RunInstruction) -> String {
    let mut text = match &run.command {
        CommandLine::Shell(command) => command.value.clone(),
        CommandLine::Exec(words) => words.value.join(" "),
    };
    for heredoc in &run.heredocs {
        text.push(' ');
        text.push_str(&heredoc.body.value);
    }
    text.split_whitespace().chain([""]).collect::<Vec<_>>().join(" ")
}
