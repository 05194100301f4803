//! FROM.

use super::Context;
use crate::flags::FlagKind;
use crate::syntax::{FromInstruction, Instruction, Spanned};

pub(super) const FLAGS: [(&str, FlagKind); 1] = [("platform", FlagKind::Text)];

impl Context<'_> {
    pub(super) fn from(&mut self) -> Option<Instruction> {
        let flags = self.flags(&FLAGS);
        let (words, _) = self.words();
        let (image, alias) = match words {
            [image] => (image, None),
            [image, keyword, name] if keyword.value.eq_ignore_ascii_case("as") => {
                (image, Some((keyword, name)))
            }
            _ => {
                self.bad_from(words);
                return None;
            }
        };
        if let Some((_, name)) = alias
            && !is_stage_name(&name.value)
        {
            let message = format!(
                "invalid name for build stage: `{}`, name can't start with a number or contain symbols",
                name.value
            );
            self.report("bad-stage-name", message, name, "must match `[a-z][a-z0-9-_.]*`");
        }
        Some(Instruction::From(FromInstruction {
            platform: flags.text("platform"),
            image: image.clone(),
            name: alias.map(|(_, name)| name.clone()),
            as_keyword: alias.map(|(keyword, _)| keyword.clone()),
        }))
    }

    fn bad_from(&mut self, words: &[Spanned<String>]) {
        let message = "FROM requires either one or three arguments".to_owned();
        match words {
            [] => self.report_here("bad-from", message),
            [_, second, ..] => {
                self.report("bad-from", message, second, "expected `AS name` or nothing after the image")
            }
            [only] => self.report("bad-from", message, only, ""),
        }
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some("write `FROM image` or `FROM image AS name`".to_owned());
        }
    }
}

/// Returns whether a stage may have this name, in any casing.
fn is_stage_name(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}
