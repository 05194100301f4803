//! A diagnostic for people: what, where, the lines with marks under them, and what to do.

use std::collections::BTreeMap;
use std::ops::Range;

use mica_parser::diagnostic::{Diagnostic, Label, LineIndex, Severity, Suggestion};
use mica_parser::syntax::Span;

use super::line::ShownLine;
use super::{Source, word};
use crate::terminal::{Paint, Tone};

/// A label over more lines than this is shown by its first ones and its last.
const MOST_LINES: u32 = 4;

/// A mark under one line.
struct Mark<'a> {
    /// Bytes of the line.
    bytes: Range<usize>,
    is_primary: bool,
    text: &'a str,
}

struct Page<'a> {
    index: LineIndex<'a>,
    paint: Paint,
    /// How wide line numbers are.
    margin: usize,
    tone: Tone,
}

/// Appends a diagnostic to `out`.
pub(super) fn write(out: &mut String, source: Source<'_>, diagnostic: &Diagnostic, paint: Paint) {
    let tone = match diagnostic.severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warn,
    };
    let labels = std::iter::once((true, &diagnostic.primary));
    let labels = labels.chain(diagnostic.secondary.iter().map(|label| (false, label)));
    let head = format!("{}[{}]", word(diagnostic.severity), diagnostic.code);
    let page = place(out, source, (&head, tone), &diagnostic.message, labels, paint);
    page.advice(out, diagnostic);
}

/// Appends a failure of the instruction at `span` to `out`.
pub(super) fn write_failure(out: &mut String, source: Source<'_>, span: Span, message: &str, paint: Paint) {
    let label = Label { span, text: String::new() };
    place(out, source, ("error", Tone::Bad), message, std::iter::once((true, &label)), paint);
}

/// Appends what, where, and the marked lines; the first label is the place.
fn place<'a>(
    out: &mut String,
    source: Source<'a>,
    (head, tone): (&str, Tone),
    message: &str,
    labels: impl Iterator<Item = (bool, &'a Label)> + Clone,
    paint: Paint,
) -> Page<'a> {
    let index = LineIndex::new(source.text);
    let at = labels.clone().next().map_or(0, |(_, label)| label.span.start);
    let lines = marks(&index, labels);
    let margin = lines.keys().next_back().map_or(1, |line| line.to_string().len());
    let page = Page { index, paint, margin, tone };
    out.push_str(&format!("{}: {}\n", paint.tint(tone, head), paint.tint(Tone::Strong, &safe(message))));
    let place = page.index.position(at);
    let arrow = format!("{}-->", " ".repeat(margin + 1));
    out.push_str(&format!(
        "{} {}:{}:{}\n",
        paint.tint(Tone::Accent, &arrow),
        source.name,
        place.line,
        place.column
    ));
    page.excerpt(out, &lines);
    page
}

/// Messages repeat parts of the file, which must not reach a terminal as they are.
fn safe(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| ShownLine::new(line.as_bytes()).into_text()).collect();
    lines.join("\n")
}

/// Returns the marks of each line that is shown.
fn marks<'a>(
    index: &LineIndex<'_>,
    labels: impl Iterator<Item = (bool, &'a Label)>,
) -> BTreeMap<u32, Vec<Mark<'a>>> {
    let mut lines: BTreeMap<u32, Vec<Mark<'a>>> = BTreeMap::new();
    for (is_primary, label) in labels {
        for (line, mark) in label_marks(index, is_primary, label) {
            lines.entry(line).or_default().push(mark);
        }
    }
    lines
}

/// Cuts a label into one mark a line; its text stands at the last.
fn label_marks<'a>(index: &LineIndex<'_>, is_primary: bool, label: &'a Label) -> Vec<(u32, Mark<'a>)> {
    let (first, last) = lines_of(index, label.span);
    let is_shown = |line: &u32| last - first < MOST_LINES || *line < first + MOST_LINES - 1 || *line == last;
    (first..=last)
        .filter(is_shown)
        .map(|line| {
            let start = index.line_start(line).unwrap_or(0);
            let content = index.line(line).unwrap_or_default();
            let written = ShownLine::written(content);
            let from = if line == first { (label.span.start - start) as usize } else { written.start };
            let to = if line == last {
                (label.span.end.max(label.span.start) - start) as usize
            } else {
                written.end
            };
            let text = if line == last { label.text.as_str() } else { "" };
            (line, Mark { bytes: from..to.min(content.len()).max(from), is_primary, text })
        })
        .collect()
}

