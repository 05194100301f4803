//! Why a step was not in the cache: today's key parts against those of the nearest record.
//!
//! The nearest record is, of those last seen at the step's place and the places around it, the one whose parts differ least. What
//! this build's other steps are does not count: they are explained themselves.

use std::collections::{BTreeMap, HashMap};

use mica_cache::{CacheRecord, DetailId, KeyPart};
use mica_image::tree::{Tree, first_broken};
use mica_solver::{KeyParts, Step};

use super::{Shared, StepError};
use crate::engine::cause::{Cause, CauseKind, ChangedFile, FileFate};
use crate::engine::exchange::{has_value, portable_parts};
use crate::engine::listing::{self, Line};

/// How many records of one place are compared.
const RECORDS_OF_A_PLACE: usize = 3;

/// How much a difference of the instruction itself weighs against any other.
const INSTRUCTION_WEIGHT: usize = 100;

/// Returns the reasons.
pub(super) fn of_miss(
    shared: &Shared,
    step: &Step,
    parts: &KeyParts,
    parent: &Tree,
) -> Result<Vec<Cause>, StepError> {
    let record = match nearest(shared, step, Some(parts))? {
        Near::Nothing => return built_elsewhere(shared, step, parts, parent),
        Near::Forgotten => return Ok(vec![Cause::new(CauseKind::Removed, "its record is gone")]),
        Near::Record(record) => record,
    };
    let changes = changed_parts(&record.parts, parts);
    if changes.is_empty() {
        return Ok(vec![outside_the_key(shared, &record, parent)?]);
    }
    Explaining { shared, step, old: &record.parts, new: parts }.explain(&changes)
}

/// The reasons of a step that was not built here: against what a cache has at its place.
fn built_elsewhere(
    shared: &Shared,
    step: &Step,
    parts: &KeyParts,
    parent: &Tree,
) -> Result<Vec<Cause>, StepError> {
    let Some(record) = shared.resolved.imports.at(&shared.places.portable(step.id)) else {
        return Ok(vec![Cause::new(CauseKind::NotBuiltBefore, "not built before")]);
    };
    let parts = portable_parts(parts);
    let changes = changed_parts(&record.parts, &parts);
    if changes.is_empty() {
        return Ok(vec![outside_the_key(shared, record, parent)?]);
    }
    Explaining { shared, step, old: &record.parts, new: &parts }.explain(&changes)
}

/// The record that is nearest to what a step is now.
pub(super) enum Near {
    /// This one.
    Record(Box<CacheRecord>),
    /// There was one, and it was removed.
    Forgotten,
    /// There never was one.
    Nothing,
}

/// Finds the nearest record; without `parts` the last of the step's own place.
pub(super) fn nearest(shared: &Shared, step: &Step, parts: Option<&KeyParts>) -> Result<Near, StepError> {
    let records = shared.store.records();
    let (mut best, mut is_known) = (None::<(usize, CacheRecord)>, false);
    for place in shared.places.near(step.id) {
        let recent = records.recent(&place)?.into_iter().filter(|key| !shared.has_met(key));
        for key in recent.take(RECORDS_OF_A_PLACE) {
            is_known = true;
            let Some(record) = records.explain(&key)? else { continue };
            let Some(parts) = parts else { return Ok(Near::Record(Box::new(record))) };
            let distance = distance(&record.parts, parts);
            if best.as_ref().is_none_or(|(least, _)| distance < *least) {
                best = Some((distance, record));
            }
        }
        if parts.is_none() {
            break;
        }
    }
    Ok(match best {
        Some((_, record)) => Near::Record(Box::new(record)),
        None if is_known => Near::Forgotten,
        None => Near::Nothing,
    })
}

fn distance(old: &[KeyPart], new: &KeyParts) -> usize {
    let mut groups: Vec<(&str, usize)> = changed_parts(old, new)
        .iter()
        .map(|change| match change.kind() {
            "command" | "destination" => ("instruction", INSTRUCTION_WEIGHT),
            // A source of another name, not one with other files.
            "content" if change.old.is_none() || change.new.is_none() => ("source", INSTRUCTION_WEIGHT / 2),
            "layer" => ("layer", 1),
            _ => (change.name, 1),
        })
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups.into_iter().map(|(_, weight)| weight).sum()
}

/// A part that is not what it was.
struct PartChange<'a> {
    name: &'a str,
    old: Option<&'a KeyPart>,
    new: Option<&'a str>,
}

impl PartChange<'_> {
    /// The first word of its name.
    fn kind(&self) -> &str {
        self.name.split_once(' ').map_or(self.name, |(kind, _)| kind)
    }

    /// What follows the first word of its name.
    fn subject(&self) -> &str {
        self.name.split_once(' ').map_or("", |(_, subject)| subject)
    }
}

