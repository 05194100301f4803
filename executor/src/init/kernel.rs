//! `/proc` and `/sys`: the kernel's own files, without those that tell of the host or change it.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;

use super::failure::{Attempt, Failed};
use super::place::{self, Stub};
use super::setup::Setup;
use super::trees::{self, NO_DEVICES, NO_EXECUTION, NO_SUID, READ_ONLY};
use crate::cgroup;
use crate::spec::SecurityMode;

const MASKED_IN_PROC: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_IN_SYS: &[&str] = &["firmware", "devices/virtual/powercap"];
const READ_ONLY_IN_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
const KERNEL_FILES: u64 = NO_SUID | NO_DEVICES | NO_EXECUTION;

pub(super) fn mount_proc(setup: &mut Setup) -> Result<(), Failed> {
    let proc = match trees::make("proc", &[], KERNEL_FILES) {
        Err(error @ Errno::PERM) => {
            return Err(Failed::new("mount `/proc`", error).with_detail(
                "this looks like a container whose own /proc is masked: start it with an unmasked /proc \
                 (docker run --security-opt systempaths=unconfined, kubernetes procMount: Unmasked) or privileged",
            ));
        }
        proc => proc.attempt(|| "make `/proc`".into())?,
    };
    let target = own_directory(setup, "/proc")?;
    trees::attach(&proc, target).attempt(|| "mount `/proc`".into())?;
    setup.proc = Some(proc);
    Ok(())
}

pub(super) fn mount_sys(setup: &mut Setup) -> Result<(), Failed> {
    let access = if setup.orders.spec.security == SecurityMode::Sandbox { READ_ONLY } else { 0 };
    let sys = match trees::make("sysfs", &[], KERNEL_FILES | access) {
        // A user namespace may only mount the /sys of a network namespace it owns.
        Err(Errno::PERM) => {
            let host =
                trees::clone_with_submounts(CWD, "/sys").attempt(|| "clone the host's `/sys`".into())?;
            trees::restrict(&host, KERNEL_FILES | READ_ONLY).attempt(|| "restrict `/sys`".into())?;
            host
        }
        sys => sys.attempt(|| "make `/sys`".into())?,
    };
    let target = own_directory(setup, "/sys")?;
    trees::attach(&sys, target).attempt(|| "mount `/sys`".into())?;
    mount_cgroups(&sys, access)?;
    setup.sys = Some(sys);
    Ok(())
}

/// Returns the directory of the image that the kernel's files are mounted on.
fn own_directory(setup: &mut Setup, path: &str) -> Result<OwnedFd, Failed> {
    let target = setup.mount_point(path, Stub::Directory)?;
    let kind = place::file_type(&target).attempt(|| format!("look at `{path}`"))?;
    if kind != FileType::Directory {
        let what = format!(
            "the image has something else there than a directory; remove it before the step: a step needs `{path}`"
        );
        return Err(Failed::because(format!("mount `{path}`"), what));
    }
    Ok(target)
}

/// Shows the step its own control group, where the host uses the unified hierarchy.
fn mount_cgroups(sys: &OwnedFd, access: u64) -> Result<(), Failed> {
    if !cgroup::is_unified() {
        return Ok(());
    }
    let Ok(target) = place::find(sys, "fs/cgroup") else { return Ok(()) };
    let tree =
        trees::make("cgroup2", &[], KERNEL_FILES | access).attempt(|| "make `/sys/fs/cgroup`".into())?;
    trees::attach(tree, target).attempt(|| "mount `/sys/fs/cgroup`".into())
}

/// Hides or write-protects the files that tell of the host or change it. Those this kernel lacks are no concern.
pub(super) fn mask(setup: &mut Setup) -> Result<(), Failed> {
    if setup.orders.spec.security == SecurityMode::Insecure {
        return Ok(());
    }
    let proc = setup.proc.as_ref().expect("the /proc stage has run");
    let sys = setup.sys.as_ref().expect("the /sys stage has run");
    READ_ONLY_IN_PROC.iter().try_for_each(|path| protect(proc, path))?;
    MASKED_IN_PROC.iter().try_for_each(|path| hide(proc, path, setup.dev()))?;
    MASKED_IN_SYS.iter().try_for_each(|path| hide(sys, path, setup.dev()))
}

fn protect(proc: &OwnedFd, path: &str) -> Result<(), Failed> {
    let Some(target) = find_existing(proc, path)? else { return Ok(()) };
    let tree = trees::clone_with_submounts(&target, "").attempt(|| format!("clone `/proc/{path}`"))?;
    trees::restrict(&tree, KERNEL_FILES | READ_ONLY).attempt(|| format!("write-protect `/proc/{path}`"))?;
    trees::attach(tree, target).attempt(|| format!("write-protect `/proc/{path}`"))
}

fn hide(base: &OwnedFd, path: &str, dev: &OwnedFd) -> Result<(), Failed> {
    let Some(target) = find_existing(base, path)? else { return Ok(()) };
    let directory = place::file_type(&target).attempt(|| format!("look at `{path}`"))? == FileType::Directory;
    let cover = if directory {
        trees::make("tmpfs", &[("size", "0"), ("mode", "0555")], KERNEL_FILES | READ_ONLY)
    } else {
        trees::clone(dev, "null")
    };
    let cover = cover.attempt(|| format!("make a cover for `{path}`"))?;
    trees::attach(cover, target).attempt(|| format!("hide `{path}`"))
}

fn find_existing(base: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, Failed> {
    match place::find(base, path) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Failed::new(format!("open `{path}`"), error)),
    }
}
