//! The blobs of an export: configs and pulled blobs as they are, layers made here from their recipe.
//!
//! The digest of what was compressed once is remembered per codec, and a blob that is not there while its digest is known is only made
//! anew where somebody wants its bytes. What a layout or a cache needs is kept as a blob; a push sends what it compresses and keeps
//! nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mica_cache::layer::CompressedBlob;
use mica_cache::{BlobError, Layer, Store};
use mica_image::compress::{Decoder, GzipEncoder, ZstdEncoder};
use mica_image::layout::BlobSource;
use mica_image::tar::{DiffIdWriter, TarOptions};
use mica_image::tree::TreeLayer;
use mica_image::{ContentDigest, Descriptor, Dialect, DiffId, LayerCompression, MediaType};

use super::OutputError;
use crate::engine::request::Packing;

/// 8 % larger than at level 6, in half of its time.
const GZIP_LEVEL: i32 = 1;
/// 9 % larger than at level 3, in half of its time.
const ZSTD_LEVEL: i32 = 2;
const BUFFER: usize = 1 << 18;

/// A codec with its level: what the bytes of a compressed layer depend on besides the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec {
    compression: LayerCompression,
    level: i32,
}

impl Codec {
    /// Returns the codec asked for, or `usual` where nothing was.
    pub(super) fn of(packing: &Packing, usual: LayerCompression) -> Self {
        Self::new(packing.compression.unwrap_or(usual), packing.level)
    }

    /// Returns a codec with a level, or its usual one.
    pub(crate) fn new(compression: LayerCompression, level: Option<i32>) -> Self {
        let level = level.unwrap_or(match compression {
            LayerCompression::None => 0,
            LayerCompression::Gzip => GZIP_LEVEL,
            LayerCompression::Zstd => ZSTD_LEVEL,
        });
        Self { compression, level }
    }

    /// The name digests are remembered by: it changes whenever the bytes do.
    pub(crate) fn name(self) -> String {
        match self.compression {
            LayerCompression::None => "tar".to_owned(),
            LayerCompression::Gzip => format!("gzip level {} members 1", self.level),
            LayerCompression::Zstd => format!("zstd level {} jobs 1", self.level),
        }
    }
}

/// Returns the name of the codec of a layer that was made elsewhere: at which level, and by what, nobody knows.
pub(crate) fn as_it_came(compression: LayerCompression) -> String {
    let compression = match compression {
        LayerCompression::None => "tar",
        LayerCompression::Gzip => "gzip",
        LayerCompression::Zstd => "zstd",
    };
    format!("{compression} as it came")
}

/// The way to the bytes of a blob that may not be in the store.
#[derive(Clone)]
struct Recipe {
    layer: Layer,
    tar: Tar,
    options: TarOptions,
    codec: Codec,
}

/// Where a layer's tar comes from.
#[derive(Clone, Copy)]
enum Tar {
    /// It is written from the layer.
    Made,
    /// It came in this blob.
    Within(ContentDigest),
}

/// The blob of a layer, as far as it is known.
pub(super) enum LayerBlob {
    /// It was made before.
    Known(Descriptor),
    /// It never was, so nobody knows its digest.
    New(NewBlob),
}

/// A blob that is yet to be made.
pub(super) struct NewBlob {
    recipe: Recipe,
    diff_id: DiffId,
    media_type: MediaType,
}

/// Blobs of a store.
pub(crate) struct StoreBlobs {
    store: Store,
    threads: usize,
    recipes: Mutex<BTreeMap<ContentDigest, Recipe>>,
}

impl StoreBlobs {
    /// Returns the blobs of `store`; compresses with so many threads.
    pub(crate) fn new(store: &Store, threads: usize) -> Self {
        Self { store: store.clone(), threads, recipes: Mutex::default() }
    }

    /// Describes the blob of a layer; compresses what was never compressed in this way.
    pub(crate) fn layer(
        &self,
        tree_layer: &TreeLayer,
        dialect: Dialect,
        codec: Codec,
        force: bool,
    ) -> Result<Descriptor, OutputError> {
        match self.find(tree_layer, dialect, codec, force)? {
            LayerBlob::Known(blob) => Ok(blob),
            LayerBlob::New(new) => {
                let blob = self.compress(&new.recipe, new.diff_id)?;
                self.remember(new, blob)
            }
        }
    }

