//! Instructions that are a list of words or pairs: ARG, ENV, LABEL, EXPOSE, VOLUME.

use super::Context;
use crate::raw::Arguments;
use crate::syntax::{ArgDeclaration, ArgInstruction, Instruction, KeyValue, Span, Spanned};

impl Context<'_> {
    pub(super) fn pairs(&mut self) -> Option<Vec<KeyValue>> {
        self.no_flags();
        let Arguments::Pairs(pairs) = &self.node.arguments else {
            self.missing_arguments();
            return None;
        };
        for pair in pairs.iter().filter(|pair| pair.key.value.is_empty()) {
            self.blank_name(&pair.key);
        }
        Some(pairs.clone())
    }

    fn blank_name(&mut self, key: &Spanned<String>) {
        self.report("blank-name", format!("{} names can not be blank", self.name), key, "no name before `=`");
    }

    /// ARG, whose flags are ignored as the reference ignores them.
    pub(super) fn arg(&mut self) -> Option<Instruction> {
        let (words, _) = self.words();
        if words.is_empty() {
            self.missing_arguments();
            return None;
        }
        let arguments: Vec<ArgDeclaration> = words.iter().map(declaration).collect();
        for argument in arguments.iter().filter(|argument| argument.name.value.is_empty()) {
            self.blank_name(&argument.name);
        }
        Some(Instruction::Arg(ArgInstruction { arguments }))
    }

    pub(super) fn expose(&mut self) -> Option<Instruction> {
        self.no_flags();
        let (words, _) = self.words();
        if words.is_empty() {
            self.missing_arguments();
            return None;
        }
        Some(Instruction::Expose(words.to_vec()))
    }

    pub(super) fn volume(&mut self) -> Option<Instruction> {
        self.no_flags();
        let (words, _) = self.words();
        if words.is_empty() {
            self.missing_arguments();
            return None;
        }
        let mut volumes = words.to_vec();
        for volume in &mut volumes {
            volume.value = volume.value.trim().to_owned();
            if volume.value.is_empty() {
                self.report("empty-volume", "VOLUME can not be an empty string".to_owned(), volume, "");
            }
        }
        Some(Instruction::Volume(volumes))
    }
}

/// Splits `name=default` at the first `=`.
fn declaration(word: &Spanned<String>) -> ArgDeclaration {
    let Some((name, default)) = word.value.split_once('=') else {
        return ArgDeclaration { name: word.clone(), default: None };
    };
    // Inside a word that crosses a continuation the two parts cannot be told apart by length; then both point at the word.
    let exact = (word.span.end - word.span.start) as usize == word.value.len();
    let equals = word.span.start + name.len() as u32;
    let place = |start, end| if exact { Span { start, end } } else { word.span };
    ArgDeclaration {
        name: Spanned { span: place(word.span.start, equals), value: name.to_owned() },
        default: Some(Spanned { span: place(equals + 1, word.span.end), value: default.to_owned() }),
    }
}
