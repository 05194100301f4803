//! Layers from elsewhere: one pass over a blob stores it, verifies it and indexes what is in it; where a step will look inside, it
//! makes the layer's files too.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use mica_cache::layer::ImportedBlob;
use mica_cache::{BlobError, LayerError, Store};
use mica_image::compress::{Codec, Decoder, ReadAhead};
use mica_image::index::LayerIndex;
use mica_image::tar::{DiffIdReader, IndexOnly, LayerSink, TarError, TarLimits, read_layer};
use mica_image::tree::{FileTree, Tree, TreeEntry, TreeError, TreeLayer};
use mica_image::{ContentDigest, Descriptor, DiffId};

use crate::environment::now;

/// A layer could not be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The blob could not be read or stored.
    #[error("layer `{layer}` could not be received")]
    Blob {
        /// The blob.
        layer: ContentDigest,
        /// Why.
        #[source]
        source: BlobError,
    },
    /// The stream ended or failed.
    #[error("layer `{layer}` could not be read")]
    Read {
        /// The blob.
        layer: ContentDigest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The blob is no layer.
    #[error("layer `{layer}`")]
    Tar {
        /// The blob.
        layer: ContentDigest,
        /// Why.
        #[source]
        source: TarError,
    },
    /// The tar is another than the image's config says.
    #[error("layer `{layer}` unpacks to `{actual}` where the image's config says `{expected}`")]
    DiffId {
        /// The blob.
        layer: ContentDigest,
        /// What the config says.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// The layer could not be stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
}

impl ImportError {
    /// Returns the blob whose bytes are not what they should be.
    pub(crate) fn altered(&self) -> Option<ContentDigest> {
        match self {
            Self::Blob { layer, .. }
            | Self::Read { layer, .. }
            | Self::Tar { layer, .. }
            | Self::DiffId { layer, .. } => Some(*layer),
            _ => None,
        }
    }
}

/// When the files of a layer are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpack {
    /// As soon as somebody looks inside: maybe never.
    WhenNeeded,
    /// While it is received.
    AtOnce,
}

/// Stores the blob that `stream` brings and returns the layer in it.
///
/// `below` is what the image has below it. Few layers say anything that only makes sense with it (a hard link to a file of a lower
/// layer, a parent directory left out); so layers can be imported all at once without it, and `None` is returned for those
/// few: they are to be imported again, when what is below them is there.
pub(crate) fn import_layer(
    store: &Store,
    stream: &mut (dyn Read + Send),
    blob: &Descriptor,
    expected: Option<DiffId>,
    below: Option<&Tree>,
    unpack: Unpack,
) -> Result<Option<TreeLayer>, ImportError> {
    let unknown = Unknown::default();
    let mut unpacking = match unpack {
        Unpack::WhenNeeded => None,
        Unpack::AtOnce => Some(store.layers().begin_unpacking()?),
    };
    let sink: &mut dyn LayerSink = match &mut unpacking {
        None => &mut IndexOnly,
        Some(unpacking) => unpacking.sink(),
    };
    let imported = match below {
        None => import_onto(store, stream, blob, expected, (&unknown, &Tree::new()), sink),
        Some(below) => {
            import_onto(store, stream, blob, expected, (&store.layers().tree(below)?, below), sink)
        }
    };
    if unknown.0.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let imported = imported?;
    if let Some(unpacking) = unpacking {
        store.layers().keep_unpacked(&imported.id, unpacking)?;
    }
    Ok(Some(imported))
}

/// A tree nobody knows yet; remembers that it was asked.
#[derive(Debug, Default)]
struct Unknown(AtomicBool);

impl FileTree for Unknown {
    fn entry(&self, path: &[u8]) -> Result<Option<TreeEntry>, TreeError> {
        // Every tree has a root, and its attributes are the lower layer's own business.
        self.0.fetch_or(!path.is_empty(), Ordering::Relaxed);
        Ok(None)
    }

