//! What a lock does not cover.

use mica_parser::diagnostic::{Diagnostic, RuleCode};
use mica_solver::Step;
use mica_solver::graph::{GitSource, ImageSource, Op};

use super::file::{bare_url, image_name};
use super::place::Lock;
use crate::engine::fetch::{is_commit, names_commit};

/// The code of what is refused.
const CODE: &str = "not-locked";

impl Lock {
    /// The file's name for messages.
    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Tells in one line what it has.
    pub(crate) fn summary(&self) -> String {
        let count = |number: usize, one: &str, many: &str| match number {
            0 => None,
            1 => Some(format!("1 {one}")),
            more => Some(format!("{more} {many}")),
        };
        let parts = [
            count(self.file.images.len(), "image", "images"),
            count(self.file.downloads.len(), "download", "downloads"),
            count(self.file.repositories.len(), "repository", "repositories"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// Returns the name of an image that needs an entry and has none.
pub(crate) fn uncovered_image(lock: &Lock, source: &ImageSource) -> Option<String> {
    match lock.file.image(source) {
        Some(_) => None,
        None => image_name(&source.location),
    }
}

/// Returns the name or address of what a step takes, if it needs an entry and has none.
pub(crate) fn uncovered_name(lock: &Lock, step: &Step) -> Option<String> {
    if let Op::Image(source) = &step.op {
        return uncovered_image(lock, source);
    }
    let url = source_to_lock(&step.op)?;
    let covered = lock.file.download(url).is_some() || lock.file.repository(url).is_some();
    (!covered).then(|| bare_url(url))
}

/// Returns the mistake of a step whose download or repository needs an entry and has none.
pub(crate) fn uncovered_source(lock: &Lock, step: &Step) -> Option<Diagnostic> {
    let name = uncovered_name(lock, step)?;
    let span = step.span.unwrap_or_default();
    let message = format!("`{name}` is not in the lock file");
    Some(not_locked(lock, Diagnostic::error(RuleCode::new(CODE), message, span, "")))
}

/// Makes a diagnostic say that something is not in the lock, and how it gets there.
pub(crate) fn not_locked(lock: &Lock, found: Diagnostic) -> Diagnostic {
    let help = format!("`mica lock` with the same arguments adds it to `{}`", lock.shown());
    Diagnostic { code: RuleCode::new(CODE), ..found.with_help(help) }
}

/// The address of a step's source, where it does not say itself what it must give.
pub(super) fn source_to_lock(op: &Op) -> Option<&str> {
    match op {
        Op::Http(source) if source.checksum.is_none() => Some(&source.url),
        Op::Git(source) if !is_pinned(source) => Some(&source.url),
        _ => None,
    }
}

/// Whether a git source names a whole commit.
fn is_pinned(source: &GitSource) -> bool {
    names_commit(&source.url) || source.checksum.as_deref().is_some_and(is_commit)
}
