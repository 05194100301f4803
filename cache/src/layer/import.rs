//! Layers that were pulled or loaded: an index and a blob, and a directory only once a step must look inside.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mica_image::compress::Decoder;
use mica_image::index::{Bytes, LayerIndex, LayerPath, Node};
use mica_image::tar::{Spool, TarLimits, read_layer};
use mica_image::tree::{FileTree, Tree};
use mica_image::{ContentDigest, DiffId, LayerId};

use super::commit::Scratch;
use super::derived;
use super::error::LayerError;
use super::meta::{Instance, LayerKind, layer_directory};
use super::store::{Layer, LayerStore};
use super::write::{Source, WriteOptions, part_of, write_objects};
use crate::blob::{BlobError, BlobStore};
use crate::files::{FileError, list, read_optional, rename_over};
use crate::locks::StepLock;
use crate::sealed::{read_sealed, seal, unseal};

/// The blob an imported layer came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedBlob {
    /// Its digest.
    pub digest: ContentDigest,
    /// Its length in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

impl LayerStore {
    /// Adds a layer that was read from a tar: its index, the tar's digest, and the blob, which should be in the store.
    ///
    /// `lower` is the tree below that the tar was read with, where its hard links may point. No files are made. A layer that is there
    /// already learns one more tar it may be.
    pub fn import(
        &self,
        index: LayerIndex,
        diff_id: DiffId,
        blob: ImportedBlob,
        lower: &Tree,
        created: i64,
    ) -> Result<Layer, LayerError> {
        let id = index.layer_id();
        let ImportedBlob { digest, size, media_type } = blob;
        let instance = seal(&Instance { diff_id, digest, size, media_type, lower: lower.clone() });
        let (layer, existed) = match self.get(&id)?.filter(|_| !self.is_promised(&id)) {
            Some(layer) => (layer, true),
            None => {
                // Bytes that lie elsewhere are those of hard links into the tree below, which are few and stay there.
                let index = super::flatten::flatten(self, index)?;
                let scratch = self.scratch()?;
                // Without the tar it came in the layer would be there, and its bytes nowhere.
                let path = scratch.path().join("instances").join(diff_id.hex());
                rename_over(&self.shared.lease()?.fresh_file_with(&instance)?, &path)?;
                self.publish(scratch, id, &index, LayerKind::Imported, created)?
            }
        };
        if existed {
            self.shared.write(&layer.directory().join("instances").join(diff_id.hex()), &instance)?;
        }
        self.shared.write(&self.diff_id_path(&diff_id), &seal(&id))?;
        Ok(layer)
    }

    /// Returns the layer a tar was imported as, and what was below it then, if both are still there.
    pub fn imported(&self, diff_id: &DiffId) -> Result<Option<(Layer, Tree)>, FileError> {
        let Some(bytes) = read_optional(&self.diff_id_path(diff_id))? else { return Ok(None) };
        let Some(id) = unseal::<LayerId>(&bytes) else { return Ok(None) };
        let Some(layer) = self.get(&id)? else { return Ok(None) };
        Ok(self.instance(&id, diff_id)?.map(|instance| (layer, instance.lower)))
    }

    fn diff_id_path(&self, diff_id: &DiffId) -> PathBuf {
        crate::files::sharded(&self.shared.root.join("diff-ids"), &diff_id.hex())
    }

    /// Returns one of an imported layer's tars.
    pub fn instance(&self, id: &LayerId, diff_id: &DiffId) -> Result<Option<Instance>, FileError> {
        let path = layer_directory(&self.shared, id).join("instances").join(diff_id.hex());
        read_sealed(&path)
    }

    /// Returns all of an imported layer's tars.
    pub fn instances(&self, id: &LayerId) -> Result<Vec<Instance>, FileError> {
        let mut instances = Vec::new();
        for (_, path) in list(&layer_directory(&self.shared, id).join("instances"))? {
            instances.extend(read_sealed::<Instance>(&path)?);
        }
        Ok(instances)
    }

    /// Returns the directory of a layer's own objects, unpacking it first if need be.
    pub fn ensure_files(&self, id: &LayerId) -> Result<PathBuf, LayerError> {
        self.fulfil(id)?;
        let layer = self.require(id)?;
        let files = layer.directory().join("files");
        if layer.meta().kind == LayerKind::Made || derived::is_ready(&self.shared, &files)? {
            return Ok(files);
        }
        // Whoever else needs it waits: unpacking twice would only be slower.
        let lock = self.shared.root.join("locks/unpack").join(id.hex());
        let _lock = StepLock::acquire(lock, &|| false).map_err(|error| match error {
            crate::locks::LockError::File(error) => error,
            crate::locks::LockError::Cancelled(path) => {
                FileError::new("lock", path, io::Error::from(io::ErrorKind::Interrupted))
            }
        })?;
        if !derived::is_ready(&self.shared, &files)? {
            self.unpack(&layer, &files)?;
        }
        Ok(files)
    }

