//! UndefinedVar: a variable that nothing sets.

use super::Rule;
use crate::diagnostic::{Diagnostic, did_you_mean_exact};
use crate::syntax::Span;

pub(super) const RULE: Rule = Rule::new(
    "UndefinedVar",
    "undefined-var",
    "a variable is best set before it is used; without a value it is empty",
);

/// Reports a variable that is not set where an instruction uses it; `known` are those that are.
pub fn undefined_var<'a>(name: &str, span: Span, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    let nearest = did_you_mean_exact(name, known);
    let hint = nearest.map(|nearest| format!(" (did you mean ${nearest}?)")).unwrap_or_default();
    let finding = RULE.finding(format!("Usage of undefined variable '${name}'{hint}"), span, "not set here");
    match nearest {
        Some(nearest) => finding.with_help(format!("did you mean `${nearest}`?")),
        None => finding,
    }
}
