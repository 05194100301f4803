//! Every directory of `fixtures/parser` holds a Dockerfile and what is to be made of it.
//!
//! `expected.json` has the line parser's view and the diagnostics; `MICA_UPDATE_FIXTURES=1 cargo test -p mica-parser` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use mica_parser::diagnostic::{Diagnostic, Label, LineIndex};
use mica_parser::{debug, lint, parse};
use serde_json::{Value, json};

#[test]
fn dockerfiles_are_read_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/parser");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Compares one case; returns what differs.
fn check(case: &Path) -> Option<String> {
    let text = fs::read(case.join("Dockerfile")).expect("each case has a Dockerfile");
    let found = format!("{:#}\n", describe(&text));
    let golden = case.join("expected.json");
    if wants_update() {
        fs::write(&golden, found).expect("the fixtures can be written");
        return None;
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    let at = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.lines().count().min(expected.lines().count()));
    (found != expected).then(|| {
        let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
        format!("{}, line {}: expected {}, found {}", golden.display(), at + 1, line(&expected), line(&found))
    })
}

#[allow(clippy::disallowed_methods, reason = "a switch for people who run the tests")]
fn wants_update() -> bool {
    std::env::var_os("MICA_UPDATE_FIXTURES").is_some()
}

fn describe(text: &[u8]) -> Value {
    let parsed = parse(text);
    let index = LineIndex::new(text);
    let config = lint::CheckConfig::of(&parsed.dockerfile).unwrap_or_default();
    let checks = lint::check(&parsed.dockerfile, &config);
    let diagnostics: Vec<Value> = parsed
        .diagnostics
        .iter()
        .chain(&checks)
        .map(|diagnostic| describe_diagnostic(diagnostic, text, &index))
        .collect();
    json!({ "debug": debug::describe("Dockerfile", text), "diagnostics": diagnostics })
}

fn describe_diagnostic(diagnostic: &Diagnostic, text: &[u8], index: &LineIndex<'_>) -> Value {
    let label = |label: &Label| {
        let place = index.position(label.span.start);
        let excerpt = &text[label.span.start as usize..label.span.end as usize];
        json!({
            "at": format!("{}:{}", place.line, place.column),
            "text": String::from_utf8_lossy(excerpt),
            "label": label.text,
        })
    };
    json!({
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "message": diagnostic.message,
        "primary": label(&diagnostic.primary),
        "secondary": diagnostic.secondary.iter().map(label).collect::<Vec<_>>(),
        "help": diagnostic.help,
        "replacement": diagnostic.suggestion.as_ref().map(|suggestion| &suggestion.replacement),
    })
}
