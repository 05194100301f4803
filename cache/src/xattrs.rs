//! Reading extended attributes, of open files and of objects that cannot be opened.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Returns the wanted attributes of an open file. `buffer` is scratch space of 64 KiB, the longest list and value there can be.
pub(crate) fn of_file(
    file: &OwnedFd,
    wanted: &dyn Fn(&[u8]) -> bool,
    buffer: &mut [u8],
) -> io::Result<Xattrs> {
    let length = match rustix::fs::flistxattr(file, &mut *buffer) {
        Err(Errno::OPNOTSUPP) | Ok(0) => return Ok(Xattrs::new()),
        length => length?,
    };
    let names = split(&buffer[..length], wanted);
    collect(names, |name| {
        let length = rustix::fs::fgetxattr(file, name, &mut *buffer)?;
        Ok(buffer[..length].to_vec())
    })
}

/// Returns the wanted attributes of what is at `path`, which is not followed if it is a symbolic link.
pub(crate) fn of_path(path: &[u8], wanted: &dyn Fn(&[u8]) -> bool, buffer: &mut [u8]) -> io::Result<Xattrs> {
    let length = match rustix::fs::llistxattr(path, &mut *buffer) {
        Err(Errno::OPNOTSUPP) | Ok(0) => return Ok(Xattrs::new()),
        length => length?,
    };
    let names = split(&buffer[..length], wanted);
    collect(names, |name| {
        let length = rustix::fs::lgetxattr(path, name, &mut *buffer)?;
        Ok(buffer[..length].to_vec())
    })
}

fn split(list: &[u8], wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let names = list.split(|&byte| byte == 0);
    names.filter(|name| !name.is_empty() && wanted(name)).map(<[u8]>::to_vec).collect()
}

fn collect(names: Vec<Vec<u8>>, mut value: impl FnMut(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Xattrs> {
    names.into_iter().map(|name| value(&name).map(|value| (name, value))).collect()
}
