//! The way into the namespace.

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid, getpid};
use rustix::thread::{CapabilitySet, UnshareFlags, set_thread_res_gid, set_thread_res_uid};
use thiserror::Error;

use super::subids::{self, Range};
use crate::outside::{Outside, OutsideCommand, OutsideError};
use crate::sys;
use crate::wire::IdMode;

const INITIAL_MAP: [u64; 3] = [0, 0, 4_294_967_295];

/// Which ids there are to be inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// A range where one is granted, a single id elsewhere.
    Auto,
    /// A range or an error.
    Range,
    /// A single id.
    Single,
}

/// Where this process is after [`enter_user_namespace`].
#[derive(Debug)]
pub struct Entered {
    /// How ids inside relate to those outside.
    pub mode: IdMode,
    /// Why there is a single id although a range was wanted where possible.
    pub why_single: Option<String>,
    /// The way to programs that must run outside.
    pub outside: Outside,
}

/// Why no user namespace could be entered.
#[derive(Debug, Error)]
pub enum EnterError {
    /// The kernel refuses user namespaces.
    #[error("cannot make a user namespace: {hint}")]
    Refused {
        /// The setting that is in the way.
        hint: String,
        /// What the kernel said.
        source: Errno,
    },
    /// There is no range of ids.
    #[error("no range of user ids: {0}")]
    NoRange(String),
    /// A map could not be written.
    #[error("cannot map user ids: {0}")]
    Map(String),
    /// The process that stays outside could not be started.
    #[error("cannot start the process that stays outside the user namespace")]
    Outside(#[source] Errno),
}

/// Makes this process root in a user and a mount namespace of its own, unless it is root already.
///
/// To be called before any thread exists.
pub fn enter_user_namespace(mapping: IdMapping) -> Result<Entered, EnterError> {
    if let Some(mode) = privileged_already() {
        return Ok(Entered { mode, why_single: None, outside: Outside::direct() });
    }
    let ranges = match mapping {
        IdMapping::Single => Err("a single id was asked for".to_owned()),
        IdMapping::Auto | IdMapping::Range => granted_ranges(),
    };
    if let (IdMapping::Range, Err(reason)) = (mapping, &ranges) {
        return Err(EnterError::NoRange(reason.clone()));
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let outside = Outside::fork().map_err(EnterError::Outside)?;
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|source| EnterError::Refused { hint: refusal_hint(), source })?;
    let (mode, why_single) = match ranges {
        Ok(granted) => {
            map_ranges(&outside, uid, gid, &granted)?;
            (IdMode::Range, None)
        }
        Err(reason) => {
            map_single(uid, gid)?;
            (IdMode::Single, (mapping == IdMapping::Auto).then_some(reason))
        }
    };
    become_root()?;
    Ok(Entered { mode, why_single, outside })
}

/// Makes root of the host root of a namespace in which ids mean what they mean outside: what only the host's root may is refused.
///
/// To be called before any thread exists, and before [`enter_user_namespace`].
pub fn enter_nested_namespace() -> Result<(), EnterError> {
    let outside = Outside::fork().map_err(EnterError::Outside)?;
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|source| EnterError::Refused { hint: refusal_hint(), source })?;
    for file in ["uid_map", "gid_map"] {
        // Only a process outside may map more than itself. Not all ids: that would be the map of the host itself.
        let path = format!("/proc/{}/{file}", getpid().as_raw_nonzero());
        let argv = ["dd", "status=none", &format!("of={path}")].map(str::to_owned).to_vec();
        let command = OutsideCommand { argv, stdin: b"0 0 65536\n".to_vec(), ..OutsideCommand::default() };
        let output = outside.run(&command, None).map_err(|error| EnterError::Map(error.to_string()))?;
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(EnterError::Map(format!("cannot write `{path}`: {}", said.trim())));
        }
    }
    become_root()
}

/// Returns the mode of a process that may mount already; inside someone's user namespace it is not the host's root.
fn privileged_already() -> Option<IdMode> {
    let held = rustix::thread::capabilities(None).ok()?;
    if !held.effective.contains(CapabilitySet::SYS_ADMIN) {
        return None;
    }
    Some(mode_of_map(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default()))
}

/// Returns what ids mean to this process before it enters any namespace; an ordinary user counts as having a range.
pub fn id_mode() -> IdMode {
    privileged_already().unwrap_or(IdMode::Range)
}

