//! Lines for logs and scripts, in the words of the reference: `#7 [build 2/5] RUN make`, `#7 0.521 output`, `#7 CACHED`,
//! `#7 DONE 1.2s`, `#7 ERROR: …`.
//!
//! Steps run at once but are read one after another. One step at a time is written as it goes; the others wait until it ends,
//! is silent for a second, or has kept them waiting for five. A step left before its end says `#7 ...`, and its name is
//! repeated where it goes on.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use mica_solver::{BuildEvent, StepId, TaskState};

use super::build::{Build, Phase, Transfer};
use super::log::Line;
use super::text::{Colours, bytes, log_time, printable};
use super::{Renderer, Summary, report};
use crate::terminal::{Paint, Size};

const SILENCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

/// Writes lines.
pub(super) struct Plain {
    build: Build,
    paint: Paint,
    current: Option<Current>,
    /// What the other steps have to say.
    waiting: BTreeMap<StepId, Waiting>,
    /// How far transfers were when they were last told.
    told: BTreeMap<(Option<StepId>, String), Told>,
    begun: bool,
}

/// The step that is written as it goes.
struct Current {
    id: StepId,
    last_output: Duration,
}

struct Waiting {
    since: Duration,
    lines: Vec<String>,
}

struct Told {
    at: Duration,
    current: u64,
}

impl Plain {
    pub(super) fn new(paint: Paint) -> Self {
        Self {
            build: Build::default(),
            paint,
            current: None,
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            begun: false,
        }
    }

    /// Says something of a step: now if it is the current one or there is none, otherwise when its turn comes.
    fn say(&mut self, at: Duration, id: StepId, lines: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
        match &mut self.current {
            Some(current) if current.id == id => {
                current.last_output = at;
                write_lines(&lines, out)
            }
            Some(_) => {
                let waiting =
                    self.waiting.entry(id).or_insert_with(|| Waiting { since: at, lines: Vec::new() });
                waiting.lines.extend(lines);
                self.rotate(at, out)
            }
            None => {
                self.open(at, id, out)?;
                write_lines(&lines, out)
            }
        }
    }

    /// Says the last of a step.
    fn end(
        &mut self,
        at: Duration,
        id: StepId,
        mut lines: Vec<String>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        lines.extend(self.ending(id).unwrap_or_default());
        if self.current.as_ref().is_none_or(|current| current.id != id) {
            self.open(at, id, out)?;
        }
        write_lines(&lines, out)?;
        self.current = None;
        self.next(at, out)
    }

    /// Makes `id` the current step: its name, and what it has had to say.
    fn open(&mut self, at: Duration, id: StepId, out: &mut dyn Write) -> io::Result<()> {
        if let Some(left) = self.current.take() {
            writeln!(out, "{} ...", left.id)?;
        }
        if std::mem::replace(&mut self.begun, true) {
            writeln!(out)?;
        }
        let name = self.build.get(id).map_or("", |step| step.name.as_str());
        writeln!(out, "{id} {name}")?;
        self.current = Some(Current { id, last_output: at });
        let waiting = self.waiting.remove(&id);
        write_lines(&waiting.map(|waiting| waiting.lines).unwrap_or_default(), out)
    }

    /// Opens the step that has waited longest.
    fn next(&mut self, at: Duration, out: &mut dyn Write) -> io::Result<()> {
        match self.longest_waiting() {
            Some((_, id)) => self.open(at, id, out),
            None => Ok(()),
        }
    }

    fn rotate(&mut self, at: Duration, out: &mut dyn Write) -> io::Result<()> {
        let (Some(current), Some((since, _))) = (&self.current, self.longest_waiting()) else {
            return Ok(());
        };
        let silent = at.saturating_sub(current.last_output) >= SILENCE;
        let waited = at.saturating_sub(since) >= PATIENCE;
        if silent || waited { self.next(at, out) } else { Ok(()) }
    }

    fn longest_waiting(&self) -> Option<(Duration, StepId)> {
        self.waiting.iter().map(|(id, waiting)| (waiting.since, *id)).min()
    }

    /// Returns the lines that say how a step ended.
    fn ending(&self, id: StepId) -> Option<Vec<String>> {
        let text = match &self.build.get(id)?.phase {
            Phase::Cached => "CACHED".to_owned(),
            Phase::Resolved(took) | Phase::Ran { took, .. } => format!("DONE {:.1}s", took.as_secs_f64()),
            Phase::Failed(message) => format!("ERROR: {message}"),
            Phase::Canceled => "CANCELED".to_owned(),
            Phase::Waiting | Phase::Started(_) | Phase::Running { .. } => return None,
        };
        Some(text.lines().map(|line| format!("{id} {}", printable(line, Colours::Drop))).collect())
    }

