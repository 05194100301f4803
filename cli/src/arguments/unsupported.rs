//! Flags of the reference that mica does not have: known by name, so that each is answered with a reason.
//!
//! Some ask for what mica does anyway (`--rm`, `--provenance=false`) and are let through, with a notice where somebody might
//! expect an effect. The others are refused.

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use super::error::ArgumentError;

/// One such flag.
struct Flag {
    name: &'static str,
    short: Option<char>,
    takes: Takes,
    /// Values that ask for nothing, and are let through in silence.
    harmless: &'static [&'static str],
    answer: Answer,
}

/// What follows the flag.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// A value.
    Value,
}

/// What is said when it is used.
#[derive(Clone, Copy)]
enum Answer {
    /// The build goes on.
    Notice(&'static str),
    /// It does not.
    Refusal(&'static str),
}

use Answer::{Notice, Refusal};
use Takes::{Switch, Value};

const FALSE: &[&str] = &["false", "0", "f", "F", "FALSE", "False"];

const FLAGS: &[Flag] = &[
    flag("rm", Switch, &[], Notice("there are no intermediate containers to remove")),
    flag("force-rm", Switch, FALSE, Notice("there are no intermediate containers to remove")),
    flag("compress", Switch, FALSE, Notice("the context is read in place, so there is nothing to compress")),
    flag(
        "squash",
        Switch,
        FALSE,
        Notice("layers are not squashed; a last stage with `COPY --from` has the same effect"),
    ),
    flag(
        "disable-content-trust",
        Switch,
        &[],
        Notice("mica checks no signatures of images, with the flag or without"),
    ),
    flag("isolation", Value, &["", "default"], Refusal("it chooses between sandboxes of Windows")),
    flag(
        "security-opt",
        Value,
        &[],
        Refusal("use `--no-new-privileges`, or `RUN --security=insecure` with `--allow`"),
    ),
    flag(
        "builder",
        Value,
        &["", "default"],
        Refusal("there are no builders to choose from: mica builds in its own process"),
    ),
    flag("policy", Value, &[""], Refusal("mica evaluates no source policies")),
    flag("print", Value, &[], Refusal("use `--call=outline` or `--call=targets`")),
    Flag { short: Some('D'), ..flag("debug", Switch, FALSE, Refusal("use `-v`, or `-vv` for still more")) },
];

const fn flag(name: &'static str, takes: Takes, harmless: &'static [&'static str], answer: Answer) -> Flag {
    Flag { name, short: None, takes, harmless, answer }
}

/// The flags of the table that were used, with their last values.
#[derive(Debug, Default)]
pub(crate) struct UnsupportedFlags(Vec<(&'static str, String)>);

impl UnsupportedFlags {
    /// Returns the refusal of the first flag that has one.
    pub(super) fn refusal(&self) -> Option<ArgumentError> {
        self.answers().find_map(|(flag, answer)| match answer {
            Refusal(why) => Some(ArgumentError::Unsupported { flag, why }),
            Notice(_) => None,
        })
    }

    /// Returns what is to be said about flags that have no effect.
    pub(super) fn notices(&self) -> impl Iterator<Item = String> {
        self.answers().filter_map(|(flag, answer)| match answer {
            Notice(why) => Some(format!("`--{flag}` has no effect: {why}")),
            Refusal(_) => None,
        })
    }

    fn answers(&self) -> impl Iterator<Item = (&'static str, Answer)> {
        self.0.iter().filter_map(|(name, value)| {
            let flag = FLAGS.iter().find(|flag| flag.name == *name)?;
            (!flag.harmless.contains(&value.as_str())).then_some((flag.name, flag.answer))
        })
    }
}

impl Args for UnsupportedFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

fn argument(flag: &Flag) -> Arg {
    let argument = Arg::new(flag.name).long(flag.name).short(flag.short).hide(true).action(ArgAction::Append);
    match flag.takes {
        Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Value => argument.num_args(1),
    }
}

impl FromArgMatches for UnsupportedFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let used = FLAGS.iter().filter_map(|flag| {
            Some((flag.name, matches.get_many::<String>(flag.name)?.next_back()?.clone()))
        });
        Ok(Self(used.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(words: &[&str]) -> UnsupportedFlags {
        let command = UnsupportedFlags::augment_args(clap::Command::new("build").no_binary_name(true));
        UnsupportedFlags::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    #[test]
    fn each_flag_is_answered_by_name() {
        for flag in FLAGS {
            let word = format!("--{}", flag.name);
            let words = if flag.takes == Value { vec![word.as_str(), "x"] } else { vec![word.as_str()] };
            let used = used(&words);
            let answer = used.refusal().map(|error| error.to_string()).or_else(|| used.notices().next());
            assert!(answer.is_some_and(|text| text.starts_with(&format!("`{word}` "))), "{word}");
        }
    }

    #[test]
    fn what_mica_does_anyway_is_let_through() {
        for word in ["--squash=false", "--builder=default"] {
            let used = used(&[word]);
            assert!(used.refusal().is_none() && used.notices().next().is_none(), "{word}");
        }
        let used = used(&["--rm", "--force-rm=true"]);
        assert!(used.refusal().is_none());
        assert_eq!(used.notices().count(), 2);
    }
}
