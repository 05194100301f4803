//! The one pass over a word: quotes, escapes, substitutions, and the split into words beside it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::pattern::{self, Reach};
use super::{ExpandError, Options, Quotes, Variables};

/// Substitutions inside each other beyond this are refused, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 250;

pub(super) struct Lexer<'a> {
    text: &'a str,
    rest: &'a str,
    options: Options,
    variables: &'a dyn Variables,
    depth: usize,
    /// How many operands of `${name…}` have been read.
    operands: usize,
    pub(super) matched: BTreeSet<String>,
    pub(super) unmatched: BTreeSet<String>,
}

/// The expanded text, whole and split.
#[derive(Default)]
pub(super) struct Output {
    pub(super) text: String,
    pub(super) words: Vec<Word>,
}

/// A word, and where in the unexpanded text it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) place: Range<usize>,
}

/// Splits what it is fed at blanks, unless it is fed as one piece.
#[derive(Default)]
struct Splitter {
    word: String,
    start: usize,
    words: Vec<Word>,
}

impl Splitter {
    fn push(&mut self, character: char, at: usize) {
        if character.is_whitespace() {
            self.flush(at);
        } else {
            self.push_whole(character.encode_utf8(&mut [0; 4]), at);
        }
    }

    fn push_whole(&mut self, text: &str, at: usize) {
        if self.word.is_empty() {
            self.start = at;
        }
        self.word.push_str(text);
    }

    fn flush(&mut self, end: usize) {
        if !self.word.is_empty() {
            let text = std::mem::take(&mut self.word);
            self.words.push(Word { text, place: self.start..end.max(self.start) });
        }
    }

