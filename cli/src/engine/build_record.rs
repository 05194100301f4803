//! What a build did, step by step, kept in the store for `mica why`.
//!
//! ```text
//! <store>/builds/<seconds>-<process id>/report.json
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mica_cache::DetailId;
use mica_image::{ContentDigest, LayerId};
use mica_solver::graph::BuildGraph;
use mica_solver::{BuildEvent, Op, Solved, Step, StepId};
use serde::{Deserialize, Serialize};

use super::cause::{Cause, CauseKind};

/// The name of the file.
pub(super) const FILE: &str = "report.json";

/// What a build did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildRecord {
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// The Dockerfile, by name.
    pub dockerfile: String,
    /// The names it gave.
    pub names: Vec<String>,
    /// The images it made; none when it failed.
    pub images: Vec<ContentDigest>,
    /// Whether it made what was asked for.
    pub succeeded: bool,
    /// What times in its layers were clamped to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<i64>,
    /// Its steps in order.
    pub steps: Vec<StepRecord>,
    /// What each of them saw and made, a detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<DetailId>,
}

/// What became of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// Its number as the build showed it: 7 is `#7`.
    pub number: u32,
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// Its stage, by name or number.
    pub stage: Option<String>,
    /// Its line in the Dockerfile.
    pub line: Option<u32>,
    /// The numbers of the steps it takes something from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<u32>,
    /// The layer it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why it was not in the cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// How long it ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

/// How a step ended, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepOutcome {
    /// It is a source: it was looked at.
    Resolved,
    /// Its result was known.
    Cached,
    /// It ran.
    Ran,
    /// It ran and made what it had made before: later steps could stay cached.
    RanEqual,
    /// It failed.
    Failed,
    /// The build ended before it.
    NotReached,
    /// It would run.
    WouldRun,
    /// It would run, unless a step before it makes what it made before.
    MayRun,
}

/// Follows a build's events.
#[derive(Debug, Default)]
pub(super) struct Watch {
    outcomes: BTreeMap<StepId, (StepOutcome, Option<u64>)>,
}

impl BuildRecord {
    /// Takes down which layers the steps made.
    pub(super) fn note_layers(&mut self, solved: &Solved) {
        for step in self.steps.iter_mut().filter(|step| step.outcome != StepOutcome::Resolved) {
            let result = step.number.checked_sub(1).and_then(|id| solved.results.get(&StepId(id)));
            step.layer = result.and_then(|result| result.tree().last().map(|layer| layer.id));
        }
    }
}

impl Watch {
    /// Takes notice of an event.
    pub(super) fn see(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::StepCached { id } => self.note(*id, StepOutcome::Cached, None),
            BuildEvent::StepFailed { id, .. } => self.note(*id, StepOutcome::Failed, None),
            BuildEvent::StepFinished { id, duration, equal_output, .. } => {
                let outcome = if *equal_output { StepOutcome::RanEqual } else { StepOutcome::Ran };
                self.note(*id, outcome, u64::try_from(duration.as_millis()).ok());
            }
            _ => {}
        }
    }

    fn note(&mut self, id: StepId, outcome: StepOutcome, milliseconds: Option<u64>) {
        self.outcomes.insert(id, (outcome, milliseconds));
    }

    /// Returns the records of all steps, with the causes the runner found.
    pub(super) fn steps(&self, graph: &BuildGraph, causes: &BTreeMap<StepId, Vec<Cause>>) -> Vec<StepRecord> {
        let record = |step: &Step| {
            let (outcome, milliseconds) =
                self.outcomes.get(&step.id).copied().unwrap_or((StepOutcome::NotReached, None));
            let has_run = matches!(outcome, StepOutcome::Ran | StepOutcome::RanEqual);
            let outcome = if is_source(step) && has_run { StepOutcome::Resolved } else { outcome };
            let missed = causes.get(&step.id).cloned();
            let causes = match missed {
                Some(causes) if outcome != StepOutcome::Cached => causes,
                None if step.ignore_cache && has_run => vec![unused_cache()],
                _ => Vec::new(),
            };
            let inputs = graph.inputs(step.id).iter().map(|(_, input)| input.0 + 1).collect();
            StepRecord { outcome, causes, milliseconds, inputs, ..step_record(step) }
        };
        graph.steps().map(record).collect()
    }
}

/// The reason of a step that must run.
pub(super) fn unused_cache() -> Cause {
    Cause::new(CauseKind::CacheUnused, "the cache is not used for it")
}

/// Tells whether a step is there to be looked at, not to be run.
pub(super) fn is_source(step: &Step) -> bool {
    !matches!(step.op, Op::Run(_) | Op::Copy(_) | Op::Workdir(_))
}

/// Returns the record of a step that nothing is known of.
pub(super) fn step_record(step: &Step) -> StepRecord {
    StepRecord {
        number: step.id.0 + 1,
        name: step.name.clone(),
        stage: step.stage.clone(),
        line: step.line,
        inputs: Vec::new(),
        layer: None,
        outcome: StepOutcome::NotReached,
        causes: Vec::new(),
        milliseconds: None,
    }
}

/// Returns what the last build of a store did.
pub(crate) fn last(store: &Path) -> Option<BuildRecord> {
    let reports =
        fs::read_dir(store.join("builds")).ok()?.filter_map(Result::ok).map(|entry| entry.path().join(FILE));
    let dated = reports.filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)));
    let (_, newest) = dated.max()?;
    serde_json::from_slice(&fs::read(newest).ok()?).ok()
}

/// Returns the steps that go by a name.
pub(crate) fn select<'a>(steps: &'a [StepRecord], name: &str) -> Vec<&'a StepRecord> {
    let name = StepName::parse(name);
    steps.iter().filter(|step| name.fits(step.number, step.stage.as_deref(), step.line)).collect()
}

/// What people call steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepName<'a> {
    /// `#7` or `7`.
    Number(u32),
    /// `stage:line`.
    Place(&'a str, u32),
    /// All steps of a stage.
    Stage(&'a str),
}

impl<'a> StepName<'a> {
    /// Tells the kinds of names apart.
    pub(crate) fn parse(text: &'a str) -> Self {
        if let Ok(number) = text.strip_prefix('#').unwrap_or(text).parse() {
            return Self::Number(number);
        }
        let place = text.rsplit_once(':').and_then(|(stage, line)| Some((stage, line.parse().ok()?)));
        place.map_or(Self::Stage(text), |(stage, line)| Self::Place(stage, line))
    }

    /// Tells whether it is the name of this step.
    pub(crate) fn fits(self, number: u32, stage: Option<&str>, line: Option<u32>) -> bool {
        match self {
            Self::Number(wanted) => number == wanted,
            Self::Place(wanted, at) => stage == Some(wanted) && line == Some(at),
            Self::Stage(wanted) => stage == Some(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_by_number_place_and_stage() {
        let step = |number, stage: &str, line| StepRecord {
            number,
            name: String::new(),
            stage: Some(stage.to_owned()),
            line: Some(line),
            inputs: vec![],
            layer: None,
            outcome: StepOutcome::Ran,
            causes: vec![],
            milliseconds: None,
        };
        let steps = [step(1, "build", 2), step(2, "build", 3), step(3, "0", 3)];
        let numbers =
            |name: &str| -> Vec<u32> { select(&steps, name).iter().map(|step| step.number).collect() };
        assert_eq!(numbers("#2"), [2]);
        assert_eq!(numbers("3"), [3]);
        assert_eq!(numbers("build:3"), [2]);
        assert_eq!(numbers("build"), [1, 2]);
        assert_eq!(numbers("none"), [0; 0]);
    }
}
