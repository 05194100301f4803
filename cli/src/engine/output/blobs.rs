//! The blobs of an export: configs and pulled blobs as they are, layers made here from their recipe.
//!
//! What was compressed once is kept as a blob and its digest remembered per codec, so that it is never compressed again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};

use mica_cache::layer::CompressedBlob;
use mica_cache::{Layer, Store};
use mica_image::compress::GzipEncoder;
use mica_image::layout::BlobSource;
use mica_image::manifest::MANIFEST_SIZE_MAX;
use mica_image::tar::TarOptions;
use mica_image::tree::TreeLayer;
use mica_image::{
    ContentDigest, Descriptor, Dialect, DiffId, Document, LayerCompression, Manifest, MediaType,
};

use super::{OutputError, StoredImage, manifest_of};

/// The codec, level and format of gzip layers; part of what a remembered digest is for.
const GZIP: &str = "gzip level 6 blocks 1";
const GZIP_LEVEL: u32 = 6;

/// How layers made here are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// As every registry and builder reads it.
    Gzip,
}

/// Blobs of a store.
pub(crate) struct StoreBlobs<'a> {
    store: &'a Store,
    /// Plain tars that are written from their layer, by digest.
    tars: RefCell<BTreeMap<ContentDigest, Layer>>,
}

impl<'a> StoreBlobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, tars: RefCell::default() }
    }

    /// Returns the manifest an image was pulled with, if all it names is still here: then it goes out under the same digest.
    pub(crate) fn pulled_manifest(
        &self,
        image: &StoredImage,
    ) -> Result<Option<(Descriptor, Vec<u8>)>, OutputError> {
        let blobs = self.store.blobs();
        let Some(digest) = image.manifest else { return Ok(None) };
        if !blobs.has(&digest)? {
            return Ok(None);
        }
        let bytes = blobs.read(&digest, MANIFEST_SIZE_MAX)?;
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, &MediaType::default()) else {
            return Ok(None);
        };
        for layer in &manifest.layers {
            if !blobs.has(&layer.digest)? {
                return Ok(None);
            }
        }
        Ok(Some((Descriptor::of(manifest.media_type.clone(), &bytes), bytes)))
    }

    /// Returns the manifest of an image with its layers in the form wanted; compresses what was never compressed.
    pub(crate) fn manifest(
        &self,
        image: &StoredImage,
        dialect: Dialect,
        compression: Compression,
        threads: usize,
    ) -> Result<Manifest, OutputError> {
        let mut layers = Vec::with_capacity(image.tree.len());
        for layer in &image.tree {
            layers.push(self.layer(layer, dialect, compression, threads)?);
        }
        let config_size = self.store.blobs().size(&image.id)?.unwrap_or(0);
        Ok(manifest_of(dialect, image, config_size, layers))
    }

    fn layer(
        &self,
        tree_layer: &TreeLayer,
        dialect: Dialect,
        compression: Compression,
        threads: usize,
    ) -> Result<Descriptor, OutputError> {
        let layers = self.store.layers();
        if let Some(diff_id) = tree_layer.diff_id
            && let Some(instance) = layers.instance(&tree_layer.id, &diff_id)?
        {
            let found = MediaType::parse(&instance.media_type).layer_compression();
            let media_type = MediaType::layer(dialect, found.unwrap_or(LayerCompression::Gzip));
            return Ok(Descriptor::new(media_type, instance.digest, instance.size));
        }
        let layer = layers.require(&tree_layer.id)?;
        let diff_id = layers.diff_id(tree_layer, &TarOptions::default())?;
        match compression {
            Compression::None => {
                let digest = ContentDigest::from_bytes(*diff_id.as_bytes());
                let size = tar_size(&layer)?;
                self.tars.borrow_mut().insert(digest, layer);
                let media_type = MediaType::layer(dialect, LayerCompression::None);
                Ok(Descriptor::new(media_type, digest, size))
            }
            Compression::Gzip => {
                let blob = self.gzip(&layer, diff_id, threads)?;
                Ok(Descriptor::new(MediaType::layer(dialect, LayerCompression::Gzip), blob.digest, blob.size))
            }
        }
    }

    fn gzip(&self, layer: &Layer, diff_id: DiffId, threads: usize) -> Result<CompressedBlob, OutputError> {
        let blobs = self.store.blobs();
        if let Some(blob) = layer.compressed(&diff_id, GZIP)?
            && blobs.has(&blob.digest)?
        {
            return Ok(blob);
        }
        let failed = |source| OutputError::Compress { layer: diff_id, source };
        let ingest = blobs.ingest()?;
        let mut encoder = GzipEncoder::new(ingest, GZIP_LEVEL, threads).map_err(failed)?;
        layer.write_tar(&mut encoder, &TarOptions::default())?;
        let ingest = encoder.finish().map_err(failed)?;
        let size = ingest.size();
        let blob = CompressedBlob { digest: ingest.commit(None)?, size };
        layer.remember_compressed(&diff_id, GZIP, &blob)?;
        Ok(blob)
    }
}

/// Returns the length of a layer's tar.
fn tar_size(layer: &Layer) -> Result<u64, OutputError> {
    let mut counter = Counter(0);
    layer.write_tar(&mut counter, &TarOptions::default())?;
    Ok(counter.0)
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSource for StoreBlobs<'_> {
    fn write_to(&self, blob: &Descriptor, out: &mut dyn Write) -> io::Result<()> {
        if let Some(layer) = self.tars.borrow().get(&blob.digest) {
            return layer.write_tar(out, &TarOptions::default()).map_err(io::Error::other);
        }
        let mut file = self.store.blobs().open(&blob.digest).map_err(io::Error::other)?;
        io::copy(&mut file, out)?;
        Ok(())
    }
}
