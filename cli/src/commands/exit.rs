//! From failures to exit codes and hints, in one place.
//!
//! 0 ok · 1 the build failed, or something local did · 2 bad command line · 69 a service was unavailable · 70 a bug ·
//! 130 interrupted · 143 terminated; `mica run`: the command's own, 125 where mica failed, 126 and 127 as shells do.

use std::error::Error;
use std::process::ExitCode;

use super::say;
use crate::arguments::ArgumentError;
use crate::engine::chain;
use crate::environment::Environment;
use crate::terminal::{Paint, Tone};

/// Something is wrong with the command line.
pub(super) const USAGE: u8 = 2;
const FAILED: u8 = 1;
const UNAVAILABLE: u8 = 69;
const BUG: u8 = 70;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Something on this machine failed.
    pub(super) fn local(action: impl Into<String>, error: impl Error) -> Self {
        Self { code: FAILED, message: format!("{}: {}", action.into(), chain(&error)), hint: None }
    }

    /// An error that says it all.
    pub(super) fn of(error: &dyn Error) -> Self {
        Self { code: FAILED, message: chain(error), hint: None }
    }

    /// A message alone.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), hint: None }
    }

    /// A bug of ours.
    pub(super) fn bug(message: impl Into<String>) -> Self {
        let hint = Some("this is a bug in mica: please report it with the command and its output".to_owned());
        Self { code: BUG, message: message.into(), hint }
    }

    /// With what to do about it.
    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = self.hint.or(hint);
        self
    }

    /// With the code for a service that was not there.
    pub(super) fn unavailable(self) -> Self {
        Self { code: UNAVAILABLE, ..self }
    }

    /// With a code of its own.
    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Tells the person and returns the exit code.
    pub(super) fn tell(&self, environment: &dyn Environment) -> ExitCode {
        let paint = Paint::for_stream(std::io::stderr(), environment);
        if !self.message.is_empty() {
            say(&format!("{} {}", paint.tint(Tone::Bad, "error:"), self.message));
        }
        if let Some(hint) = &self.hint {
            say(&format!("{} {hint}", paint.tint(Tone::Accent, "help:")));
        }
        ExitCode::from(self.code)
    }
}

impl From<ArgumentError> for Failure {
    fn from(error: ArgumentError) -> Self {
        Self { code: USAGE, message: chain(&error), hint: error.hint() }
    }
}
