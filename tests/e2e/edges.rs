//! Every place where the sources touch the disk is a fault point, so that `tests/withstand/kills` can kill and fail it.

use std::path::{Path, PathBuf};

/// Where files are changed: the store, what a COPY makes, and outputs.
const PLACES: [&str; 9] = [
    "cache/src",
    "cli/src/engine/build_log.rs",
    "cli/src/engine/output",
    "cli/src/engine/spool.rs",
    "executor/src/copy/write",
    "image/src/index/file.rs",
    "image/src/layout.rs",
    "image/src/root_dir/mod.rs",
    "image/src/unpack",
];

/// What changes or lists files.
const CALLS: [&str; 20] = [
    "fs::write(",
    "fs::rename(",
    "fs::create_dir",
    "fs::remove_",
    "fs::hard_link(",
    "fs::read(",
    "fs::read_dir(",
    "File::create(",
    "File::open(",
    "mkdirat(",
    "renameat",
    "unlinkat(",
    "symlinkat(",
    "mknodat(",
    "fchown(",
    "fchmod(",
    "futimens(",
    "utimensat(",
    "syncfs(",
    "flock(",
];

/// Functions whose callers come to a point just before, and those that go on whatever happens.
const WITHIN: [&str; 19] = [
    "rename_noreplace",
    "remove_nested",
    "remove_any",
    "open_modes",
    "disk_usage",
    "allocated",
    "remove",
    "restore_time",
    "make_node",
    "drop",
    "looks_like",
    "fill",
    "finish_node",
    "moved",
    "node",
    "kept_entries",
    "current_context",
    "host_of",
    "set_file_attributes",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the code of all files at and below a place, without their tests.
fn sources(place: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if !name.contains("test") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

/// Splits code before each function; gives its name and the rest up to the next.
fn functions(code: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in code.lines() {
        let declared = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let declared = declared.trim_start_matches("pub(super) ").trim_start_matches("const ");
        if let Some(rest) = declared.strip_prefix("fn ") {
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            found.push((name.to_owned(), String::new()));
        }
        if let Some((_, body)) = found.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    found
}

#[test]
fn whatever_touches_the_disk_is_a_fault_point() {
    let mut seen = 0;
    for place in PLACES {
        for (path, code) in sources(&root().join(place)) {
            for (name, body) in functions(&code) {
                let body = body.replace("IndexFile::open(", "");
                let call = CALLS.iter().find(|call| body.contains(**call));
                let Some(call) = call.filter(|_| !WITHIN.contains(&name.as_str())) else { continue };
                seen += 1;
                let file = path.display();
                assert!(
                    body.contains("reach("),
                    "`{name}` in {file} calls `{call}` and comes to no fault point"
                );
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn every_fault_point_is_somewhere() {
    let declared = std::fs::read_to_string(root().join("image/src/fault.rs")).unwrap();
    let names: Vec<&str> = declared
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(" = \"").map(|(name, _)| name))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let crates = ["cache", "cli", "executor", "image", "remote"];
    let code: Vec<String> = crates
        .iter()
        .flat_map(|name| sources(&root().join(name).join("src")))
        .filter(|(path, _)| !path.ends_with("fault.rs"))
        .map(|(_, code)| code)
        .collect();
    for name in names {
        let point = format!("Point::{name})");
        assert!(code.iter().any(|code| code.contains(&point)), "nothing comes to {point}");
    }
}
