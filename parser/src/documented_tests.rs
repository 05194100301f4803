//! The tables of `docs/dockerfile.md` say what the parser reads: no more, no less.

use std::collections::BTreeSet;

use crate::instruction::flags_of;
use crate::keyword::Keyword;
use crate::lint::{MORE_RULES, RULES};
use crate::mount::{KEYS, MountKind};

const PAGE: &str = include_str!("../../docs/dockerfile.md");

/// The rows of the table below a heading, cut into cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PAGE.split_once(heading).expect("the page has the heading");
    let section = section.split("\n## ").next().expect("there is a first part");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words of a cell that are code.
fn code(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn every_instruction_and_flag_has_a_row() {
    let written: BTreeSet<(String, String)> = rows("## Instructions and their flags")
        .iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].trim_matches('`').to_owned()))
        .collect();
    let mut known = BTreeSet::new();
    for keyword in Keyword::ALL {
        known.insert((keyword.name().to_owned(), String::new()));
        known.extend(
            flags_of(keyword).iter().map(|(flag, _)| (keyword.name().to_owned(), format!("--{flag}"))),
        );
    }
    assert_eq!(written, known);
}

#[test]
fn every_key_and_type_of_a_mount_is_there() {
    let rows = rows("## Mounts of RUN");
    let keys: BTreeSet<String> = rows.iter().flat_map(|row| code(row[1])).collect();
    assert_eq!(keys, KEYS.iter().map(|key| (*key).to_owned()).collect());
    let types: BTreeSet<String> = rows.iter().flat_map(|row| code(row[0])).collect();
    assert_eq!(types, MountKind::ALL.iter().map(|kind| kind.name().to_owned()).collect());
}

#[test]
fn every_check_is_there() {
    let written: BTreeSet<String> = rows("## Checks").iter().flat_map(|row| code(row[0])).collect();
    let known = RULES.iter().chain(&MORE_RULES).map(|rule| rule.code.as_str().to_owned()).collect();
    assert_eq!(written, known);
}

#[test]
fn every_directive_is_there() {
    let written: Vec<&str> = rows("## The file").iter().map(|row| row[0]).collect();
    let directives =
        crate::parse(b"# syntax=a\n# escape=`\n# check=skip=all\nFROM scratch\n").dockerfile.directives;
    assert!(directives.syntax.is_some() && directives.check.is_some());
    assert_eq!(directives.escape, crate::syntax::Escape::Backtick);
    for name in ["syntax", "escape", "check"] {
        assert!(written.contains(&format!("`# {name}=`").as_str()), "{name}");
    }
}
