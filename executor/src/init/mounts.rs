//! The mounts a step asks for.
//!
//! Sources are opened before the root exists, because they are paths of the host; they are attached after the
//! kernel's own mounts, outermost first.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;

use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};
use rustix::mount::{UnmountFlags, unmount};

use super::failure::{Attempt, Failed};
use super::files::FileInMemory;
use super::overlay::{Overlay, Writable};
use super::place::{self, Stub};
use super::root::open_directory;
use super::setup::Setup;
use super::trees::{self, NO_SUID, READ_ONLY};
use crate::spec::{MountKind, MountSpec, SourceId, Writes};
use crate::wire::{IdMode, Orders, WireSource};

/// A mount whose source has been opened.
pub(super) struct Opened {
    pub(super) target: String,
    /// What the target has to be.
    pub(super) stub: Stub,
    content: Content,
}

enum Content {
    Tree(OwnedFd),
    Tmpfs { size: Option<u64> },
    File { content: Vec<u8>, uid: u32, gid: u32, mode: u32 },
}

pub(super) fn open_sources(setup: &mut Setup) -> Result<(), Failed> {
    let mut mounts = setup.orders.spec.mounts.clone();
    mounts.sort_by_key(|mount| depth(&mount.target));
    for (number, mount) in mounts.into_iter().enumerate() {
        let content = open(&setup.orders, &mount, number)?;
        if let Content::Tree(tree) = &content {
            trees::restrict(tree, setup.usual_restrictions())
                .attempt(|| format!("restrict `{}`", mount.target))?;
        }
        let stub = content.stub(&mount.target)?;
        setup.sources.push(Opened { target: mount.target, stub, content });
    }
    Ok(())
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|name| !name.is_empty()).count()
}

fn open(orders: &Orders, mount: &MountSpec, number: usize) -> Result<Content, Failed> {
    Ok(match &mount.kind {
        MountKind::Bind { source, subpath, readonly } => {
            let tree = bind(orders, mount, source, subpath)?;
            if *readonly {
                trees::restrict(&tree, READ_ONLY).attempt(|| format!("write-protect `{}`", mount.target))?;
            }
            Content::Tree(tree)
        }
        MountKind::SshSocket { source } => Content::Tree(bind(orders, mount, source, "")?),
        MountKind::Overlay { lowers, subpath, writes } => {
            Content::Tree(overlay(orders, mount, lowers, subpath, *writes, number)?)
        }
        MountKind::Tmpfs { size } => Content::Tmpfs { size: *size },
        MountKind::Secret { source, uid, gid, mode } => {
            let content = secret(orders, source)?;
            Content::File { content, uid: *uid, gid: *gid, mode: *mode }
        }
        MountKind::File { content, mode } => {
            Content::File { content: content.clone().into_bytes(), uid: 0, gid: 0, mode: *mode }
        }
    })
}

impl Content {
    fn stub(&self, target: &str) -> Result<Stub, Failed> {
        let Content::Tree(tree) = self else {
            return Ok(if matches!(self, Content::Tmpfs { .. }) { Stub::Directory } else { Stub::File });
        };
        let kind = place::file_type(tree).attempt(|| format!("look at the source of `{target}`"))?;
        Ok(if kind == FileType::Directory { Stub::Directory } else { Stub::File })
    }
}

fn host_path<'a>(orders: &'a Orders, id: &SourceId) -> Result<&'a std::path::Path, Failed> {
    match orders.sources.get(id) {
        Some(WireSource::Path(path)) => Ok(path.as_path()),
        Some(WireSource::Content(_)) => {
            Err(Failed::because(format!("open the source `{}`", id.0), "it is no path"))
        }
        None => Err(Failed::because(format!("open the source `{}`", id.0), "nothing was given for it")),
    }
}

fn secret(orders: &Orders, id: &SourceId) -> Result<Vec<u8>, Failed> {
    match orders.sources.get(id) {
        Some(WireSource::Content(content)) => Ok(content.0.clone()),
        _ => {
            let path = host_path(orders, id)?;
            std::fs::read(path).attempt(|| format!("read `{}`", path.display()))
        }
    }
}

fn bind(orders: &Orders, mount: &MountSpec, source: &SourceId, subpath: &str) -> Result<OwnedFd, Failed> {
    let path = host_path(orders, source)?;
    let source = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("open `{}`", path.display()))?;
    let inside = below(source, subpath, &mount.target)?;
    trees::clone_with_submounts(&inside, "").attempt(|| format!("clone the source of `{}`", mount.target))
}