    fn log(&self, id: StepId, lines: &[Line]) -> Vec<String> {
        let colours = if self.paint == Paint::Colour { Colours::Keep } else { Colours::Drop };
        let shown =
            lines.iter().map(|line| format!("{id} {} {}", log_time(line.at), printable(&line.text, colours)));
        shown.collect()
    }

    /// Returns how far a transfer is, unless that was told a moment ago.
    fn transfer(&mut self, at: Duration, id: Option<StepId>, transfer: &Transfer) -> Option<String> {
        let key = (id, transfer.what.clone());
        if let Some(told) = self.told.get(&key) {
            let moved = transfer.current.saturating_sub(told.current);
            let much = transfer.total.is_some_and(|total| moved.saturating_mul(20) >= total.max(1));
            let repeated = told.current == transfer.current;
            if repeated || !(much || transfer.is_complete() || at.saturating_sub(told.at) >= PATIENCE) {
                return None;
            }
        }
        self.told.insert(key, Told { at, current: transfer.current });
        let total = transfer.total.map(|total| format!(" / {}", bytes(total))).unwrap_or_default();
        let done = if transfer.is_complete() { " done" } else { "" };
        Some(format!("{} {}{total}{done}", transfer.what, bytes(transfer.current)))
    }

    fn task(&mut self, at: Duration, what: &str, state: &TaskState, out: &mut dyn Write) -> io::Result<()> {
        match state {
            TaskState::Started => writeln!(out, "=> {what}"),
            TaskState::Progress(current, total) => {
                let transfer = Transfer { what: what.to_owned(), current: *current, total: *total };
                match self.transfer(at, None, &transfer) {
                    Some(text) => writeln!(out, "=> {text}"),
                    None => Ok(()),
                }
            }
            TaskState::Done => {
                let since = self
                    .build
                    .tasks
                    .iter()
                    .rfind(|task| task.transfer.what == what)
                    .map_or(at, |task| task.since);
                writeln!(out, "=> {what} DONE {:.1}s", at.saturating_sub(since).as_secs_f64())
            }
        }
    }
}

fn write_lines(lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

impl Renderer for Plain {
    fn event(&mut self, at: Duration, event: &BuildEvent, out: &mut dyn Write) -> io::Result<()> {
        let ended = self.build.apply(at, event);
        match event {
            BuildEvent::Planned { .. } | BuildEvent::StepStarted { .. } => Ok(()),
            BuildEvent::StepRunning { id, .. } if self.current.is_none() => {
                self.say(at, *id, Vec::new(), out)
            }
            // What was left out is told at the end.
            BuildEvent::StepRunning { .. }
            | BuildEvent::StepPhase { .. }
            | BuildEvent::StepLeftOut { .. } => Ok(()),
            BuildEvent::StepLog { .. } if ended.is_empty() => Ok(()),
            BuildEvent::StepLog { id, .. } => self.say(at, *id, self.log(*id, &ended), out),
            BuildEvent::StepProgress { id, what, current, total } => {
                let transfer =
                    Transfer { what: printable(what, Colours::Drop), current: *current, total: *total };
                match self.transfer(at, Some(*id), &transfer) {
                    Some(text) => self.say(at, *id, vec![format!("{id} {text}")], out),
                    None => Ok(()),
                }
            }
            BuildEvent::StepCached { id }
            | BuildEvent::StepFinished { id, .. }
            | BuildEvent::StepFailed { id, .. }
            | BuildEvent::StepCanceled { id } => self.end(at, *id, self.log(*id, &ended), out),
            BuildEvent::Task { what, state } => self.task(at, &printable(what, Colours::Drop), state, out),
            BuildEvent::Warning { message } => {
                let lines: Vec<String> = message.lines().map(|line| printable(line, Colours::Drop)).collect();
                writeln!(out, "WARNING: {}", lines.join("\n  "))
            }
        }
    }

    fn tick(&mut self, at: Duration, _: Size, out: &mut dyn Write) -> io::Result<()> {
        self.rotate(at, out)
    }

    fn leave(&mut self, at: Duration, out: &mut dyn Write) -> io::Result<()> {
        while self.longest_waiting().is_some() {
            self.next(at, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, at: Duration, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        self.leave(at, out)?;
        if self.begun {
            writeln!(out)?;
        }
        report::end(&self.build, at, summary, self.paint, out)
    }

    fn tick_interval(&self) -> Option<Duration> {
        Some(TICK)
    }
}
