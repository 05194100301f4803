//! Scanning: walk, compare with the stat cache, hash what is not known.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mica_image::fault::{Point, reach};
use mica_image::index::{LayerPath, is_below};
use mica_image::tree::join;
use rayon::prelude::*;
use rustix::fs::{FileType, Stat};

use super::hash::{self, Reading};
use super::stat_cache::{Known, StatCache, StatKey, Writer};
use crate::beneath::{Beneath, kind, read_directory, walk};
use crate::files::{FileError, read_optional};
use crate::store::Store;

/// Seconds by which a time must be past before it proves that nothing changed since.
const RACY: i64 = 2;
/// The same where another machine's clock makes the times.
const RACY_REMOTE: i64 = 120;

/// What to do with a path of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is part of the context.
    Keep,
    /// It is not, nor is anything in it.
    Skip,
    /// A directory that is not, unless something in it is kept.
    SkipButDescend,
}

/// How a context is scanned.
#[derive(Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Decides about each path (told whether it is a directory).
    pub ignored: &'a (dyn Fn(&[u8], bool) -> Decision + Sync),
    /// The paths whose content is needed, with everything below them; `None` is all.
    ///
    /// When a symbolic link among them leads elsewhere, everything is scanned.
    pub wanted: Option<&'a [LayerPath]>,
    /// The store whose stat cache is used and kept up to date.
    pub store: Option<&'a Store>,
}

impl std::fmt::Debug for ScanOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanOptions").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// A context could not be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file or directory of the context could not be read.
    #[error("cannot read `{}` of the build context", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was written to all the time.
    #[error("`{}` keeps changing while it is read", .0.display())]
    Changing(PathBuf),
    /// The stat cache could not be written.
    #[error(transparent)]
    Cache(#[from] FileError),
}

/// One object found in a context.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: LayerPath,
    pub(super) known: Known,
    /// Number of names.
    pub(super) links: u64,
    /// What a device node stands for.
    pub(super) device: u64,
    pub(super) link_target: Option<Vec<u8>>,
    /// A directory that counts only if something in it does.
    pub(super) only_if_needed: bool,
}

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// By directory; children sorted by name.
    pub(super) directories: HashMap<LayerPath, Vec<Found>>,
    pub(super) root: Stat,
    pub(super) sockets: Vec<LayerPath>,
    /// The wanted paths, unless everything was scanned.
    pub(super) wanted: Option<Vec<LayerPath>>,
}

impl Scanned {
    /// Returns how many objects there are.
    pub(super) fn count(&self) -> usize {
        self.directories.values().map(Vec::len).sum()
    }
}

struct Scan<'a> {
    path: &'a Path,
    root: &'a Beneath,
    cache: &'a StatCache,
    ignored: &'a (dyn Fn(&[u8], bool) -> Decision + Sync),
    wanted: Option<&'a [LayerPath]>,
    /// Times before this prove that a file did not change since.
    proof: ProofLimit,
    /// Set when something was found that the cache does not say.
    is_news: AtomicBool,
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        self.known.key.kind()
    }

    /// Whether it is a regular file that has not been read.
    fn is_pending(&self) -> bool {
        self.kind() == FileType::RegularFile && self.known.digest.is_none()
    }
}

/// Times before this prove that a file did not change since.
pub(super) type ProofLimit = (i64, u32);

/// Scans the directory at `path`.
pub(super) fn scan(
    path: &Path,
    root: &Beneath,
    options: &ScanOptions<'_>,
    proof: ProofLimit,
) -> Result<Scanned, ScanError> {
    let cache_path = options.store.map(|store| store.context_cache(path));
    let cache = load_cache(cache_path.as_deref())?;
    let mut scan = Scan {
        path,
        root,
        cache: &cache,
        ignored: options.ignored,
        wanted: options.wanted,
        proof,
        is_news: AtomicBool::new(false),
    };
    let mut scanned = scan.walk()?;
    if options.wanted.is_some() && leads_elsewhere(&scanned) {
        scan.wanted = None;
        scanned = scan.walk()?;
    }
    scan.hash(&mut scanned)?;
    if let (Some(store), Some(cache_path)) = (options.store, cache_path)
        && (scan.is_news.load(Ordering::Relaxed) || scan.has_lost_directories(&scanned))
    {
        store.shared.write_later(cache_path, scan.encode(&scanned))?;
    }
    Ok(scanned)
}

