//! A timeline as a page: a row for each step and task, with a bar where its time lies in the build's.

use std::fmt::Write as _;

use super::super::text::{Colours, bytes, printable};
use super::timeline::{Outcome, StepTime, TaskTime, Timeline, What};

const STYLE: &str = "\
body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222;background:#fff}\
table{border-collapse:collapse;width:100%}\
td,th{padding:2px 8px;text-align:left;white-space:nowrap}\
td.n{text-align:right;font-variant-numeric:tabular-nums}\
td.name{max-width:32em;overflow:hidden;text-overflow:ellipsis;font-family:ui-monospace,monospace;font-size:13px}\
td.bar{width:60%;position:relative;background:#f4f4f4;border-bottom:2px solid #fff}\
i{position:absolute;top:3px;bottom:3px;min-width:1px}\
.key{background:#8ab4f8}.queue{background:#ccc}.run{background:#f29b38}.commit{background:#6cbf6c}.task{background:#b18be0}\
.plan{background:#555}.failed td.name{color:#b00}.legend i{position:static;display:inline-block;width:1em;height:1em;margin:0 .4em 0 1.2em;vertical-align:-2px}";

/// Returns the page.
pub(super) fn page(timeline: &Timeline) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>mica build</title>\n",
    );
    let result = timeline.result.map_or("unfinished", |result| result.word());
    push(
        &mut out,
        format_args!("<style>{STYLE}</style>\n<h1>mica build: {result}, {:.3} s</h1>\n", timeline.seconds),
    );
    out.push_str("<p class=\"legend\">");
    for (class, word) in [
        ("plan", "plan"),
        ("key", "key and look-up"),
        ("queue", "queue"),
        ("run", "run"),
        ("commit", "commit"),
        ("task", "export and other"),
    ] {
        push(&mut out, format_args!("<i class=\"{class}\"></i>{word}"));
    }
    out.push_str("</p>\n<table>\n<tr><th>step<th>seconds<th>layer<th>\n");
    let plan = bar("plan", "plan", 0.0, timeline.planned, timeline.seconds);
    row(&mut out, "", "plan", Some(timeline.planned), None, &plan);
    for step in &timeline.steps {
        step_row(&mut out, step, timeline.seconds);
    }
    for task in &timeline.tasks {
        task_row(&mut out, task, timeline.seconds);
    }
    out.push_str("</table>\n</html>\n");
    out
}

fn step_row(out: &mut String, step: &StepTime, whole: f64) {
    let name = format!("{} {}", step.info.id, step.info.name);
    let bars: String = step
        .spans
        .iter()
        .map(|span| bar(class(span.what), class(span.what), span.start, span.end, whole))
        .collect();
    let took = step.spans.first().zip(step.spans.last()).map(|(first, last)| last.end - first.start);
    let (class, note) = match step.outcome {
        Outcome::Failed => ("failed", " (failed)".to_owned()),
        Outcome::Canceled => ("", " (canceled)".to_owned()),
        Outcome::Cached => ("", " (cached)".to_owned()),
        Outcome::Unfinished => ("", " (not reached)".to_owned()),
        Outcome::Resolved => ("", String::new()),
        Outcome::Ran => ("", step.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"))),
    };
    row(out, class, &(name + &note), took, step.bytes, &bars);
}

fn task_row(out: &mut String, task: &TaskTime, whole: f64) {
    let end = task.end.unwrap_or(whole);
    row(
        out,
        "",
        &task.what,
        Some(end - task.start),
        task.bytes,
        &bar("task", &task.what, task.start, end, whole),
    );
}

fn row(out: &mut String, class: &str, name: &str, took: Option<f64>, size: Option<u64>, bars: &str) {
    let name = escaped(name);
    let took = took.map_or_else(String::new, |took| format!("{took:.3}"));
    let size = size.map_or_else(String::new, bytes);
    push(
        out,
        format_args!(
            "<tr class=\"{class}\"><td class=\"name\" title=\"{name}\">{name}<td class=\"n\">{took}<td class=\"n\">{size}\
             <td class=\"bar\">{bars}\n"
        ),
    );
}

fn bar(class: &str, what: &str, start: f64, end: f64, whole: f64) -> String {
    let percent = |seconds: f64| if whole > 0.0 { 100.0 * seconds / whole } else { 0.0 };
    let (left, width) = (percent(start), percent(end - start));
    let title = escaped(&format!("{what}: {start:.3} s to {end:.3} s"));
    format!("<i class=\"{class}\" style=\"left:{left:.3}%;width:{width:.3}%\" title=\"{title}\"></i>")
}

fn class(what: What) -> &'static str {
    match what {
        What::Key => "key",
        What::Queue => "queue",
        What::Run => "run",
        What::Commit => "commit",
    }
}

/// Text for a page: names of steps are whatever a Dockerfile says.
fn escaped(text: &str) -> String {
    let plain = printable(text, Colours::Drop);
    let mut out = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every text");
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::sample;
    use super::*;

    #[test]
    fn every_step_and_task_has_its_row_and_bars() {
        let page = page(&sample());
        assert!(page.contains("mica build: succeeded, 1.000 s"), "{page}");
        assert!(page.contains("#2 RUN &lt;make&gt; &amp; &quot;go&quot; (the command changed)"), "{page}");
        assert!(page.contains("<i class=\"run\" style=\"left:40.000%;width:40.000%\""), "{page}");
        assert!(page.contains("#1 FROM base (cached)") && page.contains("#3 RUN late (not reached)"));
        assert!(page.contains(">1.5kB<") && page.contains("exporting"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&sample());
        for word in ["<script", "src=", "href=", "url(", "@import", "http"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(!page.contains("<make>"));
    }
}
