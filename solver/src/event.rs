//! The event stream: all that a renderer or a log learns of a build.

use std::time::Duration;

use serde::Serialize;

use crate::graph::StepId;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum BuildEvent {
    /// The graph is known.
    Planned {
        /// Its steps in order.
        steps: Vec<StepInfo>,
    },
    /// A step's inputs are ready and it is being looked up or run.
    StepStarted {
        /// The step.
        id: StepId,
    },
    /// The step was not in the cache and now runs.
    StepRunning {
        /// The step.
        id: StepId,
        /// Why no record was used, in one line.
        reason: String,
    },
    /// The step goes on to something else.
    StepPhase {
        /// The step.
        id: StepId,
        /// What it does from now on.
        phase: StepPhase,
    },
    /// The step's result was known.
    StepCached {
        /// The step.
        id: StepId,
    },
    /// Output of the step's command.
    StepLog {
        /// The step.
        id: StepId,
        /// Where it was written.
        stream: LogStream,
        /// The bytes, as text where they are text.
        text: String,
    },
    /// How far a part of the step is.
    StepProgress {
        /// The step.
        id: StepId,
        /// What is going on (`downloading sha256:…`).
        what: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// Files of the step were left out of its layer, because no two runs of it would write the same.
    StepLeftOut {
        /// The step.
        id: StepId,
        /// What, kind by kind.
        files: Vec<LeftOutFiles>,
    },
    /// The step is done.
    StepFinished {
        /// The step.
        id: StepId,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
        /// Whether the layer it made was there before (later steps stay cached).
        equal_output: bool,
        /// Size of its layer's own files, in bytes.
        bytes: u64,
    },
    /// The step failed.
    StepFailed {
        /// The step.
        id: StepId,
        /// Why.
        message: String,
    },
    /// The step was stopped because another failed or the build was interrupted.
    StepCanceled {
        /// The step.
        id: StepId,
    },
    /// Work that is not a step: resolving, assembling, exporting.
    Task {
        /// What is going on.
        what: String,
        /// Its state.
        state: TaskState,
    },
    /// Something the user should know.
    Warning {
        /// What.
        message: String,
    },
}

/// What a step does between its other events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepPhase {
    /// It is not in the cache, and waits until it may run.
    Waiting,
    /// It has run, and what it made becomes a layer.
    Storing,
}

/// What renderers show of a step.
#[derive(Debug, Clone, Serialize)]
pub struct StepInfo {
    /// Its number.
    pub id: StepId,
    /// `[stage 2/5] RUN …`.
    pub name: String,
    /// Its line.
    pub line: Option<u32>,
}

/// Files of one kind that were left out of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutFiles {
    /// The kind, by the name that keeps it: `apt-logs`.
    pub kind: String,
    /// How many files and directories (with all that is in them).
    pub count: u64,
    /// The first of them, as absolute paths.
    pub paths: Vec<String>,
}

/// The two output streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// State of a [`BuildEvent::Task`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It began.
    Started,
    /// It goes on: bytes done and in all.
    Progress(u64, Option<u64>),
    /// It ended.
    Done,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
