//! Which rules run: the `check` directive and comments of the same form above an instruction.

use std::collections::BTreeSet;

use super::Rule;
use crate::diagnostic::RuleCode;
use crate::go;
use crate::raw::directive_in;
use crate::syntax::{Dockerfile, InstructionNode, Spanned};

/// A choice of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    All,
    Named(BTreeSet<String>),
}

impl Default for Choice {
    fn default() -> Self {
        Choice::Named(BTreeSet::new())
    }
}

impl Choice {
    fn parse(names: &str) -> Choice {
        match names.trim() {
            "all" => Choice::All,
            names => Choice::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, code: RuleCode) -> bool {
        match self {
            Choice::All => true,
            Choice::Named(names) => names.contains(code.as_str()),
        }
    }
}

/// Which rules run, and whether a finding fails the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckConfig {
    skip: Choice,
    experimental: Choice,
    /// Whether a finding fails the build.
    pub error: bool,
}

/// Why a `check` setting cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid check option `{option}`")]
pub struct CheckConfigError {
    /// The part that is wrong.
    pub option: String,
}

impl CheckConfig {
    /// Reads `skip=Rule,…;error=true;experimental=Rule,…`.
    pub fn parse(text: &str) -> Result<CheckConfig, CheckConfigError> {
        let mut config = CheckConfig::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for option in text.trim().splitn(3, ';') {
            let wrong = || CheckConfigError { option: option.to_owned() };
            let (key, value) = option.split_once('=').ok_or_else(wrong)?;
            match key.trim() {
                "skip" => config.skip = Choice::parse(value),
                "experimental" => config.experimental = Choice::parse(value),
                "error" => config.error = go::parse_bool(value.trim()).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(config)
    }

    /// Reads the `check` directive of a file; without one every rule runs that is not experimental.
    pub fn of(dockerfile: &Dockerfile) -> Result<CheckConfig, CheckConfigError> {
        match &dockerfile.directives.check {
            Some(check) => CheckConfig::parse(first_word(&check.value)),
            None => Ok(CheckConfig::default()),
        }
    }

    /// Returns whether a rule runs, comments of instructions left aside.
    pub fn allows(&self, code: RuleCode) -> bool {
        if Rule::by_name(code.as_str()).is_some_and(|rule| rule.experimental) {
            return self.experimental.has(code);
        }
        !self.skip.has(code)
    }

    /// Returns whether a rule runs for an instruction, whose comments may skip it or ask for it.
    pub fn allows_at(&self, code: RuleCode, node: &InstructionNode) -> bool {
        match comment_config(&node.comments) {
            Some(own) if Rule::by_name(code.as_str()).is_some_and(|rule| rule.experimental) => {
                self.allows(code) || own.experimental.has(code)
            }
            Some(own) => self.allows(code) && !own.skip.has(code),
            None => self.allows(code),
        }
    }
}

/// Reads the first comment that is a `check` setting; one that cannot be read counts for nothing.
fn comment_config(comments: &[Spanned<String>]) -> Option<CheckConfig> {
    let settings = comments.iter().filter_map(|comment| directive_in(&comment.value));
    let (_, value) = settings.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("check"))?;
    CheckConfig::parse(first_word(value)).ok()
}

fn first_word(text: &str) -> &str {
    text.split_once(' ').map_or(text, |(word, _)| word)
}
