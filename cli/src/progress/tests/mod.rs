//! Replays recorded builds (`fixtures/progress/*/events.jsonl`, in the form `--progress=json` writes) and compares what each view
//! makes of them.

mod recording;
mod screen;

use std::path::Path;

use recording::{Moment, read};
use screen::Screen;

use super::*;
use crate::golden::{cases, check, fixtures};

/// Replays a recording; the terminal's size matters to the live view only.
fn replay(case: &Path, view: View, paint: Paint) -> String {
    let mut renderer = renderer(view, paint);
    let mut out = Vec::new();
    for (at, moment) in read(&case.join("events.jsonl")) {
        match moment {
            Moment::Event(event) => renderer.event(at, &event, &mut out).unwrap(),
            Moment::Tick(size) => renderer.tick(at, size, &mut out).unwrap(),
            Moment::Finished(summary) => renderer.finish(at, &summary, &mut out).unwrap(),
        }
    }
    String::from_utf8(out).unwrap()
}

/// Shows the screen after each tick and at the end.
fn replay_on_screen(case: &Path) -> String {
    let mut shown = String::new();
    let mut screen: Option<Screen> = None;
    let mut live = renderer(View::Tty(Size::default()), Paint::Plain);
    for (at, moment) in read(&case.join("events.jsonl")) {
        let mut out = Vec::new();
        let title = match moment {
            Moment::Event(event) => {
                live.event(at, &event, &mut out).unwrap();
                None
            }
            Moment::Tick(size) => {
                screen.get_or_insert_with(|| Screen::new(size)).resize(size);
                live.tick(at, size, &mut out).unwrap();
                Some(format!("at {:.1}s, {}x{}", at.as_secs_f64(), size.columns, size.rows))
            }
            Moment::Finished(summary) => {
                live.finish(at, &summary, &mut out).unwrap();
                Some("at the end".to_owned())
            }
        };
        let screen = screen.get_or_insert_with(|| Screen::new(Size::default()));
        let text = String::from_utf8(out).unwrap();
        if title.as_deref() != Some("at the end") {
            screen.forbid_wrapping();
        }
        screen.write(&text);
        screen.allow_wrapping();
        if let Some(title) = title {
            shown.push_str(&format!("==== {title}\n{}", screen.text()));
        }
    }
    let screen = screen.expect("a recording has moments");
    assert!(screen.cursor_is_visible(), "the cursor is hidden at the end of {}", case.display());
    shown
}

#[test]
fn plain_lines() {
    for case in cases("progress") {
        check(&case.join("plain.txt"), &replay(&case, View::Plain, Paint::Plain));
    }
}

#[test]
fn the_live_view() {
    for case in cases("progress") {
        check(&case.join("screen.txt"), &replay_on_screen(&case));
    }
}

#[test]
fn json_is_the_recording_itself() {
    for case in cases("progress") {
        let recorded = std::fs::read_to_string(case.join("events.jsonl")).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let recorded: Vec<_> = recorded.lines().map(parse).filter(|value| value["event"] != "tick").collect();
        let written: Vec<_> = replay(&case, View::Json, Paint::Plain).lines().map(parse).collect();
        assert_eq!(written, recorded, "{}", case.display());
    }
}

#[test]
fn quiet_says_only_what_failed() {
    assert_eq!(replay(&fixtures("progress").join("success"), View::Quiet, Paint::Plain), "");
    assert!(
        replay(&fixtures("progress").join("failure"), View::Quiet, Paint::Plain)
            .contains("undefined reference")
    );
    assert_eq!(replay(&fixtures("progress").join("failure"), View::None, Paint::Plain), "");
}

#[test]
fn no_terminal_is_too_small() {
    let recording = fixtures("progress").join("parallel/events.jsonl");
    for (columns, rows) in (1..40).flat_map(|columns| (1..12).map(move |rows| (columns, rows))) {
        let size = Size { columns, rows };
        let mut screen = Screen::new(size);
        screen.forbid_wrapping();
        let mut live = renderer(View::Tty(size), Paint::Plain);
        for (at, moment) in read(&recording) {
            let mut out = Vec::new();
            match moment {
                Moment::Event(event) => live.event(at, &event, &mut out).unwrap(),
                Moment::Tick(_) => live.tick(at, size, &mut out).unwrap(),
                Moment::Finished(_) => continue,
            }
            screen.write(&String::from_utf8(out).unwrap());
        }
    }
}

#[test]
fn colour_changes_no_word() {
    for case in cases("progress") {
        let words = |paint| {
            let text = replay(&case, View::Plain, paint);
            text.lines().map(|line| text::printable(line, text::Colours::Drop)).collect::<Vec<_>>()
        };
        assert_eq!(words(Paint::Colour), words(Paint::Plain), "{}", case.display());
    }
}
