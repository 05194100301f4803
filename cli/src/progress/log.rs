//! A step's output: lines put together from pieces, and the last of them kept.

use std::collections::VecDeque;
use std::time::Duration;

use mica_solver::LogStream;

/// A line without an end is cut here, so that output without line ends uses no memory without end.
const LONGEST: usize = 16 * 1024;
/// How many lines are kept to be shown when the step fails.
const KEPT: usize = 20;

/// A whole line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When it ended, counted from the step's start.
    pub(super) at: Duration,
    /// Its bytes as they came.
    pub(super) text: String,
}

/// The output of one step.
#[derive(Debug, Default)]
pub(super) struct Log {
    stdout: String,
    stderr: String,
    last: VecDeque<Line>,
    lines: usize,
}

impl Log {
    /// Adds a piece of output and returns the lines it ended.
    pub(super) fn push(&mut self, at: Duration, stream: LogStream, text: &str) -> Vec<Line> {
        let partial = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        let mut ended = Vec::new();
        for piece in text.split_inclusive('\n') {
            partial.push_str(piece.strip_suffix('\n').unwrap_or(piece));
            if piece.ends_with('\n') || partial.len() > LONGEST {
                ended.push(Line { at, text: std::mem::take(partial) });
            }
        }
        self.keep(&ended);
        ended
    }

    /// Ends the lines that have no end yet and returns them.
    pub(super) fn flush(&mut self, at: Duration) -> Vec<Line> {
        let partial = [std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr)];
        let ended: Vec<Line> =
            partial.into_iter().filter(|text| !text.is_empty()).map(|text| Line { at, text }).collect();
        self.keep(&ended);
        ended
    }

    fn keep(&mut self, ended: &[Line]) {
        self.lines += ended.len();
        self.last.extend(ended.iter().cloned());
        self.last.drain(..self.last.len().saturating_sub(KEPT));
    }

    /// Returns the last whole lines, oldest first.
    pub(super) fn last(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.last.iter()
    }

    /// Returns how many lines came before those of [`Log::last`].
    pub(super) fn dropped(&self) -> usize {
        self.lines - self.last.len()
    }

    /// Returns the texts to show live: the last whole lines and what has begun since, oldest first.
    pub(super) fn recent(&self, most: usize) -> Vec<&str> {
        let partial = [self.stdout.as_str(), self.stderr.as_str()];
        let begun: Vec<&str> = partial.into_iter().filter(|text| !text.is_empty()).collect();
        let whole = self.last.iter().map(|line| line.text.as_str());
        let mut recent: Vec<&str> = whole.chain(begun).collect();
        recent.drain(..recent.len().saturating_sub(most));
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        let mut log = Log::default();
        assert!(log.push(Duration::ZERO, LogStream::Stdout, "one").is_empty());
        assert_eq!(texts(&log.push(Duration::ZERO, LogStream::Stderr, "err\nmo")), ["err"]);
        assert_eq!(
            texts(&log.push(Duration::ZERO, LogStream::Stdout, " two\n\nthree\n")),
            ["one two", "", "three"]
        );
        assert_eq!(log.recent(2), ["three", "mo"]);
        assert_eq!(texts(&log.flush(Duration::ZERO)), ["mo"]);
        assert!(log.flush(Duration::ZERO).is_empty());
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut log = Log::default();
        let many: String = (0..50).map(|number| format!("{number}\n")).collect();
        log.push(Duration::ZERO, LogStream::Stdout, &many);
        assert_eq!(log.last().map(|line| line.text.as_str()).next(), Some("30"));
        assert_eq!((log.last().count(), log.dropped()), (20, 30));
    }

    #[test]
    fn output_without_line_ends_is_cut() {
        let mut log = Log::default();
        let mut cut = 0;
        for _ in 0..100 {
            cut += log.push(Duration::ZERO, LogStream::Stdout, &"x".repeat(1000)).len();
        }
        assert_eq!(cut, 5);
    }
}