impl Scan<'_> {
    fn walk(&self) -> Result<Scanned, ScanError> {
        let root = rustix::fs::fstat(self.root.root()).map_err(|error| self.failed(b"", error))?;
        let directories = Mutex::new(HashMap::new());
        let sockets = Mutex::new(Vec::new());
        walk(vec![Vec::new()], &|path| {
            let (found, next) = self.visit(path, &sockets)?;
            directories.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_vec(), found);
            Ok::<_, ScanError>(next)
        })?;
        let mut sockets = sockets.into_inner().unwrap_or_else(PoisonError::into_inner);
        sockets.sort();
        Ok(Scanned {
            directories: directories.into_inner().unwrap_or_else(PoisonError::into_inner),
            root,
            sockets,
            wanted: self.wanted.map(<[LayerPath]>::to_vec),
        })
    }

    /// Lists one directory; returns what counts in it and which directories to visit next.
    fn visit(
        &self,
        path: &[u8],
        sockets: &Mutex<Vec<LayerPath>>,
    ) -> Result<(Vec<Found>, Vec<LayerPath>), ScanError> {
        let opened = reach(Point::ContextList).and_then(|()| self.root.directory(path));
        let listed = opened.and_then(|directory| {
            let children = read_directory(&directory)?;
            Ok((directory, children))
        });
        let (directory, children) = match listed {
            Ok(listed) => listed,
            // It was there a moment ago and is being removed or replaced: as good as never seen.
            Err(error) if !path.is_empty() && crate::files::is_absent(&error) => {
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(self.failed(path, error)),
        };
        let mut known = self.cache.directory(path);
        let (mut found, mut next) = (Vec::with_capacity(children.len()), Vec::new());
        for (name, stat) in children {
            let child = join(path, &name);
            let is_directory = kind(&stat) == FileType::Directory;
            if !self.is_wanted(&child, kind(&stat)) {
                continue;
            }
            let decision = (self.ignored)(&child, is_directory);
            if decision == Decision::Skip || (decision == Decision::SkipButDescend && !is_directory) {
                continue;
            }
            if kind(&stat) == FileType::Socket {
                sockets.lock().unwrap_or_else(PoisonError::into_inner).push(child);
                continue;
            }
            if is_directory {
                next.push(child.clone());
            }
            let link_target = match kind(&stat) {
                FileType::Symlink => match rustix::fs::readlinkat(&directory, name.as_slice(), Vec::new()) {
                    Ok(target) => Some(target.into_bytes()),
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => continue,
                    Err(error) => return Err(self.failed(&child, error)),
                },
                _ => None,
            };
            let known = self.recognise(known.next(&name), &child, &stat);
            let only_if_needed = decision == Decision::SkipButDescend;
            let (links, device) = (stat.st_nlink, stat.st_rdev);
            found.push(Found { path: child, known, links, device, link_target, only_if_needed });
        }
        if found.len() != self.wanted_children(path).count() {
            self.is_news.store(true, Ordering::Relaxed);
        }
        Ok((found, next))
    }

    /// Returns what is known of a file for sure: of a regular file that may have changed, no digest.
    fn recognise(&self, known: Option<&Known>, path: &[u8], stat: &Stat) -> Known {
        let key = StatKey::of(stat);
        if let Some(known) = known
            && known.proven
            && known.key == key
        {
            return known.clone();
        }
        self.is_news.store(true, Ordering::Relaxed);
        let xattrs = match kind(stat) {
            FileType::Directory => hash::directory_xattrs(self.root, path),
            _ => crate::xattrs::Xattrs::new(),
        };
        Known { key, proven: key.is_older_than(self.proof), digest: None, xattrs }
    }

    /// Hashes the files that are not known.
    fn hash(&self, scanned: &mut Scanned) -> Result<(), ScanError> {
        let pending: Vec<&mut Found> =
            scanned.directories.values_mut().flatten().filter(|found| found.is_pending()).collect();
        if pending.is_empty() {
            return Ok(());
        }
        pending.into_par_iter().with_max_len(64).try_for_each(|found| self.hash_one(found))?;
        // Files that vanished or became something else while the scan ran.
        for found in scanned.directories.values_mut() {
            found.retain(|found| !found.is_pending());
        }
        Ok(())
    }

    fn hash_one(&self, found: &mut Found) -> Result<(), ScanError> {
        match hash::read(self.root, &found.path).map_err(|error| self.failed(&found.path, error))? {
            Reading::Hashed(hashed) => {
                let key = StatKey::of(&hashed.stat);
                let proven = key.is_older_than(self.proof);
                (found.links, found.device) = (hashed.stat.st_nlink, hashed.stat.st_rdev);
                found.known = Known { key, proven, digest: Some(hashed.digest), xattrs: hashed.xattrs };
                Ok(())
            }
            Reading::Replaced => Ok(()),
            Reading::Changing => Err(ScanError::Changing(self.shown(&found.path))),
        }
    }

    /// Whether `path` is wanted, lies below what is, or leads to it.
    fn is_wanted(&self, path: &[u8], kind: FileType) -> bool {
        let Some(wanted) = self.wanted else { return true };
        // A wanted path may go on through a symbolic link.
        let may_lead_on = matches!(kind, FileType::Directory | FileType::Symlink);
        wanted.iter().any(|prefix| {
            path == prefix.as_slice() || is_below(path, prefix) || (may_lead_on && is_below(prefix, path))
        })
    }

    /// Returns what the cache knows of the children of a directory that are wanted this time.
    fn wanted_children<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Known)> {
        let is_wanted = move |(name, known): &(&[u8], &Known)| {
            self.wanted.is_none() || self.is_wanted(&join(path, name), known.key.kind())
        };
        self.cache.directory(path).iter().filter(is_wanted)
    }

    /// Whether the cache has directories that are gone; those that are not wanted this time do not count.
    fn has_lost_directories(&self, scanned: &Scanned) -> bool {
        self.wanted.is_none() && self.cache.directories().len() != scanned.directories.len()
    }

    /// Encodes what is known now; of what was not wanted this time, what was known.
    fn encode(&self, scanned: &Scanned) -> Vec<u8> {
        let mut writer = Writer::new(scanned.count());
        let mut paths: Vec<&[u8]> = scanned.directories.keys().map(Vec::as_slice).collect();
        if self.wanted.is_some() {
            paths.extend(self.cache.directories().filter(|path| !scanned.directories.contains_key(*path)));
        }
        paths.sort_unstable();
        for path in paths {
            let found = scanned.directories.get(path).map_or(&[][..], Vec::as_slice);
            let mut children: Vec<_> =
                found.iter().map(|found| (mica_image::index::name(&found.path), &found.known)).collect();
            if self.wanted.is_some() {
                children.extend(
                    self.cache
                        .directory(path)
                        .iter()
                        .filter(|(name, known)| !self.is_wanted(&join(path, name), known.key.kind())),
                );
                children.sort_unstable_by_key(|(name, _)| *name);
            }
            writer.directory(path, children.into_iter());
        }
        writer.finish()
    }

    fn failed(&self, path: &[u8], error: impl Into<io::Error>) -> ScanError {
        ScanError::Read { path: self.shown(path), source: error.into() }
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if path.is_empty() { self.path.to_owned() } else { self.path.join(std::ffi::OsStr::from_bytes(path)) }
    }
}

