//! Diagnostics in SARIF 2.1.0, the format code scanners exchange.

use std::collections::BTreeMap;

use mica_parser::diagnostic::{Diagnostic, Label, LineIndex, Suggestion};
use mica_parser::syntax::Span;
use serde_json::{Value, json};

use super::word;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Returns the diagnostics as a SARIF log.
pub(crate) fn sarif(diagnostics: &[Diagnostic], text: &[u8], name: &str) -> String {
    let page = Page { index: LineIndex::new(text), uri: uri(name) };
    let mut rules: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for diagnostic in diagnostics {
        rules.insert(diagnostic.code.as_str(), diagnostic.url.as_deref());
    }
    let order: Vec<&str> = rules.keys().copied().collect();
    let results: Vec<Value> = diagnostics.iter().map(|diagnostic| page.result(diagnostic, &order)).collect();
    let rules: Vec<Value> = rules.iter().map(|(id, url)| rule(id, *url)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "mica", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    log.to_string() + "\n"
}

fn rule(id: &str, url: Option<&str>) -> Value {
    match url {
        Some(url) => json!({ "id": id, "helpUri": url }),
        None => json!({ "id": id }),
    }
}

struct Page<'a> {
    index: LineIndex<'a>,
    uri: String,
}

impl Page<'_> {
    fn result(&self, diagnostic: &Diagnostic, rules: &[&str]) -> Value {
        let id = diagnostic.code.as_str();
        let mut result = json!({
            "ruleId": id,
            "ruleIndex": rules.iter().position(|rule| *rule == id),
            "level": word(diagnostic.severity),
            "message": { "text": message(diagnostic) },
            "locations": [self.location(&diagnostic.primary)],
        });
        if !diagnostic.secondary.is_empty() {
            let related: Vec<Value> = diagnostic.secondary.iter().map(|label| self.location(label)).collect();
            result["relatedLocations"] = Value::Array(related);
        }
        if let Some(suggestion) = &diagnostic.suggestion {
            result["fixes"] = json!([self.fix(suggestion)]);
        }
        result
    }

    fn location(&self, label: &Label) -> Value {
        let mut location = json!({
            "physicalLocation": { "artifactLocation": { "uri": self.uri }, "region": self.region(label.span) },
        });
        if !label.text.is_empty() {
            location["message"] = json!({ "text": label.text });
        }
        location
    }

    fn region(&self, span: Span) -> Value {
        let (start, end) = (self.index.position(span.start), self.index.position(span.end));
        json!({
            "startLine": start.line,
            "startColumn": start.column,
            "endLine": end.line,
            "endColumn": end.column,
            "byteOffset": span.start,
            "byteLength": span.end.saturating_sub(span.start),
        })
    }

    fn fix(&self, suggestion: &Suggestion) -> Value {
        json!({
            "artifactChanges": [{
                "artifactLocation": { "uri": self.uri },
                "replacements": [{
                    "deletedRegion": self.region(suggestion.span),
                    "insertedContent": { "text": suggestion.replacement },
                }],
            }],
        })
    }
}

/// Viewers show the message alone, so what to do is said in it.
fn message(diagnostic: &Diagnostic) -> String {
    match &diagnostic.help {
        Some(help) => format!("{} ({help})", diagnostic.message),
        None => diagnostic.message.clone(),
    }
}

/// Percent-encodes what may not stand in a relative reference.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