/// Opens a path below a source; links in it lead to places in the source only.
fn below(source: OwnedFd, subpath: &str, target: &str) -> Result<OwnedFd, Failed> {
    if subpath.split('/').all(|name| name.is_empty() || name == ".") {
        return Ok(source);
    }
    place::find(&source, subpath).attempt(|| format!("open the source `{subpath}` of the mount `{target}`"))
}

fn overlay(
    orders: &Orders,
    mount: &MountSpec,
    lowers: &[SourceId],
    subpath: &str,
    writes: Writes,
    number: usize,
) -> Result<OwnedFd, Failed> {
    let layers = lowers
        .iter()
        .map(|id| open_directory(host_path(orders, id)?))
        .collect::<Result<Vec<OwnedFd>, Failed>>()?;
    let base = orders.scratch.as_path().join(number.to_string());
    let make = |name: &str| {
        let path = base.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .attempt(|| format!("make `{}`", path.display()))?;
        Ok(path)
    };
    // An overlay without an upper directory needs two lower ones: an empty one never hurts.
    let (upper, work, at) =
        (open_directory(&make("upper")?)?, open_directory(&make("work")?)?, make("tree")?);
    let overlay = Overlay {
        lowers: &layers,
        writes: Some(Writable { upper: &upper, work: &work }),
        user_xattr: orders.ids.in_user_namespace(),
    };
    let root = overlay.mount_at(&at)?;
    let inside = below(root, subpath, &mount.target)?;
    // Only attached trees can be cloned by all kernels; the place in between is in our own mount namespace.
    let tree = trees::clone_with_submounts(&inside, "")
        .attempt(|| format!("clone the source of `{}`", mount.target))?;
    unmount(&at, UnmountFlags::DETACH).attempt(|| format!("unmount `{}`", at.display()))?;
    if writes == Writes::Refused {
        trees::restrict(&tree, READ_ONLY).attempt(|| format!("write-protect `{}`", mount.target))?;
    }
    Ok(tree)
}

pub(super) fn attach(setup: &mut Setup) -> Result<(), Failed> {
    // Where only root exists, a file cannot be given to anyone else.
    let only_root = setup.orders.ids == IdMode::Single;
    for source in std::mem::take(&mut setup.sources) {
        let target = setup.mount_point(&source.target, source.stub)?;
        refuse_in_proc(&target, &source.target)?;
        verify_kind(&target, &source)?;
        let tree = match source.content {
            Content::Tree(tree) => tree,
            Content::Tmpfs { size } => tmpfs(size, NO_SUID | setup.usual_restrictions())
                .attempt(|| format!("make `{}`", source.target))?,
            Content::File { content, uid, gid, mode } => {
                let (uid, gid) = if only_root { (0, 0) } else { (uid, gid) };
                FileInMemory { content: &content, uid, gid, mode }.show(setup.dev(), &target)?;
                continue;
            }
        };
        trees::attach(tree, target).attempt(|| format!("mount `{}`", source.target))?;
    }
    Ok(())
}

/// Something mounted over a file of /proc would make programs (and the sandbox itself) believe what a step says of the kernel.
fn refuse_in_proc(target: &OwnedFd, shown: &str) -> Result<(), Failed> {
    let found = fstatfs(target).attempt(|| format!("look at `{shown}`"))?;
    if found.f_type == PROC_SUPER_MAGIC {
        return Err(Failed::because(format!("mount at `{shown}`"), "nothing can be mounted inside /proc"));
    }
    Ok(())
}

/// The kernel's own word for this is "invalid argument".
fn verify_kind(target: &OwnedFd, source: &Opened) -> Result<(), Failed> {
    let kind = place::file_type(target).attempt(|| format!("look at `{}`", source.target))?;
    match (source.stub, kind == FileType::Directory) {
        (Stub::Directory, true) | (Stub::File, false) => Ok(()),
        (Stub::Directory, false) => Err(Failed::because(
            format!("mount a directory at `{}`", source.target),
            "the image has a file there",
        )),
        (Stub::File, true) => Err(Failed::because(
            format!("mount a file at `{}`", source.target),
            "the image has a directory there",
        )),
    }
}

fn tmpfs(size: Option<u64>, attributes: u64) -> Result<OwnedFd, rustix::io::Errno> {
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", "1777")];
    options.extend(size.as_deref().map(|size| ("size", size)));
    trees::make("tmpfs", &options, attributes)
}
