//! Unpacking a layer while it is received: one pass over its blob, where its files will be needed at once.

use mica_image::LayerId;
use mica_image::tar::{LayerSink, Spool};

use super::commit::Scratch;
use super::derived;
use super::error::LayerError;
use super::meta::LayerKind;
use super::store::LayerStore;
use crate::files::FileError;

/// The files of a tar that is being read; gone when dropped before they are kept.
#[derive(Debug)]
pub struct Unpacking {
    scratch: Scratch,
    spool: Spool,
}

impl Unpacking {
    /// Returns what takes the files.
    pub fn sink(&mut self) -> &mut dyn LayerSink {
        &mut self.spool
    }
}

impl LayerStore {
    /// Begins to unpack a layer that is about to be received.
    pub fn begin_unpacking(&self) -> Result<Unpacking, FileError> {
        let scratch = self.begin()?;
        let spool = Spool::new(&scratch.spool()?);
        Ok(Unpacking { scratch, spool })
    }

    /// Makes the directory of a layer that was imported from the tar whose files these are.
    pub fn keep_unpacked(&self, id: &LayerId, unpacked: Unpacking) -> Result<(), LayerError> {
        let layer = self.require(id)?;
        let files = layer.directory().join("files");
        if layer.meta().kind == LayerKind::Made || derived::is_ready(&self.shared, &files)? {
            return Ok(());
        }
        self.place_spooled(&layer, &unpacked.spool, &unpacked.scratch, &files)
    }
}
