//! FromPlatformFlagConstDisallowed: a constant `--platform` ties the file to one platform.

use super::{Linter, Rule};
use crate::words::{NoVariables, expand};

pub(super) const RULE: Rule = Rule::new(
    "FromPlatformFlagConstDisallowed",
    "from-platform-flag-const-disallowed",
    "a constant `--platform` builds for that platform whatever was asked for",
);

pub(super) fn check(linter: &mut Linter<'_>) {
    let escape = linter.dockerfile.directives.escape;
    for stage in linter.stages.clone() {
        let Some(platform) = stage.from.and_then(|from| from.platform.as_ref()) else {
            continue;
        };
        let Ok(expansion) = expand(&platform.value, escape, &NoVariables) else {
            continue;
        };
        if !expansion.unmatched.is_empty() {
            continue;
        }
        // A stage whose name says the platform means it.
        let name = stage.name().unwrap_or_default();
        if parts(&expansion.text).is_none_or(|parts| parts.iter().any(|part| name.contains(part.as_str()))) {
            continue;
        }
        let message = format!("FROM --platform flag should not use constant value \"{}\"", expansion.text);
        let finding = RULE.finding(message, platform.span, "a constant");
        linter.report(stage.node, finding.with_help("use `$BUILDPLATFORM`, or leave the flag out"));
    }
}

/// Returns operating system and architecture in their usual names, as far as given; `None` when the text is no platform.
fn parts(platform: &str) -> Option<Vec<String>> {
    let lower = platform.to_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let valid = |part: &&str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '(' | ')'))
    };
    if parts.len() > 3 || !parts.iter().all(valid) {
        return None;
    }
    Some(parts.iter().take(2).map(|part| usual_name(part).to_owned()).collect())
}

fn usual_name(part: &str) -> &str {
    match part {
        "macos" => "darwin",
        "i386" => "386",
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        other => other,
    }
}
