//! `/dev`: a small file system in memory with the few devices every program expects.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use super::failure::{Attempt, Failed};
use super::place::{self, Stub};
use super::setup::Setup;
use super::trees::{self, NO_DEVICES, NO_EXECUTION, NO_SUID};
use crate::wire::{IdMode, StdioKind};

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];
const SHM_SIZE: u64 = 64 << 20;
/// The group of terminals in every distribution.
const TTY_GROUP: &str = "5";

pub(super) fn mount_dev(setup: &mut Setup) -> Result<(), Failed> {
    let dev =
        trees::make("tmpfs", &[("mode", "0755"), ("size", "64m")], NO_SUID | setup.usual_restrictions())
            .attempt(|| "make `/dev`".into())?;
    let target = setup.mount_point("/dev", Stub::Directory)?;
    trees::attach(&dev, target).attempt(|| "mount `/dev`".into())?;
    DEVICES.iter().try_for_each(|name| add_device(&dev, name))?;
    for (to, name) in LINKS {
        symlinkat(*to, &dev, *name).attempt(|| format!("link `/dev/{name}`"))?;
    }
    let shm_size = setup.orders.spec.shm_size.unwrap_or(SHM_SIZE).to_string();
    let plain = NO_SUID | NO_DEVICES | NO_EXECUTION;
    add_mount(&dev, "shm", trees::make("tmpfs", &[("mode", "1777"), ("size", &shm_size)], plain))?;
    add_mount(&dev, "pts", make_devpts(setup.orders.ids))?;
    match trees::make("mqueue", &[], plain) {
        // Not every kernel has message queues.
        Err(Errno::NODEV) => {}
        tree => add_mount(&dev, "mqueue", tree)?,
    }
    if setup.orders.stdio == StdioKind::Terminal {
        add_console(&dev)?;
    }
    setup.dev = Some(dev);
    Ok(())
}

/// Shows a device of the host: making one is refused in a user namespace.
fn add_device(dev: &OwnedFd, name: &str) -> Result<(), Failed> {
    let device =
        trees::clone(CWD, &format!("/dev/{name}")).attempt(|| format!("clone the host's `/dev/{name}`"))?;
    add_file_mount(dev, name, &device)
}

fn add_file_mount(dev: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), Failed> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let target =
        openat(dev, name, new, Mode::from_raw_mode(0o666)).attempt(|| format!("make `/dev/{name}`"))?;
    trees::attach(tree, target).attempt(|| format!("mount `/dev/{name}`"))
}

fn add_mount(dev: &OwnedFd, name: &str, tree: Result<OwnedFd, Errno>) -> Result<(), Failed> {
    let tree = tree.attempt(|| format!("make `/dev/{name}`"))?;
    mkdirat(dev, name, Mode::from_raw_mode(0o755)).attempt(|| format!("make `/dev/{name}`"))?;
    let target = place::find(dev.as_fd(), name).attempt(|| format!("open `/dev/{name}`"))?;
    trees::attach(tree, target).attempt(|| format!("mount `/dev/{name}`"))
}

fn make_devpts(ids: IdMode) -> Result<OwnedFd, Errno> {
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if ids != IdMode::Single {
        options.push(("gid", TTY_GROUP));
    }
    trees::make("devpts", &options, NO_SUID | NO_EXECUTION)
}

/// Lets programs find the terminal they run on, which belongs to the host's devpts.
fn add_console(dev: &OwnedFd) -> Result<(), Failed> {
    let name =
        rustix::termios::ttyname(std::io::stdin(), Vec::new()).attempt(|| "name the terminal".into())?;
    let terminal = trees::clone(CWD, &name.to_string_lossy()).attempt(|| "clone the terminal".into())?;
    add_file_mount(dev, "console", &terminal)
}
