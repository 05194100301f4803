//! Promised layers: their index is known, their bytes are elsewhere and come when something needs them.
//!
//! Nothing of a promised layer is on the disk, and nobody but the open store that was promised it knows of it. It answers every
//! question about what it contains; whoever asks for its directory makes the bytes come, which are verified, and from then on the
//! layer is one like any other. Bytes that do not come or are wrong end the promise: the layer is not there any more.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use mica_image::compress::Decoder;
use mica_image::index::{Bytes, Entry, IndexFile, LayerIndex, LayerPath, Node};
use mica_image::tar::{DiffIdReader, Spool, TarLimits, TarOptions, read_layer};
use mica_image::{DiffId, FileDigest, LayerId};

use super::bytes::diff_id_file;
use super::error::LayerError;
use super::meta::{CompressedBlob, LayerKind, LayerMeta, NewMeta, layer_directory};
use super::store::{LayerStore, hold};
use super::write::{Source, WriteOptions, write_objects};
use crate::beneath::Beneath;
use crate::files::FileError;
use crate::locks::{LockError, StepLock};
use crate::sealed::seal;

/// A layer that can be had from elsewhere.
#[derive(Debug, Clone)]
pub struct Promise {
    /// What the layer contains.
    pub index: LayerIndex,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// How its tar was written.
    pub tar: TarOptions,
    /// The digest of that tar.
    pub diff_id: DiffId,
    /// The blob with that tar.
    pub blob: CompressedBlob,
    /// The codec the blob was written with, as [`super::Layer::remember_compressed`] has it.
    pub codec: String,
    /// Who has it.
    pub supplier: Arc<dyn Supplier>,
}

/// Whoever has the bytes of promised layers.
pub trait Supplier: fmt::Debug + Send + Sync {
    /// Opens the blob of a layer.
    fn open(&self, layer: &LayerId) -> io::Result<Box<dyn Read + Send>>;

    /// Learns that a layer's bytes did not come or were wrong.
    fn failed(&self, layer: &LayerId, error: &LayerError);
}

/// What is kept of a promise.
#[derive(Debug, Clone)]
pub(super) struct Promised {
    created: i64,
    tar: TarOptions,
    diff_id: DiffId,
    blob: CompressedBlob,
    codec: String,
    supplier: Arc<dyn Supplier>,
}

impl LayerStore {
    /// Takes a promise: from now on the layer is there for this open store. Its index must be that of the layer `id`.
    ///
    /// A layer that is there already stays what it is.
    pub fn promise(&self, id: &LayerId, promise: Promise) -> Result<(), LayerError> {
        let Promise { mut index, created, tar, diff_id, blob, codec, supplier } = promise;
        if index.layer_id() != *id {
            return Err(LayerError::Promise { layer: *id, source: wrong("its index is another layer's") });
        }
        if hold(&self.shared, id)?.is_some() {
            return Ok(());
        }
        own_all(&mut index);
        let encoded = index.encode();
        let new = NewMeta { kind: LayerKind::Made, created, index: &index, index_bytes: encoded.len() };
        let meta = LayerMeta::new(&self.shared, &new)?;
        let index =
            IndexFile::from_bytes(encoded).map_err(|source| LayerError::Index { layer: *id, source })?;
        let promised = Promised { created, tar, diff_id, blob, codec, supplier };
        self.shared.held.insert_promised(*id, meta, index, promised);
        Ok(())
    }

    /// Returns a layer's index as another store can take it: all bytes are said to be the layer's own.
    pub fn portable_index(&self, id: &LayerId) -> Result<LayerIndex, LayerError> {
        let mut index = self.require(id)?.load_index()?;
        own_all(&mut index);
        Ok(index)
    }

    /// Returns whether a layer is only promised.
    #[must_use]
    pub fn is_promised(&self, id: &LayerId) -> bool {
        self.shared.held.promised(id).is_some()
    }

