//! ADD and COPY.

use std::collections::BTreeMap;

use super::Context;
use crate::flags::{FlagKind, Flags};
use crate::raw::{Opener, chomp};
use crate::syntax::{AddInstruction, CopyInstruction, Heredoc, Instruction, Spanned, Transfer};

pub(super) const ADD_FLAGS: [(&str, FlagKind); 7] = [
    ("chown", FlagKind::Text),
    ("chmod", FlagKind::Text),
    ("link", FlagKind::Boolean),
    ("keep-git-dir", FlagKind::Boolean),
    ("checksum", FlagKind::Text),
    ("unpack", FlagKind::Boolean),
    ("exclude", FlagKind::Repeated),
];

pub(super) const COPY_FLAGS: [(&str, FlagKind); 6] = [
    ("chown", FlagKind::Text),
    ("from", FlagKind::Text),
    ("chmod", FlagKind::Text),
    ("link", FlagKind::Boolean),
    ("exclude", FlagKind::Repeated),
    ("parents", FlagKind::Boolean),
];

impl Context<'_> {
    pub(super) fn add(&mut self) -> Option<Instruction> {
        let flags = self.flags(&ADD_FLAGS);
        let transfer = self.transfer(&flags)?;
        Some(Instruction::Add(AddInstruction {
            link: flags.boolean("link").unwrap_or_default(),
            checksum: flags.text("checksum"),
            keep_git_dir: flags.boolean("keep-git-dir"),
            unpack: flags.boolean("unpack"),
            transfer,
        }))
    }

    pub(super) fn copy(&mut self) -> Option<Instruction> {
        let flags = self.flags(&COPY_FLAGS);
        let transfer = self.transfer(&flags)?;
        Some(Instruction::Copy(CopyInstruction {
            from: flags.text("from"),
            link: flags.boolean("link").unwrap_or_default(),
            parents: flags.boolean("parents").unwrap_or_default(),
            transfer,
        }))
    }

    fn transfer(&mut self, flags: &Flags<'_>) -> Option<Transfer> {
        let (words, json) = self.words();
        let [sources @ .., destination] = words else {
            self.missing_destination();
            return None;
        };
        if sources.is_empty() {
            self.missing_destination();
            return None;
        }
        if opener(destination).is_some() {
            let message = format!("{} cannot accept a heredoc as a destination", self.name);
            self.report("heredoc-destination", message, destination, "the last word is the destination");
            return None;
        }
        let (heredocs, sources): (Vec<_>, Vec<_>) = sources.iter().partition(|word| opener(word).is_some());
        Some(Transfer {
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            excludes: flags.all("exclude"),
            sources: sources.into_iter().cloned().collect(),
            heredocs: self.inline_files(&heredocs),
            destination: destination.clone(),
            json,
        })
    }

    fn missing_destination(&mut self) {
        let message = format!(
            "{} requires at least two arguments, but only one was provided: the destination is missing",
            self.name
        );
        self.report_here("missing-arguments", message);
    }

    /// The files source words stand for: the content of each is the last heredoc of the same name, if there is one.
    fn inline_files(&self, words: &[&Spanned<String>]) -> Vec<Heredoc> {
        let bodies: BTreeMap<&str, &Heredoc> =
            self.outer.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc)).collect();
        let openers = words.iter().filter_map(|word| Some((word.span, opener(word)?)));
        openers
            .map(|(span, opener)| {
                let read = bodies.get(opener.name.as_str());
                let raw_body = read.map(|heredoc| heredoc.raw_body.clone()).unwrap_or_default();
                let body = if opener.chomp { chomp(&raw_body) } else { raw_body.clone() };
                Heredoc {
                    span,
                    name: opener.name,
                    fd: opener.fd,
                    expand: opener.expand,
                    chomp: opener.chomp,
                    body: Spanned { span: read.map_or(span, |heredoc| heredoc.body.span), value: body },
                    raw_body,
                }
            })
            .collect()
    }
}

/// Reads a word as the opener of a heredoc; a word that cannot be read is a path.
fn opener(word: &Spanned<String>) -> Option<Opener> {
    if !word.value.contains("<<") {
        return None;
    }
    Opener::parse(&word.value).ok().flatten()
}
