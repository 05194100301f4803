//! What happened when: one row for each step and task, in seconds since the start of the build.

use std::time::Duration;

use mica_solver::{BuildEvent, StepId, StepInfo, StepPhase, TaskState};
use serde::Serialize;

use super::super::BuildResult;

/// One build over time.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Timeline {
    /// How the build ended; none while it runs.
    pub(super) result: Option<BuildResult>,
    /// How long it took.
    pub(super) seconds: f64,
    /// When the plan was made: contexts were opened, the Dockerfile read, base images resolved.
    pub(super) planned: f64,
    /// The steps of the plan.
    pub(super) steps: Vec<StepTime>,
    /// What was no step.
    pub(super) tasks: Vec<TaskTime>,
}

/// One step over time.
#[derive(Debug, Serialize)]
pub(super) struct StepTime {
    #[serde(flatten)]
    pub(super) info: StepInfo,
    pub(super) outcome: Outcome,
    /// Why it was not taken from the cache.
    pub(super) reason: Option<String>,
    /// What it did, without gaps.
    pub(super) spans: Vec<Span>,
    /// The bytes its layer brought.
    pub(super) bytes: Option<u64>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It was not reached, or was under way when the build ended.
    Unfinished,
    /// It was in the cache.
    Cached,
    /// It is a source, and was resolved.
    Resolved,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It was stopped.
    Canceled,
}

/// A part of a step's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Span {
    pub(super) what: What,
    pub(super) start: f64,
    pub(super) end: f64,
}

/// What a step's time is spent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// Its key is made and looked up; a source is resolved.
    Key,
    /// It waits because as many steps run as may.
    Queue,
    /// It runs; for a COPY, what is placed is decided and written.
    Run,
    /// What it made becomes a layer.
    Commit,
}

/// Work that is no step.
#[derive(Debug, Serialize)]
pub(super) struct TaskTime {
    pub(super) what: String,
    pub(super) start: f64,
    pub(super) end: Option<f64>,
    pub(super) bytes: Option<u64>,
}

impl Timeline {
    /// Takes in an event.
    pub(crate) fn see(&mut self, at: Duration, event: &BuildEvent) {
        let at = seconds(at);
        match event {
            BuildEvent::Planned { steps } => {
                self.planned = at;
                self.steps = steps.iter().cloned().map(StepTime::new).collect();
            }
            BuildEvent::StepStarted { id } => self.begin(*id, What::Key, at),
            BuildEvent::StepPhase { id, phase: StepPhase::Waiting } => self.begin(*id, What::Queue, at),
            BuildEvent::StepPhase { id, phase: StepPhase::Storing } => self.begin(*id, What::Commit, at),
            BuildEvent::StepRunning { id, reason } => {
                self.begin(*id, What::Run, at);
                if let Some(step) = self.step(*id) {
                    step.reason = Some(reason.clone());
                }
            }
            BuildEvent::StepCached { id } => self.end(*id, Outcome::Cached, at),
            BuildEvent::StepFinished { id, bytes, .. } => {
                let has_run = self.step(*id).is_some_and(|step| step.reason.is_some());
                self.end(*id, if has_run { Outcome::Ran } else { Outcome::Resolved }, at);
                if let Some(step) = self.step(*id).filter(|_| has_run) {
                    step.bytes = Some(*bytes);
                }
            }
            BuildEvent::StepFailed { id, .. } => self.end(*id, Outcome::Failed, at),
            BuildEvent::StepCanceled { id } => self.end(*id, Outcome::Canceled, at),
            BuildEvent::Task { what, state } => self.task(what, state, at),
            BuildEvent::StepLog { .. }
            | BuildEvent::StepProgress { .. }
            | BuildEvent::StepLeftOut { .. }
            | BuildEvent::Warning { .. } => {}
        }
    }

    /// Takes in the end of the build.
    pub(crate) fn finish(&mut self, at: Duration, result: BuildResult) {
        self.seconds = seconds(at);
        self.result = Some(result);
        for step in &mut self.steps {
            if step.outcome == Outcome::Unfinished {
                step.close(self.seconds);
            }
        }
        for task in &mut self.tasks {
            task.end.get_or_insert(self.seconds);
        }
    }

