//! The flags of an instruction, checked against those it has.

use crate::diagnostic::{Diagnostic, RuleCode};
use crate::raw::RawFlag;
use crate::syntax::Spanned;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagKind {
    /// Nothing, `true` or `false`.
    Boolean,
    /// A value.
    Text,
    /// A value, any number of times.
    Repeated,
}

/// A flag an instruction has.
pub(crate) type FlagSpec = (&'static str, FlagKind);

/// The flags that were given, all of them known.
#[derive(Debug)]
pub(crate) struct Flags<'a> {
    given: Vec<(&'static str, &'a RawFlag)>,
}

impl<'a> Flags<'a> {
    /// Checks the flags of `instruction`; mistakes go to `problems`.
    pub(crate) fn read(
        instruction: &str,
        flags: &'a [RawFlag],
        specs: &[FlagSpec],
        problems: &mut Vec<Diagnostic>,
    ) -> Flags<'a> {
        let mut read = Flags { given: Vec::new() };
        for flag in flags {
            match check(instruction, flag, specs, &read) {
                Ok(name) => read.given.push((name, flag)),
                Err(problem) => problems.push(*problem),
            }
        }
        read
    }

    fn first(&self, name: &str) -> Option<&'a RawFlag> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, flag)| *flag)
    }

    /// Returns the value of a flag, given or not.
    pub(crate) fn given(&self, name: &str) -> Option<&'a Spanned<String>> {
        self.first(name)?.value.as_ref()
    }

    /// Returns the value of a flag; an empty one counts as not given.
    pub(crate) fn text(&self, name: &str) -> Option<Spanned<String>> {
        self.given(name).filter(|value| !value.value.is_empty()).cloned()
    }

    /// Returns the values of a flag that may be repeated.
    pub(crate) fn all(&self, name: &str) -> Vec<Spanned<String>> {
        let flags = self.given.iter().filter(|(given, _)| *given == name);
        flags.filter_map(|(_, flag)| flag.value.clone()).collect()
    }

    /// Returns the value of a boolean flag.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let flag = self.first(name)?;
        Some(flag.value.as_ref().is_none_or(|value| value.value.eq_ignore_ascii_case("true")))
    }
}

fn check(
    instruction: &str,
    flag: &RawFlag,
    specs: &[FlagSpec],
    read: &Flags<'_>,
) -> Result<&'static str, Box<Diagnostic>> {
    let shown = &flag.name.value;
    let error = |code, message: String, label: &str| {
        let span = if code == "unknown-flag" { flag.name.span } else { flag.text.span };
        Box::new(Diagnostic::error(RuleCode::new(code), message, span, label))
    };
    let Some((name, kind)) = specs.iter().find(|(name, _)| shown.strip_prefix("--") == Some(name)) else {
        let known: Vec<String> = specs.iter().map(|(name, _)| format!("--{name}")).collect();
        let problem = error(
            "unknown-flag",
            format!("{instruction}: unknown flag `{shown}`"),
            "not a flag of this instruction",
        );
        return Err(Box::new(problem.with_nearest(flag.name.span, shown, known.iter().map(String::as_str))));
    };
    if *kind != FlagKind::Repeated
        && let Some(first) = read.first(name)
    {
        let problem =
            error("duplicate-flag", format!("{instruction}: duplicate flag `{shown}`"), "given again here");
        return Err(Box::new(problem.with_secondary(first.text.span, "first given here")));
    }
    match (kind, flag.value.as_ref().map(|value| value.value.as_str())) {
        (FlagKind::Boolean, None) => Ok(name),
        (FlagKind::Boolean, Some(value))
            if matches!(value.to_ascii_lowercase().as_str(), "true" | "false") =>
        {
            Ok(name)
        }
        (FlagKind::Boolean, Some(value)) if !value.is_empty() => Err(error(
            "bad-flag-value",
            format!("{instruction}: flag `{shown}` takes `true` or `false`, not `{value}`"),
            "not a boolean",
        )),
        (FlagKind::Boolean, Some(_)) | (_, None) => Err(error(
            "missing-flag-value",
            format!("{instruction}: missing a value on flag `{shown}`"),
            "has no value",
        )),
        (_, Some(_)) => Ok(name),
    }
}
