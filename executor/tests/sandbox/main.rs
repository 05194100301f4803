//! Steps in a real sandbox, seen from inside.
//!
//! The init stage is this very program started again, so the usual test harness (which owns `main`) cannot be used.
//! As root the cases run as root and then once more as an ordinary user, with a range of ids and with a single one.
//! What this machine does not allow is skipped, and said so; `MICA_REQUIRE_SANDBOX=1` makes it a failure.
#![expect(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is a test program")]

mod cases;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use mica_executor::{IdMapping, IdMode, enter_user_namespace};
use support::World;

fn main() -> ExitCode {
    mica_executor::init_stage_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == support::OVERWRITE) {
        return support::overwrite_ourselves();
    }
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let filters: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    if flag("--list") {
        return ExitCode::SUCCESS;
    }
    let mapping = if flag("--single") { IdMapping::Single } else { IdMapping::Auto };
    let entered = match enter_user_namespace(mapping) {
        Ok(entered) => entered,
        Err(error) => return skip(&format!("no user namespace: {error}")),
    };
    let mode = entered.mode;
    eprintln!(
        "\nrunning sandbox cases ({mode:?}{})",
        entered.why_single.map_or(String::new(), |why| format!(": {why}"))
    );
    let world = match World::new(mode, entered.outside) {
        Ok(world) => world,
        Err(reason) => return skip(&reason),
    };
    if flag(support::ENDLESS) {
        world.run_endless_step();
    }
    let mut failed = 0;
    for (name, case) in cases::ALL {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| case(&world)));
        eprintln!("test {mode:?}::{name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(result.is_err());
    }
    drop(world);
    if mode == IdMode::Root {
        failed += support::again_as_ordinary_user(&arguments);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn skip(reason: &str) -> ExitCode {
    eprintln!("SKIPPED all sandbox cases: {reason}");
    #[expect(clippy::disallowed_methods, reason = "how this program is run is up to its environment")]
    let required = std::env::var_os("MICA_REQUIRE_SANDBOX").is_some_and(|value| value == "1");
    if required { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
