//! Looking for values in what a step wrote: what must not be kept is not kept.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;

use memchr::memmem::Finder;
use mica_image::index::LayerPath;
use mica_image::tree::join;
use rustix::fs::FileType;

use super::snapshot::Snapshot;
use crate::beneath::{Beneath, kind, read_directory, walk};
use crate::files::FileError;

/// How much of a file is looked at in one go.
const PIECE: usize = 1 << 20;

impl Snapshot {
    /// Returns a file of what the step wrote that holds one of `values`, if there is one. Empty values are in no file.
    pub fn find(&self, values: &[Vec<u8>]) -> Result<Option<LayerPath>, FileError> {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).filter(|value| !value.is_empty()).collect();
        if values.is_empty() {
            return Ok(None);
        }
        let upper = self.upper();
        find(&upper, &values).map_err(|error| FileError::new("search", upper, error))
    }
}

fn find(directory: &std::path::Path, values: &[&[u8]]) -> io::Result<Option<LayerPath>> {
    let finders: Vec<Finder<'_>> = values.iter().map(Finder::new).collect();
    let root = Beneath::open_root(directory)?;
    let found = Mutex::new(None);
    walk(vec![LayerPath::new()], &|path| {
        let directory = root.directory(path)?;
        let mut next = Vec::new();
        for (name, stat) in read_directory(&directory)? {
            let child = join(path, &name);
            match kind(&stat) {
                FileType::Directory => next.push(child),
                FileType::RegularFile if holds(root.file(&child)?.into(), &finders)? => {
                    found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(child);
                    return Ok(Vec::new());
                }
                _ => {}
            }
        }
        Ok::<_, io::Error>(next)
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Pieces overlap by as much as a value that lies across two of them needs.
fn holds(mut file: File, finders: &[Finder<'_>]) -> io::Result<bool> {
    let longest = finders.iter().map(|finder| finder.needle().len()).max().unwrap_or(0);
    let mut buffer = Vec::with_capacity(PIECE + longest);
    loop {
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut buffer)?;
        if finders.iter().any(|finder| finder.find(&buffer).is_some()) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        let overlap = buffer.len().min(longest - 1);
        buffer.drain(..buffer.len() - overlap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_wherever_they_lie() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(home.path().join(name), bytes).unwrap();
        let found = |value: &[u8]| find(home.path(), &[b"never there", value]).unwrap();
        std::fs::create_dir(home.path().join("sub")).unwrap();
        write("sub/small", b"a secret value.");
        let mut large = vec![b'x'; PIECE - 3];
        large.extend_from_slice(b"across two pieces");
        write("large", &large);
        std::os::unix::fs::symlink("/etc/passwd", home.path().join("link")).unwrap();
        assert_eq!(found(b"secret value"), Some(b"sub/small".to_vec()));
        assert_eq!(found(b"across two pieces"), Some(b"large".to_vec()));
        assert_eq!(found(b"root"), None);
    }
}