/// Parts that differ, by name; of several with one name the first is compared with the first.
fn changed_parts<'a>(old: &'a [KeyPart], new: &'a KeyParts) -> Vec<PartChange<'a>> {
    let old_named = numbered(old.iter().map(|part| (part.name.as_str(), part)));
    let new_named = numbered(new.0.iter().map(|part| (part.name.as_str(), part.value.as_str())));
    let old_by_name: HashMap<_, _> = old_named.iter().copied().collect();
    let new_by_name: HashMap<_, _> = new_named.iter().copied().collect();
    let mut changed = Vec::new();
    for (name, value) in &new_named {
        let before = old_by_name.get(name).copied();
        if before.is_none_or(|before| !has_value(before, value)) {
            changed.push(PartChange { name: name.0, old: before, new: Some(value) });
        }
    }
    for (name, part) in old_named.iter().filter(|(name, _)| !new_by_name.contains_key(name)) {
        changed.push(PartChange { name: name.0, old: Some(part), new: None });
    }
    changed
}

fn numbered<'a, T: Copy>(parts: impl Iterator<Item = (&'a str, T)>) -> Vec<((&'a str, usize), T)> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    parts
        .map(|(name, value)| {
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            ((name, *count), value)
        })
        .collect()
}

/// The key is the same: a fact about the tree below does not hold, or the layer is gone.
fn outside_the_key(shared: &Shared, record: &CacheRecord, parent: &Tree) -> Result<Cause, StepError> {
    if !record.conditions.is_empty()
        && let Some(fact) = first_broken(&record.conditions, &shared.store.layers().tree(parent)?)?
    {
        let path = String::from_utf8_lossy(&fact.path);
        let text = format!("`/{path}` in what it is copied onto changed");
        return Ok(Cause::new(CauseKind::Destination, text));
    }
    Ok(Cause::new(CauseKind::Removed, "its layer is gone"))
}

struct Explaining<'a> {
    shared: &'a Shared,
    step: &'a Step,
    old: &'a [KeyPart],
    new: &'a KeyParts,
}

