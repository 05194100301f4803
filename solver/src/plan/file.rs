//! A file cut into what comes before the first FROM and its stages.

use mica_parser::syntax::{Dockerfile, FromInstruction, Instruction, InstructionNode};

use super::arguments::GlobalDeclaration;

/// The instructions of a file by stage.
#[derive(Debug, Default)]
pub(super) struct Sections<'a> {
    /// ARG instructions before the first FROM.
    pub(super) globals: Vec<&'a InstructionNode>,
    /// Each FROM with what follows it.
    pub(super) stages: Vec<(&'a InstructionNode, Vec<&'a InstructionNode>)>,
}

impl<'a> Sections<'a> {
    /// Cuts a file.
    pub(super) fn of(file: &'a Dockerfile) -> Self {
        let mut sections = Self::default();
        for node in &file.instructions {
            if node.keyword.value.eq_ignore_ascii_case("from") {
                sections.stages.push((node, Vec::new()));
            } else if let Some((_, body)) = sections.stages.last_mut() {
                body.push(node);
            } else if let Instruction::Arg(_) = node.instruction {
                // Anything else before the first FROM has been refused by the parser.
                sections.globals.push(node);
            }
        }
        sections
    }

    /// Returns the arguments declared before the first FROM.
    pub(super) fn global_declarations(&self) -> impl Iterator<Item = GlobalDeclaration<'a>> {
        self.globals.iter().flat_map(|node| {
            let arguments = match &node.instruction {
                Instruction::Arg(arg) => arg.arguments.as_slice(),
                _ => &[],
            };
            let (comments, line) = (node.comments.as_slice(), node.start_line);
            arguments.iter().map(move |argument| GlobalDeclaration { argument, comments, line })
        })
    }

    /// Returns every FROM that could be read.
    pub(super) fn froms(&self) -> impl Iterator<Item = (&'a InstructionNode, &'a FromInstruction)> {
        self.stages.iter().filter_map(|(node, _)| match &node.instruction {
            Instruction::From(from) => Some((*node, from)),
            _ => None,
        })
    }
}
