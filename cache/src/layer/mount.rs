//! What is in a cache mount, as an index; and putting files into one.

use std::fs::File;
use std::io;
use std::path::Path;

use mica_image::index::{Entry, LayerIndex, LayerPath, Node};
use mica_image::tree::MergedTree;

use super::error::LayerError;
use super::snapshot::{FsTime, StepWindow};
use super::store::LayerStore;
use super::upper::{UpperOptions, read_upper};
use super::write::{Source, WriteOptions, write_objects};
use crate::beneath::Beneath;
use crate::files::At;

impl LayerStore {
    /// Reads everything in a directory nobody writes to: all times count, and the names of one file are files of their own.
    ///
    /// Sockets, whose listeners are gone, are removed.
    pub fn read_mount(&self, directory: &Path) -> Result<LayerIndex, LayerError> {
        let never = FsTime { seconds: i64::MIN, nanoseconds: 0 };
        let options = UpperOptions {
            parent: &MergedTree::new(Vec::new()),
            window: StepWindow { start: never, end: never },
            ownership: self.shared.ownership,
            left_out: &|_| false,
        };
        let index = read_upper(directory, &options)?;
        let own = |entry: &Entry| match &entry.node {
            Node::HardLink { target } => index.find(target).map(|first| first.node.clone()),
            node => Some(node.clone()),
        };
        let entries = index.entries.iter().filter(|entry| !entry.path.is_empty());
        let entries = entries.filter_map(|entry| Some(Entry { node: own(entry)?, ..entry.clone() }));
        Ok(LayerIndex { entries: entries.collect() })
    }

    /// Creates what a directory does not have of an index; `open` gives the bytes of a file. What is there stays as it is.
    pub fn add_to_mount(
        &self,
        directory: &Path,
        index: &LayerIndex,
        open: &(dyn Fn(&Entry) -> io::Result<File> + Sync),
    ) -> Result<(), LayerError> {
        let source = |entry: &Entry| open(entry).map(Source::Copy);
        let options = WriteOptions { ownership: self.shared.ownership, source: &source };
        Ok(write_objects(directory, &self.missing(directory, index)?, &options)?)
    }

    /// Returns the part of an index that a directory does not have, nor anything in its way.
    pub fn missing(&self, directory: &Path, index: &LayerIndex) -> Result<LayerIndex, LayerError> {
        let root = Beneath::open_root(directory).at("open", directory)?;
        let mut taken: Option<LayerPath> = None;
        let mut entries = Vec::new();
        for entry in &index.entries {
            let below_taken = |path: &LayerPath| mica_image::index::is_below(&entry.path, path);
            if taken.as_ref().is_some_and(below_taken) {
                continue;
            }
            let above = mica_image::index::parent(&entry.path);
            let known = match root.directory(above) {
                Ok(above) => {
                    let name = mica_image::index::name(&entry.path);
                    rustix::fs::statat(&above, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()
                }
                Err(_) => None,
            };
            match known {
                None => entries.push(entry.clone()),
                Some(stat) if crate::beneath::kind(&stat).is_dir() && entry.is_directory() => {}
                Some(_) => taken = Some(entry.path.clone()),
            }
        }
        Ok(LayerIndex { entries })
    }
}
