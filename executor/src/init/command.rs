//! The step's program: its environment, where it is, and executing it.

use std::ffi::{CStr, CString};

use rustix::io::Errno;

use super::failure::Failed;
use super::setup::Setup;
use crate::spec::DEFAULT_PATH;
use crate::sys;

/// A program ready to be executed.
#[derive(Debug)]
pub(super) struct Command {
    argv: Vec<CString>,
    environment: Vec<CString>,
    /// The paths to try, in order.
    candidates: Vec<CString>,
}

pub(super) fn prepare(setup: &mut Setup) -> Result<(), Failed> {
    let spec = &setup.orders.spec;
    let environment = environment(&spec.env, &setup.identity.account.home);
    let Some(program) = spec.argv.first() else {
        return Err(Failed::because("execute the step", "no program was given"));
    };
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let candidates = candidates(program, path.unwrap_or(DEFAULT_PATH));
    setup.command = Some(Command {
        argv: c_strings(spec.argv.iter().cloned())?,
        environment: c_strings(environment.iter().map(|(name, value)| format!("{name}={value}")))?,
        candidates: c_strings(candidates)?,
    });
    Ok(())
}

/// Executes the step; returns only what went wrong.
pub(super) fn execute(setup: &Setup) -> Failed {
    let command = setup.command.as_ref().expect("the environment stage has run");
    let argv: Vec<&CStr> = command.argv.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = command.environment.iter().map(CString::as_c_str).collect();
    let mut failure = (Errno::NOENT, None);
    for candidate in &command.candidates {
        match sys::execve(candidate, &argv, &environment) {
            error @ (Errno::NOENT | Errno::NOTDIR) => {
                if exists(candidate) {
                    failure = (error, Some("the file is there, but not the interpreter or loader it names"));
                    break;
                }
            }
            error @ Errno::ACCESS => failure = (error, None),
            error => {
                failure = (error, None);
                break;
            }
        }
    }
    let program = argv.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    Failed::new(program, failure.0).with_detail(failure.1.unwrap_or_default())
}

fn exists(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok()
}

/// Returns each variable once, with its last value, and what no program should miss.
fn environment(given: &[(String, String)], home: &str) -> Vec<(String, String)> {
    let mut result: Vec<(String, String)> = Vec::with_capacity(given.len() + 2);
    for (name, value) in given {
        match result.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => result.push((name.clone(), value.clone())),
        }
    }
    if !result.iter().any(|(name, _)| name == "PATH") {
        result.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    match result.iter_mut().find(|(name, _)| name == "HOME") {
        Some((_, value)) if value.is_empty() => value.push_str(home),
        Some(_) => {}
        None => result.push(("HOME".to_owned(), home.to_owned())),
    }
    result
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let inside = |directory: &str| {
        if directory.is_empty() { format!("./{program}") } else { format!("{directory}/{program}") }
    };
    path.split(':').map(inside).collect()
}

fn c_strings(strings: impl IntoIterator<Item = String>) -> Result<Vec<CString>, Failed> {
    let convert = |string: String| {
        CString::new(string).map_err(|error| {
            let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\\0");
            Failed::because(format!("pass `{text}` to a program"), "it holds a zero byte")
        })
    };
    strings.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_gains_path_and_home_only_where_they_are_missing() {
        assert_eq!(environment(&[], "/root"), pairs(&[("PATH", DEFAULT_PATH), ("HOME", "/root")]));
        let given = pairs(&[("HOME", "/h"), ("A", "1"), ("PATH", "/p"), ("A", "2")]);
        assert_eq!(environment(&given, "/root"), pairs(&[("HOME", "/h"), ("A", "2"), ("PATH", "/p")]));
        assert_eq!(environment(&pairs(&[("HOME", ""), ("PATH", "")]), "/x")[0].1, "/x");
    }

    #[test]
    fn only_plain_names_are_searched_for() {
        assert_eq!(candidates("sh", "/bin::/usr/bin"), ["/bin/sh", "./sh", "/usr/bin/sh"]);
        assert_eq!(candidates("./sh", "/bin"), ["./sh"]);
    }
}
