//! The stages of a file: each FROM and what follows it.

use crate::syntax::{Dockerfile, FromInstruction, Instruction, InstructionNode};

/// One stage.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The FROM.
    pub node: &'a InstructionNode,
    /// What it says; `None` when it has a mistake.
    pub from: Option<&'a FromInstruction>,
    /// The instructions after it.
    pub instructions: &'a [InstructionNode],
}

impl Stage<'_> {
    /// Returns the name in lower case, as stages are compared.
    pub fn name(&self) -> Option<String> {
        Some(self.from?.name.as_ref()?.value.to_lowercase())
    }
}

impl Dockerfile {
    /// Returns the stages in order.
    pub fn stages(&self) -> Vec<Stage<'_>> {
        let starts: Vec<usize> =
            (0..self.instructions.len()).filter(|at| is_from(&self.instructions[*at])).collect();
        let ends = starts.iter().skip(1).copied().chain([self.instructions.len()]);
        let stages = starts.iter().zip(ends).map(|(start, end)| {
            let node = &self.instructions[*start];
            let from = match &node.instruction {
                Instruction::From(from) => Some(from),
                _ => None,
            };
            Stage { node, from, instructions: &self.instructions[start + 1..end] }
        });
        stages.collect()
    }

    /// Returns what stands before the first FROM.
    pub fn preamble(&self) -> &[InstructionNode] {
        let end = self.instructions.iter().position(is_from).unwrap_or(self.instructions.len());
        &self.instructions[..end]
    }
}

fn is_from(node: &InstructionNode) -> bool {
    node.keyword.value.eq_ignore_ascii_case("from")
}
