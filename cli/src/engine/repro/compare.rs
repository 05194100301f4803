//! Comparing two builds step by step.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Read as _;

use mica_cache::Store;
use mica_image::LayerId;
use mica_image::index::{Entry, LayerIndex, Node, compare_paths};
use mica_image::tar::TarOptions;
use serde::{Deserialize, Serialize};

use super::evidence::{Facts, example, of_contents};
use super::{Cause, Trial};
use crate::engine::build_record::{BuildRecord, StepOutcome, StepRecord};
use crate::engine::history::LookError;

/// Contents up to this size are looked into.
const LIMIT: u64 = 64 << 20;

/// The aspect of a file that the first build does not have.
pub(crate) const ONLY_IN_SECOND: &str = "only in the second";

/// All that differs between two builds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Whether both made the same images, to the byte.
    pub same_images: bool,
    /// The files where differences begin.
    pub findings: Vec<Finding>,
    /// The numbers of steps that differ because of what they take from others.
    pub following: Vec<u32>,
    /// How many files differ in nothing but a mode that follows the umask.
    pub modes: u64,
}

/// A file that a step wrote in two ways.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The number of the step.
    pub step: u32,
    /// Its stage, by name or number.
    pub stage: Option<String>,
    /// Its line in the Dockerfile.
    pub line: Option<u32>,
    /// What the step is called.
    pub name: String,
    /// The file.
    pub file: String,
    /// In what it is different.
    pub differs: Vec<String>,
    /// Why; `None` where it is not known yet.
    pub cause: Option<Cause>,
    /// What shows it.
    pub detail: String,
}

/// One of the builds, read.
pub(crate) struct Side<'a> {
    /// Its store.
    pub store: &'a Store,
    /// What it did.
    pub record: &'a BuildRecord,
    /// Under which conditions.
    pub trial: &'a Trial,
}

/// A file of a layer that is not the same in both.
struct FileDifference {
    before: Option<Entry>,
    after: Option<Entry>,
    differs: Vec<&'static str>,
}

/// Compares two builds of one Dockerfile; `only` one of their steps, where that is asked for.
pub(crate) fn compare(
    before: &Side<'_>,
    after: &Side<'_>,
    only: Option<u32>,
) -> Result<Comparison, LookError> {
    let mut comparison =
        Comparison { same_images: before.record.images == after.record.images, ..Comparison::default() };
    let mut affected: BTreeSet<u32> = BTreeSet::new();
    for (old, new) in before.record.steps.iter().zip(&after.record.steps) {
        let (Some(a), Some(b)) = (old.layer, new.layer) else { continue };
        if only.is_some_and(|only| only != old.number) {
            continue;
        }
        let mut files = differences((before, &a), (after, &b))?;
        let all = files.len();
        for file in files.iter_mut().filter(|file| follows_umask(file, after.trial)) {
            file.differs.retain(|aspect| *aspect != MODE);
        }
        files.retain(|file| !file.differs.is_empty());
        let follows = old.inputs.iter().any(|input| affected.contains(input));
        if follows || !files.is_empty() {
            affected.insert(old.number);
        }
        if follows {
            comparison.following.extend((!files.is_empty()).then_some(old.number));
            continue;
        }
        comparison.modes += (all - files.len()) as u64;
        for file in &files {
            comparison.findings.push(finding((before, old, &a), (after, &b), file)?);
        }
    }
    Ok(comparison)
}

