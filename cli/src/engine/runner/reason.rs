//! Why a step was not in the cache, in one line: today's key parts against those of the last record of the same place.

use std::collections::BTreeMap;

use mica_cache::{DetailId, KeyPart};
use mica_executor::copy::Listed;
use mica_solver::{KeyParts, Step};

use super::{Shared, StepError, copy};

/// How many changed files are named before the rest is counted.
const NAMED_FILES: usize = 3;

/// Returns the reason in words.
pub(super) fn of_miss(shared: &Shared, step: &Step, parts: &KeyParts) -> Result<String, StepError> {
    let records = shared.store.records();
    let Some(last) = records.recent(&shared.place(step.id))?.into_iter().next() else {
        return Ok("not built before".to_owned());
    };
    let Some(record) = records.explain(&last)? else {
        return Ok("its record is gone".to_owned());
    };
    let changed = changed_parts(&record.parts, parts);
    if changed.is_empty() {
        return Ok(match record.conditions.is_empty() {
            true => "its layer is gone".to_owned(),
            false => "what it is copied onto changed".to_owned(),
        });
    }
    let mut reasons = Vec::new();
    for (name, old, _) in &changed {
        reasons.push(match old.and_then(|part| part.detail) {
            Some(detail) => changed_files(shared, step, name, &detail)?,
            None => describe(name),
        });
    }
    reasons.dedup();
    Ok(join_reasons(&reasons))
}

/// Parts that differ, by name: the old one, if any, and the new value, if any.
fn changed_parts<'a>(
    old: &'a [KeyPart],
    new: &'a KeyParts,
) -> Vec<(String, Option<&'a KeyPart>, Option<&'a str>)> {
    let old_by_name: BTreeMap<_, _> = old.iter().map(|part| (part.name.as_str(), part)).collect();
    let new_by_name: BTreeMap<_, _> =
        new.0.iter().map(|part| (part.name.as_str(), part.value.as_str())).collect();
    let mut changed = Vec::new();
    for part in &new.0 {
        let before = old_by_name.get(part.name.as_str()).copied();
        if before.is_none_or(|before| before.value != part.value) {
            changed.push((part.name.clone(), before, Some(part.value.as_str())));
        }
    }
    for part in old.iter().filter(|part| !new_by_name.contains_key(part.name.as_str())) {
        changed.push((part.name.clone(), Some(part), None));
    }
    changed
}

fn describe(name: &str) -> String {
    match name.split_once(' ') {
        Some(("layer", _)) => "an earlier layer changed".to_owned(),
        Some(("command", _)) => "the command changed".to_owned(),
        Some(("env", variable)) => format!("`{variable}` changed"),
        Some(("content", source)) => format!("the content of {source} changed"),
        _ => format!("{name} changed"),
    }
}

fn changed_files(shared: &Shared, step: &Step, part: &str, detail: &DetailId) -> Result<String, StepError> {
    let Some(bytes) = shared.store.details().get(detail)? else { return Ok(describe(part)) };
    let Ok(old) = serde_json::from_slice::<Vec<Listed>>(&bytes) else { return Ok(describe(part)) };
    let Some(new) = copy::listing(shared, step.id, part) else { return Ok(describe(part)) };
    let changes = compare(&old, &new);
    let named: Vec<_> = changes.iter().take(NAMED_FILES).cloned().collect();
    let more = changes.len().saturating_sub(NAMED_FILES);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    Ok(match named.is_empty() {
        true => describe(part),
        false => format!("{}{rest} (of {} files)", named.join(", "), new.len()),
    })
}

/// Tells what became of each path, in words.
fn compare(old: &[Listed], new: &[Listed]) -> Vec<String> {
    let before: BTreeMap<_, _> = old.iter().map(|line| (&line.path, &line.state)).collect();
    let after: BTreeMap<_, _> = new.iter().map(|line| (&line.path, &line.state)).collect();
    let mut changes = Vec::new();
    for (path, state) in &after {
        match before.get(path) {
            None => changes.push(format!("`{path}` is new")),
            Some(old) if old != state => changes.push(format!("`{path}` changed ({})", aspect(old, state))),
            Some(_) => {}
        }
    }
    changes.extend(
        before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("`{path}` is gone")),
    );
    changes
}

/// Names what of an entry's state differs: its words are kind, mode, owner, and then what depends on the kind.
fn aspect(old: &str, new: &str) -> &'static str {
    let (old, new): (Vec<_>, Vec<_>) = (old.split(' ').collect(), new.split(' ').collect());
    if old.first() != new.first() {
        "kind"
    } else if old.get(1) != new.get(1) && old.get(2..) == new.get(2..) {
        "mode"
    } else if old.get(2) != new.get(2) && old.get(3..) == new.get(3..) {
        "owner"
    } else {
        "content"
    }
}

fn join_reasons(reasons: &[String]) -> String {
    match reasons {
        [one] => one.clone(),
        [first, second] => format!("{first}; {second}"),
        [first, second, rest @ ..] => format!("{first}; {second}; and {} more", rest.len()),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, state: &str) -> Listed {
        Listed { path: path.into(), state: state.into() }
    }

    #[test]
    fn files_are_compared_by_path() {
        let old = [
            listed("a", "file 0644 0:0 1 x"),
            listed("b", "file 0644 0:0 1 x"),
            listed("c", "file 0644 0:0 1 x"),
        ];
        let new = [
            listed("a", "file 0644 0:0 1 y"),
            listed("b", "file 0755 0:0 1 x"),
            listed("d", "file 0644 0:0 1 x"),
        ];
        assert_eq!(
            compare(&old, &new),
            ["`a` changed (content)", "`b` changed (mode)", "`d` is new", "`c` is gone"]
        );
    }

    #[test]
    fn parts_are_compared_by_name() {
        let old = [KeyPart { name: "env A".into(), value: "1".into(), detail: None }];
        let mut new = KeyParts::default();
        new.push("env B", "1");
        let changed: Vec<_> =
            changed_parts(&old, &new).into_iter().map(|(name, ..)| describe(&name)).collect();
        assert_eq!(changed, ["`B` changed", "`A` changed"]);
    }
}
