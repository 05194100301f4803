//! Verification of a whole store: every digest, every checksum, every reference, and on request the removal of what fails.
//!
//! A build needs none of it: what it takes from the store it verifies, and what it cannot verify it does not take. This finds what
//! no process of ours does: a disk that forgot bytes, a file somebody edited.
//!
//! Nothing collects while it runs, builds go on. Things are looked at without a lock, since they are complete when they appear; a
//! thing is removed by renaming it away and looked at once more there, so that one which became right meanwhile goes back. What a
//! living process pins stays, and is said to.

mod layer;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mica_image::fault::{Point, reach};
use mica_image::tar::DiffIdWriter;
use mica_image::{ContentDigest, LayerId};

pub use report::{Fate, Finding, FsckReport, Repair, Subject};

use crate::collect::is_sizes;
use crate::files::{
    At, FileError, Placed, is_absent, list, list_sharded, read_optional, remove_tree, rename_new,
};
use crate::images::{ImageRecord, Resolved, Version};
use crate::lease::{Pin, living_pins};
use crate::locks::{Hold, LockError, LockFile};
use crate::record::{CacheRecord, RecordKey, is_memo, is_recent, numbered, read_record};
use crate::sealed::unseal;
use crate::store::Store;

impl Store {
    /// Verifies everything in the store; waits while another process collects.
    pub fn fsck(&self, repair: Repair) -> Result<FsckReport, LockError> {
        let lock = self.shared.root.join("locks/collect");
        let _lock = LockFile::acquire(&lock, Hold::Exclusive, &|| false)?;
        let mut check = Check {
            store: self,
            repair,
            blobs: BTreeMap::new(),
            layers: BTreeMap::new(),
            report: FsckReport::default(),
        };
        check.run()?;
        Ok(check.report)
    }
}

/// A check under way: what was found good or bad so far.
struct Check<'a> {
    store: &'a Store,
    repair: Repair,
    blobs: BTreeMap<ContentDigest, bool>,
    layers: BTreeMap<LayerId, bool>,
    report: FsckReport,
}