    fn children(&self, _path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        self.0.store(true, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

/// A layer whose blob was stored.
pub(crate) struct ReceivedLayer {
    /// What is in it.
    pub(crate) index: LayerIndex,
    /// What it was compressed with.
    pub(crate) codec: Codec,
    diff_id: DiffId,
    size: u64,
}

/// Stores the blob that `stream` brings, verifies it and reads what is in it; `sink` takes the bytes of its files.
pub(crate) fn receive_layer(
    store: &Store,
    stream: &mut (dyn Read + Send),
    blob: &Descriptor,
    expected: Option<DiffId>,
    limits: &TarLimits<'_>,
    sink: &mut dyn LayerSink,
) -> Result<ReceivedLayer, ImportError> {
    let layer = blob.digest;
    let mut ingest = store.blobs().ingest()?;
    let mut tee = Tee { stream, copy: &mut ingest };
    let (index, diff_id, codec) = read_tar(&mut tee, limits, sink).map_err(|error| match error {
        ReadError::Io(source) => ImportError::Read { layer, source },
        ReadError::Tar(source) => ImportError::Tar { layer, source },
    })?;
    io::copy(&mut tee, &mut io::sink()).map_err(|source| ImportError::Read { layer, source })?;
    let size = ingest.size();
    ingest.commit(Some(layer)).map_err(|source| ImportError::Blob { layer, source })?;
    match expected {
        Some(expected) if expected != diff_id => {
            Err(ImportError::DiffId { layer, expected, actual: diff_id })
        }
        _ => Ok(ReceivedLayer { index, diff_id, codec, size }),
    }
}

fn import_onto(
    store: &Store,
    stream: &mut (dyn Read + Send),
    blob: &Descriptor,
    expected: Option<DiffId>,
    (lower, below): (&dyn FileTree, &Tree),
    sink: &mut dyn LayerSink,
) -> Result<TreeLayer, ImportError> {
    let limits = TarLimits { lower: Some(lower), ..TarLimits::default() };
    let received = receive_layer(store, stream, blob, expected, &limits, sink)?;
    let ReceivedLayer { index, diff_id, codec, size } = received;
    let imported = ImportedBlob { digest: blob.digest, size, media_type: media_type(blob, codec) };
    let imported = store.layers().import(index, diff_id, imported, below, seconds_now())?;
    Ok(TreeLayer::imported(imported.id(), diff_id))
}

fn seconds_now() -> i64 {
    now().unix().map_or(0, |(seconds, _)| seconds)
}

/// What a blob says it is, or what it turned out to be where it says nothing.
fn media_type(blob: &Descriptor, codec: Codec) -> String {
    if !blob.media_type.is_empty() {
        return blob.media_type.as_str().to_owned();
    }
    let suffix = match codec {
        Codec::Gzip => "+gzip",
        Codec::Zstd => "+zstd",
        Codec::Plain | Codec::Bzip2 | Codec::Xz => "",
    };
    format!("application/vnd.oci.image.layer.v1.tar{suffix}")
}

enum ReadError {
    Io(io::Error),
    Tar(TarError),
}

fn read_tar(
    stream: &mut (dyn Read + Send),
    limits: &TarLimits<'_>,
    sink: &mut dyn LayerSink,
) -> Result<(LayerIndex, DiffId, Codec), ReadError> {
    let decoder = Decoder::new(stream).map_err(ReadError::Io)?;
    let codec = decoder.codec();
    std::thread::scope(|scope| {
        let mut tar = DiffIdReader::new(ReadAhead::start(scope, decoder));
        let index = read_layer(&mut tar, limits, sink).map_err(ReadError::Tar)?;
        Ok((index, tar.finish().map_err(ReadError::Io)?, codec))
    })
}

/// Reads a stream and writes what was read to a copy.
struct Tee<'a, W> {
    stream: &'a mut (dyn Read + Send),
    copy: &'a mut W,
}

impl<W: Write> Read for Tee<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.copy.write_all(&buffer[..read])?;
        Ok(read)
    }
}
