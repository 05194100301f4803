//! What holds for every text: no panic, spans inside the text, time in proportion to its length.

use std::time::{Duration, Instant};

use mica_parser::diagnostic::Diagnostic;
use mica_parser::dockerignore::Patterns;
use mica_parser::mount::Mount;
use mica_parser::syntax::*;
use mica_parser::words::{NoVariables, expand, expand_words};
use mica_parser::{debug, glob, lint, parse, parse_trigger};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, and that take parsers apart.
const PIECES: [&str; 72] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ENTRYPOINT ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "MAINTAINER ",
    "from ",
    "FORM ",
    "NONE",
    " as ",
    " AS ",
    "alpine:3",
    "base",
    "--from=base ",
    "--platform=$X ",
    "--mount=type=bind,target=/x ",
    "--chown=1:2 ",
    "--",
    "--link ",
    "--interval=5s ",
    "--x=\"a b\" ",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=x\n",
    "# note\n",
    "#\n",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "\\ \t\n",
    "\\\n\n",
    "\\\n# c\n",
    "<<EOF ",
    "<<-'E' ",
    "3<<E",
    "EOF\n",
    "\tE\n",
    "E\n",
    "body $X\n",
    "[\"a\", \"b\"]",
    "[\"é\\u00e9\"]",
    "[1]",
    "[\"a\"",
    "'a b' ",
    "\"c d\" ",
    "'",
    "\"",
    "\\",
    "$X",
    "${X:-y}",
    "${",
    "a=b ",
    "=",
    " ",
    "\t",
    "\u{a0}",
    "é",
    "\u{feff}",
    "x",
];

fn dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_parsed(text in prop::collection::vec(any::<u8>(), 0..300)) {
        check_all(&text);
    }

    #[test]
    fn dockerfiles_are_parsed(text in dockerfile()) {
        check_all(text.as_bytes());
    }

    #[test]
    fn damaged_dockerfiles_are_parsed(text in dockerfile(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = text.into_bytes();
        if !text.is_empty() {
            let at = at.index(text.len());
            text[at] = byte;
        }
        check_all(&text);
    }

    #[test]
    fn words_are_expanded(word in dockerfile(), other in ".*") {
        for word in [&word, &other] {
            let _ = expand(word, Escape::Backtick, &NoVariables);
            let _ = expand_words(word, Escape::Backslash, &NoVariables);
            let _ = Mount::parse(word);
        }
    }

    #[test]
    fn patterns_are_matched(text in "[a-c/*?!\\[\\]\\\\^\n. -]{0,30}", path in "[a-c][a-c.]{0,3}(/[a-c][a-c.]{0,3}){0,3}") {
        let _ = glob::matches(&text, &path);
        if let Ok(patterns) = Patterns::parse(text.as_bytes()) {
            check_patterns(&patterns, path.as_bytes());
        }
    }
}

/// Without `!` what is decided on the way down is what is decided at once, and pruning loses nothing.
///
/// With it the way down differs, as in the reference: a line that would change nothing for a directory is not tried there, and then
/// counts below for what it matches itself.
fn check_patterns(patterns: &Patterns, path: &[u8]) {
    let at_once = patterns.decide(path, None);
    let mut parent = None;
    let mut pruned = false;
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let decision = patterns.decide(&path[..at], parent.as_ref());
        pruned |= decision.excluded && !patterns.could_match_below(&path[..at]);
        parent = Some(decision);
    }
    let walked = patterns.decide(path, parent.as_ref());
    // Which of several lines is told may differ: one may leave out the directory above already.
    assert!(patterns.has_negations() || walked.excluded == at_once.excluded);
    assert!(!pruned || walked.excluded, "pruned a path that is not excluded");
}

fn check_all(text: &[u8]) {
    let parsed = parse(text);
    let _ = parse_trigger(text);
    let description = debug::describe("Dockerfile", text);
    assert_eq!(description.nodes.len(), parsed.dockerfile.instructions.len());
    let config = lint::CheckConfig::default();
    let checks = lint::check(&parsed.dockerfile, &config);
    let more = lint::check_more(&parsed.dockerfile, &config);
    let spans = Spans { text };
    for diagnostic in parsed.diagnostics.iter().chain(&checks).chain(&more) {
        spans.diagnostic(diagnostic);
    }
    let mut line = 0;
    for node in &parsed.dockerfile.instructions {
        spans.node(node);
        assert!(node.start_line > line && node.end_line >= node.start_line);
        line = node.end_line;
    }
}

