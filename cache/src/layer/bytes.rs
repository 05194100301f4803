//! Reading the bytes of files, wherever they lie, and the tars that are made of them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mica_image::fault::{Point, reach};
use mica_image::index::{Bytes, Entry, LayerIndex, LayerPath, Node};
use mica_image::tar::{TarOptions, WriteTarError, write_layer};
use mica_image::tree::TreeLayer;
use mica_image::{DiffId, LayerId};

use super::error::LayerError;
use super::store::{Layer, LayerStore};
use crate::beneath::Beneath;
use crate::files::At;
use crate::sealed::{read_sealed, seal};

/// Opens files of layers, and remembers the layers it opened.
#[derive(Debug)]
pub struct LayerReader {
    store: LayerStore,
    opened: Mutex<HashMap<LayerId, Arc<Beneath>>>,
}

impl LayerStore {
    /// Returns a reader of files in layers.
    #[must_use]
    pub fn reader(&self) -> LayerReader {
        LayerReader { store: self.clone(), opened: Mutex::default() }
    }

    /// Opens one file: the one at `path` in `layer`, whose index says that its bytes are `bytes`.
    pub fn open_bytes(&self, layer: &LayerId, path: &[u8], bytes: &Bytes) -> Result<File, LayerError> {
        self.reader().open(layer, path, bytes)
    }

    /// Returns the digest of a layer's tar: computed once for a layer made here, as it came for an imported one.
    pub fn diff_id(&self, layer: &TreeLayer) -> Result<DiffId, LayerError> {
        self.diff_id_of(layer, None)
    }

    /// The same for a layer whose index may be at hand.
    pub fn diff_id_of(&self, layer: &TreeLayer, index: Option<LayerIndex>) -> Result<DiffId, LayerError> {
        let found = self.require(&layer.id)?;
        if let Some(diff_id) = layer.diff_id {
            return Ok(diff_id);
        }
        let path = found.directory().join(diff_id_file(layer.clamp));
        if let Some(known) = read_sealed(&path)? {
            return Ok(known);
        }
        let index = index.map_or_else(|| found.load_index(), Ok)?;
        let reader = self.reader();
        let diff_id = mica_image::tar::diff_id(
            &index,
            |entry| reader.open_entry(&layer.id, entry),
            &layer.tar_options(),
        );
        let diff_id = diff_id.map_err(|error| tar_error(&layer.id, error))?;
        self.shared.write(&path, &seal(&diff_id))?;
        Ok(diff_id)
    }
}

impl Layer {
    /// Writes the layer's canonical tar.
    pub fn write_tar(&self, out: &mut dyn io::Write, options: &TarOptions) -> Result<(), LayerError> {
        let store = LayerStore { shared: self.shared.clone() };
        let reader = store.reader();
        let id = self.id();
        write_layer(&self.load_index()?, |entry| reader.open_entry(&id, entry), out, options)
            .map_err(|error| tar_error(&id, error))
    }
}

impl LayerReader {
    /// Opens the file at `path` in `layer`, whose index says that its bytes are `bytes`; unpacks the layer if need be.
    pub fn open(&self, layer: &LayerId, path: &[u8], bytes: &Bytes) -> Result<File, LayerError> {
        let (holder, path) = match bytes {
            Bytes::Here => (layer, path),
            Bytes::In { layer, path } => (layer, path.as_slice()),
        };
        let directory = self.directory(holder)?;
        match reach(Point::LayerOpen).and_then(|()| directory.file(path)) {
            Ok(file) => Ok(File::from(file)),
            Err(error) if crate::files::is_absent(&error) => {
                Err(LayerError::NotHeld { path: LayerPath::from(path), holder: *holder })
            }
            Err(error) => {
                use std::os::unix::ffi::OsStrExt;
                let shown = self.files(holder).join(std::ffi::OsStr::from_bytes(path));
                Err(crate::files::FileError::new("open", shown, error).into())
            }
        }
    }

    /// Opens the file that an entry of `layer` is, as the writers of tars and trees want it.
    pub fn open_entry(&self, layer: &LayerId, entry: &Entry) -> io::Result<File> {
        match &entry.node {
            Node::File { bytes, .. } => self.open(layer, &entry.path, bytes).map_err(io::Error::other),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    fn directory(&self, layer: &LayerId) -> Result<Arc<Beneath>, LayerError> {
        if let Some(known) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(layer) {
            return Ok(known.clone());
        }
        let files = self.store.ensure_files(layer)?;
        let opened = Arc::new(Beneath::open_root(&files).at("open", &files)?);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(*layer, opened.clone());
        Ok(opened)
    }

    fn files(&self, layer: &LayerId) -> std::path::PathBuf {
        super::meta::layer_directory(&self.store.shared, layer).join("files")
    }
}

/// Names the file in which a layer keeps the digest of its tar with this clamp.
pub(crate) fn diff_id_file(clamp: Option<i64>) -> String {
    match clamp {
        None => "diff-id".to_owned(),
        Some(clamp) => format!("diff-id-{clamp}"),
    }
}

fn tar_error(layer: &LayerId, error: WriteTarError) -> LayerError {
    LayerError::Tar { layer: *layer, source: io::Error::other(error) }
}
