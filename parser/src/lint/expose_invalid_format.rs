//! ExposeInvalidFormat: EXPOSE names ports of the container, not of the host.

use super::{Linter, Rule};
use crate::diagnostic::Diagnostic;
use crate::syntax::{Instruction, Span};

pub(super) const RULE: Rule = Rule::new(
    "ExposeInvalidFormat",
    "expose-invalid-format",
    "an address or host port in EXPOSE has no effect and is going to be an error",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.stage_nodes() {
        let Instruction::Expose(ports) = &node.instruction else {
            continue;
        };
        for port in ports.iter().filter(|port| !port.value.contains('$')) {
            if let Some(finding) = expose_invalid_format(&port.value, port.span) {
                let container = port.value.rsplit(':').next().unwrap_or_default();
                linter.report(node, finding.with_suggestion(port.span, container));
            }
        }
    }
}

/// Checks a port of EXPOSE after expansion; [`super::check`] does so for ports without variables.
pub fn expose_invalid_format(port: &str, span: Span) -> Option<Diagnostic> {
    let (host, _) = port.rsplit_once(':')?;
    if host.trim_matches(':').is_empty() {
        return None;
    }
    let message =
        format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
    Some(RULE.finding(message, span, "only the part after the last `:` counts"))
}
