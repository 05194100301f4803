//! `mica doctor`: what this kernel and user allow, and how to mend what is missing.

use std::process::ExitCode;

use mica_executor::probe;

use super::exit::Failure;
use super::print;

/// Prints one line per finding; the exit code is 1 when something is missing.
pub(super) fn run() -> Result<ExitCode, Failure> {
    let findings = probe();
    let mut text = String::new();
    let mut missing = false;
    for finding in &findings {
        let mark = if finding.ok { "ok " } else { "-- " };
        text.push_str(&format!("{mark} {:<18} {}\n", finding.name, finding.detail));
        if !finding.ok {
            text.push_str(&format!("   {:<18} {}\n", "", finding.mend));
            missing = true;
        }
    }
    print(text.as_bytes())?;
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
