//! Variable expansion and quote removal in Dockerfile words.
//!
//! The rules are the reference builder's, not a shell's: one pass that removes quotes and escapes and substitutes `$name` and
//! `${name…}`. What a word may see is a [`Variables`]; nothing here knows of ARG or ENV. Every entry point also says which names were
//! looked up, found or not, because that is what cache keys and the undefined-variable check need.

mod lexer;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lexer::Lexer;
pub(crate) use lexer::Word;

use crate::syntax::Escape;

/// The variables a word may use.
pub trait Variables {
    /// Returns the value of `name`, or `None` when it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        HashMap::get(self, name).map(String::as_str)
    }
}

/// No variables at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text with quotes removed and variables replaced.
    pub text: String,
    /// Names that were looked up and set.
    pub matched: BTreeSet<String>,
    /// Names that were looked up and not set.
    pub unmatched: BTreeSet<String>,
}

/// A text split into words after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WordsExpansion {
    /// The words, without quotes; a word that is empty after expansion is left out.
    pub words: Vec<String>,
    /// Names that were looked up and set.
    pub matched: BTreeSet<String>,
    /// Names that were looked up and not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A `'` has no partner.
    #[error("unexpected end of statement while looking for matching single-quote")]
    UnterminatedSingleQuote,
    /// A `"` has no partner.
    #[error("unexpected end of statement while looking for matching double-quote")]
    UnterminatedDoubleQuote,
    /// A `${` is not closed.
    #[error("missing `}}` after `${{`")]
    MissingBrace,
    /// A `${name/pattern` has no second `/`.
    #[error("missing `/` in `${{…/…/…}}`")]
    MissingSlash,
    /// `${}`, `${:…}` or `${{`.
    #[error("bad substitution: `${{` must be followed by a variable name")]
    BadSubstitution,
    /// An operator that does not exist, as in `${name:!x}`.
    #[error("unsupported modifier `{modifier}` in substitution of `{name}`")]
    UnsupportedModifier {
        /// The variable.
        name: String,
        /// The operator as written.
        modifier: String,
    },
    /// `${name?message}` of a variable that is not set (or empty under `:?`).
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message after `?`, or a standard one.
        message: String,
    },
    /// A pattern after `#`, `%` or `/` that escapes something other than `*`, `?` or the escape itself.
    #[error("invalid pattern `{pattern}` in substitution: nothing to escape after `\\`")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
    },
    /// More `${` inside each other than anybody writes.
    #[error("substitutions are nested too deeply")]
    TooDeep,
}

/// What happens to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They group and are removed.
    Remove,
    /// They group and stay.
    Keep,
    /// They are ordinary characters.
    Literal,
}

/// The settings of one pass.
#[derive(Debug, Clone, Copy)]
struct Options {
    escape: char,
    quotes: Quotes,
    /// Whether an escape character stays in front of what it escapes.
    raw_escapes: bool,
    /// Whether a variable that is not set stays as written.
    keep_unset: bool,
    /// Whether a word loses what stands before a `${name…}` with an operator.
    forget_prefix: bool,
}

impl Options {
    fn word(escape: Escape) -> Self {
        let escape = escape.character();
        Options {
            escape,
            quotes: Quotes::Remove,
            raw_escapes: false,
            keep_unset: false,
            forget_prefix: false,
        }
    }

    /// For the search of heredocs, where nothing is set.
    fn heredoc(quotes: Quotes) -> Self {
        Options { quotes, keep_unset: true, forget_prefix: true, ..Options::word(Escape::Backslash) }
    }
}

/// Expands one word of an instruction.
pub fn expand(word: &str, escape: Escape, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
    run(word, Options::word(escape), variables)
}

/// Expands a text and then splits it at unquoted blanks (EXPOSE).
pub fn expand_words(
    text: &str,
    escape: Escape,
    variables: &dyn Variables,
) -> Result<WordsExpansion, ExpandError> {
    let mut lexer = Lexer::new(text, Options::word(escape), variables);
    let output = lexer.process()?;
    let words = output.words.into_iter().map(|word| word.text).collect();
    Ok(WordsExpansion { words, matched: lexer.matched, unmatched: lexer.unmatched })
}

/// Expands the body of a heredoc: quotes are ordinary characters, and the escape is a backslash whatever the file says.
pub fn expand_body(body: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
    run(body, Options { quotes: Quotes::Literal, ..Options::word(Escape::Backslash) }, variables)
}

/// Expands a command line for display: quotes stay, and so does what is not set.
pub fn expand_for_display(
    text: &str,
    escape: Escape,
    variables: &dyn Variables,
) -> Result<Expansion, ExpandError> {
    run(text, Options { quotes: Quotes::Keep, keep_unset: true, ..Options::word(escape) }, variables)
}

fn run(text: &str, options: Options, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
    let mut lexer = Lexer::new(text, options, variables);
    let output = lexer.process()?;
    Ok(Expansion { text: output.text, matched: lexer.matched, unmatched: lexer.unmatched })
}

/// Splits a command line for the search of heredocs: quotes and escapes stay, variables stay as written.
pub(crate) fn split_raw(line: &str) -> Result<Vec<Word>, ExpandError> {
    let options = Options { raw_escapes: true, ..Options::heredoc(Quotes::Keep) };
    Ok(Lexer::new(line, options, &NoVariables).process()?.words)
}

/// Splits the word of a heredoc, once with quotes removed and once with quotes kept.
pub(crate) fn split_heredoc_word(word: &str) -> Result<(Vec<Word>, Vec<Word>), ExpandError> {
    let plain = Lexer::new(word, Options::heredoc(Quotes::Remove), &NoVariables).process()?.words;
    let raw = Lexer::new(word, Options::heredoc(Quotes::Keep), &NoVariables).process()?.words;
    Ok((plain, raw))
}
