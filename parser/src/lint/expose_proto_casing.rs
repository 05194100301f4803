//! ExposeProtoCasing: protocols in lower case.

use super::{Linter, Rule};
use crate::diagnostic::Diagnostic;
use crate::syntax::{Instruction, Span};

pub(super) const RULE: Rule =
    Rule::new("ExposeProtoCasing", "expose-proto-casing", "protocols of EXPOSE are written in lower case");

pub(super) fn check(linter: &mut Linter<'_>) {
    for node in linter.stage_nodes() {
        let Instruction::Expose(ports) = &node.instruction else {
            continue;
        };
        for port in ports.iter().filter(|port| !port.value.contains('$')) {
            if let Some(finding) = expose_proto_casing(&port.value, port.span) {
                linter.report(node, finding.with_suggestion(port.span, port.value.to_lowercase()));
            }
        }
    }
}

/// Checks a port of EXPOSE after expansion; [`super::check`] does so for ports without variables.
pub fn expose_proto_casing(port: &str, span: Span) -> Option<Diagnostic> {
    let container = port.rsplit(':').next().unwrap_or_default();
    let (_, protocol) = container.split_once('/')?;
    if protocol == protocol.to_lowercase() {
        return None;
    }
    let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
    Some(RULE.finding(message, span, ""))
}
