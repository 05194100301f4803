//! The first stage: text to instructions as the reference's line parser sees them.
//!
//! A [`RawNode`] is a keyword, flags and arguments whose meaning nobody has looked at yet: an unknown instruction is a node too. What
//! cannot even be cut into words is a problem of this stage. [`crate::instruction`] gives the nodes meaning; `debug` prints them.

mod arguments;
mod directive;
mod file;
mod heredoc;
mod joined;
mod json;
mod lines;
mod split;

pub(crate) use directive::directive_in;
pub(crate) use file::read;
pub(crate) use heredoc::{Opener, chomp};

use crate::diagnostic::Diagnostic;
use crate::syntax::{Directives, Heredoc, KeyValue, Span, Spanned};

/// What the first stage makes of a file.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) directives: Directives,
    pub(crate) nodes: Vec<RawNode>,
    /// In the order the reference would meet them: it stops at the first.
    pub(crate) problems: Vec<Diagnostic>,
}

/// One instruction, cut into words.
#[derive(Debug)]
pub(crate) struct RawNode {
    pub(crate) span: Span,
    pub(crate) start_line: u32,
    pub(crate) end_line: u32,
    pub(crate) keyword: Spanned<String>,
    pub(crate) flags: Vec<RawFlag>,
    pub(crate) arguments: Arguments,
    /// The text after keyword and flags.
    pub(crate) rest: Spanned<String>,
    /// The whole joined line.
    pub(crate) line: String,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) comments: Vec<Spanned<String>>,
    pub(crate) blank_lines: Vec<Span>,
}

/// A word that starts with `--`, quotes and escapes removed.
#[derive(Debug)]
pub(crate) struct RawFlag {
    pub(crate) text: Spanned<String>,
    /// The name with its dashes.
    pub(crate) name: Spanned<String>,
    /// What follows the first `=`.
    pub(crate) value: Option<Spanned<String>>,
}

/// The arguments in the shape the instruction has them.
#[derive(Debug)]
pub(crate) enum Arguments {
    None,
    /// Of an instruction nobody knows.
    Unknown,
    /// One string to the end of the line.
    Text(Spanned<String>),
    Words(Vec<Spanned<String>>),
    Json(Spanned<Vec<Spanned<String>>>),
    Pairs(Vec<KeyValue>),
    /// HEALTHCHECK: its type, and what follows.
    Health(Spanned<String>, Box<Arguments>),
    /// ONBUILD.
    Trigger(Box<RawNode>),
    /// Could not be cut into words; the problem has been noted.
    Broken,
}
