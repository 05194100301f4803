//! `mica log`, `mica rollback`, `mica history`.

use std::process::ExitCode;

use super::exit::{Failure, USAGE};
use super::images::find_failure;
use super::words::{age, head, shortened, size, table};
use super::{print, print_json, setup};
use crate::arguments::{GlobalOptions, HistoryArguments, LogArguments, RollbackArguments};
use crate::engine::diff::Counts;
use crate::engine::history::{LookError, history as history_of};
use crate::engine::images;
use crate::engine::versions::{self, LoggedVersion};
use crate::environment::Environment;

/// `mica log`.
pub(super) fn log(
    arguments: &LogArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let logged = versions::log(&engine.host.store, &arguments.name).map_err(look_failure)?;
    if arguments.json {
        return print_json(&logged);
    }
    let mut rows = vec![head(&["VERSION", "MADE", "ID", "SIZE", "COMMIT", "CHANGES"])];
    rows.extend(logged.iter().map(row));
    print(table(&rows).as_bytes())
}

fn row(version: &LoggedVersion) -> Vec<String> {
    vec![
        format!("@{}", version.version),
        age(version.when),
        version.id.hex()[..12].to_owned(),
        version.size.map_or_else(|| "gone".to_owned(), size),
        version.commit.as_ref().map_or_else(|| "-".to_owned(), |commit| commit[..12].to_owned()),
        changes(version),
    ]
}

fn changes(version: &LoggedVersion) -> String {
    let mut words = Vec::new();
    words.extend(version.rollback_to.map(|to| format!("back to @{to}")));
    words.extend(version.changes.map(counts));
    words.join("; ")
}

/// `1 added, 2 changed; configuration`.
pub(super) fn counts(counts: Counts) -> String {
    let files: Vec<String> =
        [(counts.added, "added"), (counts.removed, "removed"), (counts.changed, "changed")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
    let mut words = Vec::new();
    if !files.is_empty() {
        words.push(files.join(", "));
    }
    if counts.config > 0 {
        words.push("configuration".to_owned());
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
}

/// `mica rollback`.
pub(super) fn rollback(
    arguments: &RollbackArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let Some((name, version)) = arguments.target() else {
        return Err(Failure::plain("a version is a number: `mica rollback app @2`").with_code(USAGE));
    };
    let engine = setup::engine(global, environment)?;
    let done = versions::rollback(&engine.host.store, name, version)
        .map_err(|error| Failure::of(&error).with_hint(error.hint()))?;
    engine.host.store.sync().map_err(|error| Failure::of(&error))?;
    let text =
        format!("{}@{} is what @{} was: {}\n", done.name.familiar(), done.version, done.to, done.image);
    print(text.as_bytes())
}

/// `mica history`.
pub(super) fn history(
    arguments: &HistoryArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let store = &engine.host.store;
    let image = images::find(store, &arguments.image).map_err(find_failure)?;
    let mut lines = history_of(store, &image).map_err(look_failure)?;
    lines.reverse();
    if arguments.json {
        return print_json(&lines);
    }
    let mut rows = vec![head(&["LAYER", "LINE", "SIZE", "MADE", "INSTRUCTION"])];
    let mut above = lines.iter().filter(|line| line.layer.is_some()).count();
    rows.extend(lines.iter().map(|line| {
        let number = above;
        above -= usize::from(line.layer.is_some());
        vec![
            line.layer.map_or_else(|| "-".to_owned(), |_| format!("#{number}")),
            line.line.map_or_else(|| "-".to_owned(), |line| line.to_string()),
            line.size.map_or_else(|| "-".to_owned(), size),
            line.created.map_or_else(|| "-".to_owned(), age),
            shortened(&line.instruction),
        ]
    }));
    print(table(&rows).as_bytes())
}

pub(super) fn look_failure(error: LookError) -> Failure {
    let failure = Failure::of(&error).with_hint(error.hint());
    match &error {
        LookError::Base(base) if base.is_unavailable() => failure.unavailable(),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_in_words() {
        let some = Counts { added: 1, removed: 0, changed: 2, config: 3 };
        assert_eq!(counts(some), "1 added, 2 changed; configuration");
        assert_eq!(counts(Counts::default()), "nothing");
    }
}