    fn unpack(&self, layer: &Layer, files: &Path) -> Result<(), LayerError> {
        let (instance, blob) = self.stored_instance(layer)?;
        let scratch = self.begin()?;
        let spool = self.spool(layer, &instance, blob, &scratch)?;
        self.place_spooled(layer, &spool, &scratch, files)
    }

    /// Makes a layer's directory of the files of one of its tars.
    pub(super) fn place_spooled(
        &self,
        layer: &Layer,
        spool: &Spool,
        scratch: &Scratch,
        files: &Path,
    ) -> Result<(), LayerError> {
        let index = layer.load_index()?;
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "not in the blob");
        let source = |entry: &mica_image::index::Entry| match &entry.node {
            Node::File { bytes: Bytes::Here, .. } => {
                spool.file(&entry.path).map(|file| Source::Move(file.to_path_buf())).ok_or_else(missing)
            }
            Node::File { bytes, .. } => {
                self.open_bytes(&layer.id(), &entry.path, bytes).map(Source::Copy).map_err(io::Error::other)
            }
            _ => Err(missing()),
        };
        let options = WriteOptions { ownership: self.shared.ownership, source: &source };
        write_objects(&scratch.files(), &index, &options)?;
        Ok(derived::place(&self.shared, &*self.shared.lease()?, &scratch.files(), files)?)
    }

    /// Finds a tar of the layer whose blob is in the store.
    fn stored_instance(&self, layer: &Layer) -> Result<(Instance, File), LayerError> {
        let blobs = BlobStore { shared: self.shared.clone() };
        let mut missing = None;
        for instance in self.instances(&layer.id())? {
            match blobs.open(&instance.digest) {
                Ok(blob) => return Ok((instance, blob)),
                Err(BlobError::Missing(blob)) => missing = Some(blob),
                Err(error) => return Err(error.into()),
            }
        }
        let layer = layer.id();
        Err(missing.map_or(LayerError::Missing(layer), |blob| LayerError::BlobMissing { layer, blob }))
    }

    /// Verifies and reads a blob, keeping the bytes of its files.
    fn spool(
        &self,
        layer: &Layer,
        instance: &Instance,
        blob: File,
        scratch: &Scratch,
    ) -> Result<Spool, LayerError> {
        let id = layer.id();
        let mut spool = Spool::new(&scratch.spool()?);
        let lower = self.lower_tree(instance)?;
        let limits =
            TarLimits { lower: lower.as_ref().map(|tree| tree as &dyn FileTree), ..TarLimits::default() };
        let failed = |source: io::Error| LayerError::Unpack { layer: id, source };
        let verified = crate::blob::Verified::new(blob, instance.digest);
        let decoder = Decoder::new(verified.reader()).map_err(failed)?;
        read_layer(decoder, &limits, &mut spool).map_err(|error| failed(io::Error::other(error)))?;
        if !verified.finish().map_err(failed)? {
            return Err(LayerError::BlobDiffers { layer: id, blob: instance.digest });
        }
        Ok(spool)
    }

    /// The tree a tar was read with is needed again only for hard links into it; what is not there any more is not missed until then.
    fn lower_tree(&self, instance: &Instance) -> Result<Option<mica_image::MergedTree>, LayerError> {
        match self.tree(&instance.lower) {
            Ok(tree) => Ok(Some(tree)),
            Err(LayerError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes all objects of an index into a directory, copying the bytes of its files.
    pub(super) fn write_tree(&self, id: &LayerId, index: &LayerIndex, to: &Path) -> Result<(), LayerError> {
        let reader = self.reader();
        let source = |entry: &mica_image::index::Entry| reader.open_entry(id, entry).map(Source::Copy);
        let options = WriteOptions { ownership: self.shared.ownership, source: &source };
        Ok(write_objects(to, index, &options)?)
    }

    /// Copies into a layer in the making the files that lie in the given layers.
    pub(super) fn bring_in(
        &self,
        scratch: &Scratch,
        id: &LayerId,
        index: &mut LayerIndex,
        from: &BTreeSet<LayerId>,
    ) -> Result<(), LayerError> {
        let lies_there = |node: &Node| matches!(node, Node::File { bytes: Bytes::In { layer, .. }, .. } if from.contains(layer));
        let is_brought = |node: &Node| match node {
            Node::HardLink { target } => index.find(target).is_some_and(|first| lies_there(&first.node)),
            node => lies_there(node),
        };
        let paths: Vec<&LayerPath> =
            index.entries.iter().filter(|entry| is_brought(&entry.node)).map(|entry| &entry.path).collect();
        self.write_tree(id, &part_of(index, &paths), &scratch.files())?;
        for entry in &mut index.entries {
            if lies_there(&entry.node)
                && let Node::File { bytes, .. } = &mut entry.node
            {
                *bytes = Bytes::Here;
            }
        }
        Ok(())
    }
}
