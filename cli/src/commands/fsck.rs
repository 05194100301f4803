//! `mica fsck`: verify everything in the store, and on request drop what is wrong.
//!
//! 0 nothing wrong is left · 1 something is · 2 it could not be told.

use std::process::ExitCode;

use mica_cache::{FsckReport, LockError, Repair};

use super::exit::Failure;
use super::{print, setup};
use crate::arguments::{FsckArguments, GlobalOptions};
use crate::environment::Environment;

/// The store could not be looked at.
const UNKNOWN: u8 = 2;

/// Prints a line per finding, and what was looked at.
pub(super) fn run(
    arguments: &FsckArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment).map_err(|failure| failure.with_code(UNKNOWN))?;
    let repair = if arguments.repair { Repair::Drop } else { Repair::Nothing };
    let report = engine.host.store.fsck(repair).map_err(|error| {
        let hint = match &error {
            LockError::File(error) => error.hint().map(str::to_owned),
            LockError::Cancelled(_) => None,
        };
        Failure::of(&error).with_hint(hint).with_code(UNKNOWN)
    })?;
    print(text(&report, repair).as_bytes())?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &FsckReport, repair: Repair) -> String {
    let mut text: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
    text.push_str(&format!(
        "checked {} blobs, {} layers with {} files, {} records, {} logs and listings, {} images, {} versions of tags: {} bytes\n",
        report.blobs,
        report.layers,
        report.files,
        report.records,
        report.details,
        report.images,
        report.versions,
        report.bytes
    ));
    text.push_str(&match (report.findings.len(), report.is_clean(), repair) {
        (0, ..) => "nothing is wrong\n".to_owned(),
        (count, true, _) => format!("{count} wrong, all dropped: builds and pulls make them anew\n"),
        (count, false, Repair::Nothing) => format!("{count} wrong; `mica fsck --repair` drops them\n"),
        (count, false, Repair::Drop) => format!("{count} wrong, some of it in use: run it again later\n"),
    });
    text
}
