//! Causes that contents do not tell: a step runs again in the first store, as it was, and with one condition changed at a time.
//!
//! What a condition changes is looked at file by file: one step may have several causes.

use std::collections::BTreeSet;

use super::Repro;
use crate::commands::exit::Failure;
use crate::commands::say;
use crate::engine::repro::{Cause, Conditions, Finding, ONLY_IN_SECOND, Trial};

/// How a step that ran again compares to its first run.
#[derive(Default)]
struct Rerun {
    has_failed: bool,
    /// The files that are not what they were.
    files: BTreeSet<String>,
    /// Whether there are files that were not there, under whatever names.
    has_new_files: bool,
}

impl Rerun {
    /// Whether a file that differed between the builds differed again.
    fn shows(&self, finding: &Finding) -> bool {
        let is_new = finding.differs.iter().any(|aspect| aspect == ONLY_IN_SECOND);
        self.files.contains(&finding.file) || (is_new && self.has_new_files)
    }
}

impl Repro {
    /// Finds the causes that contents did not tell, by running steps again.
    pub(super) async fn settle(
        &self,
        first: &Trial,
        second: &Trial,
        findings: &mut [Finding],
    ) -> Result<(), Failure> {
        let steps: BTreeSet<u32> = findings.iter().filter(|it| is_open(it)).map(|it| it.step).collect();
        for step in steps {
            say(&format!("running step {step} again, to learn what it depends on"));
            let mut open: Vec<&mut Finding> =
                findings.iter_mut().filter(|finding| finding.step == step && is_open(finding)).collect();
            self.by_chance(first, step, &mut open).await?;
            open.retain(|finding| is_open(finding));
            self.by_condition(first, second, step, &mut open).await?;
        }
        Ok(())
    }

    /// Settles what differs when nothing is changed.
    async fn by_chance(
        &self,
        first: &Trial,
        step: u32,
        findings: &mut [&mut Finding],
    ) -> Result<(), Failure> {
        let mut cause = None;
        for _ in 0..2 {
            let again = self.rerun(first, step, Conditions::default()).await?;
            for finding in findings.iter_mut().filter(|finding| is_open(finding) && again.shows(finding)) {
                if finding.cause.is_some() {
                    finding.cause = Some(Cause::ParallelOrder);
                    continue;
                }
                let cause = match cause {
                    Some(known) => known,
                    None => *cause.insert(self.random_or_network(first, step).await?),
                };
                let network = "it differs each time, and the step fails without a network";
                let how = if cause == Cause::Network { network } else { "it differs each time" };
                settle_on(finding, cause, how);
            }
            if !findings.iter().any(|finding| is_open(finding)) {
                break;
            }
        }
        Ok(())
    }

    async fn random_or_network(&self, first: &Trial, step: u32) -> Result<Cause, Failure> {
        let conditions = Conditions { without_network: true, ..Conditions::default() };
        let has_failed = self.rerun(first, step, conditions).await?.has_failed;
        Ok(if has_failed { Cause::Network } else { Cause::Random })
    }

    /// Settles what differs under one of the conditions of the second build, and the rest.
    async fn by_condition(
        &self,
        first: &Trial,
        second: &Trial,
        step: u32,
        findings: &mut [&mut Finding],
    ) -> Result<(), Failure> {
        for (cause, conditions) in self.alone() {
            if !findings.iter().any(|finding| is_open(finding)) {
                break;
            }
            let again = self.rerun(first, step, conditions).await?;
            for finding in findings.iter_mut().filter(|finding| is_open(finding) && again.shows(finding)) {
                settle_on(finding, cause, "it differs with that alone");
            }
        }
        for finding in findings {
            match finding.cause {
                None if second.is_nested => settle_on(finding, Cause::User, "nothing else changes it alone"),
                None => settle_on(finding, Cause::Unknown, "nothing that was varied changes it alone"),
                // What is left is that another file system lists directories in another order.
                Some(Cause::Order) => finding.cause = Some(Cause::DirectoryOrder),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The conditions of the second build, one at a time.
    fn alone(&self) -> Vec<(Cause, Conditions)> {
        let varied = &self.varied;
        let usual = Conditions::default;
        let alone = [
            (Cause::HostName, Conditions { hostname: varied.hostname.clone(), ..usual() }),
            (Cause::Locale, Conditions { locale: varied.locale.clone(), ..usual() }),
            (Cause::TimeZone, Conditions { time_zone: varied.time_zone.clone(), ..usual() }),
            (Cause::Umask, Conditions { umask: varied.umask, ..usual() }),
            (Cause::Processors, Conditions { processors: varied.processors, ..usual() }),
        ];
        alone.into_iter().filter(|(_, conditions)| *conditions != usual()).collect()
    }

    /// Runs a step once more in the first store.
    async fn rerun(&self, first: &Trial, step: u32, conditions: Conditions) -> Result<Rerun, Failure> {
        let conditions = Conditions { again: vec![step], ..conditions };
        let trial = Trial {
            report: self.work.join("again.json"),
            layout: None,
            processors: conditions.processors.unwrap_or(first.processors),
            conditions,
            ..first.clone()
        };
        let Some(again) = self.build_quietly(trial).await? else {
            return Ok(Rerun { has_failed: true, ..Rerun::default() });
        };
        let findings = self.compare(first, &again, Some(step)).await?.findings;
        let is_new = |finding: &Finding| finding.differs.iter().any(|aspect| aspect == ONLY_IN_SECOND);
        let has_new_files = findings.iter().any(is_new);
        let files = findings.into_iter().map(|finding| finding.file).collect();
        Ok(Rerun { has_failed: false, files, has_new_files })
    }
}

/// Whether the cause is still to be found.
fn is_open(finding: &Finding) -> bool {
    matches!(finding.cause, None | Some(Cause::Order))
}

/// Notes a cause, how it was found, and what the file shows of it.
fn settle_on(finding: &mut Finding, cause: Cause, how: &str) {
    finding.cause = Some(cause);
    finding.detail = match finding.detail.as_str() {
        "" => how.to_owned(),
        shown => format!("{how}: {shown}"),
    };
}
