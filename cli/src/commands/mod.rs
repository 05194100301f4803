//! The commands: words in, words out. What they do is the engine's; here it is asked for, shown, and turned into an exit code.
//!
//! stdout carries data (digests, JSON, listings), stderr everything for people.

mod build;
mod bytes;
mod check;
mod context;
mod debug;
mod diff;
mod doctor;
mod enter;
mod exit;
mod fsck;
mod image_index;
mod images;
mod lock;
mod login;
mod metadata;
mod prune;
mod push;
mod repro;
mod run;
mod setup;
mod verify;
mod versions;
mod why;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::arguments::{Command, CommandLine, ContextCommand, DebugCommand, ImageCommand};
use crate::environment::Environment;
use exit::{Failure, USAGE};

/// Runs the command this process was started for.
pub(crate) fn run(environment: &dyn Environment) -> ExitCode {
    #[cfg(debug_assertions)]
    if let Err(error) = setup::arm(environment) {
        return Failure::of(&error).with_code(USAGE).tell(environment);
    }
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return usage(&error),
    };
    setup::tracing(line.global.verbose);
    match dispatch(&line, environment) {
        Ok(code) => code,
        Err(failure) => failure.tell(environment),
    }
}

/// Help and version are data that was asked for; everything else is a mistake on the command line.
fn usage(error: &clap::Error) -> ExitCode {
    // A terminal that cannot be written to cannot be told about either.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

fn dispatch(line: &CommandLine, environment: &dyn Environment) -> Result<ExitCode, Failure> {
    let global = &line.global;
    match &line.command {
        Command::Build(arguments) => build::run(arguments, global, environment),
        Command::Run(arguments) => run::run(arguments, global, environment),
        Command::Images(arguments) => images::list(arguments, global, environment),
        Command::Inspect(arguments) => images::inspect(arguments, global, environment),
        Command::Tag(arguments) => images::tag(arguments, global, environment),
        Command::Rmi(arguments) => images::remove(arguments, global, environment),
        Command::Pull(arguments) => images::pull(arguments, global, environment),
        Command::Image(ImageCommand::Index(command)) => image_index::run(command, global, environment),
        Command::Login(arguments) => login::login(arguments, global, environment),
        Command::Logout(arguments) => login::logout(arguments, global, environment),
        Command::Push(arguments) => push::push(arguments, global, environment),
        Command::Load(arguments) => images::load(arguments, global, environment),
        Command::Save(arguments) => images::save(arguments, global, environment),
        Command::Import(arguments) => images::import(arguments, global, environment),
        Command::Why(arguments) => why::why(arguments, global, environment),
        Command::Plan(arguments) => why::plan(arguments, global, environment),
        Command::Lock(arguments) => lock::lock(arguments, global, environment),
        Command::Attest(arguments) => verify::attest(arguments, global, environment),
        Command::Verify(arguments) => verify::verify(arguments, global, environment),
        Command::Enter(arguments) => enter::run(arguments, global, environment),
        Command::Repro(arguments) => repro::run(arguments, global, environment),
        Command::Log(arguments) => versions::log(arguments, global, environment),
        Command::Rollback(arguments) => versions::rollback(arguments, global, environment),
        Command::History(arguments) => versions::history(arguments, global, environment),
        Command::Diff(arguments) => diff::run(arguments, global, environment),
        Command::Blame(arguments) => bytes::blame(arguments, global, environment),
        Command::Size(arguments) => bytes::size(arguments, global, environment),
        Command::Prune(arguments) => prune::prune(arguments, global, environment),
        Command::Du(arguments) => prune::usage(arguments, global, environment),
        Command::Doctor => doctor::run(),
        Command::Fsck(arguments) => fsck::run(arguments, global, environment),
        Command::Context(ContextCommand::Ls { path, file }) => context::list(path, file.as_deref()),
        Command::Completion(arguments) => {
            let mut script = Vec::new();
            clap_complete::generate(arguments.shell, &mut CommandLine::command(), "mica", &mut script);
            print(&script)
        }
        Command::Debug(DebugCommand::Parse(arguments)) => debug::parse(arguments),
    }
}

/// Writes data to stdout; a reader that has gone is no failure.
fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::local("cannot write to standard output", error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a value as indented JSON.
fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec_pretty(value).expect("what is printed has text keys");
    text.push(b'\n');
    print(&text)
}

/// Says something to the person.
fn say(text: &str) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(std::io::stderr(), "{text}");
}
