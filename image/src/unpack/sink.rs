//! Unpacking while an archive is read.

use std::fs::File;
use std::io::{self, Write};

use super::build::{Files, UnpackError, UnpackOptions, build};
use crate::RootDir;
use crate::index::{LayerIndex, parent};
use crate::tar::LayerSink;

/// Writes the bytes of an archive's files into a directory.
#[derive(Debug)]
pub struct DirectorySink<'a> {
    root: &'a RootDir,
    file: Option<File>,
}

impl<'a> DirectorySink<'a> {
    /// Writes into `root`, an empty directory.
    #[must_use]
    pub fn new(root: &'a RootDir) -> Self {
        Self { root, file: None }
    }

    /// Makes everything else that the archive's `index` has, and gives the files their attributes.
    ///
    /// Files whose bytes the index has in other layers are left out, as are their hard links.
    pub fn finish(self, index: &LayerIndex, options: &UnpackOptions<'_>) -> Result<(), UnpackError> {
        build(index, Files::Present, self.root, options)
    }

    /// Makes the directories above `path` until `action` finds them.
    fn with_parents<T>(&self, path: &[u8], action: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match action() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.root.create_dirs(parent(path), 0o700)?;
                action()
            }
            other => other,
        }
    }
}

impl LayerSink for DirectorySink<'_> {
    fn begin_file(&mut self, path: &[u8]) -> io::Result<()> {
        self.file = Some(self.with_parents(path, || self.root.create_file(path, 0o600))?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().expect("a file is begun before it is written");
        file.write_all(bytes)
    }

    fn end_file(&mut self) -> io::Result<()> {
        self.file = None;
        Ok(())
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.with_parents(to, || self.root.rename(from, to))
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        self.root.remove_all(path)
    }
}