impl Check<'_> {
    /// What others refer to comes first, so that what refers to something bad is found bad as well.
    fn run(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("blobs/sha256"))? {
            match ContentDigest::from_hex(&name) {
                Ok(digest) => drop(self.blob(&digest)?),
                Err(_) => self.foreign(Subject::Blob, name, &path)?,
            }
        }
        for (name, path) in list_sharded(&self.root("layers"))? {
            match LayerId::from_hex(&name) {
                Ok(id) => drop(self.layer(&id)?),
                Err(_) => self.foreign(Subject::Layer, name, &path)?,
            }
        }
        self.records()?;
        self.details()?;
        self.images()?;
        self.versions()?;
        self.small(Subject::Layer, "sizes".to_owned(), &self.root("sizes"), &is_sizes)?;
        self.sealed("recent", Subject::Record, &is_recent)?;
        self.sealed("diff-ids", Subject::Layer, &|bytes| unseal::<LayerId>(bytes).is_some())?;
        self.sealed("mounted", Subject::Layer, &|bytes| unseal::<LayerId>(bytes).is_some())?;
        self.sealed("failures", Subject::Record, &|bytes| unseal::<crate::Failure>(bytes).is_some())?;
        self.sealed("published", Subject::Reference, &|bytes| unseal::<crate::Published>(bytes).is_some())?;
        self.sealed("resolved", Subject::Reference, &|bytes| unseal::<Resolved>(bytes).is_some())?;
        self.sealed("downloads", Subject::Reference, &|bytes| unseal::<crate::Download>(bytes).is_some())
    }

    /// Returns whether a blob is there and right.
    fn blob(&mut self, digest: &ContentDigest) -> Result<bool, FileError> {
        if let Some(known) = self.blobs.get(digest) {
            return Ok(*known);
        }
        let path = self.store.blobs().path(digest);
        let is_right = match sha256(&path) {
            Err(error) if is_absent(error.io()) => false,
            Ok((actual, size)) => {
                self.report.blobs += 1;
                self.report.bytes += size;
                if actual != *digest {
                    self.found(
                        Subject::Blob,
                        digest.to_string(),
                        format!("its bytes have the digest `{actual}`"),
                        |check| {
                            check.drop_pinned(&path, Pin::Blob(*digest), &|away| {
                                Ok(sha256(away)?.0 == *digest)
                            })
                        },
                    )?;
                }
                actual == *digest
            }
            Err(error) => {
                self.report.blobs += 1;
                self.found(Subject::Blob, digest.to_string(), unreadable(&error)?, |check| {
                    check.drop_pinned(&path, Pin::Blob(*digest), &|_| Ok(false))
                })?;
                false
            }
        };
        self.blobs.insert(*digest, is_right);
        Ok(is_right)
    }

    fn records(&mut self) -> Result<(), FileError> {
        for (name, directory) in list_sharded(&self.root("records"))? {
            let Some(key) = RecordKey::from_hex(&name) else {
                self.foreign(Subject::Record, name, &directory)?;
                continue;
            };
            for (number, path) in numbered(&directory)? {
                self.record(&key, number, &path)?;
            }
            for (memo, path) in list(&directory)?.into_iter().filter(|(name, _)| name.starts_with("holds-")) {
                self.small(Subject::Record, format!("{name}/{memo}"), &path, &is_memo)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, key: &RecordKey, number: u64, path: &Path) -> Result<(), FileError> {
        let name = format!("{}/{number}", key.hex());
        let is_right = |path: &Path| Ok(read_record(path)?.is_some_and(|record| record.key == *key));
        let Some(record) = read_record(path)?.filter(|record| record.key == *key) else {
            self.report.records += 1;
            return self.damaged_file(Subject::Record, name, path, &is_right);
        };
        self.report.records += 1;
        if self.layer(&record.layer)? {
            return Ok(());
        }
        let problem = format!("its layer `{}` is not there any more", record.layer);
        self.found(Subject::Record, name, problem, |check| {
            check.drop_file(path, &|away| check.is_whole(away))
        })
    }

    /// Whether the record at a path is one that its layer can back.
    fn is_whole(&self, path: &Path) -> Result<bool, FileError> {
        let record: Option<CacheRecord> = read_record(path)?;
        Ok(record.is_some_and(|record| self.layers.get(&record.layer) == Some(&true)))
    }

    fn details(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("details"))? {
            self.report.details += 1;
            let digest = name.clone();
            let is_right = move |bytes: &[u8]| blake3::hash(bytes).to_hex().as_str() == digest;
            self.small(Subject::Detail, name, &path, &is_right)?;
        }
        Ok(())
    }

    fn images(&mut self) -> Result<(), FileError> {
        for (name, path) in list(&self.root("images"))? {
            let Ok(id) = ContentDigest::from_hex(&name) else {
                self.foreign(Subject::Image, name, &path)?;
                continue;
            };
            let Some(bytes) = read_optional(&path)? else { continue };
            self.report.images += 1;
            let read = move |bytes: &[u8]| unseal::<ImageRecord>(bytes).filter(|image| image.id == id);
            let problem = match read(&bytes) {
                None => Some("it does not match its checksum".to_owned()),
                Some(image) => self.image_problem(&image)?,
            };
            if let Some(problem) = problem {
                // A build that made it whole again wrote it anew.
                let was = bytes.clone();
                self.found(Subject::Image, id.to_string(), problem, |check| {
                    check.drop_file(&path, &|away| Ok(read_optional(away)?.is_some_and(|now| now != was)))
                })?;
            }
        }
        Ok(())
    }

    /// Returns what an image lacks.
    fn image_problem(&mut self, image: &ImageRecord) -> Result<Option<String>, FileError> {
        for blob in std::iter::once(&image.id).chain(&image.manifest) {
            if !self.blob(blob)? {
                return Ok(Some(format!("its blob `{blob}` is not there any more")));
            }
        }
        for layer in &image.tree {
            if !self.layer(&layer.id)? {
                return Ok(Some(format!("its layer `{}` is not there any more", layer.id)));
            }
        }
        Ok(None)
    }

    /// Versions may name images that were removed: they are history.
    fn versions(&mut self) -> Result<(), FileError> {
        for (tag, directory) in list(&self.root("tags"))? {
            for (number, path) in numbered(&directory)? {
                self.report.versions += 1;
                let is_right = |bytes: &[u8]| unseal::<Version>(bytes).is_some();
                self.small(Subject::Version, format!("{tag}@{number}"), &path, &is_right)?;
            }
        }
        Ok(())
    }

    /// Checks the small files of a sharded directory.
    fn sealed(
        &mut self,
        directory: &str,
        subject: Subject,
        is_right: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root(directory))? {
            self.small(subject, format!("{directory}/{name}"), &path, is_right)?;
        }
        Ok(())
    }

    /// Checks a file that is right or wrong by itself.
    fn small(
        &mut self,
        subject: Subject,
        name: String,
        path: &Path,
        is_right: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), FileError> {
        let reads = |path: &Path| Ok(read_optional(path)?.is_none_or(|bytes| is_right(&bytes)));
        if reads(path)? { Ok(()) } else { self.damaged_file(subject, name, path, &reads) }
    }

    fn damaged_file(
        &mut self,
        subject: Subject,
        name: String,
        path: &Path,
        is_right: &IsRight<'_>,
    ) -> Result<(), FileError> {
        self.found(subject, name, "it does not match its checksum".to_owned(), |check| {
            check.drop_file(path, is_right)
        })
    }

    /// Something lies where only things with other names do.
    fn foreign(&mut self, subject: Subject, name: String, path: &Path) -> Result<(), FileError> {
        let problem = "nothing of the store has such a name".to_owned();
        self.found(subject, name, problem, |check| check.drop_file(path, &|_| Ok(false)))
    }

    /// Reports something, and drops it when that was asked for.
    fn found(
        &mut self,
        subject: Subject,
        name: String,
        problem: String,
        remove: impl FnOnce(&Self) -> Result<Fate, FileError>,
    ) -> Result<(), FileError> {
        let fate = match self.repair {
            Repair::Nothing => Fate::Kept,
            Repair::Drop => remove(self)?,
        };
        if fate != Fate::Mended {
            self.report.findings.push(Finding { subject, name, problem, fate });
        }
        Ok(())
    }

    /// Removes something others may hold, unless a living process does.
    fn drop_pinned(&self, path: &Path, pin: Pin, is_right: &IsRight<'_>) -> Result<Fate, FileError> {
        let shared = &self.store.shared;
        let away = shared.lease()?.fresh_path();
        let renamed = shared.gate.exclusive(|| {
            if living_pins(&shared.root)?.contains(&pin) {
                return Ok::<_, FileError>(Err(Fate::InUse));
            }
            rename_away(path, &away)
        })?;
        renamed.map_or_else(Ok, |()| settle(path, &away, is_right))
    }

    /// Removes something nobody holds.
    fn drop_file(&self, path: &Path, is_right: &IsRight<'_>) -> Result<Fate, FileError> {
        let away = self.store.shared.lease()?.fresh_path();
        rename_away(path, &away)?.map_or_else(Ok, |()| settle(path, &away, is_right))
    }

    fn root(&self, name: &str) -> PathBuf {
        self.store.shared.root.join(name)
    }
}

