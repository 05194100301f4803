//! What two builds came to, in words and as JSON.

use std::path::Path;

use serde::Serialize;

use crate::commands::words::count;
use crate::engine::repro::{Comparison, Finding, Trial};

/// The outcome of `mica repro`.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// What differs.
    #[serde(flatten)]
    pub(super) comparison: Comparison,
    /// What was not the same for both builds.
    varied: Vec<String>,
    /// What was.
    not_varied: Vec<String>,
}

impl Told {
    /// Notes what was varied.
    pub(super) fn new(comparison: Comparison, first: &Trial, second: &Trial, memory: Option<&Path>) -> Self {
        let conditions = &second.conditions;
        let in_memory = memory.is_some_and(|memory| second.store.starts_with(memory));
        let later = second.seconds.0 - first.seconds.0;
        let items = [
            (true, format!("time ({} later)", count(usize::try_from(later).unwrap_or(0), "second"))),
            (true, "path of the store".to_owned()),
            (true, "steps at once".to_owned()),
            (conditions.hostname.is_some(), "host name".to_owned()),
            (conditions.locale.is_some(), "locale".to_owned()),
            (conditions.time_zone.is_some(), "time zone".to_owned()),
            (conditions.umask.is_some(), "umask".to_owned()),
            (conditions.processors.is_some(), "processors".to_owned()),
            (in_memory, "order of directories".to_owned()),
            (second.is_nested, "user (root, then root of a user namespace)".to_owned()),
        ];
        let named =
            |wanted| items.iter().filter(|(is, _)| *is == wanted).map(|(_, name)| name.clone()).collect();
        Self { comparison, varied: named(true), not_varied: named(false) }
    }

    /// Returns whether nothing differs but what follows the umask, which is the same in every build.
    pub(super) fn is_same(&self) -> bool {
        self.comparison.findings.is_empty() && (self.comparison.same_images || self.comparison.modes > 0)
    }

    /// Returns it in words.
    pub(super) fn text(&self) -> String {
        let mut text = match (self.is_same(), self.comparison.findings.len()) {
            (true, _) => "the same bytes under other conditions\n".to_owned(),
            (false, 0) => "the images differ in their configuration or bases, and no step does\n".to_owned(),
            (false, files) => format!("not the same: {}\n", count(files, "file")),
        };
        let mut step = None;
        for finding in &self.comparison.findings {
            if step.replace(finding.step) != Some(finding.step) {
                text.push_str(&heading(finding));
            }
            text.push_str(&words(finding));
        }
        if !self.comparison.following.is_empty() {
            let steps: Vec<String> =
                self.comparison.following.iter().map(|step| format!("#{step}")).collect();
            text.push_str(&format!(
                "what comes after these differs too, perhaps for causes of its own: {}\n",
                steps.join(", ")
            ));
        }
        if self.comparison.modes > 0 {
            let files = count(usize::try_from(self.comparison.modes).unwrap_or(usize::MAX), "file");
            text.push_str(&format!(
                "{files} with modes that follow the umask, which is 022 in every build: not counted\n"
            ));
        }
        text.push_str(&format!("varied: {}\n", self.varied.join(", ")));
        if !self.not_varied.is_empty() {
            text.push_str(&format!("not varied: {}\n", self.not_varied.join(", ")));
        }
        text
    }
}

fn heading(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("#{} {}{line}\n", finding.step, finding.name)
}

fn words(finding: &Finding) -> String {
    let differs = finding.differs.join(", ");
    match finding.cause {
        Some(cause) => format!(
            "  {}: {differs}\n    cause: {}: {}\n    fix: {}\n",
            finding.file,
            cause.words(),
            finding.detail,
            cause.fix()
        ),
        None => format!("  {}: {differs}\n", finding.file),
    }
}
