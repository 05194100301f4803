//! Mounts as detached trees: made, cloned, restricted, and only then attached, by descriptor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys::{MountAttributes, mount_setattr};

pub(super) const READ_ONLY: u64 = MountAttributes::READ_ONLY;
pub(super) const NO_SUID: u64 = MountAttributes::NO_SUID;
pub(super) const NO_DEVICES: u64 = MountAttributes::NO_DEVICES;
pub(super) const NO_EXECUTION: u64 = MountAttributes::NO_EXECUTION;

/// Makes a file system of the given type; the result is not attached anywhere.
pub(super) fn make(kind: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Clones the one mount at a path.
pub(super) fn clone(directory: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_tree(directory, path, clone_flags(path))
}

/// Clones the mount at a path with all mounts below it.
pub(super) fn clone_with_submounts(directory: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_tree(directory, path, clone_flags(path) | OpenTreeFlags::AT_RECURSIVE)
}

fn clone_flags(path: &str) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() { flags | OpenTreeFlags::AT_EMPTY_PATH } else { flags }
}

/// Sets attributes on a tree and everything mounted below it.
pub(super) fn restrict(tree: impl AsFd, attributes: u64) -> Result<(), Errno> {
    mount_setattr(tree, MountAttributes { set: attributes, clear: 0, recursive: true })
}

/// Mounts a detached tree on an opened target.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", by_descriptor)
}
