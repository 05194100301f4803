//! The end of a build in words: what failed and its last output, or what was made, what ran and why.

use std::io::{self, Write};
use std::time::Duration;

use super::build::{Build, Phase, Step};
use super::text::{Colours, count, duration, log_time, printable};
use super::{BuildResult, Summary};
use crate::engine::reproducible::{Clamp, ClampSource};
use crate::terminal::{Paint, Tone};
use mica_image::Timestamp;

/// Writes the end of the log of each step that failed, between rules as the reference draws them.
pub(super) fn failures(
    build: &Build,
    summary: &Summary,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    let failed: Vec<&Step> = build.steps().filter(|step| matches!(step.phase, Phase::Failed(_))).collect();
    for step in &failed {
        writeln!(out, "------")?;
        writeln!(out, " {} {}:", paint.tint(Tone::Bad, ">"), paint.tint(Tone::Strong, &step.name))?;
        if step.log.dropped() > 0 {
            let dropped = format!("({} before these)", count(step.log.dropped(), "line"));
            writeln!(out, "{}", paint.tint(Tone::Dim, &dropped))?;
        }
        for line in step.log.last() {
            let time = log_time(line.at);
            writeln!(out, "{} {}", paint.tint(Tone::Dim, &time), printable(&line.text, Colours::Drop))?;
        }
        writeln!(out, "------")?;
    }
    match &summary.log {
        Some(path) if !failed.is_empty() => writeln!(out, "complete log: {}", path.display()),
        _ => Ok(()),
    }
}

/// Writes the warnings, what was made, and one line for each step that ran with the reason why.
pub(super) fn success(
    build: &Build,
    took: Duration,
    summary: &Summary,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{}", headline(build, took, paint))?;
    for step in build.steps() {
        if let Phase::Ran { reason, equal_output, .. } = &step.phase {
            let same = if *equal_output { "; its output is what it was before" } else { "" };
            let line = format!("{}: {}{same}", step.name, printable(reason, Colours::Drop));
            writeln!(out, "  ran    {} {line}", paint.tint(Tone::Accent, &step.id.to_string()))?;
        }
    }
    for step in build.steps() {
        for files in &step.left_out {
            let paths = files.paths.iter().map(|path| printable(path, Colours::Drop)).collect::<Vec<_>>();
            let more = files.count.saturating_sub(paths.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let id = step.id.to_string();
            let id = paint.tint(Tone::Accent, &id);
            writeln!(out, "  left out of {id}: {}: {}{more}", files.kind, paths.join(" "))?;
        }
    }
    if let Some(clamp) = &summary.clamp {
        writeln!(out, "  times  no later than {}", clamp_words(clamp))?;
    }
    for image in &summary.images {
        writeln!(out, "  image  {image}")?;
    }
    for tag in &summary.tags {
        writeln!(out, "  name   {}", paint.tint(Tone::Strong, tag))?;
    }
    for output in &summary.outputs {
        writeln!(out, "  wrote  {}", output.display())?;
    }
    Ok(())
}

fn clamp_words(clamp: &Clamp) -> String {
    let time = Timestamp::from_unix(clamp.seconds, 0).to_string();
    match &clamp.from {
        ClampSource::SourceDateEpoch => format!("{time} (SOURCE_DATE_EPOCH)"),
        ClampSource::Commit(commit) => format!("{time} (commit {})", commit.get(..12).unwrap_or(commit)),
        ClampSource::Context => format!("{time} (the context)"),
        ClampSource::Provenance => format!("{time} (the provenance)"),
        ClampSource::Nothing => format!("{time} (no SOURCE_DATE_EPOCH, no commit)"),
    }
}

fn headline(build: &Build, took: Duration, paint: Paint) -> String {
    let counts = build.counts();
    let steps = match (counts.cached, counts.ran) {
        (0, 0) => "nothing to run".to_owned(),
        (0, ran) => format!("{} ran", count(ran, "step")),
        (1, 0) => "the one step was cached".to_owned(),
        (cached, 0) => format!("all {cached} steps were cached"),
        (cached, ran) => format!("{} cached, {ran} ran", count(cached, "step")),
    };
    format!("{} in {}: {steps}", paint.tint(Tone::Good, "built"), duration(took))
}

/// Writes how a build that made nothing ended; why it failed is told elsewhere, with the place in the Dockerfile.
pub(super) fn end(
    build: &Build,
    took: Duration,
    summary: &Summary,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    match summary.result {
        BuildResult::Succeeded => success(build, took, summary, paint, out),
        BuildResult::Failed => failures(build, summary, paint, out),
        BuildResult::Canceled => {
            writeln!(out, "{} after {}", paint.tint(Tone::Warn, "canceled"), duration(took))
        }
    }
}
