//! `mount_setattr`, which rustix does not have yet.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::check;

/// Attributes a mount may gain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub(crate) clear: u64,
    /// Applies to the mounts below as well.
    pub(crate) recursive: bool,
}

impl MountAttributes {
    pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    pub(crate) const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
    pub(crate) const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
    pub(crate) const NO_EXECUTION: u64 = libc::MOUNT_ATTR_NOEXEC;
}

/// Changes the attributes of the mount behind `tree`.
pub(crate) fn mount_setattr(tree: impl AsFd, attributes: MountAttributes) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor itself; the structure has the size we state.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_mount_root_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let attributes = MountAttributes { set: MountAttributes::READ_ONLY, ..Default::default() };
        assert!(mount_setattr(&file, attributes).is_err());
    }
}
