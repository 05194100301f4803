//! What the line parser made of a file, for comparison with the reference's line parser (`mica debug parse`).
//!
//! This is the first stage alone: arguments before expansion, unknown instructions included, and of the mistakes only those that stop
//! the reference's line parser.

use serde::Serialize;

use crate::raw::{self, Arguments, RawNode};
use crate::syntax::Heredoc;

/// A file as the line parser sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDescription {
    /// As it was given.
    pub path: String,
    /// The first mistake that stops the reference's line parser.
    pub error: Option<String>,
    /// The escape character.
    pub escape: char,
    /// The instructions, also those after a mistake.
    pub nodes: Vec<NodeDescription>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeDescription {
    /// The keyword as written.
    pub cmd: String,
    /// Flags without their quotes, in order.
    pub flags: Vec<String>,
    /// The arguments; pairs are three each: name, value, and `=` or nothing.
    pub args: Vec<String>,
    /// Whether the arguments came as a JSON array.
    pub json: bool,
    /// The heredocs the line opens.
    pub heredocs: Vec<HeredocDescription>,
    /// The trigger of an ONBUILD.
    pub sub: Option<Box<NodeDescription>>,
    /// First line, counted from 1.
    pub start: u32,
    /// Last line, heredoc bodies included.
    pub end: u32,
}

/// One heredoc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeredocDescription {
    /// The word without quotes.
    pub name: String,
    /// The file descriptor.
    pub fd: u32,
    /// Whether the body is expanded.
    pub expand: bool,
    /// Whether tabs are removed from the start of its lines.
    pub chomp: bool,
    /// The body as written.
    pub body: String,
}

/// Describes a file.
pub fn describe(path: &str, text: &[u8]) -> FileDescription {
    let file = raw::read(text);
    FileDescription {
        path: path.to_owned(),
        error: file.problems.first().map(|problem| problem.message.clone()),
        escape: file.directives.escape.character(),
        nodes: file.nodes.iter().map(|node| describe_node(node, node)).collect(),
    }
}

/// Describes a node on the lines of `outer`: itself, or the ONBUILD around it.
fn describe_node(node: &RawNode, outer: &RawNode) -> NodeDescription {
    let sub = match &node.arguments {
        Arguments::Trigger(trigger) => Some(Box::new(describe_node(trigger, outer))),
        _ => None,
    };
    NodeDescription {
        cmd: node.keyword.value.clone(),
        flags: node.flags.iter().map(|flag| flag.text.value.clone()).collect(),
        args: arguments(&node.arguments),
        json: is_json(&node.arguments),
        heredocs: node.heredocs.iter().map(describe_heredoc).collect(),
        sub,
        start: outer.start_line,
        end: outer.end_line,
    }
}

fn arguments(arguments: &Arguments) -> Vec<String> {
    match arguments {
        Arguments::None | Arguments::Trigger(_) | Arguments::Broken => Vec::new(),
        // The reference keeps one empty argument for an instruction it does not know.
        Arguments::Unknown => vec![String::new()],
        Arguments::Text(text) => vec![text.value.clone()],
        Arguments::Words(words) => words.iter().map(|word| word.value.clone()).collect(),
        Arguments::Json(array) => array.value.iter().map(|word| word.value.clone()).collect(),
        Arguments::Pairs(pairs) => pairs
            .iter()
            .flat_map(|pair| {
                let separator = if pair.equals { "=" } else { "" };
                [pair.key.value.clone(), pair.value.value.clone(), separator.to_owned()]
            })
            .collect(),
        Arguments::Health(kind, command) => {
            std::iter::once(kind.value.clone()).chain(self::arguments(command)).collect()
        }
    }
}

fn is_json(arguments: &Arguments) -> bool {
    match arguments {
        Arguments::Json(_) => true,
        Arguments::Health(_, command) => is_json(command),
        _ => false,
    }
}

fn describe_heredoc(heredoc: &Heredoc) -> HeredocDescription {
    HeredocDescription {
        name: heredoc.name.clone(),
        fd: heredoc.fd,
        expand: heredoc.expand,
        chomp: heredoc.chomp,
        body: heredoc.raw_body.clone(),
    }
}
