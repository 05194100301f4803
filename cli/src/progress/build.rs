//! What the events have told of a build so far: one enum per step, and the work that is no step.

use std::collections::BTreeMap;
use std::time::Duration;

use mica_solver::{BuildEvent, LeftOutFiles, StepId, StepInfo, TaskState};

use super::log::{Line, Log};
use super::text::{Colours, printable};

/// Where a step stands; times count from the start of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its inputs are missing.
    Waiting,
    /// It is looked up, or a source is resolved.
    Started(Duration),
    /// It runs.
    Running {
        /// Since when.
        since: Duration,
        /// Why no record was used.
        reason: String,
    },
    /// Its result was known.
    Cached,
    /// A source was resolved.
    Resolved(Duration),
    /// It ran.
    Ran {
        /// How long.
        took: Duration,
        /// Why.
        reason: String,
        /// Whether it made what was there before.
        equal_output: bool,
        /// Bytes of its layer.
        bytes: u64,
    },
    /// It failed.
    Failed(String),
    /// It was stopped.
    Canceled,
}

/// How far a part of a step, or a task, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    /// What.
    pub(super) what: String,
    /// Bytes done.
    pub(super) current: u64,
    /// Bytes in all.
    pub(super) total: Option<u64>,
}

impl Transfer {
    pub(super) fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.current >= total)
    }
}

/// A step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: StepId,
    pub(super) name: String,
    pub(super) phase: Phase,
    pub(super) log: Log,
    pub(super) transfers: Vec<Transfer>,
    /// What was left out of its layer.
    pub(super) left_out: Vec<LeftOutFiles>,
}

/// Work that is no step.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) since: Duration,
    pub(super) transfer: Transfer,
    /// When it ended.
    pub(super) ended: Option<Duration>,
}

/// Everything told so far.
#[derive(Debug, Default)]
pub(super) struct Build {
    steps: BTreeMap<StepId, Step>,
    pub(super) tasks: Vec<Task>,
    pub(super) warnings: Vec<String>,
}

/// How many steps stand where.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) steps: usize,
    pub(super) done: usize,
    pub(super) cached: usize,
    pub(super) ran: usize,
    pub(super) active: usize,
}

impl Build {
    /// Takes in an event; returns the whole lines of output it ended, all of the step it is about.
    pub(super) fn apply(&mut self, at: Duration, event: &BuildEvent) -> Vec<Line> {
        match event {
            BuildEvent::Planned { steps } => self.plan(steps),
            BuildEvent::StepStarted { id } => self.step(*id).phase = Phase::Started(at),
            BuildEvent::StepRunning { id, reason } => {
                self.step(*id).phase = Phase::Running { since: at, reason: reason.clone() };
            }
            BuildEvent::StepPhase { .. } => {}
            BuildEvent::StepLog { id, stream, text } => {
                let step = self.step(*id);
                let since = at.saturating_sub(step.since().unwrap_or(at));
                return step.log.push(since, *stream, text);
            }
            BuildEvent::StepProgress { id, what, current, total } => {
                let transfer = Transfer { what: clean(what), current: *current, total: *total };
                update(&mut self.step(*id).transfers, transfer);
            }
            BuildEvent::StepCached { id } => return self.step(*id).end(at, Phase::Cached),
            BuildEvent::StepLeftOut { id, files } => self.step(*id).left_out.clone_from(files),
            BuildEvent::StepFinished { id, duration, equal_output, bytes } => {
                let step = self.step(*id);
                let phase = match &step.phase {
                    Phase::Running { reason, .. } => Phase::Ran {
                        took: *duration,
                        reason: reason.clone(),
                        equal_output: *equal_output,
                        bytes: *bytes,
                    },
                    _ => Phase::Resolved(*duration),
                };
                return step.end(at, phase);
            }
            BuildEvent::StepFailed { id, message } => {
                return self.step(*id).end(at, Phase::Failed(message.clone()));
            }
            BuildEvent::StepCanceled { id } => return self.step(*id).end(at, Phase::Canceled),
            BuildEvent::Task { what, state } => self.task(at, &clean(what), state),
            BuildEvent::Warning { message } => self.warnings.push(message.clone()),
        }
        Vec::new()
    }

    fn plan(&mut self, steps: &[StepInfo]) {
        for info in steps {
            self.step(info.id).name = clean(&info.name);
        }
    }

    /// A step that no plan named is shown by its number: better than to lose what is told of it.
    fn step(&mut self, id: StepId) -> &mut Step {
        self.steps.entry(id).or_insert_with(|| Step {
            id,
            name: format!("step {}", id.0 + 1),
            phase: Phase::Waiting,
            log: Log::default(),
            transfers: Vec::new(),
            left_out: Vec::new(),
        })
    }

    fn task(&mut self, at: Duration, what: &str, state: &TaskState) {
        let open = self.tasks.iter().rposition(|task| task.ended.is_none() && task.transfer.what == what);
        let index = open.unwrap_or_else(|| {
            let transfer = Transfer { what: what.to_owned(), current: 0, total: None };
            self.tasks.push(Task { since: at, transfer, ended: None });
            self.tasks.len() - 1
        });
        let task = &mut self.tasks[index];
        match state {
            TaskState::Started => {}
            TaskState::Progress(current, total) => {
                (task.transfer.current, task.transfer.total) = (*current, *total)
            }
            TaskState::Done => task.ended = Some(at),
        }
    }

    /// Returns a step that an event has named.
    pub(super) fn get(&self, id: StepId) -> Option<&Step> {
        self.steps.get(&id)
    }

    /// Returns all steps in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values()
    }

    /// Returns the steps at work, those that began first first.
    pub(super) fn active(&self) -> Vec<(Duration, &Step)> {
        let mut active: Vec<_> = self.steps().filter_map(|step| Some((step.since()?, step))).collect();
        active.sort_by_key(|(since, step)| (*since, step.id));
        active
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { steps: self.steps.len(), ..Counts::default() };
        for step in self.steps() {
            match step.phase {
                Phase::Waiting | Phase::Failed(_) | Phase::Canceled => {}
                Phase::Started(_) | Phase::Running { .. } => counts.active += 1,
                Phase::Resolved(_) => counts.done += 1,
                Phase::Cached => (counts.done, counts.cached) = (counts.done + 1, counts.cached + 1),
                Phase::Ran { .. } => (counts.done, counts.ran) = (counts.done + 1, counts.ran + 1),
            }
        }
        counts
    }
}

impl Step {
    /// Returns since when it is at work.
    pub(super) fn since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Started(since) | Phase::Running { since, .. } => Some(since),
            _ => None,
        }
    }

    fn end(&mut self, at: Duration, phase: Phase) -> Vec<Line> {
        let since = at.saturating_sub(self.since().unwrap_or(at));
        self.phase = phase;
        self.log.flush(since)
    }
}

fn update(transfers: &mut Vec<Transfer>, transfer: Transfer) {
    match transfers.iter_mut().find(|known| known.what == transfer.what) {
        Some(known) => *known = transfer,
        None => transfers.push(transfer),
    }
}

/// Names may hold parts of a Dockerfile, so they are made printable too, and one line.
fn clean(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| printable(line, Colours::Drop)).collect();
    lines.join(" ")
}
