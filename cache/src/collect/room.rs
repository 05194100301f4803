//! What may go when the store is to take no more than so many bytes, in one row by its last use.

use std::path::PathBuf;

use mica_image::LayerId;

use super::sizes::Part;
use crate::files::{FileError, list_sharded};
use crate::images::ImageRecord;
use crate::layer::FsTime;
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
            Self::Record(path, _) | Self::Mount(path, _) => path.clone(),
            Self::Derived(id, part) => PathBuf::from(id.hex()).join(part.name()),
        }
    }
}

/// Orders them, what was used last first.
pub(super) fn by_last_use(items: &mut [Item]) {
    items.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.what.path().cmp(&b.what.path())));
}

/// Returns all records.
pub(super) fn records(store: &Store) -> Result<Vec<Item>, FileError> {
    let mut items = Vec::new();
    for (_, directory) in list_sharded(&store.shared.root.join("records"))? {
        for (_, path) in numbered(&directory)? {
            let Some(used) = super::run::last_use(&path)? else { continue };
            let record = read_record(&path)?.map(Box::new);
            items.push(Item { used, what: What::Record(path, record) });
        }
    }
    Ok(items)
}