/// Checks that spans are ranges of the text that cut no character in two.
struct Spans<'a> {
    text: &'a [u8],
}

impl Spans<'_> {
    fn span(&self, span: Span) {
        let (start, end) = (span.start as usize, span.end as usize);
        assert!(start <= end && end <= self.text.len(), "{span:?} of {}", self.text.len());
        if let Ok(text) = std::str::from_utf8(self.text) {
            assert!(text.is_char_boundary(start) && text.is_char_boundary(end), "{span:?} cuts a character");
        }
    }

    fn diagnostic(&self, diagnostic: &Diagnostic) {
        self.span(diagnostic.primary.span);
        diagnostic.secondary.iter().for_each(|label| self.span(label.span));
        diagnostic.suggestion.iter().for_each(|suggestion| self.span(suggestion.span));
    }

    fn inside(&self, node: &InstructionNode, span: Span) {
        self.span(span);
        assert!(
            span.start >= node.span.start && span.end <= node.span.end.max(span.start),
            "{span:?} in {:?}",
            node.span
        );
    }

    fn node(&self, node: &InstructionNode) {
        self.span(node.span);
        self.inside(node, node.keyword.span);
        node.flags.iter().for_each(|flag| self.inside(node, flag.span));
        node.comments.iter().for_each(|comment| self.span(comment.span));
        node.blank_lines.iter().for_each(|line| self.span(*line));
        for heredoc in &node.heredocs {
            self.span(heredoc.span);
            self.span(heredoc.body.span);
        }
        match &node.instruction {
            Instruction::Onbuild(trigger) => self.node(trigger),
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                pairs.iter().for_each(|pair| {
                    self.inside(node, pair.key.span);
                    self.inside(node, pair.value.span);
                });
            }
            Instruction::Copy(copy) => {
                copy.transfer.sources.iter().for_each(|source| self.inside(node, source.span))
            }
            Instruction::Arg(arg) => {
                arg.arguments.iter().for_each(|argument| self.inside(node, argument.name.span))
            }
            _ => {}
        }
    }
}

#[test]
fn time_grows_with_length_alone() {
    let size = 1 << 19;
    let repeated = |piece: &str| piece.repeat(size / piece.len());
    for (name, text) in [
        ("continuations", repeated("\\\n")),
        ("continued words", format!("RUN {}", repeated("a \\\n"))),
        ("heredocs never ended", repeated("RUN <<a\n")),
        ("openers on one line", format!("RUN {}", repeated("<<a \\\n"))),
        ("quoted openers on one line", format!("RUN {}", repeated("<<\"a\\b\" \\\n"))),
        ("openers without blanks", format!("RUN {}", repeated("<<a\\\n"))),
        ("ended heredocs", repeated("RUN <<a\na\n")),
        ("nested substitutions", format!("RUN <<a {}", repeated("${a:-\\\n"))),
        ("nested triggers", repeated("ONBUILD \\\n")),
        ("nested arrays", format!("RUN {}", repeated("[\\\n"))),
        ("strings in an array", format!("RUN [{}\"\"]", repeated("\"a\",\\\n"))),
        ("pairs", format!("ENV {}", repeated("a=b \\\n"))),
        ("flags", format!("RUN {}", repeated("--mount=a \\\n"))),
        ("comments", repeated("# a\n")),
        ("blank lines", format!("RUN a \\\n{}", repeated("\n"))),
        ("stages", repeated("FROM a AS b\n")),
        ("quotes", format!("ENV {}", repeated("a='\\\n"))),
    ] {
        check_time(name, text.as_bytes());
    }
    check_time("bytes that are no text", &[&b"RUN "[..], &vec![0xff; size]].concat());
}

fn check_time(name: &str, text: &[u8]) {
    let start = Instant::now();
    let parsed = parse(text);
    let config = lint::CheckConfig::default();
    lint::check(&parsed.dockerfile, &config);
    lint::check_more(&parsed.dockerfile, &config);
    // Anything quadratic takes minutes here; the margin is for slow machines.
    assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
}
