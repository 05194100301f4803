//! Checking layers: facts, index, the objects they bring, and the tars they are said to be.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mica_image::index::{Bytes, Entry, IndexFile, LayerIndex, Node, parent};
use mica_image::tar::TarOptions;
use mica_image::{DiffId, LayerId};

use super::{Check, Subject, unreadable};
use crate::beneath::Beneath;
use crate::files::{At, FileError, is_absent, list, read_optional};
use crate::layer::{LayerKind, LayerMeta, is_derived_ready, layer_directory, read_meta};
use crate::lease::Pin;
use crate::sealed::unseal;
use crate::store::Ownership;

/// Which objects must be in a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Files whose bytes are the layer's own; the rest may be shown by other layers.
    OwnFiles,
    /// Everything whose bytes are the layer's own.
    Own,
    /// Everything in the index.
    All,
}

impl Check<'_> {
    /// Returns whether a layer is there and right.
    pub(super) fn layer(&mut self, id: &LayerId) -> Result<bool, FileError> {
        if let Some(known) = self.layers.get(id) {
            return Ok(*known);
        }
        // Layers need each other in one direction only; a damaged index might say otherwise.
        self.layers.insert(*id, false);
        let directory = layer_directory(&self.store.shared, id);
        if !directory.is_dir() {
            return Ok(false);
        }
        self.report.layers += 1;
        let problem = self.layer_problem(id, &directory)?;
        let is_right = problem.is_none();
        if let Some(problem) = problem {
            self.found(Subject::Layer, id.to_string(), problem, |check| {
                check.drop_pinned(&directory, Pin::Layer(*id), &|_| Ok(false))
            })?;
        }
        self.layers.insert(*id, is_right);
        Ok(is_right)
    }

    fn layer_problem(&mut self, id: &LayerId, directory: &Path) -> Result<Option<String>, FileError> {
        let Some(meta) = read_meta(&self.store.shared, id)? else {
            return Ok(Some(
                "what is known of it is damaged, or was not yet on the disk when the machine stopped"
                    .to_owned(),
            ));
        };
        let index = match IndexFile::open(&directory.join("index")).and_then(|index| index.load()) {
            Ok(index) => index,
            Err(error) => return Ok(Some(format!("its index cannot be used: {error}"))),
        };
        let holders: Vec<LayerId> = index.holders().into_iter().collect();
        if index.layer_id() != *id || index.entries.len() as u64 != meta.entries || holders != meta.holders {
            return Ok(Some("its index is another layer's".to_owned()));
        }
        for holder in &meta.holders {
            if !self.layer(holder)? {
                return Ok(Some(format!("layer `{holder}`, which holds bytes of it, is not there any more")));
            }
        }
        self.derived_parts(id, &meta, &index, directory)?;
        match meta.kind {
            LayerKind::Imported => self.blobs_problem(id, directory),
            LayerKind::Made => {
                let expect = if meta.holders.is_empty() { Expect::Own } else { Expect::OwnFiles };
                let problem = self.objects_problem(&directory.join("files"), &index, expect)?;
                if problem.is_none() {
                    self.check_diff_ids(id, &index)?;
                }
                Ok(problem)
            }
        }
    }

    /// Checks what can be made again: wrong ones are reported, and go without the layer.
    fn derived_parts(
        &mut self,
        id: &LayerId,
        meta: &LayerMeta,
        index: &LayerIndex,
        directory: &Path,
    ) -> Result<(), FileError> {
        for (name, expect) in [("files", Expect::Own), ("full", Expect::All)] {
            let part = directory.join(name);
            let is_derived = name == "full" || meta.kind == LayerKind::Imported;
            if !is_derived || !is_derived_ready(&self.store.shared, &part)? {
                continue;
            }
            if let Some(problem) = self.objects_problem(&part, index, expect)? {
                self.found(Subject::Layer, format!("{id}/{name}"), problem, |check| {
                    check.drop_pinned(&part, Pin::Layer(*id), &|_| Ok(false))
                })?;
            }
        }
        Ok(())
    }

    /// An imported layer is whole if one of its blobs is, or if its files are there.
    fn blobs_problem(&mut self, id: &LayerId, directory: &Path) -> Result<Option<String>, FileError> {
        let mut is_backed = is_derived_ready(&self.store.shared, &directory.join("files"))?;
        for instance in self.store.layers().instances(id)? {
            is_backed |= self.blob(&instance.digest)?;
        }
        Ok((!is_backed).then(|| "neither its files nor a blob it came in are there any more".to_owned()))
    }

    fn check_diff_ids(&mut self, id: &LayerId, index: &LayerIndex) -> Result<(), FileError> {
        for (name, _) in list(&layer_directory(&self.store.shared, id))? {
            let clamp = name.strip_prefix("diff-id-").and_then(|clamp| clamp.parse().ok());
            if clamp.is_some() || name == "diff-id" {
                self.check_diff_id(id, index, &name, &TarOptions { clamp })?;
            }
        }
        Ok(())
    }

    /// Writes the layer's tar once more, without keeping it, where its digest is remembered and all bytes are at hand.
    fn check_diff_id(
        &mut self,
        id: &LayerId,
        index: &LayerIndex,
        name: &str,
        options: &TarOptions,
    ) -> Result<(), FileError> {
        let path = layer_directory(&self.store.shared, id).join(name);
        let Some(bytes) = read_optional(&path)? else { return Ok(()) };
        let problem = match unseal::<DiffId>(&bytes) {
            None => "it does not match its checksum".to_owned(),
            Some(known) => {
                let Some(directories) = self.directories(id, index)? else { return Ok(()) };
                let open = |entry: &Entry| open_bytes(&directories, id, entry);
                match mica_image::tar::diff_id(index, open, options) {
                    Ok(actual) if actual == known => return Ok(()),
                    Ok(actual) => format!("the layer's tar has the digest `{actual}`"),
                    Err(error) => format!("the layer's tar cannot be written: {error}"),
                }
            }
        };
        self.found(Subject::Layer, format!("{id}/{name}"), problem, |check| {
            check.drop_file(&path, &|_| Ok(false))
        })
    }

    /// Opens the directories in which a layer's bytes lie; `None` while one is not unpacked.
    fn directories(
        &self,
        id: &LayerId,
        index: &LayerIndex,
    ) -> Result<Option<HashMap<LayerId, Beneath>>, FileError> {
        let mut directories = HashMap::new();
        for id in std::iter::once(*id).chain(index.holders()) {
            let files = layer_directory(&self.store.shared, &id).join("files");
            match Beneath::open_root(&files) {
                Err(error) if is_absent(&error) => return Ok(None),
                result => drop(directories.insert(id, result.at("open", &files)?)),
            }
        }
        Ok(Some(directories))
    }

    /// Returns what is wrong with the objects in a directory.
    fn objects_problem(
        &mut self,
        files: &Path,
        index: &LayerIndex,
        expect: Expect,
    ) -> Result<Option<String>, FileError> {
        let root = match Beneath::open_root(files) {
            Ok(root) => root,
            Err(error) if is_absent(&error) => {
                return Ok(Some("its files are not there any more".to_owned()));
            }
            Err(error) => return Err(FileError::new("open", files, error)),
        };
        for entry in &index.entries {
            let ownership = self.store.shared.ownership;
            let problem = match object_problem(&root, entry, expect, ownership) {
                Ok((problem, read)) => {
                    self.report.files += usize::from(read.is_some());
                    self.report.bytes += read.unwrap_or(0);
                    problem
                }
                Err(error) => Some(unreadable(&FileError::new("read", shown(files, entry), error))?),
            };
            if let Some(problem) = problem {
                return Ok(Some(format!("`/{}`: {problem}", String::from_utf8_lossy(&entry.path))));
            }
        }
        Ok(None)
    }
}

