//! The bytes of an archive's files, kept until it is known where they go.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LayerSink;
use crate::fault::{Point, reach};
use crate::index::LayerPath;

/// Keeps the bytes of files in numbered files of a directory.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    /// The file that holds the bytes of each path of the archive that is being read.
    files: BTreeMap<LayerPath, Arc<Path>>,
    made: u64,
    open: Option<File>,
}

impl Spool {
    /// Keeps them in `directory`, which is there and empty.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), files: BTreeMap::new(), made: 0, open: None }
    }

    /// Returns the file with the bytes that stand at `path` of the archive.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> Option<&Arc<Path>> {
        self.files.get(path)
    }

    /// Begins another archive; the files of earlier ones stay.
    pub fn next_archive(&mut self) {
        self.files.clear();
    }
}

impl LayerSink for Spool {
    fn begin_file(&mut self, path: &[u8]) -> io::Result<()> {
        let file = self.directory.join(self.made.to_string());
        self.made += 1;
        reach(Point::ScratchCreate)?;
        self.open = Some(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?);
        self.files.insert(path.to_vec(), file.into());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        reach(Point::SpoolWrite)?;
        self.open.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(bytes)
    }

    fn end_file(&mut self) -> io::Result<()> {
        self.open = None;
        Ok(())
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let file = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_vec(), file);
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        // `0` is the byte after `/`: all that starts with `path/` lies between.
        let below = [path, b"/"].concat()..[path, b"0"].concat();
        let gone: Vec<LayerPath> = self.files.range(below).map(|(path, _)| path.clone()).collect();
        for path in gone.iter().map(Vec::as_slice).chain([path]) {
            if let Some(file) = self.files.remove(path) {
                reach(Point::Remove)?;
                std::fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}
