//! Small read-only files that exist in memory only.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, openat, unlinkat};

use super::failure::{Attempt, Failed};
use super::place::Stub;
use super::setup::Setup;
use super::trees::{self, NO_DEVICES, NO_EXECUTION, NO_SUID, READ_ONLY};

const STAGING: &str = ".staging";

/// A file to show.
pub(super) struct FileInMemory<'a> {
    pub(super) content: &'a [u8],
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl FileInMemory<'_> {
    /// Makes the file and shows it at `target`.
    ///
    /// It lives in the file system of `/dev`, because a mount can be cloned from an attached one only, and loses its
    /// name there at once: nothing but the mount leads to it.
    pub(super) fn show(&self, dev: &OwnedFd, target: &OwnedFd) -> Result<(), Failed> {
        let tree = self.make(dev)?;
        trees::attach(tree, target).attempt(|| "mount a file".into())?;
        unlinkat(dev, STAGING, AtFlags::empty()).attempt(|| "unlink a file".into())
    }

    fn make(&self, dev: &OwnedFd) -> Result<OwnedFd, Failed> {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(dev, STAGING, new, Mode::from_raw_mode(0o600)).attempt(|| "make a file".into())?;
        let mut file = File::from(file);
        file.write_all(self.content).attempt(|| "write a file".into())?;
        fchown(&file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .attempt(|| format!("give a file to {}:{}", self.uid, self.gid))?;
        fchmod(&file, Mode::from_raw_mode(self.mode)).attempt(|| "set the mode of a file".into())?;
        let tree = trees::clone(dev, STAGING).attempt(|| "clone a file".into())?;
        let execution = if self.mode & 0o111 == 0 { NO_EXECUTION } else { 0 };
        trees::restrict(&tree, READ_ONLY | NO_SUID | NO_DEVICES | execution)
            .attempt(|| "write-protect a file".into())?;
        Ok(tree)
    }
}

pub(super) fn mount_network_files(setup: &mut Setup) -> Result<(), Failed> {
    let resolv_conf = std::mem::take(&mut setup.orders.resolv_conf);
    let hosts = std::mem::take(&mut setup.orders.hosts);
    for (target, content) in [("/etc/resolv.conf", resolv_conf), ("/etc/hosts", hosts)] {
        let target = setup.mount_point(target, Stub::File)?;
        FileInMemory { content: &content.0, uid: 0, gid: 0, mode: 0o644 }.show(setup.dev(), &target)?;
    }
    Ok(())
}
