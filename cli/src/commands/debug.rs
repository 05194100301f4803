//! `mica debug parse`: what the parser makes of files, for comparison with other parsers.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mica_parser::debug::{self, FileDescription};

use super::exit::Failure;
use crate::arguments::ParseArguments;

/// Prints one JSON object per file; `-` reads paths from standard input.
pub(super) fn parse(arguments: &ParseArguments) -> Result<ExitCode, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut write = |path: &Path| {
        serde_json::to_writer(&mut out, &describe(path)).map_err(std::io::Error::from)?;
        out.write_all(b"\n")
    };
    let failed = |error| Failure::local("cannot write to standard output", error);
    for file in &arguments.files {
        if file == Path::new("-") {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|error| Failure::local("cannot read standard input", error))?;
                write(&PathBuf::from(line)).map_err(failed)?;
            }
        } else {
            write(file).map_err(failed)?;
        }
    }
    out.flush().map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(path: &Path) -> FileDescription {
    let name = path.to_string_lossy();
    match std::fs::read(path) {
        Ok(text) => debug::describe(&name, &text),
        Err(error) => FileDescription {
            path: name.into_owned(),
            error: Some(error.to_string()),
            escape: '\\',
            nodes: Vec::new(),
        },
    }
}