impl Explaining<'_> {
    fn explain(&self, changes: &[PartChange<'_>]) -> Result<Vec<Cause>, StepError> {
        let mut causes: Vec<Cause> = Vec::new();
        for change in changes {
            let cause = self.one(change, changes)?;
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        Ok(causes)
    }

    fn one(&self, change: &PartChange<'_>, all: &[PartChange<'_>]) -> Result<Cause, StepError> {
        let was = |what: &str| format!("{what} {}", was_and_is(change));
        Ok(match change.kind() {
            "layer" => self.below(),
            "command" => Cause::new(CauseKind::Instruction, self.command()),
            "destination" => Cause::new(CauseKind::Instruction, was("the destination")),
            "path" => Cause::new(CauseKind::Instruction, was("the directory")),
            "env" => self.variable(change),
            "content" => self.content(change, all)?,
            "mount" => Cause::new(CauseKind::Mount, was(&format!("the mount at `{}`", change.subject()))),
            "workdir" => Cause::new(CauseKind::Instruction, was("WORKDIR")),
            "user" => Cause::new(CauseKind::Instruction, was("USER")),
            "unpack" => Cause::new(CauseKind::Flag, "whether archives are unpacked changed"),
            "sandbox" | "owners" => Cause::new(CauseKind::Sandbox, was("the sandbox's version")),
            "platform" | "hostname" => Cause::new(CauseKind::Flag, was(&format!("the {}", change.name))),
            "extra" => Cause::new(CauseKind::Flag, was("`--add-host`")),
            "cgroup" => Cause::new(CauseKind::Flag, was("`--cgroup-parent`")),
            "shm" => Cause::new(CauseKind::Flag, was("`--shm-size`")),
            _ => Cause::new(CauseKind::Flag, was(&format!("`--{}`", change.name.replace(' ', "-")))),
        })
    }

    fn command(&self) -> String {
        let words = |parts: &mut dyn Iterator<Item = (&str, &str)>| -> Vec<String> {
            parts
                .filter(|(name, _)| name.starts_with("command "))
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        let before = words(&mut self.old.iter().map(|part| (part.name.as_str(), part.value.as_str())));
        let now = words(&mut self.new.0.iter().map(|part| (part.name.as_str(), part.value.as_str())));
        let common = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
        let before = before.get(common..).unwrap_or_default().join(" ");
        if before.is_empty() {
            "the command changed".to_owned()
        } else {
            format!("the command changed: it was `{}`", short(&before))
        }
    }

    fn variable(&self, change: &PartChange<'_>) -> Cause {
        let name = change.subject();
        if self.shared.request.build_args.contains_key(name) {
            return Cause::new(CauseKind::Argument, format!("the argument `{name}` {}", was_and_is(change)));
        }
        Cause::new(CauseKind::Variable, format!("the variable `{name}` {}", was_and_is(change)))
    }

    /// Which layer below is not what it was, and who made it.
    fn below(&self) -> Cause {
        let layers = |parts: &mut dyn Iterator<Item = (&str, &str)>| -> Vec<String> {
            parts.filter(|(name, _)| name.starts_with("layer ")).map(|(_, value)| value.to_owned()).collect()
        };
        let before = layers(&mut self.old.iter().map(|part| (part.name.as_str(), part.value.as_str())));
        let now = layers(&mut self.new.0.iter().map(|part| (part.name.as_str(), part.value.as_str())));
        let ancestry = self.shared.places.ancestry(self.step.id);
        let base_layers = now.len().saturating_sub(ancestry.steps.len());
        let first = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
        if first < base_layers {
            let name = ancestry.base.unwrap_or("scratch");
            return Cause::new(CauseKind::Base, format!("the base image `{name}` changed"));
        }
        let (mut sorted_before, mut sorted_now) = (before.clone(), now.clone());
        sorted_before.sort();
        sorted_now.sort();
        let text = if sorted_before == sorted_now {
            "the order of the instructions before it changed".to_owned()
        } else if now.len() < before.len() {
            "an instruction before it is gone".to_owned()
        } else {
            let maker = ancestry.steps.get(first - base_layers);
            let maker = maker
                .map_or_else(|| "an instruction before it".to_owned(), |(id, name)| format!("{id} {name}"));
            if now.len() > before.len() {
                format!("{maker} is new")
            } else {
                format!("{maker} made something else")
            }
        };
        Cause::new(CauseKind::Earlier, text)
    }

    fn content(&self, change: &PartChange<'_>, all: &[PartChange<'_>]) -> Result<Cause, StepError> {
        let source = change.name.trim_start_matches("content ").trim_start_matches("of ");
        let detail = change.old.and_then(|part| part.detail);
        if change.new.is_none() || change.old.is_none() {
            let is_content = |other: &&PartChange<'_>| other.kind() == "content";
            let names = |wanted: fn(&PartChange<'_>) -> bool| -> String {
                let named = all.iter().filter(is_content).filter(|other| wanted(other));
                named.map(|other| other.name.trim_start_matches("content ")).collect::<Vec<_>>().join(", ")
            };
            let (before, now) = (names(|other| other.new.is_none()), names(|other| other.old.is_none()));
            let text =
                format!("the sources changed: {} instead of {}", or_nothing(&now), or_nothing(&before));
            return Ok(Cause::new(CauseKind::Instruction, text));
        }
        let text = format!("the content of {source} changed");
        match detail {
            Some(detail) => self.files(change.name, &detail, text),
            None => Ok(Cause::new(CauseKind::Files, text)),
        }
    }

    fn files(&self, part: &str, detail: &DetailId, otherwise: String) -> Result<Cause, StepError> {
        let plain = Cause::new(CauseKind::Files, otherwise);
        let Some(bytes) = self.shared.store.details().get(detail)? else { return Ok(plain) };
        let taken = self.shared.taken(self.step.id);
        let Some(new) = taken.iter().find(|taken| taken.part == part) else { return Ok(plain) };
        let listing = listing::written(&new.selection);
        let (old_lines, new_lines) = listing::differing(&bytes, &listing);
        let files = compare(&old_lines, &new_lines);
        if files.is_empty() {
            return Ok(plain);
        }
        let count = match new.selection.count() {
            1 => "of 1 file".to_owned(),
            count => format!("of {count} files"),
        };
        Ok(Cause { kind: CauseKind::Files, text: count, files })
    }
}

fn was_and_is(change: &PartChange<'_>) -> String {
    // Values that may be absent are told from empty ones by a sign before them.
    let shown = |value: &str| short(value.strip_prefix('=').unwrap_or(value));
    match (change.old, change.new) {
        (Some(old), Some(new)) => {
            format!("was {}, is {}", or_nothing(&shown(&old.value)), or_nothing(&shown(new)))
        }
        (None, Some(new)) => format!("is new: {}", or_nothing(&shown(new))),
        _ => "is gone".to_owned(),
    }
}

fn or_nothing(text: &str) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else if text.contains('`') {
        text.to_owned()
    } else {
        format!("`{text}`")
    }
}

fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Tells what became of each path.
fn compare(old: &[Line<'_>], new: &[Line<'_>]) -> Vec<ChangedFile> {
    let mut before: HashMap<&str, (&str, bool)> =
        old.iter().map(|line| (&*line.path, (&*line.state, false))).collect();
    let mut after: BTreeMap<&str, &str> = BTreeMap::new();
    for Line { path, state } in new {
        match before.get_mut(&**path) {
            Some((old, seen)) if *old == state => {
                *seen = true;
                after.remove(&**path);
            }
            Some((_, seen)) => {
                *seen = true;
                after.insert(path, state);
            }
            None => drop(after.insert(path, state)),
        }
    }
    let gone = before.iter().filter(|(_, (_, seen))| !seen);
    let mut gone: BTreeMap<&str, &str> = gone.map(|(path, (state, _))| (*path, *state)).collect();
    let mut changes = Vec::new();
    for (path, state) in after {
        let change = match before.get(path) {
            Some((old, _)) => FileFate::Changed(aspects(old, state)),
            None => match renamed(&gone, state) {
                Some(old) => {
                    gone.remove(old);
                    FileFate::Renamed(old.to_owned())
                }
                None => FileFate::New,
            },
        };
        changes.push(ChangedFile { path: path.to_owned(), change });
    }
    let gone = gone.into_keys().map(|path| ChangedFile { path: path.to_owned(), change: FileFate::Gone });
    changes.extend(gone);
    changes
}

/// Finds a file that is gone and was just like one that is new.
fn renamed<'a>(gone: &BTreeMap<&'a str, &str>, state: &str) -> Option<&'a str> {
    if !state.starts_with("file ") {
        return None;
    }
    gone.iter().find(|(_, old)| **old == state).map(|(path, _)| *path)
}

/// Names what of an entry's state differs: its words are kind, mode, owner, what depends on the kind, attributes, time.
fn aspects(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.split(' ').collect(), new.split(' ').collect());
    let mut found: Vec<&str> = Vec::new();
    if old.first() != new.first() {
        found.push("kind");
    } else {
        let own = if old.first() == Some(&"file") || old.first() == Some(&"symlink") { 5 } else { 3 };
        let of = |words: &[&str]| words.get(3..own.min(words.len())).unwrap_or_default().join(" ");
        let is_time = |word: &&&str| word.starts_with('@');
        let rest = |words: &[&str]| {
            words.iter().skip(own).filter(|word| !is_time(word)).copied().collect::<Vec<_>>().join(" ")
        };
        let time = |words: &[&str]| words.iter().find(is_time).copied().unwrap_or_default().to_owned();
        let all = [
            (of(&old) != of(&new), if old.first() == Some(&"symlink") { "target" } else { "content" }),
            (old.get(1) != new.get(1), "mode"),
            (old.get(2) != new.get(2), "owner"),
            (rest(&old) != rest(&new), "attributes"),
            (time(&old) != time(&new), "time"),
        ];
        found.extend(all.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name));
    }
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(path: &'a str, state: &'a str) -> Line<'a> {
        Line { path: path.into(), state: state.into() }
    }

    fn part(name: &str, value: &str) -> KeyPart {
        KeyPart { name: name.into(), value: value.into(), detail: None }
    }

    fn parts(all: &[(&str, &str)]) -> KeyParts {
        let mut parts = KeyParts::default();
        all.iter().for_each(|(name, value)| parts.push(*name, *value));
        parts
    }

    #[test]
    fn files_are_compared_by_path() {
        let old = ["file 0644 0:0 1 x", "file 0644 0:0 1 x", "file 0644 0:0 1 x", "file 0644 0:0 1 z"];
        let old: Vec<_> =
            ["a", "b", "c", "e"].iter().zip(old).map(|(path, state)| line(path, state)).collect();
        let new = [
            line("a", "file 0644 0:0 1 y"),
            line("b", "file 0755 0:0 1 x @5.0"),
            line("d", "file 0644 0:0 2 w"),
            line("f", "file 0644 0:0 1 z"),
        ];
        let words: Vec<String> = compare(&old, &new).iter().map(ChangedFile::words).collect();
        let expected = [
            "`a` changed (content)",
            "`b` changed (mode, time)",
            "`d` is new",
            "`e` is now `f`",
            "`c` is gone",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn parts_are_compared_by_name_and_number() {
        let old = [part("env A", "1"), part("ulimit", "x"), part("ulimit", "y")];
        let new = parts(&[("env B", "1"), ("ulimit", "x"), ("ulimit", "z")]);
        let changed: Vec<_> = changed_parts(&old, &new)
            .iter()
            .map(|change| (change.name.to_owned(), was_and_is(change)))
            .collect();
        let expected = [("env B", "is new: `1`"), ("ulimit", "was `y`, is `z`"), ("env A", "is gone")];
        assert_eq!(changed, expected.map(|(name, words)| (name.to_owned(), words.to_owned())));
    }

    #[test]
    fn a_record_of_the_same_command_is_nearer_than_one_of_the_same_place() {
        let now = parts(&[("command 0", "b"), ("layer 0", "x")]);
        let moved = distance(&[part("command 0", "b"), part("layer 0", "y"), part("layer 1", "z")], &now);
        let edited = distance(&[part("command 0", "a"), part("layer 0", "x")], &now);
        assert!(moved < edited, "{moved} {edited}");
    }
}