/// Returns the first and last line of a span; one that ends with a newline does not reach into the next line.
fn lines_of(index: &LineIndex<'_>, span: Span) -> (u32, u32) {
    let first = index.position(span.start).line;
    let end = if span.end > span.start { span.end - 1 } else { span.end };
    (first, index.position(end).line.max(first))
}

impl Page<'_> {
    /// Draws the margin; `sign` stands between a line's number and the line.
    fn gutter(&self, number: &str, sign: &str) -> String {
        let text = format!(" {number:>width$} {sign}", width = self.margin);
        self.paint.tint(Tone::Accent, &text).into_owned()
    }

    fn excerpt(&self, out: &mut String, lines: &BTreeMap<u32, Vec<Mark<'_>>>) {
        out.push_str(&self.gutter("", "|"));
        out.push('\n');
        let mut previous = None;
        for (line, marks) in lines {
            if previous.is_some_and(|previous| previous + 1 < *line) {
                out.push_str(&self.paint.tint(Tone::Accent, "..."));
                out.push('\n');
            }
            self.line(out, *line, marks);
            previous = Some(*line);
        }
    }

    fn line(&self, out: &mut String, number: u32, marks: &[Mark<'_>]) {
        let shown = ShownLine::new(self.index.line(number).unwrap_or_default());
        let focus = marks.iter().map(|mark| shown.cells(mark.bytes.clone()).start).min().unwrap_or(0);
        let (text, skipped) = shown.window(focus);
        out.push_str(format!("{} {text}", self.gutter(&number.to_string(), "|")).trim_end());
        out.push('\n');
        for mark in marks {
            let cells = shown.cells(mark.bytes.clone());
            let (sign, tone) = if mark.is_primary { ("^", self.tone) } else { ("-", Tone::Accent) };
            let indent = " ".repeat(cells.start.saturating_sub(skipped));
            let mut note = sign.repeat(cells.len().min(160));
            if !mark.text.is_empty() {
                note = format!("{note} {}", safe(mark.text));
            }
            out.push_str(&format!("{} {indent}{}\n", self.gutter("", "|"), self.paint.tint(tone, &note)));
        }
    }

    fn advice(&self, out: &mut String, diagnostic: &Diagnostic) {
        for note in &diagnostic.notes {
            out.push_str(&format!("{}: {}\n", self.paint.tint(Tone::Strong, "note"), safe(note)));
        }
        if let Some(help) = &diagnostic.help {
            out.push_str(&format!("{}: {}\n", self.paint.tint(Tone::Strong, "help"), safe(help)));
        }
        if let Some(suggestion) = &diagnostic.suggestion {
            self.patch(out, suggestion);
        }
        if let Some(url) = &diagnostic.url {
            out.push_str(&format!("{}: {url}\n", self.paint.tint(Tone::Strong, "more")));
        }
    }

    /// Shows a suggestion as the lines it takes away and those it puts in their place.
    fn patch(&self, out: &mut String, suggestion: &Suggestion) {
        let (first, last) = lines_of(&self.index, suggestion.span);
        if last - first >= MOST_LINES {
            return;
        }
        let (Some(start), Some(last_start)) = (self.index.line_start(first), self.index.line_start(last))
        else {
            return;
        };
        let old: Vec<&[u8]> = (first..=last).filter_map(|line| self.index.line(line)).collect();
        let (head, tail) =
            (old.first().copied().unwrap_or_default(), old.last().copied().unwrap_or_default());
        let before = head.get(..(suggestion.span.start - start) as usize).unwrap_or(head);
        let after = tail.get((suggestion.span.end - last_start) as usize..).unwrap_or_default();
        let new = [before, suggestion.replacement.as_bytes(), after].concat();
        out.push_str(&self.gutter("", "|"));
        out.push('\n');
        for (line, content) in (first..).zip(&old) {
            self.patch_line(out, line, "-", Tone::Bad, content);
        }
        let added = new.split(|byte| *byte == b'\n').filter(|_| !new.is_empty());
        for (line, content) in (first..).zip(added) {
            self.patch_line(out, line, "+", Tone::Good, content);
        }
    }

    fn patch_line(&self, out: &mut String, line: u32, sign: &str, tone: Tone, content: &[u8]) {
        let (text, _) = ShownLine::new(content).window(0);
        let number =
            self.paint.tint(Tone::Accent, &format!(" {line:>width$}", width = self.margin)).into_owned();
        out.push_str(&format!("{number} {}\n", self.paint.tint(tone, &format!("{sign} {text}"))));
    }
}
