//! From failures to exit codes and hints, in one place.
//!
//! 0 ok · 1 the build failed, or something local did · 2 bad command line · 69 a service was unavailable · 70 a bug ·
//! 130 interrupted · 143 terminated; `mica run` and `mica enter`: the command's own, 125 where mica failed, 126 and 127 as shells do;
//! `mica diff`, `verify` and `repro`: 1 a difference, 2 nobody can tell.

use std::error::Error;
use std::process::ExitCode;

use rustix::io::Errno;

use super::say;
use crate::arguments::ArgumentError;
use crate::engine::chain;
use crate::engine::runner::FREE_SPACE;
use crate::environment::Environment;
use crate::terminal::{Paint, Tone};

/// Something is wrong with the command line.
pub(super) const USAGE: u8 = 2;
/// What was to be confirmed is not so, of commands that compare.
pub(super) const NOT_SO: u8 = 1;
/// It could not be found out, of commands that compare.
pub(super) const COULD_NOT_TELL: u8 = 2;
/// Mica itself failed, of commands that return another's exit code.
pub(super) const MICA_FAILED: u8 = 125;
const FAILED: u8 = 1;
const UNAVAILABLE: u8 = 69;
const BUG: u8 = 70;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
    /// The way out where nobody knows a better one.
    usual_hint: Option<&'static str>,
}

impl Failure {
    /// Something on this machine failed.
    pub(super) fn local(action: impl Into<String>, error: impl Error + 'static) -> Self {
        let message = format!("{}: {}", action.into(), chain(&error));
        Self { message, ..Self::of(&error) }
    }

    /// An error that says it all.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        Self::plain(chain(error)).because_of(error)
    }

    /// With what usually helps against what the system says.
    pub(super) fn because_of(self, error: &(dyn Error + 'static)) -> Self {
        Self { usual_hint: usual_hint(error), ..self }
    }

    /// A message alone.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), hint: None, usual_hint: None }
    }

    /// A bug of ours.
    pub(super) fn bug(message: impl Into<String>) -> Self {
        let hint = Some("this is a bug in mica: please report it with the command and its output".to_owned());
        Self { code: BUG, hint, ..Self::plain(message) }
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
        if let Some(hint) = self.hint.as_deref().or(self.usual_hint) {
            say(&format!("{} {hint}", paint.tint(Tone::Accent, "help:")));
        }
        ExitCode::from(self.code)
    }
}

impl From<ArgumentError> for Failure {
    fn from(error: ArgumentError) -> Self {
        Self { code: USAGE, hint: error.hint(), ..Self::plain(chain(&error)) }
    }
}

/// What helps against an error of the operating system, wherever in the chain of causes it is.
fn usual_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let code = match error.downcast_ref::<std::io::Error>() {
            Some(error) => error.raw_os_error(),
            None => error.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()),
        };
        match code.map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => return Some(FREE_SPACE),
            Some(Errno::MFILE | Errno::NFILE) => {
                return Some("allow more open files: `ulimit -n` tells how many there may be");
            }
            Some(Errno::ROFS) => {
                return Some("write to another place: this file system is mounted read-only");
            }
            _ => next = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_has_a_way_out_wherever_it_is_said() {
        let full = || std::io::Error::from(Errno::NOSPC);
        let within = mica_cache::FileError::new("write", "/x", full());
        assert!(usual_hint(&within).is_some_and(|hint| hint.contains("mica prune")));
        let wrapped = std::io::Error::other(mica_cache::FileError::new("write", "/x", full()));
        assert!(usual_hint(&wrapped).is_some());
        assert!(usual_hint(&Errno::MFILE).is_some_and(|hint| hint.contains("ulimit")));
        assert_eq!(usual_hint(&std::io::Error::from(Errno::NOENT)), None);
        let failure = Failure::of(&within).with_hint(Some("better".to_owned()));
        assert_eq!(failure.hint.as_deref(), Some("better"));
    }
}