    fn finish(mut self, end: usize) -> Vec<Word> {
        self.flush(end);
        self.words
    }
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, options: Options, variables: &'a dyn Variables) -> Self {
        // The reference drops a byte order mark at the start of each word it reads.
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (matched, unmatched) = (BTreeSet::new(), BTreeSet::new());
        Lexer { text, rest, options, variables, depth: 0, operands: 0, matched, unmatched }
    }

    pub(super) fn process(&mut self) -> Result<Output, ExpandError> {
        self.until(None)
    }

    fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn take_if(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.next();
        }
        found
    }

    /// Reads up to `stop` (which is consumed), or to the end of the text when there is none.
    fn until(&mut self, stop: Option<char>) -> Result<Output, ExpandError> {
        let mut text = String::new();
        let mut splitter = Splitter::default();
        while let Some(character) = self.peek() {
            let (at, operands) = (self.position(), self.operands);
            if Some(character) == stop {
                self.next();
                return Ok(Output { text, words: splitter.finish(at) });
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    self.forget_prefix(operands, &mut splitter);
                    value.chars().for_each(|character| splitter.push(character, at));
                    text.push_str(&value);
                }
                '\'' | '"' if self.options.quotes != Quotes::Literal => {
                    let quoted = if character == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    self.forget_prefix(operands, &mut splitter);
                    splitter.push_whole(&quoted, at);
                    text.push_str(&quoted);
                }
                '<' => {
                    let opener = self.possible_heredoc();
                    splitter.push_whole(&opener, at);
                    text.push_str(&opener);
                }
                _ if character == self.options.escape => {
                    let escaped = self.escaped();
                    splitter.push_whole(&escaped, at);
                    text.push_str(&escaped);
                }
                _ => {
                    self.next();
                    splitter.push(character, at);
                    text.push(character);
                }
            }
        }
        match stop {
            Some(_) => Err(ExpandError::MissingBrace),
            None => Ok(Output { text, words: splitter.finish(self.text.len()) }),
        }
    }

    /// Empties the current word if an operand has been read since `operands` were.
    ///
    /// The reference's lexer reads operands into the buffer of the word around them. Whether `1<<${N:-2}` opens a heredoc depends
    /// on it, so the search for heredocs does the same; nothing else should.
    fn forget_prefix(&self, operands: usize, splitter: &mut Splitter) {
        if self.options.forget_prefix && self.operands > operands {
            splitter.word.clear();
        }
    }

    /// An escape character outside quotes: what follows is taken as it is; at the very end it vanishes.
    fn escaped(&mut self) -> String {
        self.next();
        let escape = self.options.raw_escapes.then_some(self.options.escape);
        escape.into_iter().chain(self.next()).collect()
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let body = &self.rest[1..];
        let end = body.find('\'').ok_or(ExpandError::UnterminatedSingleQuote)?;
        let (taken, kept) = (&body[..end], &self.rest[..end + 2]);
        self.rest = &body[end + 1..];
        Ok(if self.options.quotes == Quotes::Keep { kept } else { taken }.to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.next();
        if self.options.quotes == Quotes::Keep {
            text.push('"');
        }
        loop {
            match self.peek().ok_or(ExpandError::UnterminatedDoubleQuote)? {
                '"' => {
                    self.next();
                    if self.options.quotes == Quotes::Keep {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                character if character == self.options.escape => self.escaped_in_quotes(&mut text),
                character => {
                    self.next();
                    text.push(character);
                }
            }
        }
    }

    /// An escape character inside double quotes: it escapes only `"`, `$` and itself, and stays before anything else.
    fn escaped_in_quotes(&mut self, text: &mut String) {
        let escape = self.options.escape;
        self.next();
        if self.options.raw_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(character) if character == '"' || character == '$' || character == escape => {
                self.next();
                text.push(character);
            }
            Some(_) => text.push(escape),
        }
    }

    /// `<` and `<<`; blanks after `<<` belong to the word, so that `<< EOF` stays together.
    fn possible_heredoc(&mut self) -> String {
        self.next();
        if !self.take_if('<') {
            return "<".to_owned();
        }
        let blanks = self.rest.len() - self.rest.trim_start_matches(['\t', '\r', ' ']).len();
        let opener = format!("<<{}", &self.rest[..blanks]);
        self.rest = &self.rest[blanks..];
        opener
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if !self.take_if('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.look_up(&name);
            return Ok(match value {
                None if self.options.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        if self.depth == MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What follows `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next().ok_or(ExpandError::MissingBrace)? {
            '}' => {
                let value = self.look_up(&name);
                Ok(match value {
                    None if self.options.keep_unset => format!("${{{name}}}"),
                    value => value.unwrap_or_default(),
                })
            }
            ':' => {
                let operator = self.next().ok_or(ExpandError::MissingBrace)?;
                if matches!(operator, '#' | '%') {
                    return Err(ExpandError::UnsupportedModifier { name, modifier: format!(":{operator}") });
                }
                self.conditional(name, operator, true)
            }
            operator @ ('+' | '-' | '?') => self.conditional(name, operator, false),
            operator @ ('#' | '%') => self.trimmed(name, operator),
            '/' => self.replaced(name),
            other => Err(ExpandError::UnsupportedModifier { name, modifier: other.to_string() }),
        }
    }

    /// `-`, `+` and `?`, with or without a colon that makes empty count as unset.
    fn conditional(&mut self, name: String, operator: char, colon: bool) -> Result<String, ExpandError> {
        let modifier = if colon { format!(":{operator}") } else { operator.to_string() };
        let word = self.operand('}', false, ExpandError::MissingBrace)?;
        let value = self.look_up(&name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let is_set = value.is_some();
        let value = value.filter(|value| !(colon && value.is_empty()));
        match operator {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map(|_| word).unwrap_or_default()),
            '?' => value.ok_or_else(|| {
                let standard =
                    if is_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
                ExpandError::Required {
                    name,
                    message: if word.is_empty() { standard.to_owned() } else { word },
                }
            }),
            _ => Err(ExpandError::UnsupportedModifier { name, modifier }),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trimmed(&mut self, name: String, operator: char) -> Result<String, ExpandError> {
        let word = self.operand('}', true, ExpandError::MissingBrace)?;
        let value = self.look_up(&name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let (reach, word) = match word.strip_prefix(operator) {
            Some(pattern) => (Reach::Longest, pattern),
            None => (Reach::Shortest, word.as_str()),
        };
        let trim = if operator == '#' { pattern::trim_prefix } else { pattern::trim_suffix };
        trim(word, &value.unwrap_or_default(), reach)
    }

    /// `/pattern/replacement` and `//pattern/replacement`.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.take_if('/');
        let pattern = self.operand('/', true, ExpandError::MissingSlash)?;
        let replacement = self.operand('}', true, ExpandError::MissingBrace)?;
        let value = self.look_up(&name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let replace = if all { pattern::replace_all } else { pattern::replace_first };
        replace(&pattern, &value.unwrap_or_default(), &replacement)
    }

    /// The text of an operator, itself expanded; `missing` is the error when the text ends first.
    fn operand(
        &mut self,
        stop: char,
        raw_escapes: bool,
        missing: ExpandError,
    ) -> Result<String, ExpandError> {
        self.operands += 1;
        let outer = std::mem::replace(&mut self.options.raw_escapes, raw_escapes);
        let output = self.until(Some(stop));
        self.options.raw_escapes = outer;
        match output {
            Err(ExpandError::TooDeep) => Err(ExpandError::TooDeep),
            Err(_) if self.rest.is_empty() => Err(missing),
            output => Ok(output?.text),
        }
    }

    /// A run of digits, one special parameter, or letters, digits and `_`.
    fn name(&mut self) -> String {
        let first = self.peek();
        let length = match first {
            Some(character) if is_digit(character) => self.rest.find(|c| !is_digit(c)),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => self.rest.find(|c: char| !(c.is_alphabetic() || is_digit(c) || c == '_')),
        };
        let (name, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
        self.rest = rest;
        name.to_owned()
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}
