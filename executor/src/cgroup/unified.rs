//! The unified hierarchy.

use std::path::{Path, PathBuf};

use super::{
    CgroupError, Group, ROOT, Setting, apply, checked_parent, controllers, unavailable, unique_name,
};
use crate::spec::Resources;

pub(super) fn create(resources: &Resources, parent: Option<&str>) -> Result<Group, CgroupError> {
    let settings = settings(resources);
    let wanted = controllers(&settings);
    let directory = match parent {
        Some(parent) => {
            let parent = Path::new(ROOT).join(checked_parent(parent)?);
            make_in(&parent, &wanted).map_err(|reason| unavailable(&settings, reason))?
        }
        None => make_above_own(&wanted).map_err(|reason| unavailable(&settings, reason))?,
    };
    let group = Group { directories: vec![directory] };
    group.directories.iter().try_for_each(|directory| apply(directory, &settings))?;
    Ok(group)
}

/// Makes a group in the nearest ancestor of our own that allows it. Our own holds processes, so it may not have
/// groups with controllers in it.
fn make_above_own(wanted: &[&str]) -> Result<PathBuf, String> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let own = Path::new(ROOT).join(own.trim_start_matches('/'));
    let mut reason = "this process has no control group".to_owned();
    for ancestor in own.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(ROOT)) {
        match make_in(ancestor, wanted) {
            Ok(made) => return Ok(made),
            Err(why) => reason = why,
        }
    }
    if own == Path::new(ROOT) {
        return make_in(&own, wanted);
    }
    Err(reason)
}

fn make_in(parent: &Path, wanted: &[&str]) -> Result<PathBuf, String> {
    let available = std::fs::read_to_string(parent.join("cgroup.controllers"))
        .map_err(|error| format!("cannot read the controllers of `{}`: {error}", parent.display()))?;
    if let Some(missing) =
        wanted.iter().find(|name| !available.split_whitespace().any(|known| known == **name))
    {
        return Err(format!("`{}` has no controller `{missing}` to hand on", parent.display()));
    }
    enable(parent, wanted)?;
    let directory = parent.join(unique_name());
    std::fs::create_dir(&directory)
        .map_err(|error| format!("cannot make `{}`: {error}", directory.display()))?;
    Ok(directory)
}

fn enable(parent: &Path, wanted: &[&str]) -> Result<(), String> {
    let control = parent.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&control).unwrap_or_default();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| !enabled.split_whitespace().any(|known| known == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    std::fs::write(&control, missing.join(" "))
        .map_err(|error| format!("cannot enable {} in `{}`: {error}", missing.join(" "), parent.display()))
}

fn settings(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |controller, file, value| settings.push(Setting { controller, file, value });
    if let Some(memory) = resources.memory {
        add("memory", "memory.max", memory.to_string());
    }
    match (resources.memory_swap, resources.memory) {
        (Some(-1), _) => add("memory", "memory.swap.max", "max".to_owned()),
        // Written as memory and swap together, kept by the kernel as swap alone.
        (Some(both), Some(memory)) => {
            let swap = u64::try_from(both).unwrap_or(0).saturating_sub(memory);
            add("memory", "memory.swap.max", swap.to_string());
        }
        _ => {}
    }
    if let Some(shares) = resources.cpu_shares {
        add("cpu", "cpu.weight", weight(shares).to_string());
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let quota = resources
            .cpu_quota
            .filter(|quota| *quota > 0)
            .map_or("max".to_owned(), |quota| quota.to_string());
        add("cpu", "cpu.max", format!("{quota} {}", resources.cpu_period.unwrap_or(100_000)));
    }
    if let Some(cpus) = &resources.cpuset_cpus {
        add("cpuset", "cpuset.cpus", cpus.clone());
    }
    if let Some(nodes) = &resources.cpuset_mems {
        add("cpuset", "cpuset.mems", nodes.clone());
    }
    settings
}

/// Converts shares (2 to 262144) to a weight (1 to 10000) as container engines do.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_files_of_the_hierarchy() {
        let resources = Resources {
            memory: Some(100),
            memory_swap: Some(150),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpuset_cpus: Some("0".into()),
            ..Resources::default()
        };
        let settings = settings(&resources);
        let pairs: Vec<_> = settings.iter().map(|one| (one.file, one.value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("memory.max", "100"),
                ("memory.swap.max", "50"),
                ("cpu.weight", "39"),
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0"),
            ]
        );
        assert_eq!(controllers(&settings), ["cpu", "cpuset", "memory"]);
    }

    #[test]
    fn a_directory_that_is_no_group_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let reason = make_in(directory.path(), &["memory"]).unwrap_err();
        assert!(reason.contains(&directory.path().display().to_string()), "{reason}");
    }
}
