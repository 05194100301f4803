//! `.dockerignore` files and `--exclude`: which paths of a tree are left out, and which line says so.
//!
//! The rules are those of the reference's pattern matcher, in its form for walkers: the decision about a directory is handed in with
//! each path below it. Paths are relative, with slashes, and need not be UTF-8.

mod compile;
#[cfg(test)]
mod tests;

use compile::Matcher;

use crate::glob;
use crate::go::clean;
use crate::text::lossy;

/// The patterns of a file, in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    line: u32,
    /// Whether it takes back what lines above excluded.
    negated: bool,
    text: String,
    matcher: Matcher,
}

/// What the patterns say about one path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Whether the path is left out.
    pub excluded: bool,
    /// The line (counted from 1) that decided; `None` when no line matched.
    pub line: Option<u32>,
    /// Which patterns matched, a bit each: what matches a directory matches everything below it.
    matched: Vec<u64>,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum PatternError {
    #[error("line {line}: illegal exclusion pattern `!`")]
    LoneNegation { line: u32 },
    #[error("line {line}: syntax error in pattern `{pattern}`")]
    Syntax { line: u32, pattern: String },
}

impl PatternError {
    /// Returns the line, counted from 1.
    pub fn line(&self) -> u32 {
        match self {
            PatternError::LoneNegation { line } | PatternError::Syntax { line, .. } => *line,
        }
    }
}

impl Patterns {
    /// Reads the text of a `.dockerignore` file.
    pub fn parse(text: &[u8]) -> Result<Patterns, PatternError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut patterns = Patterns::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if let Some(pattern) = line_pattern(&lossy(line)) {
                patterns.push(index as u32 + 1, &pattern)?;
            }
        }
        Ok(patterns)
    }

    /// Takes patterns one by one, as `--exclude` gives them; their numbers count as lines.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Patterns, PatternError> {
        let mut taken = Patterns::default();
        for (index, pattern) in patterns.into_iter().enumerate() {
            taken.push(index as u32 + 1, pattern)?;
        }
        Ok(taken)
    }

    fn push(&mut self, line: u32, pattern: &str) -> Result<(), PatternError> {
        let pattern = pattern.trim();
        if pattern.is_empty() {
            return Ok(());
        }
        let cleaned = clean(pattern);
        let (negated, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(PatternError::LoneNegation { line }),
            Some(text) => (true, text),
            None => (false, cleaned.as_str()),
        };
        let syntax = |_| PatternError::Syntax { line, pattern: text.to_owned() };
        glob::check(text).map_err(syntax)?;
        let matcher = Matcher::compile(text).map_err(syntax)?;
        self.patterns.push(Pattern { line, negated, text: text.to_owned(), matcher });
        Ok(())
    }

    /// Returns whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns whether some pattern starts with `!`.
    pub fn has_negations(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Returns whether some line leaves out everything at the top: `*`, `**` or `**/*`.
    pub fn excludes_root(&self) -> bool {
        self.patterns
            .iter()
            .any(|pattern| !pattern.negated && matches!(pattern.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Decides about a path, given the decision about the directory it is in; without one every directory above is looked at.
    pub fn decide(&self, path: &[u8], parent: Option<&Decision>) -> Decision {
        let mut decision =
            Decision { matched: vec![0; self.patterns.len().div_ceil(64)], ..Decision::default() };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let (word, bit) = (index / 64, 1 << (index % 64));
            let by_parent = parent
                .is_some_and(|parent| parent.matched.get(word).is_some_and(|matched| matched & bit != 0));
            // A pattern that would change nothing is not tried, which the decision below a directory depends on.
            if !by_parent
                && (pattern.negated != decision.excluded || !pattern.matches(path, parent.is_none()))
            {
                continue;
            }
            decision.matched[word] |= bit;
            decision.excluded = !pattern.negated;
            decision.line = Some(pattern.line);
        }
        decision
    }

    /// Returns whether a `!` line could take back something below a directory; `false` means an excluded one need not be entered.
    pub fn could_match_below(&self, directory: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated && could_match_below(&pattern.text, directory))
    }
}

impl Pattern {
    fn matches(&self, path: &[u8], look_above: bool) -> bool {
        self.matcher.matches(path)
            || look_above && directories_above(path).any(|directory| self.matcher.matches(directory))
    }
}

fn directories_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}

/// Reads one line: `None` for comments and blanks.
fn line_pattern(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let line = line.trim();
    let (negation, pattern) = match line.strip_prefix('!') {
        Some(pattern) => ("!", pattern.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return (!negation.is_empty()).then(|| negation.to_owned());
    }
    let cleaned = clean(pattern);
    let relative = cleaned.strip_prefix('/').filter(|relative| !relative.is_empty()).unwrap_or(&cleaned);
    Some(format!("{negation}{relative}"))
}

/// Compares part by part as far as both go; anything that could reach across a slash counts as a match.
fn could_match_below(pattern: &str, directory: &[u8]) -> bool {
    let directory = lossy(directory);
    for (part, name) in pattern.split('/').zip(directory.split('/')) {
        if part.contains("**") || part.contains(['[', ']', '\\']) {
            return true;
        }
        if !glob::matches(part, name).unwrap_or(true) {
            return false;
        }
    }
    true
}