    /// Finds out what is known of the blob of a layer.
    pub(super) fn find(
        &self,
        tree_layer: &TreeLayer,
        dialect: Dialect,
        codec: Codec,
        force: bool,
    ) -> Result<LayerBlob, OutputError> {
        let layers = self.store.layers();
        let instance = match &tree_layer.diff_id {
            Some(diff_id) => layers.instance(&tree_layer.id, diff_id)?,
            None => None,
        };
        let tar = match instance {
            Some(instance) => {
                let found = MediaType::parse(&instance.media_type).layer_compression();
                if !force || found == Some(codec.compression) {
                    let media_type = MediaType::layer(dialect, found.unwrap_or(LayerCompression::Gzip));
                    return Ok(LayerBlob::Known(Descriptor::new(media_type, instance.digest, instance.size)));
                }
                Tar::Within(instance.digest)
            }
            None => Tar::Made,
        };
        let layer = layers.require(&tree_layer.id)?;
        let diff_id = layers.diff_id(tree_layer)?;
        let media_type = MediaType::layer(dialect, codec.compression);
        let known = |blob: CompressedBlob| {
            LayerBlob::Known(Descriptor::new(media_type.clone(), blob.digest, blob.size))
        };
        if let Some(came) = layer.compressed(&diff_id, &as_it_came(codec.compression))?
            && !force
            && self.store.blobs().has(&came.digest)?
        {
            return Ok(known(came));
        }
        let compressed = layer.compressed(&diff_id, &codec.name())?;
        let recipe = Recipe { layer, tar, options: tree_layer.tar_options(), codec };
        match compressed {
            Some(blob) => {
                self.recipes().insert(blob.digest, recipe);
                Ok(known(blob))
            }
            None => Ok(LayerBlob::New(NewBlob { recipe, diff_id, media_type })),
        }
    }

    /// Writes a blob for the first time, without keeping it.
    pub(super) fn write_new(&self, new: NewBlob, out: &mut dyn Write) -> Result<Descriptor, OutputError> {
        let layer = new.diff_id;
        let failed = |source| OutputError::Compress { layer, source };
        let mut hashed = DiffIdWriter::new(out);
        self.write_recipe(&new.recipe, &mut hashed).map_err(failed)?;
        // Digests of blobs and of tars are the same function.
        let (out, digest, size) = hashed.finish();
        out.flush().map_err(failed)?;
        self.remember(new, CompressedBlob { digest: ContentDigest::from_bytes(*digest.as_bytes()), size })
    }

    fn remember(&self, new: NewBlob, blob: CompressedBlob) -> Result<Descriptor, OutputError> {
        let NewBlob { recipe, diff_id, media_type } = new;
        recipe.layer.remember_compressed(&diff_id, &recipe.codec.name(), &blob)?;
        self.recipes().insert(blob.digest, recipe);
        Ok(Descriptor::new(media_type, blob.digest, blob.size))
    }

    /// A plain tar is only measured: it can be written again at any time, and is no smaller than the layer.
    fn compress(&self, recipe: &Recipe, diff_id: DiffId) -> Result<CompressedBlob, OutputError> {
        let failed = |source| OutputError::Compress { layer: diff_id, source };
        if recipe.codec.compression == LayerCompression::None {
            let mut counter = Counter(0);
            self.write_recipe(recipe, &mut counter).map_err(failed)?;
            let digest = ContentDigest::from_bytes(*diff_id.as_bytes());
            return Ok(CompressedBlob { digest, size: counter.0 });
        }
        let mut ingest = self.store.blobs().ingest()?;
        self.write_recipe(recipe, &mut ingest).map_err(failed)?;
        let size = ingest.size();
        Ok(CompressedBlob { digest: ingest.commit(None)?, size })
    }

    fn write_recipe(&self, recipe: &Recipe, out: &mut dyn Write) -> io::Result<()> {
        let Codec { compression, level } = recipe.codec;
        match compression {
            LayerCompression::None => self.write_tar(recipe, out),
            LayerCompression::Gzip => {
                let level = u32::try_from(level).unwrap_or(0);
                let mut encoder = GzipEncoder::new(out, level, self.threads)?;
                self.write_tar(recipe, &mut encoder)?;
                encoder.finish().map(drop)
            }
            LayerCompression::Zstd => {
                let workers = u32::try_from(self.threads).unwrap_or(1);
                let mut encoder = ZstdEncoder::new(out, level, workers)?;
                self.write_tar(recipe, &mut encoder)?;
                encoder.finish().map(drop)
            }
        }
    }

    fn write_tar(&self, recipe: &Recipe, out: &mut dyn Write) -> io::Result<()> {
        match recipe.tar {
            Tar::Made => recipe.layer.write_tar(out, &recipe.options).map_err(io::Error::other),
            Tar::Within(blob) => {
                let mut file = self.store.blobs().open(&blob).map_err(io::Error::other)?;
                copy(&mut Decoder::new(&mut file)?, out)
            }
        }
    }

    /// Opens a blob that is in the store.
    pub(super) fn open(&self, digest: &ContentDigest) -> Result<Option<File>, BlobError> {
        match self.store.blobs().open(digest) {
            Ok(file) => Ok(Some(file)),
            Err(BlobError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn recipes(&self) -> MutexGuard<'_, BTreeMap<ContentDigest, Recipe>> {
        // Nothing panics while it is held, and every state of the map is good.
        self.recipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobSource for StoreBlobs {
    fn write_to(&self, blob: &Descriptor, out: &mut dyn Write) -> io::Result<()> {
        if let Some(mut file) = self.open(&blob.digest).map_err(io::Error::other)? {
            return copy(&mut file, out);
        }
        let recipe = self.recipes().get(&blob.digest).cloned();
        match recipe {
            Some(recipe) => self.write_recipe(&recipe, out),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the blob is not in the store")),
        }
    }
}

fn copy(from: &mut dyn io::Read, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => out.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
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
