//! The older hierarchies, one for each controller.

use std::path::{Path, PathBuf};

use super::{CgroupError, Group, ROOT, Setting, apply, checked_parent, controllers, make_group, unavailable};
use crate::spec::Resources;

pub(super) fn create(resources: &Resources, parent: Option<&str>) -> Result<Group, CgroupError> {
    let settings = settings(resources);
    let mut wanted = controllers(&settings);
    if wanted.is_empty() {
        // Only a parent was asked for; any hierarchy shows it.
        wanted.push("memory");
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut group = Group::default();
    for controller in wanted {
        let hierarchy = Path::new(ROOT).join(controller);
        if !hierarchy.join("cgroup.procs").exists() {
            let reason =
                format!("the control groups of `{controller}` are not mounted at `{}`", hierarchy.display());
            return Err(unavailable(&settings, reason));
        }
        let above = match parent {
            Some(parent) => hierarchy.join(checked_parent(parent)?),
            None => hierarchy.join(own_group(&own, controller)),
        };
        let directory = make_group(&above).map_err(|reason| unavailable(&settings, reason))?;
        group.directories.push(directory.clone());
        if controller == "cpuset" {
            inherit_cpuset(&above, &directory).map_err(|reason| unavailable(&settings, reason))?;
        }
        let of_controller = |setting: &&Setting| setting.controller == controller;
        settings
            .iter()
            .filter(of_controller)
            .try_for_each(|one| apply(&directory, std::slice::from_ref(one)))?;
    }
    Ok(group)
}

fn own_group(own: &str, controller: &str) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        names.split(',').any(|name| name == controller).then(|| fields.next())?
    });
    PathBuf::from(path.unwrap_or("/").trim_start_matches('/'))
}

/// A new group has no processor and no memory node until it is given some.
fn inherit_cpuset(above: &Path, directory: &Path) -> Result<(), String> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = std::fs::read_to_string(above.join(file)).unwrap_or_default();
        std::fs::write(directory.join(file), value.trim())
            .map_err(|error| format!("cannot set `{file}` in `{}`: {error}", directory.display()))?;
    }
    Ok(())
}

fn settings(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |controller, file, value: Option<String>| {
        settings.extend(value.map(|value| Setting { controller, file, value }));
    };
    add("memory", "memory.limit_in_bytes", resources.memory.map(|value| value.to_string()));
    add("memory", "memory.memsw.limit_in_bytes", resources.memory_swap.map(|value| value.to_string()));
    add("cpu", "cpu.shares", resources.cpu_shares.map(|value| value.to_string()));
    add("cpu", "cpu.cfs_period_us", resources.cpu_period.map(|value| value.to_string()));
    add("cpu", "cpu.cfs_quota_us", resources.cpu_quota.map(|value| value.to_string()));
    add("cpuset", "cpuset.cpus", resources.cpuset_cpus.clone());
    add("cpuset", "cpuset.mems", resources.cpuset_mems.clone());
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_by_controller() {
        let own = "5:cpu,cpuacct:/a/b\n4:memory:/m\n0::/u\n";
        assert_eq!(own_group(own, "cpuacct"), Path::new("a/b"));
        assert_eq!(own_group(own, "memory"), Path::new("m"));
        assert_eq!(own_group(own, "cpuset"), Path::new(""));
    }

    #[test]
    fn limits_become_the_files_of_their_controllers() {
        let resources = Resources { memory: Some(5), cpu_quota: Some(-1), ..Resources::default() };
        let settings = settings(&resources);
        let lines: Vec<_> =
            settings.iter().map(|one| (one.controller, one.file, one.value.as_str())).collect();
        assert_eq!(lines, [("memory", "memory.limit_in_bytes", "5"), ("cpu", "cpu.cfs_quota_us", "-1")]);
    }
}
