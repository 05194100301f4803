//! The step's root: put together, entered, and the host's left behind.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, getcwd, pivot_root};

use super::failure::{Attempt, Failed};
use super::overlay::{Overlay, Writable};
use super::place::{self, Stub};
use super::setup::Setup;
use super::trees;

/// Where the kernel's and our own files are mounted in every step.
const MOUNT_POINTS: &[(&str, Stub)] = &[
    ("/proc", Stub::Directory),
    ("/sys", Stub::Directory),
    ("/dev", Stub::Directory),
    ("/etc/resolv.conf", Stub::File),
    ("/etc/hosts", Stub::File),
];

pub(super) fn make_private(_setup: &mut Setup) -> Result<(), Failed> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .attempt(|| "make all mounts private".into())
}

/// Makes the mount points of this step in the directory that becomes the bottommost layer, so that nothing has to be
/// made in the upper directory and nothing of it can get into a layer.
pub(super) fn prepare_skeleton(setup: &mut Setup) -> Result<(), Failed> {
    let skeleton = open_directory(setup.orders.skeleton.as_path())?;
    let requested = setup.sources.iter().map(|source| (source.target.as_str(), source.stub));
    for (target, stub) in MOUNT_POINTS.iter().copied().chain(requested) {
        place::find_or_make(&skeleton, target, stub, &mut Vec::new())
            .attempt(|| format!("prepare the mount point `{target}`"))?;
    }
    Ok(())
}

pub(super) fn mount_overlay(setup: &mut Setup) -> Result<(), Failed> {
    let orders = &setup.orders;
    let mut lowers = Vec::with_capacity(orders.lowers.len() + 1);
    for lower in orders.lowers.iter().chain([&orders.skeleton]) {
        lowers.push(open_directory(lower.as_path())?);
    }
    let upper = open_directory(orders.upper.as_path())?;
    let work = open_directory(orders.work.as_path())?;
    let overlay = Overlay {
        lowers: &lowers,
        writes: Some(Writable { upper: &upper, work: &work }),
        user_xattr: orders.ids.in_user_namespace(),
    };
    // The skeleton is only a place to put the mount: its content is already part of it.
    let root = overlay.mount_at(orders.skeleton.as_path())?;
    trees::restrict(&root, setup.usual_restrictions()).attempt(|| "restrict the root".into())?;
    setup.root = Some(root);
    Ok(())
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Failed> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("open `{}`", path.display()))
}

pub(super) fn make_working_directory(setup: &mut Setup) -> Result<(), Failed> {
    let path = setup.orders.spec.cwd.clone();
    place::find_or_make(setup.root(), &path, Stub::Directory, &mut Vec::new())
        .attempt(|| format!("make the working directory `{path}`"))?;
    Ok(())
}

/// Makes the overlay the root of this mount namespace and lets go of the old one.
pub(super) fn pivot(setup: &mut Setup) -> Result<(), Failed> {
    fchdir(setup.root()).attempt(|| "enter the new root".into())?;
    pivot_root(".", ".").attempt(|| "change the root".into())?;
    // The old root lies over the new one now; the directory `.` is the old one.
    unmount(".", UnmountFlags::DETACH).attempt(|| "let go of the old root".into())?;
    rustix::process::chdir("/").attempt(|| "enter the new root".into())
}

pub(super) fn enter_working_directory(setup: &mut Setup) -> Result<(), Failed> {
    let path = &setup.orders.spec.cwd;
    let directory = place::open(setup.root(), path, OFlags::PATH | OFlags::DIRECTORY)
        .attempt(|| format!("open the working directory `{path}`"))?;
    fchdir(&directory).attempt(|| format!("enter the working directory `{path}`"))?;
    let here = getcwd(Vec::new()).attempt(|| format!("verify the working directory `{path}`"))?;
    // The kernel writes `(unreachable)` before a directory outside the root.
    if here.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Failed::because(format!("enter the working directory `{path}`"), "it is outside the root"))
}
