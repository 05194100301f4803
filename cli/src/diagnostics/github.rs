//! Diagnostics as workflow commands, which GitHub shows beside the lines of a change.

use mica_parser::diagnostic::{Diagnostic, LineIndex};

use super::word;

/// Returns one `::error …::…` or `::warning …::…` a line.
pub(crate) fn github(diagnostics: &[Diagnostic], text: &[u8], name: &str) -> String {
    let index = LineIndex::new(text);
    diagnostics.iter().map(|diagnostic| annotation(&index, name, diagnostic)).collect()
}

fn annotation(index: &LineIndex<'_>, file: &str, diagnostic: &Diagnostic) -> String {
    let span = diagnostic.primary.span;
    let (start, end) = (index.position(span.start), index.position(span.end));
    let mut message = diagnostic.message.clone();
    if let Some(help) = &diagnostic.help {
        message.push_str(&format!("\nhelp: {help}"));
    }
    // Columns are only understood within one line.
    let columns = if start.line == end.line {
        format!(",col={},endColumn={}", start.column, end.column)
    } else {
        String::new()
    };
    format!(
        "::{} file={},line={},endLine={}{columns},title={}::{}\n",
        word(diagnostic.severity),
        property(file),
        start.line,
        end.line,
        property(diagnostic.code.as_str()),
        data(&message),
    )
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
