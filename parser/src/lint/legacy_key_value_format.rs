//! LegacyKeyValueFormat: `ENV name=value` instead of `ENV name value`.

use super::{Linter, Rule};
use crate::syntax::{Instruction, KeyValue, Span};

pub(super) const RULE: Rule = Rule::new(
    "LegacyKeyValueFormat",
    "legacy-key-value-format",
    "`name=value` says the same as `name value` and cannot be misread",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.stage_nodes() {
        let (Instruction::Env(pairs) | Instruction::Label(pairs)) = &node.instruction else {
            continue;
        };
        for pair in pairs.iter().filter(|pair| !pair.equals) {
            let name = &node.keyword.value;
            let message =
                format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
            let span = Span { start: pair.key.span.start, end: pair.value.span.end };
            let mut finding = RULE.finding(message, span, "");
            finding = match modern(pair) {
                Some(text) => finding.with_suggestion(span, text),
                None => finding
                    .with_help(format!("write `{name} {}=…` with quotes around the value", pair.key.value)),
            };
            linter.report(node, finding);
        }
    }
}

/// The pair with `=`, where quoting the value cannot change it.
fn modern(pair: &KeyValue) -> Option<String> {
    let (key, value) = (&pair.key.value, &pair.value.value);
    if value.contains(['"', '\'', '\\', '`']) || key.contains(['"', '\'', '\\', '`']) {
        return None;
    }
    let quote = if value.contains(char::is_whitespace) || value.is_empty() { "\"" } else { "" };
    Some(format!("{key}={quote}{value}{quote}"))
}
