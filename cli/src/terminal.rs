//! What is known of the terminal: whether there is one, its size, and whether colours are wanted.
//!
//! Colours are only ever an addition: everything is said in words too.

use std::borrow::Cow;
use std::os::fd::AsFd;

use crate::environment::Environment;

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Cells in a line.
    pub(crate) columns: u16,
    /// Lines.
    pub(crate) rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// Returns the size of the terminal behind `stream`, or 80 by 24 where it does not tell.
pub(crate) fn size(stream: impl AsFd) -> Size {
    match rustix::termios::tcgetwinsize(stream) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size { columns: size.ws_col, rows: size.ws_row },
        _ => Size::default(),
    }
}

/// Returns whether `stream` is a terminal that can move its cursor.
pub(crate) fn is_capable(stream: impl AsFd, environment: &dyn Environment) -> bool {
    rustix::termios::isatty(stream) && environment.var("TERM").is_none_or(|term| term != "dumb")
}

/// A terminal that does not show what is typed, until this is dropped.
pub(crate) struct WithoutEcho<'a> {
    terminal: std::os::fd::BorrowedFd<'a>,
    before: rustix::termios::Termios,
}

/// Keeps a terminal from showing what is typed.
pub(crate) fn without_echo(stream: &impl AsFd) -> std::io::Result<WithoutEcho<'_>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let terminal = stream.as_fd();
    let before = tcgetattr(terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal, OptionalActions::Flush, &silent)?;
    Ok(WithoutEcho { terminal, before })
}

impl Drop for WithoutEcho<'_> {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Adds colours, or leaves them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Colours are added.
    Colour,
    /// The text stays as it is.
    Plain,
}

/// What a piece of text is, as far as colour can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something failed.
    Bad,
    /// Something wants attention.
    Warn,
    /// Something went well.
    Good,
    /// A place or a number.
    Accent,
    /// What may be skipped in reading.
    Dim,
    /// What should not.
    Strong,
}

impl Paint {
    /// Decides for a stream: colours on a capable terminal unless `NO_COLOR` is set to something.
    pub(crate) fn for_stream(stream: impl AsFd, environment: &dyn Environment) -> Self {
        let refused = environment.var("NO_COLOR").is_some_and(|value| !value.is_empty());
        if !refused && is_capable(stream, environment) { Self::Colour } else { Self::Plain }
    }

    /// Returns `text` in the colour of `tone`.
    pub(crate) fn tint(self, tone: Tone, text: &str) -> Cow<'_, str> {
        if self == Self::Plain || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match tone {
            Tone::Bad => "1;31",
            Tone::Warn => "1;33",
            Tone::Good => "32",
            Tone::Accent => "34",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;

    struct Nothing;

    impl Environment for Nothing {
        fn var(&self, _: &str) -> Option<OsString> {
            None
        }

        fn current_dir(&self) -> PathBuf {
            PathBuf::from("/")
        }
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_capable(&file, &Nothing));
        assert_eq!(Paint::for_stream(&file, &Nothing), Paint::Plain);
        assert_eq!(size(&file), Size { columns: 80, rows: 24 });
    }

    #[test]
    fn colours_wrap_the_text() {
        assert_eq!(Paint::Colour.tint(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint::Plain.tint(Tone::Bad, "x"), "x");
        assert_eq!(Paint::Colour.tint(Tone::Bad, ""), "");
    }
}
