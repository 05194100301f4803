//! The sources keep to the architecture: edges between crates, homes of packages, where `unsafe` is, what modules say of themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The crates and those of ours they may use; ARCHITECTURE.md draws the same.
const EDGES: [(&str, &[&str]); 7] = [
    ("parser", &[]),
    ("image", &[]),
    ("solver", &["image", "parser"]),
    ("cache", &["image"]),
    ("executor", &["image"]),
    ("remote", &["image"]),
    ("cli", &["cache", "executor", "image", "parser", "remote", "solver"]),
];

/// Packages that one crate alone may use.
const HOMES: [(&str, &str); 7] = [
    ("nom", "parser"),
    ("petgraph", "solver"),
    ("flate2", "image"),
    ("tar", "image"),
    ("zstd", "image"),
    ("reqwest", "remote"),
    ("clap", "cli"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the packages a crate's code depends on; those of its tests are its own affair.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("every crate has dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    let package = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic())).map(package).collect()
}

/// Returns every Rust file below `src` of each crate.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut sources = BTreeMap::new();
    let mut open: Vec<PathBuf> = EDGES.iter().map(|(name, _)| root().join(name).join("src")).collect();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.insert(path.strip_prefix(root()).unwrap().to_owned(), text);
            }
        }
    }
    assert!(sources.len() > 50);
    sources
}

#[test]
fn crates_know_only_those_they_may() {
    for (name, allowed) in EDGES {
        let ours: Vec<String> = dependencies(name)
            .iter()
            .filter_map(|package| package.strip_prefix("mica-").map(str::to_owned))
            .collect();
        for other in ours {
            assert!(allowed.contains(&other.as_str()), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn packages_have_a_home() {
    for (package, home) in HOMES {
        for (name, _) in EDGES.iter().filter(|(name, _)| *name != home) {
            assert!(
                !dependencies(name).iter().any(|used| used == package),
                "{package} belongs to {home}, not to {name}"
            );
        }
    }
}

#[test]
fn the_engine_knows_no_front_end() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("cli/src/engine")) {
        for word in [
            "clap::",
            "crate::arguments",
            "crate::commands",
            "crate::progress",
            "crate::terminal",
            "println!",
        ] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn unsafe_code_has_one_place() {
    for (path, text) in sources() {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let mut code = text.lines().filter(is_code);
        let found = code.any(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        assert!(!found || path.starts_with("executor/src/sys"), "{}", path.display());
    }
    for (name, _) in EDGES.iter().filter(|(name, _)| *name != "executor") {
        let file = if *name == "cli" { "main.rs" } else { "lib.rs" };
        let text = std::fs::read_to_string(root().join(name).join("src").join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

#[test]
fn synchronous_crates_stay_so() {
    let synchronous = ["parser", "image", "cache", "executor"];
    for (path, text) in sources() {
        if synchronous.iter().any(|name| path.starts_with(name)) {
            assert!(!text.contains("async fn") && !text.contains(".await"), "{}", path.display());
        }
    }
}

#[test]
fn waiting_has_its_places() {
    for (path, text) in sources() {
        // The scheduler and what it drives, whatever speaks to the network, and the front end.
        let places = ["solver/src/solve", "solver/src/runner", "remote/src", "cli/src"];
        let may_wait = places.iter().any(|place| path.to_string_lossy().starts_with(place));
        if !may_wait {
            let waits = text.contains("async fn") || text.contains(".await") || text.contains("tokio::");
            assert!(!waits, "{} is no place to wait in", path.display());
        }
    }
}

#[test]
fn the_map_has_every_directory() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() && name != "target" && name != ".git" {
            assert!(map.contains(&format!("`{name}/")), "ARCHITECTURE.md does not say what `{name}/` is for");
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources() {
        let is_tests = path.file_name().is_some_and(|name| name == "tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests");
        assert!(is_tests || text.starts_with("//!"), "{} does not begin with `//!`", path.display());
    }
}