fn differences(
    (before, a): (&Side<'_>, &LayerId),
    (after, b): (&Side<'_>, &LayerId),
) -> Result<Vec<FileDifference>, LookError> {
    let read = |side: &Side<'_>, id: &LayerId| -> Result<LayerIndex, LookError> {
        let mut index = side.store.layers().require(id)?.load_index()?;
        TarOptions { clamp: before.record.clamp }.apply_to(&mut index);
        Ok(index)
    };
    let (old, new) = (read(before, a)?, read(after, b)?);
    let (mut left, mut right) = (old.entries.into_iter().peekable(), new.entries.into_iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => compare_paths(&a.path, &b.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(found),
        };
        let before = if order.is_le() { left.next() } else { None };
        let after = if order.is_ge() { right.next() } else { None };
        let differs = match (&before, &after) {
            (Some(a), Some(b)) => aspects(a, b),
            (Some(_), None) => vec!["only in the first"],
            _ => vec![ONLY_IN_SECOND],
        };
        if !differs.is_empty() {
            found.push(FileDifference { before, after, differs });
        }
    }
}

fn aspects(a: &Entry, b: &Entry) -> Vec<&'static str> {
    let mut found = Vec::new();
    found.extend(match (&a.node, &b.node) {
        (Node::File { digest: a, .. }, Node::File { digest: b, .. }) => (a != b).then_some("content"),
        (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => Some("kind"),
        (a, b) => (a != b).then_some("target"),
    });
    let mut check = |differs: bool, aspect| found.extend(differs.then_some(aspect));
    check(a.mode != b.mode, MODE);
    check((a.uid, a.gid) != (b.uid, b.gid), "owner");
    check(a.xattrs != b.xattrs, "attributes");
    check((a.mtime.seconds, a.mtime.nanoseconds / 1_000_000_000) != (b.mtime.seconds, 0), "time");
    found
}

const MODE: &str = "mode";

/// A mode that only differs by what the umask takes away: the umask of builds is always the same, so that is no difference.
fn follows_umask(file: &FileDifference, trial: &Trial) -> bool {
    let (Some(a), Some(b), Some(umask)) = (&file.before, &file.after, trial.conditions.umask) else {
        return false;
    };
    let varied = 0o022 ^ umask;
    a.mode | varied == b.mode | varied
}

fn finding(
    (before, step, a): (&Side<'_>, &StepRecord, &LayerId),
    (after, b): (&Side<'_>, &LayerId),
    file: &FileDifference,
) -> Result<Finding, LookError> {
    let path = file.before.as_ref().or(file.after.as_ref()).map_or(&[][..], |entry| &entry.path);
    let facts = Facts { before: before.trial, after: after.trial, usual_hostname: "buildkitsandbox" };
    let mut unexplained = String::new();
    let explained = if !step.name.contains("] RUN ") {
        Some(of_sources(before.record, step))
    } else if let (Some(old), Some(new)) =
        (content(before.store, a, &file.before)?, content(after.store, b, &file.after)?)
    {
        unexplained = example(&old, &new).unwrap_or_default();
        of_contents(path, &old, &new, &facts)
    } else {
        of_aspects(&file.differs)
    };
    let (cause, detail) = explained.map_or((None, unexplained), |(cause, detail)| (Some(cause), detail));
    Ok(Finding {
        step: step.number,
        stage: step.stage.clone(),
        line: step.line,
        name: step.name.clone(),
        file: format!("/{}", String::from_utf8_lossy(path)),
        differs: file.differs.iter().map(|aspect| (*aspect).to_owned()).collect(),
        cause,
        detail,
    })
}

/// A COPY or ADD makes what it takes: something of the network, or of the context.
fn of_sources(before: &BuildRecord, step: &StepRecord) -> (Cause, String) {
    let source = |number: &u32| before.steps.iter().find(|step| step.number == *number);
    let mut sources =
        step.inputs.iter().filter_map(source).filter(|step| step.outcome == StepOutcome::Resolved);
    let remote = sources.find(|source| source.name.contains("://") || source.name.contains("git@"));
    match remote {
        Some(source) => (Cause::Network, source.name.clone()),
        None => (Cause::Context, "its files are not what they were".to_owned()),
    }
}

fn of_aspects(differs: &[&str]) -> Option<(Cause, String)> {
    match differs {
        ["owner"] => Some((Cause::User, "the owner".to_owned())),
        ["time"] => Some((Cause::Time, "a time that the command set".to_owned())),
        _ => None,
    }
}

fn content(store: &Store, layer: &LayerId, entry: &Option<Entry>) -> Result<Option<Vec<u8>>, LookError> {
    let Some(Entry { path, node: Node::File { size, bytes, .. }, .. }) = entry else { return Ok(None) };
    if *size > LIMIT {
        return Ok(None);
    }
    let mut content = Vec::new();
    let mut file = store.layers().open_bytes(layer, path, bytes)?;
    let shown = || String::from_utf8_lossy(path).into_owned();
    file.read_to_end(&mut content).map_err(|source| LookError::Read { path: shown(), source })?;
    Ok(Some(content))
}
