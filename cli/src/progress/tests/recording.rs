//! Reads recorded events: the JSON view's lines, and between them ticks with a terminal's size.

use std::path::Path;
use std::time::Duration;

use mica_solver::{BuildEvent, LogStream, StepId, StepInfo, TaskState};
use serde::Deserialize;

use crate::progress::{BuildResult, Summary};
use crate::terminal::Size;

/// One line of a recording.
pub(super) enum Moment {
    Event(BuildEvent),
    Tick(Size),
    Finished(Summary),
}

#[derive(Deserialize)]
struct Timed {
    time: f64,
    #[serde(flatten)]
    event: Recorded,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Recorded {
    Planned {
        steps: Vec<Info>,
    },
    StepStarted {
        id: u32,
    },
    StepRunning {
        id: u32,
        reason: String,
    },
    StepCached {
        id: u32,
    },
    StepLog {
        id: u32,
        stream: Stream,
        text: String,
    },
    StepProgress {
        id: u32,
        what: String,
        current: u64,
        total: Option<u64>,
    },
    StepFinished {
        id: u32,
        seconds: f64,
        equal_output: bool,
        bytes: u64,
    },
    StepFailed {
        id: u32,
        message: String,
    },
    StepCanceled {
        id: u32,
    },
    Task {
        what: String,
        state: State,
    },
    Warning {
        message: String,
    },
    Tick {
        columns: u16,
        rows: u16,
    },
    BuildFinished {
        result: Ending,
        images: Vec<String>,
        tags: Vec<String>,
        outputs: Vec<String>,
        log: Option<String>,
    },
}

#[derive(Deserialize)]
struct Info {
    id: u32,
    name: String,
    line: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stream {
    Stdout,
    Stderr,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Started,
    Progress(u64, Option<u64>),
    Done,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ending {
    Succeeded,
    Failed,
    Canceled,
}

pub(super) fn read(path: &Path) -> Vec<(Duration, Moment)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = |(index, line): (usize, &str)| {
        let timed: Timed = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), index + 1));
        (Duration::from_secs_f64(timed.time), moment(timed.event))
    };
    text.lines().enumerate().map(line).collect()
}

fn moment(recorded: Recorded) -> Moment {
    Moment::Event(match recorded {
        Recorded::Tick { columns, rows } => return Moment::Tick(Size { columns, rows }),
        Recorded::BuildFinished { result, images, tags, outputs, log } => {
            let result = match result {
                Ending::Succeeded => BuildResult::Succeeded,
                Ending::Failed => BuildResult::Failed,
                Ending::Canceled => BuildResult::Canceled,
            };
            let outputs = outputs.into_iter().map(Into::into).collect();
            let log = log.map(Into::into);
            return Moment::Finished(Summary { result, images, tags, outputs, clamp: None, log });
        }
        Recorded::Planned { steps } => BuildEvent::Planned {
            steps: steps
                .into_iter()
                .map(|info| StepInfo { id: StepId(info.id), name: info.name, line: info.line })
                .collect(),
        },
        Recorded::StepStarted { id } => BuildEvent::StepStarted { id: StepId(id) },
        Recorded::StepRunning { id, reason } => BuildEvent::StepRunning { id: StepId(id), reason },
        Recorded::StepCached { id } => BuildEvent::StepCached { id: StepId(id) },
        Recorded::StepLog { id, stream, text } => {
            let stream = match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            };
            BuildEvent::StepLog { id: StepId(id), stream, text }
        }
        Recorded::StepProgress { id, what, current, total } => {
            BuildEvent::StepProgress { id: StepId(id), what, current, total }
        }
        Recorded::StepFinished { id, seconds, equal_output, bytes } => {
            let duration = Duration::from_secs_f64(seconds);
            BuildEvent::StepFinished { id: StepId(id), duration, equal_output, bytes }
        }
        Recorded::StepFailed { id, message } => BuildEvent::StepFailed { id: StepId(id), message },
        Recorded::StepCanceled { id } => BuildEvent::StepCanceled { id: StepId(id) },
        Recorded::Task { what, state } => {
            let state = match state {
                State::Started => TaskState::Started,
                State::Progress(current, total) => TaskState::Progress(current, total),
                State::Done => TaskState::Done,
            };
            BuildEvent::Task { what, state }
        }
        Recorded::Warning { message } => BuildEvent::Warning { message },
    })
}