    fn step(&mut self, id: StepId) -> Option<&mut StepTime> {
        self.steps.get_mut(id.0 as usize)
    }

    fn begin(&mut self, id: StepId, what: What, at: f64) {
        if let Some(step) = self.step(id) {
            step.close(at);
            step.spans.push(Span { what, start: at, end: at });
        }
    }

    fn end(&mut self, id: StepId, outcome: Outcome, at: f64) {
        if let Some(step) = self.step(id) {
            step.close(at);
            step.outcome = outcome;
        }
    }

    fn task(&mut self, what: &str, state: &TaskState, at: f64) {
        let open = self.tasks.iter_mut().rev().find(|task| task.what == what && task.end.is_none());
        match (state, open) {
            (TaskState::Progress(done, _), Some(task)) => task.bytes = Some(*done),
            (TaskState::Done, Some(task)) => task.end = Some(at),
            (TaskState::Started, _) => {
                self.tasks.push(TaskTime { what: what.to_owned(), start: at, end: None, bytes: None });
            }
            (TaskState::Progress(..) | TaskState::Done, None) => {}
        }
    }
}

impl StepTime {
    fn new(info: StepInfo) -> Self {
        Self { info, outcome: Outcome::Unfinished, reason: None, spans: Vec::new(), bytes: None }
    }

    fn close(&mut self, at: f64) {
        if let Some(span) = self.spans.last_mut() {
            span.end = at;
        }
    }
}

/// Whole microseconds, so that the numbers are short.
fn seconds(at: Duration) -> f64 {
    at.as_micros() as f64 / 1e6
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A build of a step that ran, one that was cached and one that was never reached.
    pub(in super::super) fn sample() -> Timeline {
        let mut timeline = Timeline::default();
        let mut see = |at, event| timeline.see(Duration::from_millis(at), &event);
        let info = |id, name: &str| StepInfo { id: StepId(id), name: name.into(), line: Some(id + 1) };
        let steps = vec![info(0, "FROM base"), info(1, "RUN <make> & \"go\""), info(2, "RUN late")];
        let (base, made) = (StepId(0), StepId(1));
        see(100, BuildEvent::Planned { steps });
        see(100, BuildEvent::StepStarted { id: base });
        see(150, BuildEvent::StepCached { id: base });
        see(200, BuildEvent::StepStarted { id: made });
        see(300, BuildEvent::StepPhase { id: made, phase: StepPhase::Waiting });
        see(400, BuildEvent::StepRunning { id: made, reason: "the command changed".into() });
        see(800, BuildEvent::StepPhase { id: made, phase: StepPhase::Storing });
        let duration = Duration::from_millis(500);
        see(900, BuildEvent::StepFinished { id: made, duration, equal_output: false, bytes: 1500 });
        let task = |state| BuildEvent::Task { what: "exporting".into(), state };
        see(900, task(TaskState::Started));
        see(950, task(TaskState::Progress(7, None)));
        see(960, task(TaskState::Done));
        see(960, task(TaskState::Started));
        timeline.finish(Duration::from_millis(1000), BuildResult::Succeeded);
        timeline
    }

    #[test]
    fn a_steps_spans_follow_each_other() {
        let timeline = sample();
        let made = &timeline.steps[1];
        let span = |what, start, end| Span { what, start, end };
        let expected = [
            span(What::Key, 0.2, 0.3),
            span(What::Queue, 0.3, 0.4),
            span(What::Run, 0.4, 0.8),
            span(What::Commit, 0.8, 0.9),
        ];
        assert_eq!(made.spans, expected);
        assert_eq!((made.outcome, made.bytes), (Outcome::Ran, Some(1500)));
        assert_eq!(timeline.steps[0].outcome, Outcome::Cached);
        assert_eq!((timeline.steps[2].outcome, timeline.steps[2].spans.len()), (Outcome::Unfinished, 0));
    }

    #[test]
    fn what_is_open_at_the_end_ends_there() {
        let timeline = sample();
        let tasks: Vec<_> = timeline.tasks.iter().map(|task| (task.start, task.end, task.bytes)).collect();
        assert_eq!(tasks, [(0.9, Some(0.96), Some(7)), (0.96, Some(1.0), None)]);
        assert_eq!((timeline.planned, timeline.seconds), (0.1, 1.0));
    }
}
