//! Limits of a step by control groups.
//!
//! Both hierarchies are known: the unified one, where a writable group is looked for from our own upwards, and the
//! older one with a hierarchy for each controller. A limit that cannot be applied is an error that names it; a build
//! never runs without a limit it was asked to have.

mod unified;
mod v1;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::statfs;
use thiserror::Error;

use crate::spec::Resources;

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Why limits could not be applied.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// No control group with the needed controllers may be made here.
    #[error("cannot limit {what}: {reason}")]
    Unavailable {
        /// The limits that were asked for.
        what: String,
        /// Why they cannot be applied.
        reason: String,
    },
    /// The kernel refused a value.
    #[error("cannot set `{value}` as the limit `{}`", path.display())]
    Set {
        /// The file of the limit.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// The groups of one step, removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Group {
    directories: Vec<PathBuf>,
}

/// One limit as the kernel wants it: a controller, a file of it, and what to write.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
}

impl Group {
    /// Makes the groups for a step; none if nothing asks for one.
    pub(crate) fn create(resources: &Resources, parent: Option<&str>) -> Result<Group, CgroupError> {
        if resources.is_empty() && parent.is_none() {
            return Ok(Group::default());
        }
        if is_unified() { unified::create(resources, parent) } else { v1::create(resources, parent) }
    }

    /// Returns the files through which a process joins.
    pub(crate) fn join_files(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            remove(directory);
        }
    }
}

/// Removes a group. Its processes are dead, but the kernel may need a moment to let go of them.
fn remove(directory: &Path) {
    for _ in 0..50 {
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
    tracing::warn!(directory = %directory.display(), "cannot remove a control group");
}

/// Returns whether the host uses the unified hierarchy.
pub(crate) fn is_unified() -> bool {
    statfs(ROOT).is_ok_and(|fs| fs.f_type == CGROUP2_MAGIC)
}

const PREFIX: &str = "mica-";

fn unique_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a group for a step, after removing those of processes that ended without doing so.
fn make_group(parent: &Path) -> Result<PathBuf, String> {
    remove_leftovers(parent);
    let directory = parent.join(unique_name());
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::create_dir(&directory))
        .map_err(|error| format!("cannot make `{}`: {error}", directory.display()))?;
    Ok(directory)
}

fn remove_leftovers(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // A group that still holds processes is not removed, and one that someone else removes is gone as well.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn apply(directory: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    settings.iter().try_for_each(|setting| {
        let path = directory.join(setting.file);
        std::fs::write(&path, &setting.value).map_err(|source| CgroupError::Set {
            path,
            value: setting.value.clone(),
            source,
        })
    })
}

fn controllers(settings: &[Setting]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = settings.iter().map(|setting| setting.controller).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn unavailable(settings: &[Setting], reason: impl Into<String>) -> CgroupError {
    let names = controllers(settings);
    let what = if names.is_empty() { "the step by a control group".to_owned() } else { names.join(", ") };
    CgroupError::Unavailable { what, reason: reason.into() }
}

/// Refuses a parent that would lead out of the hierarchy.
fn checked_parent(parent: &str) -> Result<&str, CgroupError> {
    if parent.split('/').any(|name| name == "..") {
        let reason = format!("the parent group `{parent}` leads out of the hierarchy");
        return Err(CgroupError::Unavailable { what: "the step by a control group".to_owned(), reason });
    }
    Ok(parent.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_groups_of_the_living_stay() {
        let parent = tempfile::tempdir().unwrap();
        let names = ["mica-4194305-0", "mica-1-0", "mica-x", "other"];
        names.iter().for_each(|name| std::fs::create_dir(parent.path().join(name)).unwrap());
        let made = make_group(parent.path()).unwrap();
        let left: Vec<bool> = names.iter().map(|name| parent.path().join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
        assert!(
            made.file_name().unwrap().to_str().unwrap().starts_with(&format!("mica-{}-", std::process::id()))
        );
    }

    #[test]
    fn a_parent_cannot_lead_out_of_the_hierarchy() {
        assert!(checked_parent("/a/../../b").is_err());
        assert_eq!(checked_parent("/a/b/").unwrap(), "a/b");
    }
}
