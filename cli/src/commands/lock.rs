//! `mica lock`.

use std::process::ExitCode;

use mica_solver::EventSender;

use super::build::{explain, take_standard_input};
use super::exit::Failure;
use super::{print, say, setup};
use crate::arguments::{GlobalOptions, LockArguments, build_request};
use crate::engine::lock::{Change, LockReport, LockRequest, MakeLockError};
use crate::environment::Environment;
use crate::terminal::Paint;

/// Makes or renews a lock file; what changed goes to standard output.
pub(super) fn lock(
    arguments: &LockArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let mut build = build_request(&arguments.build, environment)?;
    let engine = setup::engine(global, environment)?;
    let _spooled = take_standard_input(&arguments.build, &mut build, &engine)?;
    let request =
        LockRequest { build, update_all: arguments.updates_all(), update: arguments.update.clone() };
    let runtime = setup::runtime()?;
    let (events, mut receiver) = EventSender::channel();
    let locking = async {
        let report = engine.lock(request, &events).await;
        drop(events);
        report
    };
    // Nothing is shown of what resolving takes; the events only have to go somewhere.
    let drain = async { while receiver.recv().await.is_some() {} };
    let (report, ()) = runtime.block_on(async { tokio::join!(locking, drain) });
    runtime.shutdown_background();
    let LockReport { lock, changes } = report.map_err(|error| match error {
        MakeLockError::Build(error) => explain(&error, Paint::for_stream(std::io::stderr(), environment)),
        other => Failure::of(&other).with_hint(other.hint()),
    })?;
    let code = print(changes.iter().map(line).collect::<String>().as_bytes())?;
    say(&format!("{}: {}", lock.shown(), lock.summary()));
    Ok(code)
}

fn line(change: &Change) -> String {
    match change {
        Change::Added { name, to } => format!("locked {name} {to}\n"),
        Change::Moved { name, from, to } => format!("moved {name} {from} -> {to}\n"),
        Change::Dropped { name } => format!("dropped {name}\n"),
    }
}
