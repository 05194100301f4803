//! UndefinedArgInFrom: FROM sees only ARGs that stand before the first FROM.

use super::Rule;
use crate::diagnostic::{Diagnostic, did_you_mean_exact};
use crate::syntax::Span;

pub(super) const RULE: Rule = Rule::new(
    "UndefinedArgInFrom",
    "undefined-arg-in-from",
    "FROM can use only arguments that are declared before the first FROM",
);

/// Reports an argument a FROM uses and no global ARG declares; `known` are the declared ones.
pub fn undefined_arg_in_from<'a>(
    name: &str,
    span: Span,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    let nearest = did_you_mean_exact(name, known);
    let hint = nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default();
    let finding = RULE.finding(format!("FROM argument '{name}' is not declared{hint}"), span, "not declared");
    match nearest {
        Some(nearest) => finding.with_help(format!("did you mean `{nearest}`?")),
        None => finding.with_help(format!("declare `ARG {name}` before the first FROM")),
    }
}
