//! The layers that files of contexts became to be mounted, by what was selected: a step that is looked into later needs them again.

use std::path::PathBuf;

use mica_image::LayerId;

use super::store::LayerStore;
use crate::files::{FileError, sharded};
use crate::sealed::{read_sealed, seal};

impl LayerStore {
    /// Remembers which layer a selection of files was mounted from.
    pub fn remember_mounted(&self, selection: &str, layer: &LayerId) -> Result<(), FileError> {
        let path = self.mounted_path(selection);
        match self.mounted(selection)? {
            Some(known) if known == *layer => Ok(()),
            _ => self.shared.write(&path, &seal(layer)),
        }
    }

    /// Returns the layer a selection of files was last mounted from, if it is still there.
    pub fn mounted(&self, selection: &str) -> Result<Option<LayerId>, FileError> {
        let Some(id) = read_sealed::<LayerId>(&self.mounted_path(selection))? else { return Ok(None) };
        Ok(self.get(&id)?.map(|layer| layer.id()))
    }

    fn mounted_path(&self, selection: &str) -> PathBuf {
        let name = blake3::hash(selection.as_bytes()).to_hex();
        sharded(&self.shared.root.join("mounted"), name.as_str())
    }
}