    /// Makes the bytes of a layer come, if it is only promised.
    pub fn fulfil(&self, id: &LayerId) -> Result<(), LayerError> {
        if !self.is_promised(id) {
            return Ok(());
        }
        // Whoever else needs it waits: nothing is to be downloaded twice.
        let lock = self.shared.root.join("locks/unpack").join(id.hex());
        let _lock = StepLock::acquire(lock, &|| false).map_err(|error| match error {
            LockError::File(error) => error,
            LockError::Cancelled(path) => {
                FileError::new("lock", path, io::Error::from(io::ErrorKind::Interrupted))
            }
        })?;
        let Some(promised) = self.shared.held.promised(id) else { return Ok(()) };
        if super::store::look(&self.shared, id)?.is_some() {
            // Another process has made it.
            self.shared.held.forget(id);
            return if hold(&self.shared, id)?.is_some() { Ok(()) } else { Err(LayerError::Missing(*id)) };
        }
        let fulfilled = self.bring(id, &promised);
        if let Err(error) = &fulfilled {
            self.shared.held.forget(id);
            promised.supplier.failed(id, error);
        }
        fulfilled
    }

    /// Reads the blob, verifies everything the index says of it, and stores the layer.
    fn bring(&self, id: &LayerId, promised: &Promised) -> Result<(), LayerError> {
        let failed = |source| LayerError::Promise { layer: *id, source };
        let index = self.require(id)?.load_index()?;
        let scratch = self.begin()?;
        let spooled = scratch.spool()?;
        let mut spool = Spool::new(&spooled);
        let came = receive(&*promised.supplier, id, &mut spool).map_err(failed)?;
        if came.diff_id != promised.diff_id {
            return Err(failed(wrong("its tar is not the one that was promised")));
        }
        let source = |entry: &Entry| {
            let file = match &entry.node {
                Node::File { size, digest, .. } if came.has(&entry.path, *size, *digest) => {
                    spool.file(&entry.path)
                }
                _ => None,
            };
            let path = file.map(|file| Source::Move(file.to_path_buf()));
            path.ok_or_else(|| wrong("its tar has other files than its index"))
        };
        let options = WriteOptions { ownership: self.shared.ownership, source: &source };
        write_objects(&scratch.files(), &index, &options)?;
        // What a push or another export writes from these files must be the tar that came.
        let root = Beneath::open_root(&scratch.files()).map_err(failed)?;
        let open = |entry: &Entry| root.file(&entry.path).map(std::fs::File::from);
        let again = mica_image::tar::diff_id(&index, open, &promised.tar)
            .map_err(|error| failed(io::Error::other(error)))?;
        if again != promised.diff_id {
            return Err(failed(wrong("its tar says other things than its index")));
        }
        // Whatever nobody took is not part of the layer.
        crate::files::remove_tree(&spooled)?;
        let (layer, existed) = self.publish(scratch, *id, &index, LayerKind::Made, promised.created)?;
        if !existed {
            let path = layer_directory(&self.shared, id).join(diff_id_file(promised.tar.clamp));
            self.shared.write(&path, &seal(&promised.diff_id))?;
            layer.remember_compressed(&promised.diff_id, &promised.codec, &promised.blob)?;
        }
        Ok(())
    }
}

fn own_all(index: &mut LayerIndex) {
    for entry in &mut index.entries {
        if let Node::File { bytes, .. } = &mut entry.node {
            *bytes = Bytes::Here;
        }
    }
}

/// What a blob turned out to be.
struct Received {
    diff_id: DiffId,
    files: HashMap<LayerPath, (u64, FileDigest)>,
}

impl Received {
    fn has(&self, path: &[u8], size: u64, digest: FileDigest) -> bool {
        self.files.get(path) == Some(&(size, digest))
    }
}

