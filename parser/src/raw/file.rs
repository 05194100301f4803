//! The loop over a file: joining lines to instructions, collecting comments, reading heredocs.

use super::directive::DirectiveReader;
use super::heredoc::{Unterminated, openers_in, read_body};
use super::joined::{Joined, Slice};
use super::lines::{Line, Lines, MAX_LINE, decode, is_comment, leading_space, trim_start};
use super::split::split_line;
use super::{Arguments, RawFile, RawFlag, RawNode, arguments};
use crate::diagnostic::{Diagnostic, RuleCode};
use crate::keyword::Keyword;
use crate::syntax::{Escape, Heredoc, Span, Spanned};

/// Reads a whole file.
pub(crate) fn read(text: &[u8]) -> RawFile {
    // Spans count in 32 bits; nobody writes a Dockerfile of 4 GiB, and what is past that is not read.
    let text = &text[..text.len().min(u32::MAX as usize)];
    let mut reader = Reader { lines: Lines::new(text), file: RawFile::default(), comments: Vec::new() };
    let mut directives = DirectiveReader::default();
    while let Some(line) = reader.lines.next() {
        reader.first_line(line, &mut directives);
    }
    let mut file = reader.file;
    if file.nodes.is_empty() && file.problems.is_empty() {
        let end = Span { start: text.len() as u32, end: text.len() as u32 };
        file.problems.push(
            Diagnostic::error(RuleCode::new("empty-file"), "file with no instructions", end, "")
                .with_help("a Dockerfile starts with FROM"),
        );
    }
    file
}

struct Reader<'a> {
    lines: Lines<'a>,
    file: RawFile,
    comments: Vec<Spanned<String>>,
}

/// The lines of one instruction.
struct LogicalLine {
    joined: Joined,
    start_line: u32,
    blank_lines: Vec<Span>,
}

impl Reader<'_> {
    /// Looks at a line that may start an instruction.
    fn first_line(&mut self, line: Line<'_>, directives: &mut DirectiveReader) {
        self.check_length(line);
        let content = line.content();
        let start = line.start + leading_space(content);
        let mut joined = Joined::new(start);
        joined.push(trim_start(content), start);
        let whole = joined.whole();
        let is_directive = directives.read(whole, &mut self.file.directives, &mut self.file.problems);
        if is_comment(content) {
            if !is_directive {
                self.comment(line);
            }
            return;
        }
        if whole.is_empty() {
            return;
        }
        let logical = self.join(line, whole);
        self.instruction(logical);
    }

    fn check_length(&mut self, line: Line<'_>) {
        if line.is_too_long() {
            let message = format!("line {} is longer than the {MAX_LINE} bytes allowed", line.number);
            let span = Span { start: line.start as u32, end: (line.start + line.content_length()) as u32 };
            self.file.problems.push(Diagnostic::error(RuleCode::new("line-too-long"), message, span, ""));
        }
    }

    /// Remembers a comment for the instruction below it; an empty one separates.
    fn comment(&mut self, line: Line<'_>) {
        let mut joined = Joined::new(line.start);
        // The first character is dropped unseen, as the reference does: an indented comment keeps its `#`.
        let (_, width) = decode(line.content()).unwrap_or(('#', 1));
        joined.push(&line.content()[width..], line.start + width);
        let text = joined.whole().trim();
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(text.spanned());
        }
    }

    /// Joins the lines of the instruction that starts with `first`.
    fn join(&mut self, line: Line<'_>, first: Slice<'_>) -> LogicalLine {
        let escape = self.file.directives.escape;
        let start = line.start + leading_space(line.content());
        let mut logical =
            LogicalLine { joined: Joined::new(start), start_line: line.number, blank_lines: Vec::new() };
        let content = trim_start(line.content());
        let mut continued = without_continuation(content, escape);
        logical.joined.push(continued.unwrap_or(content), first.span().start as usize);
        while continued.is_some() {
            let Some(line) = self.lines.next() else {
                break;
            };
            self.check_length(line);
            let content = line.content();
            if is_comment(content) {
                continue;
            }
            if trim_start(content).is_empty() {
                let end = line.start + line.bytes.len();
                logical.blank_lines.push(Span { start: line.start as u32, end: end as u32 });
                continue;
            }
            continued = without_continuation(content, escape);
            logical.joined.push(continued.unwrap_or(content), line.start);
        }
        logical
    }

    fn instruction(&mut self, logical: LogicalLine) {
        let whole = logical.joined.whole();
        let mut cx =
            CutContext { escape: self.file.directives.escape, depth: 0, problems: &mut self.file.problems };
        let parts = cx.cut(whole);
        let mut span = whole.trim().span();
        let mut heredocs = Vec::new();
        if can_contain_heredocs(&parts.keyword.value, &parts.arguments) {
            span.end = span.end.max(self.heredocs(whole, &mut heredocs));
        }
        self.file.nodes.push(RawNode {
            span,
            start_line: logical.start_line,
            end_line: self.lines.number(),
            keyword: parts.keyword,
            flags: parts.flags,
            arguments: parts.arguments,
            rest: parts.rest,
            line: whole.text().to_owned(),
            heredocs,
            comments: std::mem::take(&mut self.comments),
            blank_lines: logical.blank_lines,
        });
    }

    /// Reads the heredocs a line opens; returns where the last one ends.
    fn heredocs(&mut self, line: Slice<'_>, heredocs: &mut Vec<Heredoc>) -> u32 {
        let openers = match openers_in(line) {
            Ok(openers) => openers,
            Err(error) => {
                let message = format!("bad heredoc: {error}");
                self.file.problems.push(Diagnostic::error(
                    RuleCode::new("bad-heredoc"),
                    message,
                    line.span(),
                    "",
                ));
                return 0;
            }
        };
        let mut last = 0;
        for (opener, span) in openers {
            match read_body(&mut self.lines, opener, span) {
                Ok((heredoc, end)) => {
                    heredocs.push(heredoc);
                    last = end;
                }
                Err(unterminated) => {
                    self.file.problems.push(unterminated_problem(&unterminated));
                    break;
                }
            }
        }
        last as u32
    }
}

