//! Archives from literals, and the root file system the images of these tests stand on.

use std::io::Write;

/// One member of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    path: String,
    kind: tar::EntryType,
    content: Vec<u8>,
    target: String,
    mode: u32,
    owner: (u64, u64),
    time: u64,
}

/// 2001-02-03 04:05:06, which no test runs at.
const TIME: u64 = 981_173_106;

fn entry(path: &str, kind: tar::EntryType, mode: u32) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        content: Vec::new(),
        target: String::new(),
        mode,
        owner: (0, 0),
        time: TIME,
    }
}

/// Returns a regular file of mode 644.
pub(crate) fn file(path: &str, content: impl AsRef<[u8]>) -> Entry {
    Entry { content: content.as_ref().to_vec(), ..entry(path, tar::EntryType::Regular, 0o644) }
}

/// Returns a directory of mode 755.
pub(crate) fn directory(path: &str) -> Entry {
    entry(path, tar::EntryType::Directory, 0o755)
}

/// Returns a symbolic link.
pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry { target: target.to_owned(), ..entry(path, tar::EntryType::Symlink, 0o777) }
}

/// Returns another name of an earlier member.
pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    Entry { target: target.to_owned(), ..entry(path, tar::EntryType::Link, 0o644) }
}

impl Entry {
    /// With these permission bits.
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// With this owner and group.
    pub(crate) fn owner(self, user: u64, group: u64) -> Self {
        Self { owner: (user, group), ..self }
    }

    /// With this time of change.
    pub(crate) fn time(self, time: u64) -> Self {
        Self { time, ..self }
    }
}

/// Returns a tar of these members, in this order.
pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.time);
        header.set_size(entry.content.len() as u64);
        let path = entry.path.trim_end_matches('/');
        match entry.kind {
            tar::EntryType::Symlink | tar::EntryType::Link => {
                builder.append_link(&mut header, path, &entry.target).expect("links fit");
            }
            _ => builder.append_data(&mut header, path, entry.content.as_slice()).expect("members fit"),
        }
    }
    builder.into_inner().expect("memory can be written to")
}

/// Returns the bytes compressed by gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written to");
    encoder.finish().expect("memory can be written to")
}

/// The commands of the base besides the shell.
const APPLETS: &str = "awk basename cat chgrp chmod chown cp cut date dd df dirname echo env expr false find grep gzip head \
    hostname id ip kill ln ls mkdir mkfifo mount mv nc nslookup od printf ps pwd readlink rm rmdir sed seq sh sha256sum sleep \
    sort stat sync tail tar tee test touch tr true tty umask umount uname uniq wc wget which whoami xargs yes";

/// Returns the root file system of `base`: a shell, a few users, the usual directories.
pub(crate) fn base_root(busybox: &[u8]) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        ["bin", "dev", "etc", "home", "opt", "proc", "run", "srv", "sys", "usr", "usr/bin", "var", "var/lib"]
            .map(directory)
            .to_vec();
    entries.push(directory("tmp").mode(0o1777));
    entries.push(directory("root").mode(0o700));
    entries.push(directory("home/app").mode(0o750).owner(1000, 1001));
    entries.push(file("bin/busybox", busybox).mode(0o755));
    let applets = APPLETS.split_whitespace();
    entries.extend(applets.map(|applet| symlink(&format!("bin/{applet}"), "busybox")));
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    entries.push(file("etc/passwd", passwd));
    entries.push(file("etc/group", "root:x:0:\napp:x:1001:\nstaff:x:50:app\n"));
    entries.push(file("etc/hosts", "127.0.0.1 localhost\n"));
    entries.push(file("etc/resolv.conf", ""));
    entries
}
