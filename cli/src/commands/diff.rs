//! `mica diff`: 0 when nothing is different, 1 when something is, 2 when that could not be told.

use std::process::ExitCode;

use super::exit::{COULD_NOT_TELL, Failure, NOT_SO};
use super::images::watched;
use super::versions::look_failure;
use super::words::{count, head, shortened, size, table};
use super::{print, print_json, setup};
use crate::arguments::{DiffArguments, GlobalOptions};
use crate::engine::diff::{self, Aspect, Change, DiffOptions, Difference, FileChange, State};
use crate::environment::Environment;

/// Compares two images.
pub(super) fn run(
    arguments: &DiffArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let difference =
        compare(arguments, global, environment).map_err(|failure| failure.with_code(COULD_NOT_TELL))?;
    if arguments.json {
        print_json(&difference)?;
    } else {
        print(describe(&difference).as_bytes())?;
    }
    Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}

fn compare(
    arguments: &DiffArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<Difference, Failure> {
    let engine = setup::engine(global, environment)?;
    let opened = watched(environment, async |events| {
        let before = engine.open_image(&arguments.before, events).await?;
        Ok((before, engine.open_image(&arguments.after, events).await?))
    })?;
    let (before, after) = opened.map_err(look_failure)?;
    diff::compare(&before, &after, DiffOptions { semantic: arguments.semantic }).map_err(look_failure)
}

fn describe(difference: &Difference) -> String {
    let mut text: String = difference.files.iter().map(file_line).collect();
    if !difference.config.is_empty() {
        text.push_str("configuration:\n");
        for change in &difference.config {
            let value = |value: &Option<String>| {
                value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("`{}`", shortened(value)))
            };
            text.push_str(&format!(
                "  {}: {} → {}\n",
                change.field,
                value(&change.before),
                value(&change.after)
            ));
        }
    }
    if difference.is_empty() {
        return "no difference\n".to_owned();
    }
    text.push_str(&layers(difference));
    let counts = difference.counts();
    text.push_str(&format!(
        "{} added, {} removed, {} changed, {} of the configuration\n",
        count(counts.added, "file"),
        counts.removed,
        counts.changed,
        count(counts.config, "field")
    ));
    text
}

fn layers(difference: &Difference) -> String {
    let differing = difference.layers.iter().filter(|pair| !pair.same);
    let cell = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    let mut rows = vec![head(&["  LINE", "A", "B", "INSTRUCTION"])];
    rows.extend(differing.map(|pair| {
        let line = pair.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
        vec![format!("  {line}"), cell(pair.before), cell(pair.after), shortened(&pair.instruction)]
    }));
    if rows.len() == 1 { String::new() } else { format!("layers that differ:\n{}", table(&rows)) }
}

fn file_line(file: &FileChange) -> String {
    let (sign, what) = match (&file.change, &file.before, &file.after) {
        (Change::Added, _, Some(after)) => ('+', brief(after)),
        (Change::Removed, Some(before), _) => ('-', brief(before)),
        (_, Some(before), Some(after)) => ('~', aspects(&file.aspects, before, after)),
        _ => ('~', String::new()),
    };
    let by = file.by.as_ref().map(|by| format!("  ({})", shortened(by))).unwrap_or_default();
    format!("{sign} {}  {what}{by}\n", file.path)
}

fn brief(state: &State) -> String {
    match (state.size, &state.target) {
        (Some(bytes), _) => size(bytes),
        (None, Some(target)) => format!("→ {target}"),
        _ => state.kind.to_owned(),
    }
}

fn aspects(aspects: &[Aspect], before: &State, after: &State) -> String {
    let arrow = |name: &str, before: &str, after: &str| format!("{name} {before} → {after}");
    let told = aspects.iter().map(|aspect| match aspect {
        Aspect::Kind => arrow("kind", before.kind, after.kind),
        Aspect::Content => match (before.size, after.size) {
            (Some(a), Some(b)) if a != b => arrow("content", &size(a), &size(b)),
            _ => "content".to_owned(),
        },
        Aspect::Target => arrow(
            "target",
            before.target.as_deref().unwrap_or_default(),
            after.target.as_deref().unwrap_or_default(),
        ),
        Aspect::Mode => arrow("mode", &before.mode, &after.mode),
        Aspect::Owner => arrow("owner", &before.owner, &after.owner),
        Aspect::Time => "time".to_owned(),
        Aspect::Device => "device numbers".to_owned(),
        Aspect::Attributes => "extended attributes".to_owned(),
        Aspect::Links => "hard links".to_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}
