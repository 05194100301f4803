//! `docs/security.md`, held to its word: the tables' scripts are run in steps, and its list of escapes is the list of tests.

use std::collections::BTreeSet;

use crate::support::{World, shell};
use mica_executor::{IdMode, MountKind, MountSpec, OutsideCommand, RunSpec};

const PAGE: &str = include_str!("../../../../docs/security.md");

pub(crate) fn every_row_is_true(world: &World) {
    let host = host(world);
    let mut wrong = Vec::new();
    let rows = rows(5);
    assert!(rows.len() > 30, "only {} rows were found", rows.len());
    for row in rows {
        let [what, script, cells @ ..] = &row[..] else { unreachable!("rows have five cells") };
        let cell = match world.mode {
            IdMode::Root => &cells[0],
            IdMode::Range => &cells[1],
            IdMode::Single => &cells[2],
        };
        let expected = code(if cell == "same" { &cells[0] } else { cell });
        let printed = run(world, &code(script), &host);
        if printed != expected {
            wrong.push(format!("{what}: expected `{expected}`, got `{printed}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub(crate) fn every_escape_is_listed(_: &World) {
    let known: BTreeSet<&str> = super::ALL.iter().map(|(name, _)| *name).collect();
    let listed: BTreeSet<String> =
        rows(3).iter().flat_map(|row| row[1].split_whitespace().map(code).collect::<Vec<_>>()).collect();
    for name in &listed {
        assert!(known.contains(name.as_str()), "`{name}` is no test");
    }
    for name in known.iter().filter(|name| name.starts_with("escapes::")) {
        assert!(listed.contains(*name), "`{name}` is not in the list");
    }
}

/// Returns the rows, without heads and rules, of the tables with so many columns.
fn rows(columns: usize) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let line = line.replace("\\|", "\0");
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?.to_owned();
        Some(inner.split(" | ").map(|cell| cell.trim().replace('\0', "|")).collect::<Vec<_>>())
    };
    let is_row = |row: &Vec<String>| row.len() == columns && row[1] != "---" && row[1].starts_with('`');
    PAGE.lines().filter_map(cells).filter(is_row).collect()
}

fn code(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// Runs a script and returns its words.
fn run(world: &World, script: &str, host: &str) -> String {
    let mut spec = RunSpec { ..shell(script) };
    if script.contains("/host") {
        let kind = MountKind::File { content: host.to_owned(), mode: 0o444 };
        spec.mounts = vec![MountSpec { target: "/host".into(), kind }];
    }
    let ran = world.run(&spec, world.launch());
    if let Err(error) = &ran.result {
        return error.to_string();
    }
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The namespaces mica was started in, one a line, then a path of the host.
fn host(world: &World) -> String {
    let argv = ["sh", "-c", "for n in /proc/self/ns/*; do readlink $n; done"].map(str::to_owned).to_vec();
    let output = world.outside.run(&OutsideCommand { argv, ..OutsideCommand::default() }, None).unwrap();
    format!("{}{}\n", String::from_utf8(output.stdout).unwrap(), world.base.display())
}