/// Reads a blob, keeping the bytes of its files.
fn receive(supplier: &dyn Supplier, id: &LayerId, spool: &mut Spool) -> io::Result<Received> {
    let mut tar = DiffIdReader::new(Decoder::new(supplier.open(id)?)?);
    let index = read_layer(&mut tar, &TarLimits::default(), spool).map_err(io::Error::other)?;
    let files = index.entries.into_iter().filter_map(|entry| match entry.node {
        Node::File { size, digest, .. } => Some((entry.path, (size, digest))),
        _ => None,
    });
    Ok(Received { files: files.collect(), diff_id: tar.finish()? })
}

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mica_image::index::LayerLookup;
    use mica_image::tar::DiffIdWriter;

    use super::*;
    use crate::layer::testing::{commit, file, file_in, store};

    #[derive(Debug, Default)]
    struct Fake {
        blob: Vec<u8>,
        failed: Mutex<Vec<LayerId>>,
    }

    impl Supplier for Fake {
        fn open(&self, _layer: &LayerId) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(io::Cursor::new(self.blob.clone())))
        }

        fn failed(&self, layer: &LayerId, _error: &LayerError) {
            self.failed.lock().unwrap().push(*layer);
        }
    }

    /// A layer of another store: its id, index, and tar.
    fn made_elsewhere(content: &[u8]) -> (LayerId, LayerIndex, DiffId, Vec<u8>) {
        let (_home, store) = store();
        let layer = commit(&store.layers(), vec![file("a", content)], &[("a", content)]).layer;
        let mut tar = DiffIdWriter::new(Vec::new());
        layer.write_tar(&mut tar, &TarOptions::default()).unwrap();
        let (tar, diff_id, _) = tar.finish();
        (layer.id(), store.layers().portable_index(&layer.id()).unwrap(), diff_id, tar)
    }

    fn promise(layers: &LayerStore, blob: &[u8]) -> (LayerId, Arc<Fake>) {
        let (id, index, diff_id, _) = made_elsewhere(b"x");
        let supplier = Arc::new(Fake { blob: blob.to_vec(), ..Fake::default() });
        let digest = mica_image::ContentDigest::of(blob);
        let blob = CompressedBlob { digest, size: blob.len() as u64 };
        let codec = "tar".to_owned();
        let tar = TarOptions::default();
        let promise = Promise { index, created: 5, tar, diff_id, blob, codec, supplier: supplier.clone() };
        layers.promise(&id, promise).unwrap();
        (id, supplier)
    }

    #[test]
    fn a_promised_layer_is_there_and_its_bytes_come_when_they_are_needed() {
        let (_home, store) = store();
        let layers = store.layers();
        let (id, supplier) = promise(&layers, &made_elsewhere(b"x").3);
        assert!(layers.get(&id).unwrap().unwrap().index().unwrap().entry(b"a").unwrap().is_some());
        assert!(layers.is_promised(&id) && layers.list().unwrap().is_empty());
        let mut read = String::new();
        layers.open_bytes(&id, b"a", &Bytes::Here).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "x");
        assert!(!layers.is_promised(&id) && supplier.failed.lock().unwrap().is_empty());
        let layer = layers.require(&id).unwrap();
        assert_eq!((layer.meta().created, layers.list().unwrap()), (5, vec![id]));
        let diff_id = made_elsewhere(b"x").2;
        assert!(layer.compressed(&diff_id, "tar").unwrap().is_some());
    }

    #[test]
    fn wrong_bytes_end_the_promise() {
        let (_, _, _, tar) = made_elsewhere(b"x");
        for blob in [made_elsewhere(b"y").3, tar[..600].to_vec(), Vec::new()] {
            let (_home, store) = store();
            let layers = store.layers();
            let (id, supplier) = promise(&layers, &blob);
            assert!(matches!(layers.fulfil(&id), Err(LayerError::Promise { .. })));
            assert_eq!(*supplier.failed.lock().unwrap(), [id]);
            assert!(layers.get(&id).unwrap().is_none() && layers.list().unwrap().is_empty());
        }
    }

    #[test]
    fn an_index_of_another_layer_is_no_promise() {
        let (_home, store) = store();
        let (id, _, diff_id, _) = made_elsewhere(b"x");
        let (_, index, _, _) = made_elsewhere(b"y");
        let blob = CompressedBlob { digest: mica_image::ContentDigest::of(b""), size: 0 };
        let supplier = Arc::new(Fake::default());
        let promise = Promise {
            index,
            created: 5,
            tar: TarOptions::default(),
            diff_id,
            blob,
            codec: "tar".into(),
            supplier,
        };
        assert!(matches!(store.layers().promise(&id, promise), Err(LayerError::Promise { .. })));
        assert!(store.layers().get(&id).unwrap().is_none());
    }

    #[test]
    fn making_the_layer_here_keeps_the_promise_without_its_supplier() {
        let (_home, store) = store();
        let layers = store.layers();
        let (id, _) = promise(&layers, b"");
        let made = commit(&layers, vec![file("a", b"x")], &[("a", b"x")]);
        assert_eq!((made.layer.id(), made.existed), (id, false));
        layers.fulfil(&id).unwrap();
    }

    #[test]
    fn a_layer_that_points_into_a_promised_one_makes_it_come() {
        let (_home, store) = store();
        let layers = store.layers();
        let (id, _) = promise(&layers, &made_elsewhere(b"x").3);
        commit(&layers, vec![file_in("b", b"x", id, b"a")], &[]);
        assert_eq!(layers.list().unwrap().len(), 2);
    }
}