/// Looks once more at something, wherever it lies now.
type IsRight<'a> = dyn Fn(&Path) -> Result<bool, FileError> + 'a;

/// Renames something to where nobody looks; what is gone already needs no mending.
fn rename_away(path: &Path, away: &Path) -> Result<Result<(), Fate>, FileError> {
    Ok(if crate::files::rename_away(path, away)? { Ok(()) } else { Err(Fate::Mended) })
}

/// Removes what was renamed away, or puts it back if it was replaced by something right just before.
fn settle(path: &Path, away: &Path, is_right: &IsRight<'_>) -> Result<Fate, FileError> {
    if is_right(away)? && rename_new(away, path)? == Placed::New {
        return Ok(Fate::Mended);
    }
    remove_tree(away)?;
    Ok(Fate::Dropped)
}

/// Says what is wrong with something the disk does not give; other failures are this process's.
fn unreadable(error: &FileError) -> Result<String, FileError> {
    let raw = error.io().raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    match (raw, error.io().kind()) {
        (Some(rustix::io::Errno::IO | rustix::io::Errno::UCLEAN | rustix::io::Errno::BADMSG), _)
        | (_, io::ErrorKind::IsADirectory | io::ErrorKind::InvalidData) => {
            Ok(format!("it cannot be read: {}", error.io()))
        }
        _ => {
            let again = error
                .io()
                .raw_os_error()
                .map_or_else(|| error.io().kind().into(), io::Error::from_raw_os_error);
            Err(FileError::new("read", error.path(), again))
        }
    }
}

/// Returns the digest of a file's bytes and how many there are.
fn sha256(path: &Path) -> Result<(ContentDigest, u64), FileError> {
    let mut file = reach(Point::BlobOpen).and_then(|()| File::open(path)).at("open", path)?;
    let mut writer = DiffIdWriter::new(io::sink());
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                io::Write::write_all(&mut writer, &buffer[..read]).at("read", path)?;
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::new("read", path, error)),
        }
    }
    Ok((ContentDigest::from_bytes(*writer.finish().1.as_bytes()), size))
}
