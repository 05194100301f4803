//! What may go when the store is to take no more than so many bytes, in one row by its last use.

use std::path::{Path, PathBuf};

use mica_image::LayerId;

use super::run::{Collection, Intent, last_use};
use super::sizes::Part;
use crate::Failure;
use crate::files::{FileError, list_sharded};
use crate::images::ImageRecord;
use crate::layer::{FsTime, LayerKind, layer_directory, needed_by};
use crate::lease::Pin;
use crate::record::{CacheRecord, numbered, read_record};
use crate::store::Store;

/// Something that nothing needs but that may be of use again.
pub(super) struct Item {
    pub(super) used: FsTime,
    pub(super) what: What,
}

/// What it is.
pub(super) enum What {
    /// An image that no tag names.
    Image(Box<ImageRecord>),
    /// A record; `None` if it cannot be read.
    Record(PathBuf, Option<Box<CacheRecord>>),
    /// What a step that failed left behind.
    Failure(PathBuf, Box<Failure>),
    /// A directory of a layer that can be made again.
    Derived(LayerId, Part),
    /// A cache mount: its directory and its bytes.
    Mount(PathBuf, u64),
}

impl What {
    /// Gives those that were used at the same time an order.
    fn path(&self) -> PathBuf {
        match self {
            Self::Image(image) => image.id.hex().into(),
            Self::Record(path, _) | Self::Failure(path, _) | Self::Mount(path, _) => path.clone(),
            Self::Derived(id, part) => PathBuf::from(id.hex()).join(part.name()),
        }
    }
}

/// Orders them, what was used last first.
pub(super) fn by_last_use(items: &mut [Item]) {
    items.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.what.path().cmp(&b.what.path())));
}

/// Returns all failures that are kept for a look.
pub(super) fn failures(store: &Store) -> Result<Vec<Item>, FileError> {
    let mut items = Vec::new();
    for (path, failure) in store.failures().all()? {
        let Some(used) = last_use(&path)? else { continue };
        items.push(Item { used, what: What::Failure(path, Box::new(failure)) });
    }
    Ok(items)
}

/// Returns all records.
pub(super) fn records(store: &Store) -> Result<Vec<Item>, FileError> {
    let mut items = Vec::new();
    for (_, directory) in list_sharded(&store.shared.root.join("records"))? {
        for (_, path) in numbered(&directory)? {
            let Some(used) = last_use(&path)? else { continue };
            let record = read_record(&path)?.map(Box::new);
            items.push(Item { used, what: What::Record(path, record) });
        }
    }
    Ok(items)
}

impl Collection<'_> {
    /// Returns the directories of layers that can be made again.
    pub(super) fn derived(&self) -> Result<Vec<Item>, FileError> {
        let mut items = Vec::new();
        for (id, meta) in &self.metas {
            let directory = layer_directory(&self.store.shared, id);
            let Some(used) = last_use(&directory.join("meta"))? else { continue };
            let is_derived = |part: &Part| meta.kind == LayerKind::Imported || *part == Part::Full;
            for part in Part::ALL.into_iter().filter(is_derived) {
                if directory.join(part.name()).is_dir() {
                    items.push(Item { used, what: What::Derived(*id, part) });
                }
            }
        }
        Ok(items)
    }

    /// Returns the cache mounts; taking one marks its `id` as used.
    pub(super) fn mounts(&self) -> Result<Vec<Item>, FileError> {
        let mut items = Vec::new();
        for (path, bytes) in self.sizes.mounts()? {
            let Some(used) = last_use(&path.join("id"))? else { continue };
            items.push(Item { used, what: What::Mount(path, bytes) });
        }
        Ok(items)
    }

    /// Removes what went unused for too long, and all from the first that needs more room than there is.
    pub(super) fn collect_items(&mut self, items: Vec<Item>) -> Result<(), FileError> {
        let mut is_full = false;
        for Item { used, what } in items {
            is_full |=
                self.policy.max_bytes.is_some_and(|max| self.needed.bytes + self.added_bytes(&what) > max);
            match what {
                What::Record(path, Some(record)) if !is_full && !self.is_stale(used) => {
                    drop(path);
                    self.keep_record(&record)?;
                }
                What::Record(path, _) => {
                    self.report.records += usize::from(self.remove_unused_file(&path)?);
                }
                What::Failure(path, _)
                    if (is_full || self.is_stale(used)) && self.remove_unused_file(&path)? =>
                {
                    self.report.failures += 1;
                }
                What::Failure(_, failure) => self.keep_failure(&failure)?,
                What::Image(image) if is_full => self.remove_image(&image)?,
                What::Image(image) => self.keep_image(&image)?,
                What::Derived(id, part) if is_full => self.remove_derived(&id, part)?,
                What::Derived(id, part) => self.needed.bytes += self.sizes.part(&id, part),
                What::Mount(path, bytes) if is_full => self.remove_mount(&path, bytes)?,
                What::Mount(_, bytes) => self.needed.bytes += bytes,
            }
        }
        Ok(())
    }

    /// Returns what would be needed in addition.
    fn added_bytes(&mut self, what: &What) -> u64 {
        match what {
            What::Image(image) => image.tree.iter().map(|layer| self.added_by_layer(&layer.id)).sum(),
            What::Record(_, record) => record.as_ref().map_or(0, |record| self.added_by_layer(&record.layer)),
            What::Failure(_, failure) => failure.layers.iter().map(|id| self.added_by_layer(id)).sum(),
            What::Derived(id, part) => self.sizes.part(id, *part),
            What::Mount(_, bytes) => *bytes,
        }
    }

    fn added_by_layer(&mut self, id: &LayerId) -> u64 {
        let mut new = needed_by(id, &self.metas);
        new.retain(|id| !self.needed.layers.contains(id));
        let blobs = |id: &LayerId| self.store.layers().instances(id).unwrap_or_default();
        let in_blobs: u64 = new
            .iter()
            .flat_map(blobs)
            .filter(|instance| !self.needed.blobs.contains(&instance.digest))
            .map(|instance| self.sizes.blob(&instance.digest))
            .sum();
        in_blobs + new.iter().map(|id| self.layer_bytes(id)).sum::<u64>()
    }

    fn keep_record(&mut self, record: &CacheRecord) -> Result<(), FileError> {
        self.keep_layer(&record.layer)?;
        let details = record.parts.iter().filter_map(|part| part.detail).chain(record.log);
        self.needed.details.extend(details.map(|detail| detail.hex()));
        Ok(())
    }

    fn keep_failure(&mut self, failure: &Failure) -> Result<(), FileError> {
        self.needed.details.insert(failure.steps.hex());
        failure.layers.iter().try_for_each(|layer| self.keep_layer(layer))
    }

    /// Removes a directory that can be made again, unless somebody uses the layer.
    fn remove_derived(&mut self, id: &LayerId, part: Part) -> Result<(), FileError> {
        let directory = layer_directory(&self.store.shared, id);
        self.remove_victim(&directory.join(part.name()), &directory.join("meta"), Pin::Layer(*id))?;
        Ok(())
    }

    /// Removes the directories of a cache mount that nobody uses.
    fn remove_mount(&mut self, path: &Path, bytes: u64) -> Result<(), FileError> {
        if self.intent == Intent::Remove && self.store.mounts().prune_directory(path)? == 0 {
            return Ok(());
        }
        self.report.mounts += 1;
        self.report.bytes += bytes;
        Ok(())
    }
}
