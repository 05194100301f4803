//! `mica run`: a command in an image, in the foreground.

use std::process::ExitCode;

use super::exit::{Failure, MICA_FAILED};
use super::{say, setup};
use crate::arguments::{GlobalOptions, RunArguments, run_request};
use crate::engine::chain;
use crate::engine::run::RunError;
use crate::environment::Environment;

/// Runs the command and returns its exit code.
pub(super) fn run(
    arguments: &RunArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let request =
        run_request(arguments, environment).map_err(|error| Failure::from(error).with_code(MICA_FAILED))?;
    let engine =
        setup::engine_for_steps(global, environment).map_err(|failure| failure.with_code(MICA_FAILED))?;
    let runtime = setup::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = setup::Signals::new();
        engine.run(request, setup::any_of(&mut signals)).await
    });
    runtime.shutdown_background();
    match outcome {
        Ok(ran) => {
            if let Some(kept) = ran.kept {
                say(&format!("the container's changes are in `{}`", kept.display()));
            }
            Ok(ExitCode::from(u8::try_from(ran.code).unwrap_or(1)))
        }
        Err(error) => {
            let code = match &error {
                RunError::Start { code, .. } => *code,
                _ => MICA_FAILED,
            };
            Err(Failure::plain(chain(&error)).with_hint(error.hint()).with_code(code))
        }
    }
}
