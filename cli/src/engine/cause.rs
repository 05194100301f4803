//! Why a step is not in the cache, as data: for the build's one line, for `mica why` and for programs.

use serde::{Deserialize, Serialize};

/// How many changed files one line names before the rest is counted.
const NAMED_FILES: usize = 3;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// What kind of thing is different.
    pub kind: CauseKind,
    /// The reason in words; files are told apart.
    pub text: String,
    /// Files that are different.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ChangedFile>,
}

/// What kind of thing is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CauseKind {
    /// There is no earlier build to compare with.
    NotBuiltBefore,
    /// What was known of the earlier build, or its layer, was removed.
    Removed,
    /// The build was told not to use the cache.
    CacheUnused,
    /// The command, or where a copy goes.
    Instruction,
    /// A build argument.
    Argument,
    /// A variable of the environment.
    Variable,
    /// Files that are copied or mounted.
    Files,
    /// A mount.
    Mount,
    /// A flag of the instruction or of the build.
    Flag,
    /// The base image.
    Base,
    /// An earlier instruction.
    Earlier,
    /// What a copy is placed onto.
    Destination,
    /// Something in the sandbox.
    Sandbox,
    /// A step it depends on would run first.
    Depends,
}

/// A file that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangedFile {
    /// Its path in the context, stage or archive it is taken from.
    pub path: String,
    /// What became of it.
    pub change: FileFate,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FileFate {
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
    /// It had another name.
    Renamed(String),
    /// These things about it are different: `content`, `mode`, `owner` …
    Changed(Vec<String>),
}

impl Cause {
    /// Returns a reason that is not about files.
    pub(crate) fn new(kind: CauseKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), files: Vec::new() }
    }

    /// Returns the reason in one line.
    pub(crate) fn line(&self) -> String {
        let named: Vec<String> = self.files.iter().take(NAMED_FILES).map(ChangedFile::words).collect();
        if named.is_empty() {
            return self.text.clone();
        }
        let more = self.files.len().saturating_sub(NAMED_FILES);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{rest} ({})", named.join(", "), self.text)
    }
}

impl ChangedFile {
    /// Returns what became of it in words.
    pub(crate) fn words(&self) -> String {
        let path = &self.path;
        match &self.change {
            FileFate::New => format!("`{path}` is new"),
            FileFate::Gone => format!("`{path}` is gone"),
            FileFate::Renamed(before) => format!("`{before}` is now `{path}`"),
            FileFate::Changed(aspects) => format!("`{path}` changed ({})", aspects.join(", ")),
        }
    }
}

/// Returns all reasons in one line.
pub(crate) fn in_one_line(causes: &[Cause]) -> String {
    match causes {
        [one] => one.line(),
        [first, second] => format!("{}; {}", first.line(), second.line()),
        [first, second, rest @ ..] => format!("{}; {}; and {} more", first.line(), second.line(), rest.len()),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_files_are_named_and_the_rest_is_counted() {
        let file = |path: &str, change| ChangedFile { path: path.into(), change };
        let mut cause = Cause::new(CauseKind::Files, "of 9 files");
        cause.files.push(file("a", FileFate::Changed(vec!["content".into(), "mode".into()])));
        assert_eq!(cause.line(), "`a` changed (content, mode) (of 9 files)");
        cause.files.push(file("b", FileFate::New));
        cause.files.push(file("c", FileFate::Renamed("d".into())));
        cause.files.push(file("e", FileFate::Gone));
        assert_eq!(
            in_one_line(&[cause, Cause::new(CauseKind::Flag, "x")]),
            "`a` changed (content, mode), `b` is new, `d` is now `c` and 1 more (of 9 files); x"
        );
    }
}
