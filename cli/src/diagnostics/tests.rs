//! Renders the diagnostics of `fixtures/diagnostics/*/diagnostics.json` over the Dockerfile beside them and compares every form.
//!

use std::path::Path;

use mica_parser::diagnostic::RuleCode;
use mica_parser::syntax::Span;
use serde::Deserialize;

use super::*;
use crate::golden::{cases, check};

/// A diagnostic as a fixture gives it: places by line, and by the words they cover.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    severity: String,
    code: String,
    message: String,
    primary: Place,
    #[serde(default)]
    secondary: Vec<Place>,
    #[serde(default)]
    notes: Vec<String>,
    help: Option<String>,
    suggestion: Option<Change>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    at: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    at: String,
    replacement: String,
}

/// Finds where `words` stand; they must be unique in the file.
fn span(text: &[u8], words: &str) -> Span {
    let found: Vec<usize> =
        (0..=text.len()).filter(|start| text[*start..].starts_with(words.as_bytes())).take(2).collect();
    assert_eq!(found.len(), 1, "{words:?} is not there once");
    let start = u32::try_from(found[0]).unwrap();
    Span { start, end: start + u32::try_from(words.len()).unwrap() }
}

fn diagnostic(text: &[u8], given: Given) -> Diagnostic {
    let code = RuleCode::new(String::leak(given.code));
    let (at, label) = (span(text, &given.primary.at), given.primary.text);
    let mut made = match given.severity.as_str() {
        "error" => Diagnostic::error(code, given.message, at, label),
        "warning" => Diagnostic::warning(code, given.message, at, label),
        other => panic!("no severity: {other}"),
    };
    for place in given.secondary {
        made = made.with_secondary(span(text, &place.at), place.text);
    }
    if let Some(change) = given.suggestion {
        made = made.with_suggestion(span(text, &change.at), change.replacement);
    }
    (made.notes, made.help, made.url) = (given.notes, given.help, given.url);
    made
}

fn load(case: &Path) -> (Vec<u8>, Vec<Diagnostic>) {
    let bytes = std::fs::read(case.join("Dockerfile")).unwrap();
    let given: Vec<Given> =
        serde_json::from_slice(&std::fs::read(case.join("diagnostics.json")).unwrap()).unwrap();
    let made = given.into_iter().map(|given| diagnostic(&bytes, given)).collect();
    (bytes, made)
}

fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let value = serde_json::to_string_pretty(&value).unwrap();
    value.replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n"
}

fn plain(name: &str, bytes: &[u8], diagnostics: &[Diagnostic]) -> String {
    render_all(diagnostics, bytes, &Style { paint: Paint::Plain, name })
}

#[test]
fn a_failure_shows_its_instruction() {
    let text = b"FROM a\nRUN make \\\n  all\n";
    let shown = excerpt(
        "Dockerfile",
        text,
        Span { start: 7, end: 23 },
        "exit code: 2\nand \x1b[2Jmore",
        Paint::Plain,
    );
    let expected = [
        "error: exit code: 2",
        "and \u{fffd}[2Jmore",
        "  --> Dockerfile:2:1",
        "   |",
        " 2 | RUN make \\",
        "   | ^^^^^^^^^^",
        " 3 |   all",
        "   |   ^^^",
        "",
    ];
    assert_eq!(shown, expected.join("\n"));
}

#[test]
fn every_form_is_as_recorded() {
    for case in cases("diagnostics") {
        let (bytes, diagnostics) = load(&case);
        let name = "app/Dockerfile";
        check(&case.join("expected.txt"), &plain(name, &bytes, &diagnostics));
        check(&case.join("expected.json"), &pretty(&json(&diagnostics, &bytes, name)));
        check(&case.join("expected.sarif"), &pretty(&sarif(&diagnostics, &bytes, name)));
        check(&case.join("expected.github"), &github(&diagnostics, &bytes, name));
    }
}

#[test]
fn colour_changes_no_word() {
    for case in cases("diagnostics") {
        let (bytes, diagnostics) = load(&case);
        let coloured = render_all(&diagnostics, &bytes, &Style { paint: Paint::Colour, name: "Dockerfile" });
        assert!(coloured.contains("\x1b[1;3"), "{}", case.display());
        let mut uncoloured = coloured;
        for code in ["1;31", "1;33", "32", "34", "2", "1", "0"] {
            uncoloured = uncoloured.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(uncoloured, plain("Dockerfile", &bytes, &diagnostics), "{}", case.display());
    }
}

#[test]
fn nothing_wrong_is_nothing_shown() {
    assert_eq!(plain("Dockerfile", b"FROM scratch\n", &[]), "");
    assert_eq!(github(&[], b"", "Dockerfile"), "");
}

#[test]
fn places_outside_the_text_do_no_harm() {
    let far = Span { start: 900, end: 1000 };
    for bytes in [&b""[..], b"FROM a", b"FROM a\n"] {
        for at in [far, Span { start: 0, end: 900 }, Span { start: 3, end: 1 }, Span { start: 0, end: 0 }] {
            let made = Diagnostic::error(RuleCode::new("x"), "m", at, "l").with_suggestion(at, "new");
            let all = [made];
            let shown = plain("Dockerfile", bytes, &all);
            assert!(shown.starts_with("error[x]: m\n"), "{shown}");
            for form in [json, sarif, github] {
                assert!(form(&all, bytes, "Dockerfile").contains('x'));
            }
        }
    }
}
