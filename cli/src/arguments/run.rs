//! `mica run`.

use clap::Args;
use mica_solver::graph::NetworkMode;

use super::error::ArgumentError;
use super::values::{assignment, network_mode};
use crate::engine::request::RunRequest;
use crate::environment::Environment;

const EXAMPLES: &str = "\
Examples:
  mica run --rm app                    run the image's own command
  mica run --rm app ls -l /srv         run another; its flags are not mica's
  mica run --rm -it debian bash        with a terminal
  mica run --rm --entrypoint sh app    without the image's entrypoint

The exit code is the command's; 125 means mica failed, 126 that the command could not be started,
127 that it was not found.";

/// `mica run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "mica run [OPTIONS] IMAGE [COMMAND]...")]
pub(crate) struct RunArguments {
    /// Remove the container's changes when it ends; without it they are kept, and where is told
    #[arg(long)]
    rm: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without a value it is taken from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run PROGRAM instead of the image's entrypoint; an empty one takes the entrypoint away
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The command's network: `default`, `none` or `host`
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: String,
    /// The image, then the command and all its arguments
    // One list, so that everything after the image is the command's, also what looks like a flag of mica.
    #[arg(required = true, value_name = "IMAGE [COMMAND]", trailing_var_arg = true)]
    image_and_command: Vec<String>,
}

/// Makes the request.
pub(crate) fn run_request(
    arguments: &RunArguments,
    environment: &dyn Environment,
) -> Result<RunRequest, ArgumentError> {
    let (image, command) = arguments.image_and_command.split_first().expect("clap demands one word or more");
    let mut env = Vec::new();
    for word in &arguments.env {
        env.extend(assignment("--env", word, environment)?);
    }
    Ok(RunRequest {
        image: image.clone(),
        command: command.to_vec(),
        entrypoint: arguments.entrypoint.clone(),
        env,
        user: arguments.user.clone(),
        workdir: arguments.workdir.clone(),
        network: run_network(&arguments.network)?,
        tty: arguments.tty,
        interactive: arguments.interactive,
        keep: !arguments.rm,
    })
}

/// Like a build's, with docker's other word for the default.
fn run_network(word: &str) -> Result<NetworkMode, ArgumentError> {
    network_mode(if word == "bridge" { "default" } else { word })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::values::tests::Fake;
    use crate::arguments::{Command, CommandLine};

    fn request(words: &[&str]) -> Result<RunRequest, ArgumentError> {
        let line = CommandLine::try_parse_from([&["mica", "run"], words].concat()).unwrap();
        let Command::Run(arguments) = line.command else { panic!("not a run: {words:?}") };
        run_request(&arguments, &Fake::with(&[("LANG", "C")]))
    }

    #[test]
    fn the_commands_own_flags_are_left_alone() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["--rm", "app"], &[]),
            (&["app", "ls", "-l", "/srv"], &["ls", "-l", "/srv"]),
            (&["app", "--rm", "--help"], &["--rm", "--help"]),
            (&["app", "-c", "exit 3"], &["-c", "exit 3"]),
            (&["-it", "app", "sh", "--", "-x"], &["sh", "--", "-x"]),
        ];
        for (words, command) in cases {
            let request = request(words).unwrap();
            assert_eq!(
                (request.image.as_str(), request.command),
                ("app", command.iter().map(|w| (*w).to_owned()).collect())
            );
        }
    }

    #[test]
    fn options_become_the_request() {
        let made = request(&["-it", "-e", "A=1", "-e", "LANG", "-e", "UNSET", "-u", "5", "-w", "/x", "app"])
            .unwrap();
        assert!(made.tty && made.interactive && made.keep);
        assert_eq!(made.env, [("A".to_owned(), "1".to_owned()), ("LANG".to_owned(), "C".to_owned())]);
        assert_eq!((made.user.as_deref(), made.workdir.as_deref()), (Some("5"), Some("/x")));
        assert!(!request(&["--rm", "app"]).unwrap().keep);
        assert_eq!(request(&["--network", "bridge", "app"]).unwrap().network, NetworkMode::Default);
    }

    #[test]
    fn an_unknown_flag_before_the_image_is_an_error() {
        let error = CommandLine::try_parse_from(["mica", "run", "--entrypont", "sh", "app"]).unwrap_err();
        assert!(error.to_string().contains("--entrypoint"), "{error}");
    }
}
