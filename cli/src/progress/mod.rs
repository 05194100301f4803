//! What a person or a script sees of a running build.
//!
//! A [`Renderer`] is a pure state machine over [`BuildEvent`]s and the time they came at: it owns no clock, no terminal and no
//! channel, so a recorded list of events always gives the same text. [`Progress`] feeds it from the build's channel.
//!
//! Secrets are masked before they become events; control sequences of the steps' output are dealt with here.

mod build;
mod drive;
mod json;
mod log;
mod plain;
mod quiet;
mod report;
mod text;
mod timings;
mod tty;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use mica_solver::BuildEvent;
use serde::Serialize;

use crate::engine::reproducible::Clamp;
use crate::terminal::{Paint, Size};

pub(crate) use drive::Progress;
pub(crate) use timings::{Timeline, write as write_timings};

/// Turns events into text; all times count from the start of the build.
pub(crate) trait Renderer: Send {
    /// Takes in an event.
    fn event(&mut self, at: Duration, event: &BuildEvent, out: &mut dyn Write) -> io::Result<()>;

    /// Draws what changes with time alone.
    fn tick(&mut self, at: Duration, size: Size, out: &mut dyn Write) -> io::Result<()>;

    /// Ends the view and leaves the terminal as it was found.
    fn leave(&mut self, at: Duration, out: &mut dyn Write) -> io::Result<()>;

    /// Ends the view as [`Renderer::leave`] does, and tells what came of the build.
    fn finish(&mut self, at: Duration, summary: &Summary, out: &mut dyn Write) -> io::Result<()>;

    /// Returns how often ticks are wanted.
    fn tick_interval(&self) -> Option<Duration>;
}

/// What came of a build, as far as the events do not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// How it ended.
    pub(crate) result: BuildResult,
    /// The images that were made, by digest of their configurations; several for several platforms.
    pub(crate) images: Vec<String>,
    /// The names they got.
    pub(crate) tags: Vec<String>,
    /// Files and directories that were written.
    pub(crate) outputs: Vec<PathBuf>,
    /// What times were clamped to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clamp: Option<Clamp>,
    /// The complete log of the step that failed.
    pub(crate) log: Option<PathBuf>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BuildResult {
    /// Well.
    Succeeded,
    /// With a failure, which is told elsewhere.
    Failed,
    /// It was interrupted.
    Canceled,
}

impl BuildResult {
    /// Returns the word for it, as in JSON.
    fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// The views there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// A live view of a terminal of this size.
    Tty(Size),
    /// Lines.
    Plain,
    /// One JSON object a line.
    Json,
    /// Only what a failed step said.
    Quiet,
    /// Nothing.
    None,
}

/// Makes the renderer of a view.
pub(crate) fn renderer(view: View, paint: Paint) -> Box<dyn Renderer> {
    match view {
        View::Tty(size) => Box::new(tty::Tty::new(size, paint)),
        View::Plain => Box::new(plain::Plain::new(paint)),
        View::Json => Box::new(json::Json),
        View::Quiet => Box::new(quiet::Quiet::new(paint)),
        View::None => Box::new(quiet::Nothing),
    }
}

#[cfg(test)]
mod tests;
