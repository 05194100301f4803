//! What this machine allows, for `mica doctor`.
//!
//! Only asks: nothing is mounted, no namespace is made, nothing is changed. A kernel or a distribution can still
//! refuse what looks possible here; the errors of [`enter_user_namespace`](crate::enter_user_namespace) and
//! [`Sandbox`](crate::Sandbox) have the last word.

use std::path::Path;

use rustix::process::geteuid;
use rustix::system::uname;
use rustix::thread::CapabilitySet;

use crate::cgroup;
use crate::network::tun_problem;
use crate::rootless::{granted_ranges, refusal_hint};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in a few words.
    pub name: &'static str,
    /// Whether mica can use it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// How to mend it; empty where there is nothing to mend.
    pub mend: String,
}

/// The oldest kernel with all calls that are needed (`mount_setattr`, overlay in user namespaces).
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// From here on an overlay takes its layers one by one, so that their number is not limited by one page of text.
const KERNEL_FOR_MANY_LAYERS: (u32, u32) = (6, 5);

/// Looks at everything a sandbox needs.
pub fn probe() -> Vec<Finding> {
    let privileged = is_privileged();
    let mut findings = vec![kernel(), overlay(), seccomp(), privileges(privileged)];
    if !privileged {
        findings.push(namespaces());
        findings.push(id_range());
    }
    findings.extend([proc_mount(), tun(), network_helper(), control_groups()]);
    findings
}

fn finding(name: &'static str, ok: bool, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
    let mend = if ok { String::new() } else { mend.into() };
    Finding { name, ok, detail: detail.into(), mend }
}

fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn kernel() -> Finding {
    let release = uname().release().to_string_lossy().into_owned();
    let version = parse_release(&release);
    let mut detail = format!("Linux {release}");
    if version < KERNEL_FOR_MANY_LAYERS {
        detail.push_str(", at most some 200 layers in one image");
    }
    finding("kernel", version >= OLDEST_KERNEL, detail, "use Linux 5.12 or newer")
}

fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn overlay() -> Finding {
    let known =
        read("/proc/filesystems").lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let module = Path::new("/sys/module/overlay").exists();
    let detail = if known || module { "known to the kernel" } else { "not known to the kernel" };
    finding("overlay file system", known || module, detail, "load it with `modprobe overlay`")
}

fn seccomp() -> Finding {
    let ok = read("/proc/self/status").lines().any(|line| line.starts_with("Seccomp"));
    let detail = if ok { "supported" } else { "not supported" };
    finding("system call filter", ok, detail, "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn privileges(privileged: bool) -> Finding {
    let uid = geteuid().as_raw();
    let who = if privileged { "may mount" } else { "an ordinary user: steps run in a user namespace" };
    finding("privileges", true, format!("uid {uid}, {who}"), "")
}

fn namespaces() -> Finding {
    let is = |path: &str, refusing: &str| read(path).trim() == refusing;
    let refused = is("/proc/sys/user/max_user_namespaces", "0")
        || is("/proc/sys/kernel/unprivileged_userns_clone", "0")
        || is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1");
    let detail = if refused { "refused by a setting" } else { "no setting refuses them" };
    finding("user namespaces", !refused, detail, if refused { refusal_hint() } else { String::new() })
}

fn id_range() -> Finding {
    match granted_ranges() {
        Ok((uids, gids)) => {
            let count =
                |ranges: &[crate::rootless::Range]| ranges.iter().map(|range| range.count).sum::<u32>();
            let detail = format!("{} users and {} groups beside root", count(&uids), count(&gids));
            finding("range of ids", true, detail, "")
        }
        Err(reason) => finding(
            "range of ids",
            false,
            "none: every file in a step belongs to root, changes of owner are only pretended",
            reason,
        ),
    }
}

/// A container with covers over parts of its /proc keeps anyone inside from mounting a new one.
fn proc_mount() -> Finding {
    let covered: Vec<String> = read("/proc/self/mountinfo")
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|target| target.starts_with("/proc/") && *target != "/proc/sys/fs/binfmt_misc")
        .map(str::to_owned)
        .collect();
    let detail = if covered.is_empty() {
        "nothing is covered".to_owned()
    } else {
        format!("covered: {}", covered.join(", "))
    };
    let mend =
        "this is a container: start it with `--privileged`, or with `--security-opt systempaths=unconfined`";
    finding("/proc", covered.is_empty(), detail, mend)
}

fn tun() -> Finding {
    match tun_problem() {
        None => finding("/dev/net/tun", true, "may be opened", ""),
        Some(problem) => {
            finding("/dev/net/tun", false, "steps can only use `--network=host` or `none`", problem)
        }
    }
}

fn network_helper() -> Finding {
    let found: Vec<&str> = ["pasta", "slirp4netns"].into_iter().filter(|name| program(name)).collect();
    let detail = if found.is_empty() { "neither pasta nor slirp4netns".to_owned() } else { found.join(", ") };
    finding("network helper", !found.is_empty(), detail, "install the package `passt` or `slirp4netns`")
}

/// Looks where packages put programs; the search path belongs to the front end.
/// Returns why no step can have a network of its own here, and how to mend it; `None` where one can.
pub fn private_network_problem() -> Option<String> {
    let helper_problem = || {
        let missing = !["pasta", "slirp4netns"].into_iter().any(program);
        missing.then(|| {
            "neither pasta nor slirp4netns is installed; install the package `passt` or `slirp4netns`"
                .to_owned()
        })
    };
    tun_problem().or_else(helper_problem)
}

fn program(name: &str) -> bool {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().any(|place| Path::new(place).join(name).exists())
}

fn control_groups() -> Finding {
    let detail = match (cgroup::is_unified(), Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()) {
        (true, _) => "unified hierarchy",
        (false, true) => "one hierarchy for each controller",
        (false, false) => "not mounted",
    };
    let ok = detail != "not mounted";
    finding("control groups", ok, detail, "without them `--memory` and `--cpu-…` are refused")
}

fn read(path: &str) -> String {
    // What cannot be read is not there, and that is what the findings say.
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse_release("6.18.44-fc-v595"), (6, 18));
        assert_eq!(parse_release("5.9"), (5, 9));
        assert!(parse_release("6.5.0") >= KERNEL_FOR_MANY_LAYERS);
        assert!(parse_release("5.4.0-200-generic") < OLDEST_KERNEL);
        assert_eq!(parse_release("odd"), (0, 0));
    }

    #[test]
    fn what_is_missing_can_always_be_mended() {
        let findings = probe();
        assert!(findings.len() >= 8);
        assert!(findings.iter().all(|finding| finding.ok == finding.mend.is_empty()), "{findings:?}");
    }
}