fn unterminated_problem(unterminated: &Unterminated) -> Diagnostic {
    let name = &unterminated.opener.name;
    let message = format!("unterminated heredoc `{name}`");
    let mut problem =
        Diagnostic::error(RuleCode::new("unterminated-heredoc"), message, unterminated.span, "opened here")
            .with_help(format!("end it with a line that is exactly `{name}`"));
    if let Some(span) = unterminated.near_miss {
        problem = problem
            .with_secondary(span, "not the end: there are blanks around the word")
            .with_suggestion(span, name.clone());
    }
    problem
}

/// An instruction line cut into its parts.
pub(super) struct Parts {
    pub(super) keyword: Spanned<String>,
    pub(super) flags: Vec<RawFlag>,
    pub(super) arguments: Arguments,
    pub(super) rest: Spanned<String>,
}

/// What cutting a line depends on, and where it reports.
pub(super) struct CutContext<'p> {
    pub(super) escape: Escape,
    /// How many ONBUILDs the line stands in.
    pub(super) depth: usize,
    pub(super) problems: &'p mut Vec<Diagnostic>,
}

impl CutContext<'_> {
    /// Cuts a line; what cannot be cut is reported.
    pub(super) fn cut(&mut self, line: Slice<'_>) -> Parts {
        let split = split_line(line, self.escape);
        let keyword = split.keyword.spanned();
        let arguments = arguments::read(&keyword, split.rest, self).unwrap_or_else(|problem| {
            self.problems.push(*problem);
            Arguments::Broken
        });
        Parts { keyword, flags: split.flags, arguments, rest: split.rest.spanned() }
    }
}

/// Returns the line without the escape character at its end, or `None` when it does not continue.
fn without_continuation(content: &[u8], escape: Escape) -> Option<&[u8]> {
    let escape = escape.character() as u8;
    let blanks = content.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match content[..content.len() - blanks].split_last() {
        Some((last, before)) if *last == escape && before.last() != Some(&escape) => Some(before),
        _ => None,
    }
}

fn can_contain_heredocs(keyword: &str, arguments: &Arguments) -> bool {
    match (Keyword::parse(keyword), arguments) {
        (_, Arguments::Json(_) | Arguments::Broken) => false,
        (Some(Keyword::Onbuild), Arguments::Trigger(inner)) => {
            Keyword::parse(&inner.keyword.value).is_some_and(Keyword::takes_heredocs)
                && !matches!(inner.arguments, Arguments::Json(_) | Arguments::Broken)
        }
        (Some(keyword), _) => keyword.takes_heredocs(),
        (None, _) => false,
    }
}
