//! Finding layers and reading what they contain.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mica_image::index::{IndexFile, LayerIndex, LayerLookup, RawIndex};
use mica_image::tree::{MergedTree, TreeLayer};
use mica_image::{DiffId, LayerId};

use super::error::LayerError;
use super::meta::{CompressedBlob, LayerMeta, layer_directory, use_whole};
use super::promise::Promised;
use crate::files::FileError;
use crate::lease::Pin;
use crate::sealed::{read_sealed, seal};
use crate::store::{Shared, Store};

/// The layers of a store.
#[derive(Debug, Clone)]
pub struct LayerStore {
    pub(super) shared: Arc<Shared>,
}

/// A layer of the store; it stays there as long as the store is open.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) shared: Arc<Shared>,
    id: LayerId,
    meta: Arc<LayerMeta>,
}

impl Store {
    /// Returns the store's layers.
    #[must_use]
    pub fn layers(&self) -> LayerStore {
        LayerStore { shared: self.shared.clone() }
    }
}

impl LayerStore {
    /// Returns a layer; `None` when the store does not have it.
    pub fn get(&self, id: &LayerId) -> Result<Option<Layer>, FileError> {
        let meta = hold(&self.shared, id)?;
        Ok(meta.map(|meta| Layer { shared: self.shared.clone(), id: *id, meta }))
    }

    /// Returns a layer that must be there.
    pub fn require(&self, id: &LayerId) -> Result<Layer, LayerError> {
        self.get(id)?.ok_or(LayerError::Missing(*id))
    }

    /// Shows layers, from the base up, as one tree.
    pub fn tree(&self, layers: &[TreeLayer]) -> Result<MergedTree, LayerError> {
        let mut opened: Vec<(LayerId, Arc<dyn LayerLookup>)> = Vec::new();
        for layer in layers {
            opened.push((layer.id, self.require(&layer.id)?.index()?));
        }
        Ok(MergedTree::new(opened))
    }

    /// Returns all layers that can be used, ordered by id.
    pub fn list(&self) -> Result<Vec<LayerId>, FileError> {
        let mut ids = Vec::new();
        for (name, path) in crate::files::list_sharded(&self.shared.root.join("layers"))? {
            if let Ok(id) = LayerId::from_hex(&name)
                && path.join("meta").exists()
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

impl Layer {
    /// Returns the layer's id.
    #[must_use]
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// Returns what is known of the layer.
    #[must_use]
    pub fn meta(&self) -> &LayerMeta {
        &self.meta
    }

    /// Opens the layer's index for look-ups, or returns the one that is open: the next step asks the same layers again.
    pub fn index(&self) -> Result<Arc<IndexFile>, LayerError> {
        let known = self.shared.held.lock().get(&self.id).and_then(|held| held.index.clone());
        if let Some(index) = known {
            return Ok(index);
        }
        let path = self.directory().join("index");
        let index = Arc::new(IndexFile::open(&path).map_err(|source| self.index_error(source))?);
        if self.meta.index_bytes <= KEPT_INDEX {
            let mut held = self.shared.held.lock();
            if let Some(held) = held.get_mut(&self.id) {
                held.index = Some(index.clone());
            }
        }
        Ok(index)
    }

    /// Reads the layer's index whole.
    pub fn load_index(&self) -> Result<LayerIndex, LayerError> {
        self.index()?.load().map_err(|source| self.index_error(source))
    }

    /// Reads the layer's index as it is on disk.
    pub fn raw_index(&self) -> Result<RawIndex, LayerError> {
        self.index()?.raw().map_err(|source| self.index_error(source))
    }

    /// Returns the digest of the compressed tar, if it was written with this codec (name, level, version) before.
    ///
    /// `diff_id` tells which tar: with or without clamped times.
    pub fn compressed(&self, diff_id: &DiffId, codec: &str) -> Result<Option<CompressedBlob>, FileError> {
        read_sealed(&self.compressed_path(diff_id, codec))
    }

    /// Remembers what the tar becomes with a codec.
    pub fn remember_compressed(
        &self,
        diff_id: &DiffId,
        codec: &str,
        blob: &CompressedBlob,
    ) -> Result<(), FileError> {
        self.shared.write(&self.compressed_path(diff_id, codec), &seal(blob))
    }

    /// Returns the bytes of the files the layer brings itself.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        self.meta.own_bytes
    }

    pub(super) fn directory(&self) -> PathBuf {
        layer_directory(&self.shared, &self.id)
    }

    pub(super) fn index_error(&self, source: mica_image::index::IndexError) -> LayerError {
        LayerError::Index { layer: self.id, source }
    }

    fn compressed_path(&self, diff_id: &DiffId, codec: &str) -> PathBuf {
        let name = blake3::hash(codec.as_bytes()).to_hex();
        self.directory().join("compressed").join(format!("{}-{}", diff_id.hex(), &name[..16]))
    }
}

/// Indexes up to this size stay in memory; larger ones would each keep a descriptor.
const KEPT_INDEX: u64 = 64 * 1024;

/// The layers that this open store's lease keeps: nothing takes them away, so they are looked at once.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<LayerId, HeldLayer>>);

#[derive(Debug)]
struct HeldLayer {
    meta: Arc<LayerMeta>,
    index: Option<Arc<IndexFile>>,
    /// Where it is to come from, of a layer that is not here yet.
    promised: Option<Promised>,
}

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LayerId, HeldLayer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a promised layer, with its whole index.
    pub(super) fn insert_promised(&self, id: LayerId, meta: LayerMeta, index: IndexFile, promised: Promised) {
        let (meta, index) = (Arc::new(meta), Some(Arc::new(index)));
        self.lock().entry(id).or_insert(HeldLayer { meta, index, promised: Some(promised) });
    }

    /// Returns where a layer is to come from, if it is only promised.
    pub(super) fn promised(&self, id: &LayerId) -> Option<Promised> {
        self.lock().get(id)?.promised.clone()
    }

    /// Forgets a promised layer: it came, or it never will.
    pub(super) fn forget(&self, id: &LayerId) {
        let mut held = self.lock();
        if held.get(id).is_some_and(|layer| layer.promised.is_some()) {
            held.remove(id);
        }
    }
}

/// Looks a layer up and keeps it, with the layers it needs, from being collected.
pub(crate) fn hold(shared: &Shared, id: &LayerId) -> Result<Option<Arc<LayerMeta>>, FileError> {
    let known = shared.held.lock().get(id).map(|held| held.meta.clone());
    if known.is_some() {
        return Ok(known);
    }
    let found = shared.lease()?.hold(|| look(shared, id))?.map(Arc::new);
    if let Some(meta) = &found {
        shared.held.lock().insert(*id, HeldLayer { meta: meta.clone(), index: None, promised: None });
    }
    Ok(found)
}

/// Returns what is known of a layer and everything that must stay for it.
pub(super) fn look(shared: &Shared, id: &LayerId) -> Result<Option<(LayerMeta, Vec<Pin>)>, FileError> {
    let Some((meta, needed)) = use_whole(shared, id)? else { return Ok(None) };
    let pins = needed.into_iter().map(Pin::Layer).collect();
    Ok(Some((meta, pins)))
}
