//! `mica enter`.

use std::collections::BTreeMap;

use clap::Args;

use super::error::ArgumentError;
use super::request::new_name;
use super::secret;
use crate::engine::build_steps::{End, Whence};
use crate::engine::enter::{EnterRequest, Entry};
use crate::engine::request::SecretSource;
use crate::environment::Environment;

const EXAMPLES: &str = "\
Examples:
  mica enter                        a shell where the last step that failed left off
  mica enter '#7'                   after step #7 of the last build
  mica enter --input build:12       before the step of line 12 of the stage `build`
  mica enter build -- ls -l /out    a command at the end of a stage
  mica enter --save app:fixed       keep what is done there as the image `app:fixed`

The sandbox is the step's: files, variables, user, directory, mounts, network. What is done there is gone afterwards, but for what is
written to cache mounts; with --save it becomes a layer of a new version. The exit code is the command's own; 125 where mica failed.";

/// `mica enter`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "mica enter [OPTIONS] [STEP] [-- COMMAND...]")]
pub(crate) struct EnterArguments {
    /// A step of the last build: `#7`, `stage:line`, or a stage [default: the step that failed last]
    #[arg(value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Show the files the step started with, not those it left
    #[arg(long)]
    input: bool,
    /// Save what is done as a version of NAME
    #[arg(long, value_name = "NAME[:TAG]")]
    save: Option<String>,
    /// A secret of the step, where it is not where it was: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`
    #[arg(long, value_name = "id=…[,src=…|,env=…]")]
    secret: Vec<String>,
    /// An ssh agent or keys of the step, where they are not where they were
    #[arg(long, value_name = "ID[=PATH]")]
    ssh: Vec<String>,
    /// A command instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl EnterArguments {
    /// Returns which side of the step is meant.
    pub(crate) fn end(&self) -> End {
        if self.input { End::Before } else { End::After }
    }
}

/// Makes the request: secrets and agents that are given, and those of the build that are in variables.
pub(crate) fn enter_request(
    arguments: &EnterArguments,
    entry: &Entry,
    tty: bool,
    environment: &dyn Environment,
) -> Result<EnterRequest, ArgumentError> {
    let mut secrets: BTreeMap<String, SecretSource> = BTreeMap::new();
    for (id, whence) in entry.secrets() {
        if let Whence::Variable(name) = whence {
            secrets.extend(secret::value_of(name, environment).map(|source| (id.to_owned(), source)));
        }
    }
    for word in &arguments.secret {
        secrets.extend([secret::secret(word, environment)?]);
    }
    let ssh = arguments.ssh.iter().map(|word| secret::ssh(word, environment));
    Ok(EnterRequest {
        command: arguments.command.clone(),
        secrets,
        ssh: ssh.collect::<Result<_, _>>()?,
        tty,
        save: arguments.save.as_deref().map(|word| new_name("--save", word)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Command, CommandLine};

    #[test]
    fn step_and_command_are_told_apart() {
        let check = |words: &[&str], step: Option<&str>, end, command: &[&str]| {
            let line = CommandLine::try_parse_from([&["mica", "enter"], words].concat()).unwrap();
            let Command::Enter(arguments) = line.command else { panic!("not enter: {words:?}") };
            assert_eq!((arguments.step.as_deref(), arguments.end()), (step, end), "{words:?}");
            assert_eq!(arguments.command, command, "{words:?}");
        };
        check(&[], None, End::After, &[]);
        check(&["#7"], Some("#7"), End::After, &[]);
        check(&["--input", "build:12"], Some("build:12"), End::Before, &[]);
        check(&["--", "ls", "-l"], None, End::After, &["ls", "-l"]);
        check(&["build", "--", "sh", "--input"], Some("build"), End::After, &["sh", "--input"]);
    }
}