fn load_cache(path: Option<&Path>) -> Result<StatCache, FileError> {
    let Some(path) = path else { return Ok(StatCache::default()) };
    Ok(read_optional(path)?.and_then(StatCache::decode).unwrap_or_default())
}

/// Returns the time before which a file's times prove that it did not change after it was read.
pub(super) fn proof_limit(root: &Beneath, options: &ScanOptions<'_>) -> Result<ProofLimit, FileError> {
    let Some(store) = options.store else { return Ok((i64::MIN, 0)) };
    let now = store.shared.fs_time()?;
    // Of a file system that does not say what it is, nothing is assumed.
    let margin = if is_remote(root).unwrap_or(true) { RACY_REMOTE } else { RACY };
    Ok((now.seconds - margin, now.nanoseconds))
}

/// Whether another machine (or a host around this one) makes the file system's times.
fn is_remote(root: &Beneath) -> io::Result<bool> {
    const NFS: u32 = 0x6969;
    const SMB: u32 = 0x517b;
    const SMB2: u32 = 0xfe53_4d42;
    const CIFS: u32 = 0xff53_4d42;
    const CEPH: u32 = 0x00c3_6400;
    const AFS: u32 = 0x5346_414f;
    const NINE_P: u32 = 0x0102_1997;
    const FUSE: u32 = 0x6573_5546;
    let kind = rustix::fs::fstatfs(root.root())?.f_type as u32;
    Ok([NFS, SMB, SMB2, CIFS, CEPH, AFS, NINE_P, FUSE].contains(&kind))
}

/// Whether a symbolic link that was found leads out of the wanted part.
fn leads_elsewhere(scanned: &Scanned) -> bool {
    let wanted = scanned.wanted.as_deref().unwrap_or_default();
    let inside =
        |path: &[u8]| wanted.iter().any(|prefix| path == prefix.as_slice() || is_below(path, prefix));
    scanned.directories.values().flatten().any(|found| {
        let Some(target) = &found.link_target else { return false };
        let resolved = resolve(mica_image::index::parent(&found.path), target);
        // A path that goes on through this link may be wanted as well.
        !inside(&resolved) || wanted.iter().any(|prefix| is_below(prefix, &found.path))
    })
}

/// Resolves a link's target by its text, inside the root.
fn resolve(directory: &[u8], target: &[u8]) -> LayerPath {
    let mut parts: Vec<&[u8]> = match target.first() {
        Some(b'/') => Vec::new(),
        _ => directory.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect(),
    };
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