fn open_bytes(directories: &HashMap<LayerId, Beneath>, id: &LayerId, entry: &Entry) -> io::Result<File> {
    let Node::File { bytes, .. } = &entry.node else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (holder, path) = match bytes {
        Bytes::Here => (id, &entry.path),
        Bytes::In { layer, path } => (layer, path),
    };
    let directory = directories.get(holder).ok_or(io::ErrorKind::NotFound)?;
    directory.file(path).map(File::from)
}

/// Returns what is wrong with one object, and how many of its bytes were read.
fn object_problem(
    root: &Beneath,
    entry: &Entry,
    expect: Expect,
    ownership: Ownership,
) -> io::Result<(Option<String>, Option<u64>)> {
    let looked = match &entry.node {
        Node::File { size, digest, bytes } if expect == Expect::All || *bytes == Bytes::Here => {
            return file_problem(root, entry, (*digest, *size), ownership);
        }
        Node::Directory { .. } => root.directory(&entry.path).and_then(|directory| match expect {
            // What another layer shows there counts, not the way to a file.
            Expect::OwnFiles => Ok(None),
            Expect::Own | Expect::All => {
                Ok(attributes_problem(&rustix::fs::fstat(&directory)?, entry, ownership))
            }
        }),
        Node::Symlink { target } => read_link(root, &entry.path)
            .map(|found| (found != *target).then(|| "the link points elsewhere".to_owned())),
        // Devices and whiteouts have no bytes, and an ordinary user's store has them in the index alone.
        _ => return Ok((None, None)),
    };
    match looked {
        Err(error) if is_gone(&error) && expect == Expect::OwnFiles => Ok((None, None)),
        Err(error) if is_gone(&error) => Ok((Some("it is not there any more".to_owned()), None)),
        result => result.map(|problem| (problem, None)),
    }
}

