//! Who runs the step: `USER` resolved against the root's own passwd and group.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::Uid;

use super::failure::{Attempt, Failed};
use super::place;
use super::setup::Setup;
use crate::user::{self, Account};
use crate::wire::IdMode;

/// More than any real passwd; a larger one is not read to its end.
const LIMIT: u64 = 16 << 20;

/// The account a step runs under.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) account: Account,
    /// In a namespace with a single id nobody but root exists, so that the account can only be pretended.
    pub(super) only_root: bool,
}

impl Identity {
    /// Returns the id that files made for the step belong to.
    pub(super) fn mapped_uid(&self) -> Uid {
        Uid::from_raw(if self.only_root { 0 } else { self.account.uid })
    }
}

pub(super) fn resolve(setup: &mut Setup) -> Result<(), Failed> {
    let passwd = read(setup.root(), "/etc/passwd")?;
    let group = read(setup.root(), "/etc/group")?;
    let written = &setup.orders.spec.user.0;
    let account = user::resolve(written, &passwd, &group)
        .map_err(|error| Failed::because(format!("find the user `{written}`"), error.to_string()))?;
    setup.identity = Identity { account, only_root: setup.orders.ids == IdMode::Single };
    Ok(())
}

/// Reads a file of the image; a missing one is empty, and a pipe or device in its place is not waited for.
fn read(root: &OwnedFd, path: &str) -> Result<Vec<u8>, Failed> {
    let file = match place::open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(Failed::new(format!("open `{path}`"), error)),
    };
    if place::file_type(&file).attempt(|| format!("look at `{path}`"))? != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut content = Vec::new();
    File::from(file).take(LIMIT).read_to_end(&mut content).attempt(|| format!("read `{path}`"))?;
    Ok(content)
}