fn mode_of_map(map: &str) -> IdMode {
    let rows: Vec<Vec<u64>> = map
        .lines()
        .map(|line| line.split_whitespace().filter_map(|field| field.parse().ok()).collect())
        .collect();
    if rows.is_empty() || rows == [INITIAL_MAP] {
        return IdMode::Root;
    }
    let ids: u64 = rows.iter().filter_map(|row| row.get(2)).sum();
    if ids > 1 { IdMode::Range } else { IdMode::Single }
}

/// The ranges granted to this user, and that they can be used; or what is missing and how to get it.
pub(crate) fn granted_ranges() -> Result<(Vec<Range>, Vec<Range>), String> {
    let uid = geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = subids::user_name(&passwd, uid);
    let of = |path: &str| {
        let file = std::fs::read_to_string(path).unwrap_or_default();
        let found = subids::ranges(&file, name.as_deref(), uid);
        if found.is_empty() {
            let user = name.clone().unwrap_or_else(|| uid.to_string());
            let id = path.trim_start_matches("/etc/sub");
            return Err(format!(
                "{path} has no entry for `{user}`; add one with \
                 `usermod --add-sub{id}s 100000-165535 {user}`"
            ));
        }
        Ok(found)
    };
    let ranges = (of("/etc/subuid")?, of("/etc/subgid")?);
    for program in ["newuidmap", "newgidmap"] {
        if !["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"]
            .iter()
            .any(|directory| std::path::Path::new(directory).join(program).exists())
        {
            return Err(format!("`{program}` is missing; install the package `uidmap` (or `shadow-utils`)"));
        }
    }
    Ok(ranges)
}

fn map_ranges(
    outside: &Outside,
    uid: u32,
    gid: u32,
    (uids, gids): &(Vec<Range>, Vec<Range>),
) -> Result<(), EnterError> {
    let pid = getpid().as_raw_nonzero().to_string();
    for (program, own, ranges) in [("newuidmap", uid, uids), ("newgidmap", gid, gids)] {
        let mut argv = vec![program.to_owned(), pid.clone()];
        argv.extend(subids::map_arguments(own, ranges));
        let command = OutsideCommand { argv, ..OutsideCommand::default() };
        let output =
            outside.run(&command, None).map_err(|error: OutsideError| EnterError::Map(error.to_string()))?;
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(EnterError::Map(format!("{program} failed: {}", said.trim())));
        }
    }
    Ok(())
}

fn map_single(uid: u32, gid: u32) -> Result<(), EnterError> {
    let write = |file: &str, content: String| {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, content)
            .map_err(|error| EnterError::Map(format!("cannot write `{path}`: {error}")))
    };
    // Without this an ordinary user could drop a group that denies access.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn become_root() -> Result<(), EnterError> {
    let (user, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    // Further groups of the user are kept: they may be what makes a build context readable. Steps have their own.
    let mapped = |error: Errno| EnterError::Map(format!("cannot become root inside: {error}"));
    set_thread_res_gid(group, group, group).map_err(mapped)?;
    set_thread_res_uid(user, user, user).map_err(mapped)?;
    // The first thing that needs a capability, which some systems take away from new user namespaces.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|source| EnterError::Refused { hint: refusal_hint(), source })
}

/// Names the setting that keeps this system from giving ordinary users namespaces.
pub(crate) fn refusal_hint() -> String {
    let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts them; allow them with `sysctl kernel.apparmor_restrict_unprivileged_userns=0` \
                or with a profile for mica"
            .to_owned();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "there may be none; allow them with `sysctl user.max_user_namespaces=15000`".to_owned();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "ordinary users may not; allow them with `sysctl kernel.unprivileged_userns_clone=1`"
            .to_owned();
    }
    "the kernel or a container's system call filter refuses it; \
     inside docker use `--security-opt seccomp=unconfined` or run as root with `--privileged`"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_tells_root_of_the_host_from_root_of_a_namespace() {
        assert_eq!(mode_of_map("         0          0 4294967295\n"), IdMode::Root);
        assert_eq!(mode_of_map("0 1000 1\n"), IdMode::Single);
        assert_eq!(mode_of_map("0 1000 1\n1 100000 65536\n"), IdMode::Range);
    }

    #[test]
    fn a_refusal_always_says_what_to_do() {
        assert!(refusal_hint().contains('`'));
    }
}
