//! Files that no two runs of a step write the same and nothing needs: logs, caches, backups. They are left out of layers.
//!
//! A removal that a step makes is never left out, and where the tree below has such a file, that one stays.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use mica_cache::layer::Written;
use mica_solver::LeftOutFiles;

use super::Reproducible;

/// Files of one kind.
struct Noise {
    name: &'static str,
    /// Raised whenever it covers other files than before: the keys of RUN steps have it.
    version: u32,
    rule: Rule,
}

enum Rule {
    /// Those at these paths, or below. `*` is any part of one component.
    At(&'static [&'static str]),
    /// Compiled Python that names the time of its source, which is another in the image: Python would not use it.
    DatedBytecode,
}

const NOISE: &[Noise] = &[
    at("ldconfig-cache", &["var/cache/ldconfig/aux-cache"]),
    at("font-caches", &["var/cache/fontconfig/*", "root/.cache/fontconfig", "home/*/.cache/fontconfig"]),
    at("machine-id", &["etc/machine-id", "var/lib/dbus/machine-id"]),
    at("apt-logs", &["var/log/apt/*"]),
    at("apt-caches", &["var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin"]),
    at("dpkg-logs", &["var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log"]),
    at("rpm-logs", &["var/log/dnf*", "var/log/yum.log", "var/log/hawkey.log"]),
    at("apk-logs", &["var/log/apk.log"]),
    at(
        "shadow-backups",
        &["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"],
    ),
    at("man-caches", &["var/cache/man/*"]),
    at("pip-caches", &["root/.cache/pip", "home/*/.cache/pip"]),
    at("npm-caches", &["root/.npm", "home/*/.npm", "tmp/node-compile-cache", "tmp/v8-compile-cache-*"]),
    Noise { name: "python-bytecode", version: 1, rule: Rule::DatedBytecode },
];

const fn at(name: &'static str, paths: &'static [&'static str]) -> Noise {
    Noise { name, version: 1, rule: Rule::At(paths) }
}

/// Returns the names of all kinds.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NOISE.iter().map(|noise| noise.name)
}

/// Returns the names and versions of the kinds that are left out.
pub(super) fn versions(reproducible: &Reproducible) -> Vec<String> {
    let wanted = NOISE.iter().filter(|noise| reproducible.has(noise.name));
    wanted.map(|noise| format!("{} {}", noise.name, noise.version)).collect()
}

/// Says which files of a step are left out, and keeps count of them.
#[derive(Default)]
pub(crate) struct NoiseFilter {
    kinds: Vec<&'static Noise>,
    found: Mutex<BTreeMap<&'static str, LeftOutFiles>>,
}

impl NoiseFilter {
    /// Returns a filter for the kinds a build leaves out.
    pub(crate) fn new(reproducible: &Reproducible) -> Self {
        let kinds = NOISE.iter().filter(|noise| reproducible.has(noise.name)).collect();
        Self { kinds, found: Mutex::default() }
    }

    /// Returns whether a file is left out.
    pub(crate) fn covers(&self, written: &Written<'_>) -> bool {
        let Some(noise) = self.kinds.iter().find(|noise| noise.covers(written)) else { return false };
        self.count(noise.name, written.path);
        true
    }

    /// Returns what was left out, kind by kind.
    pub(crate) fn into_found(self) -> Vec<LeftOutFiles> {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Directories are read by several threads.
        found.values_mut().for_each(|files| files.paths.sort());
        found.into_values().collect()
    }

    fn count(&self, kind: &'static str, path: &[u8]) {
        const PATHS_TOLD: usize = 10;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let files = found.entry(kind).or_insert_with(|| LeftOutFiles {
            kind: kind.to_owned(),
            count: 0,
            paths: Vec::new(),
        });
        files.count += 1;
        if files.paths.len() < PATHS_TOLD {
            files.paths.push(format!("/{}", String::from_utf8_lossy(path)));
        }
    }
}

impl Noise {
    fn covers(&self, written: &Written<'_>) -> bool {
        match self.rule {
            Rule::At(patterns) => patterns.iter().any(|pattern| is_at_or_below(pattern, written.path)),
            Rule::DatedBytecode => is_dated_bytecode(written),
        }
    }
}

/// Whether a path, or a directory it is in, is what the pattern names.
fn is_at_or_below(pattern: &str, path: &[u8]) -> bool {
    let mut components = path.split(|byte| *byte == b'/');
    pattern.split('/').all(|wanted| components.next().is_some_and(|found| is_component(wanted, found)))
}

fn is_component(wanted: &str, found: &[u8]) -> bool {
    match wanted.split_once('*') {
        None => wanted.as_bytes() == found,
        Some((start, end)) => {
            found.len() >= start.len() + end.len()
                && found.starts_with(start.as_bytes())
                && found.ends_with(end.as_bytes())
        }
    }
}

/// The second word of compiled Python's head says how it is known to be fresh; 0 is by the time of the source, which follows.
fn is_dated_bytecode(written: &Written<'_>) -> bool {
    if written.is_directory || !written.path.ends_with(b".pyc") || !is_cached_bytecode(written.path) {
        return false;
    }
    let mut head = [0; 16];
    // What cannot be read is told when it is read for the layer.
    written.open().and_then(|mut file| file.read_exact(&mut head)).is_ok() && head[2..8] == *b"\r\n\0\0\0\0"
}

/// Outside of `__pycache__` the source may not be there at all.
fn is_cached_bytecode(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').rev().nth(1) == Some(b"__pycache__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_they_name_and_what_is_in_it() {
        let cases = [
            ("etc/machine-id", "etc/machine-id", true),
            ("etc/machine-id", "etc/machine-id2", false),
            ("etc/machine-id", "usr/etc/machine-id", false),
            ("home/*/.npm", "home/me/.npm/_logs/x", true),
            ("home/*/.npm", "home/.npm", false),
            ("var/log/apt/*", "var/log/apt", false),
            ("var/log/apt/*", "var/log/apt/term.log", true),
            ("var/log/dnf*", "var/log/dnf.rpm.log", true),
            ("tmp/v8-*", "tmp/v8", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(is_at_or_below(pattern, path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(is_cached_bytecode(b"a/__pycache__/b.pyc") && !is_cached_bytecode(b"a/b.pyc"));
    }

    #[test]
    fn names_are_told_apart() {
        let all: std::collections::BTreeSet<_> = super::super::names().collect();
        assert_eq!(all.len(), super::super::names().count());
    }
}
