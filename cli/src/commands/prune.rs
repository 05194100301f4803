//! `mica prune`, `mica du`.

use std::process::ExitCode;
use std::time::Duration;

use mica_cache::{FileError, KeepImages, Report};

use super::exit::{Failure, USAGE};
use super::words::{count, head, size, table};
use super::{print, print_json, say, setup};
use crate::arguments::{GlobalOptions, PruneArguments, UsageArguments, size_in_bytes};
use crate::engine::prune::{self, Kept, PruneRequest};
use crate::engine::{Engine, chain};
use crate::environment::Environment;

const DAY: u64 = 86_400;

/// `mica prune`.
pub(super) fn prune(
    arguments: &PruneArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let request = request(arguments)?;
    let engine = setup::engine(global, environment)?;
    let store = &engine.host.store;
    let result = match arguments.dry_run {
        true => prune::forecast(store, &request),
        false => prune::prune(store, &request),
    };
    let report = result.map_err(|error| Failure::of(&error).with_hint(error.hint()))?;
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    print(format!("{verb} {}\n", describe(&report)).as_bytes())
}

fn request(arguments: &PruneArguments) -> Result<PruneRequest, Failure> {
    let max_size = arguments.max_size.as_deref().map(|text| {
        size_in_bytes(text).ok_or_else(|| {
            Failure::plain(format!("--max-size {text}: not a size"))
                .with_hint(Some("a size looks like `500m` or `20g`".to_owned()))
                .with_code(USAGE)
        })
    });
    Ok(PruneRequest {
        versions: usize::try_from(arguments.keep_versions).unwrap_or(usize::MAX),
        unused_for: if arguments.all {
            Duration::ZERO
        } else {
            Duration::from_secs(u64::from(arguments.unused_for) * DAY)
        },
        max_size: max_size.transpose()?,
        images: if arguments.all { KeepImages::Tagged } else { KeepImages::Named },
    })
}

fn describe(report: &Report) -> String {
    let things = [
        (report.versions, "version"),
        (report.images, "image"),
        (report.records, "cached step"),
        (report.failures, "failed step"),
        (report.layers, "layer"),
        (report.blobs, "blob"),
        (report.mounts, "cache mount"),
    ];
    let words: Vec<String> = things
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, thing)| count(number, thing))
        .collect();
    match words.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{}: {}", words.join(", "), size(report.bytes)),
    }
}

/// Makes the store keep to the size `mica.toml` gives it, and says what that took.
///
/// It comes last and is no part of what the command was asked for: where it fails, that is said and no more.
pub(super) fn keep_to_size(engine: &Engine) {
    match prune::keep_to(&engine.host.store, engine.host.room) {
        Ok(None) => {}
        Ok(Some(kept)) => tell_kept(&kept, engine.host.room.max_bytes.unwrap_or_default()),
        Err(error) => say(&format!("warning: the store cannot be kept to its size: {}", chain(&error))),
    }
}

fn tell_kept(kept: &Kept, max: u64) {
    if kept.report != Report::default() {
        say(&format!("store: removed {} to stay below {}", describe(&kept.report), size(max)));
    }
    if kept.taken > max {
        say(&format!(
            "warning: the store takes {}, more than its {}: kept versions and what is in use need {}",
            size(kept.taken),
            size(max),
            size(kept.needed)
        ));
        say(
            "help: `mica prune --keep-versions N` removes old versions; `max-size` of `mica.toml` allows more",
        );
    }
}

/// `mica du`.
pub(super) fn usage(
    arguments: &UsageArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let parts = engine.host.store.usage().map_err(|error| Failure::of(&error))?;
    if arguments.json {
        let object: serde_json::Map<String, serde_json::Value> =
            parts.iter().map(|part| (part.part.clone(), part.bytes.into())).collect();
        return print_json(&object);
    }
    let mut rows = vec![head(&["PART", "SIZE", "WHAT"])];
    rows.extend(
        parts.iter().map(|part| vec![part.part.clone(), size(part.bytes), what(&part.part).to_owned()]),
    );
    rows.push(vec!["all".to_owned(), size(parts.iter().map(|part| part.bytes).sum()), String::new()]);
    let mut text = table(&rows);
    if let Some(max) = engine.host.room.max_bytes {
        let failed = |error: FileError| Failure::of(&error);
        let taken = engine.host.store.room_taken().map_err(failed)?;
        let needed = engine.host.room.needed(&engine.host.store).map_err(failed)?;
        text.push_str(&format!(
            "\n{} on the disk of the {} that `max-size` of `mica.toml` allows; {} of that are kept versions and what cannot be \
             removed,\nthe rest goes by its last use when there is more\n",
            size(taken),
            size(max),
            size(needed),
        ));
    }
    print(text.as_bytes())
}

/// What a part of the store is for.
fn what(part: &str) -> &'static str {
    match part {
        "layers" => "files of images and cached steps",
        "blobs" => "what was pulled, as it came, and configurations",
        "merged" => "many layers in one, for steps",
        "failures" => "steps that failed, for `mica enter`; their files are among the layers",
        "mounted" => "what is known of mounted files",
        "records" | "recent" | "details" => "what is known of cached steps",
        "builds" => "reports and output of builds",
        "images" | "tags" | "resolved" | "published" | "diff-ids" => "names and versions",
        "mounts" => "cache mounts",
        "containers" => "what commands of `mica run` left",
        "contexts" => "what is known of build contexts",
        "scratch" | "locks" => "work going on",
        "reserve" => "room that `mica prune` needs where the disk is full",
        _ => "",
    }
}