fn file_problem(
    root: &Beneath,
    entry: &Entry,
    expected: (mica_image::FileDigest, u64),
    ownership: Ownership,
) -> io::Result<(Option<String>, Option<u64>)> {
    let file = match root.file(&entry.path) {
        Err(error) if is_gone(&error) => return Ok((Some("it is not there any more".to_owned()), None)),
        result => result?,
    };
    let found = crate::hash::digest(&file)?;
    let problem = match found == expected {
        true => attributes_problem(&rustix::fs::fstat(&file)?, entry, ownership),
        false => Some("its bytes are not those of its digest".to_owned()),
    };
    Ok((problem, Some(found.1)))
}

/// Compares mode and owner; of an ordinary user's single id, the index alone knows whose files are.
fn attributes_problem(stat: &rustix::fs::Stat, entry: &Entry, ownership: Ownership) -> Option<String> {
    let (mode, owner) = (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid));
    if mode != entry.mode & 0o7777 {
        return Some(format!("its mode is {mode:o} and should be {:o}", entry.mode & 0o7777));
    }
    let is_other = ownership != Ownership::Single && owner != (entry.uid, entry.gid);
    is_other
        .then(|| format!("its owner is {}:{} and should be {}:{}", owner.0, owner.1, entry.uid, entry.gid))
}

fn read_link(root: &Beneath, path: &[u8]) -> io::Result<Vec<u8>> {
    let directory = root.directory(parent(path))?;
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    match rustix::fs::readlinkat(&directory, name, Vec::new()) {
        // Something else took its place.
        Err(rustix::io::Errno::INVAL) => Ok(Vec::new()),
        result => Ok(result?.into_bytes()),
    }
}

/// Whether what should be there is missing, or something of another kind took its place.
fn is_gone(error: &io::Error) -> bool {
    is_absent(error) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn shown(files: &Path, entry: &Entry) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    files.join(std::ffi::OsStr::from_bytes(&entry.path))
}
