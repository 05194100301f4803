//! `mica enter`: a command where a step was; and the shell of `mica build --on-failure=shell`.

use std::process::ExitCode;

use super::exit::{Failure, MICA_FAILED};
use super::{say, setup};
use crate::arguments::{EnterArguments, GlobalOptions, enter_request};
use crate::engine::enter::{self, EnterError, EnterRequest, Entered, Entry};
use crate::engine::run::RunError;
use crate::engine::{Engine, chain};
use crate::environment::Environment;

/// Runs the command and returns its exit code.
pub(super) fn run(
    arguments: &EnterArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment).map_err(|failure| failure.with_code(MICA_FAILED))?;
    let found = enter::find(&engine.host.store, arguments.step.as_deref(), arguments.end());
    let entry = found.map_err(failure)?;
    let request = enter_request(arguments, &entry, has_terminal(), environment)?;
    let runtime = setup::runtime()?;
    let entered = enter(&engine, &runtime, entry, request);
    runtime.shutdown_background();
    let entered = entered?;
    if let Some(saved) = entered.saved {
        say(&format!("saved as {}@{}: {}", saved.name.familiar(), saved.version, saved.image));
    }
    Ok(ExitCode::from(u8::try_from(entered.code).unwrap_or(1)))
}

/// Runs what is asked for in a step.
pub(super) fn enter(
    engine: &Engine,
    runtime: &tokio::runtime::Runtime,
    entry: Entry,
    request: EnterRequest,
) -> Result<Entered, Failure> {
    if request.tty {
        say(&format!("in {}", entry.describe()));
    }
    let entered = runtime.block_on(async {
        let mut signals = setup::Signals::new();
        engine.enter(entry, request, say, setup::any_of(&mut signals)).await
    });
    entered.map_err(failure)
}

/// Whether both ends of a conversation are a terminal.
pub(super) fn has_terminal() -> bool {
    rustix::termios::isatty(std::io::stdin()) && rustix::termios::isatty(std::io::stdout())
}

pub(super) fn failure(error: EnterError) -> Failure {
    let code = match &error {
        EnterError::Run(RunError::Start { code, .. }) => *code,
        _ => MICA_FAILED,
    };
    Failure::plain(chain(&error)).with_hint(error.hint()).with_code(code)
}
