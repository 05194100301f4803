//! One pattern, ready to be matched.
//!
//! The reference turns a pattern into a regular expression, or into a comparison where it can. The shapes it distinguishes matter:
//! `**/name` and `dir/**` compare ends of the path and nothing else. Everything else runs here as a set of states, one step per
//! character, so no pattern takes more than its length times the path's.

use std::borrow::Cow;

use crate::glob::{BadPattern, Class, parse_class};
use crate::text::lossy;

#[derive(Debug, Clone)]
pub(super) enum Matcher {
    Exact(String),
    Prefix(String),
    /// `**` and what follows, which with its slash removed may also be the whole path.
    Suffix(String),
    Steps(Vec<Step>),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Character(char),
    /// `?`
    NotSlash,
    Class(Class),
    /// `*`
    ManyNotSlash,
    /// `**` at the end: anything.
    Many,
    /// `**` before something: nothing, or anything up to a slash. The next state is [`Step::InDirectories`].
    Directories,
    InDirectories,
}

/// What a pattern has been found to be so far.
#[derive(PartialEq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Steps,
}

impl Matcher {
    pub(super) fn compile(pattern: &str) -> Result<Matcher, BadPattern> {
        let mut shape = Shape::Exact;
        let mut steps = Vec::new();
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            match character {
                '*' if rest.as_str().starts_with('*') => {
                    let leads = steps.is_empty();
                    double_star(&mut rest, &mut shape, &mut steps);
                    if leads {
                        shape = Shape::Suffix;
                    }
                    continue;
                }
                '*' => steps.push(Step::ManyNotSlash),
                '?' => steps.push(Step::NotSlash),
                '[' => steps.push(Step::Class(parse_class(&mut rest)?)),
                '\\' => steps.push(Step::Character(rest.next().ok_or(BadPattern)?)),
                ']' => steps.push(Step::Character(']')),
                _ => {
                    steps.push(Step::Character(character));
                    continue;
                }
            }
            shape = Shape::Steps;
        }
        Ok(match shape {
            Shape::Exact => Matcher::Exact(pattern.to_owned()),
            Shape::Prefix => Matcher::Prefix(pattern[..pattern.len() - 2].to_owned()),
            Shape::Suffix => Matcher::Suffix(pattern[2..].to_owned()),
            Shape::Steps => Matcher::Steps(steps),
        })
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Matcher::Exact(text) => path == text.as_bytes(),
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_bytes())
                    || suffix.strip_prefix('/').is_some_and(|name| path == name.as_bytes())
            }
            Matcher::Steps(steps) => {
                let text = std::str::from_utf8(path).map_or_else(|_| Cow::Owned(lossy(path)), Cow::Borrowed);
                run(steps, &text)
            }
        }
    }
}

/// Reads the second star of `**` and a slash after it.
fn double_star(rest: &mut std::str::Chars<'_>, shape: &mut Shape, steps: &mut Vec<Step>) {
    rest.next();
    if rest.as_str().starts_with('/') {
        rest.next();
    }
    if !rest.as_str().is_empty() {
        steps.extend([Step::Directories, Step::InDirectories]);
        *shape = Shape::Steps;
    } else if *shape == Shape::Exact {
        *shape = Shape::Prefix;
    } else {
        steps.push(Step::Many);
        *shape = Shape::Steps;
    }
}

/// The states a match can be in: a bit for each step, and one past the last for the end.
struct States {
    words: Vec<u64>,
}

impl States {
    fn new(steps: &[Step]) -> Self {
        States { words: vec![0; steps.len() / 64 + 1] }
    }

    /// Adds a state, and those reached from it without a character.
    fn add(&mut self, steps: &[Step], mut state: usize) {
        loop {
            self.words[state / 64] |= 1 << (state % 64);
            match steps.get(state) {
                Some(Step::ManyNotSlash | Step::Many) => state += 1,
                Some(Step::Directories) => {
                    self.words[(state + 1) / 64] |= 1 << ((state + 1) % 64);
                    state += 2;
                }
                _ => return,
            }
        }
    }

    fn has(&self, state: usize) -> bool {
        self.words[state / 64] & (1 << (state % 64)) != 0
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit)
            })
        })
    }
}

fn run(steps: &[Step], path: &str) -> bool {
    if let Some(Step::Character(first)) = steps.first()
        && !path.starts_with(*first)
    {
        return false;
    }
    let (mut current, mut next) = (States::new(steps), States::new(steps));
    current.add(steps, 0);
    for character in path.chars() {
        next.words.fill(0);
        for state in current.iter() {
            let Some(step) = steps.get(state) else {
                continue;
            };
            match step {
                Step::Character(literal) if *literal == character => next.add(steps, state + 1),
                Step::NotSlash if character != '/' => next.add(steps, state + 1),
                Step::Class(class) if class.accepts(character) => next.add(steps, state + 1),
                Step::ManyNotSlash if character != '/' => next.add(steps, state),
                Step::Many if character != '\n' => next.add(steps, state),
                Step::InDirectories if character != '\n' => {
                    next.add(steps, state);
                    if character == '/' {
                        next.add(steps, state + 1);
                    }
                }
                _ => {}
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
    current.has(steps.len())
}
