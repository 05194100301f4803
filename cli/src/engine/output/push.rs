//! To a registry: layers while they are compressed, then configs and manifests, and the names last.
//!
//! A blob the registry has is not sent, nor one it can take over from a repository where the image's layers are known to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, try_join, try_join_all};
use futures_util::stream;
use mica_cache::Published;
use mica_image::layout::BlobSource as _;
use mica_image::tree::TreeLayer;
use mica_image::{ContentDigest, Descriptor, Dialect, LayerCompression, LayerId, MediaType, Reference};
use mica_remote::registry::{BlobContent, ContentStream, OpeningContent};
use mica_remote::{RegistryClient, RegistryError};
use mica_solver::{BuildEvent, EventSender, TaskState};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};

use super::blobs::{Codec, LayerBlob, NewBlob, StoreBlobs};
use super::documents::{self, Attestation, Packed};
use super::{Exported, OutputError, StoredImage};
use crate::engine::blocking::blocking;
use crate::engine::request::{Packing, Push};
use crate::engine::{Engine, Host};

/// Repositories that are asked for one blob; each refusal costs two requests.
const MOUNTS_MAX: usize = 2;
/// Bytes handed to the network at a time, and how many such pieces wait for it.
const PIECE: usize = 1 << 18;
const PIECES: usize = 8;

impl Engine {
    /// Sends images to their registries and gives them their names there; several images become an index.
    pub(crate) async fn push(
        &self,
        images: &[StoredImage],
        names: &[Reference],
        push: Push,
        packing: &Packing,
        events: &EventSender,
    ) -> Result<Exported, OutputError> {
        let mut repositories: BTreeMap<String, Vec<&Reference>> = BTreeMap::new();
        for name in names {
            repositories.entry(name.name()).or_default().push(name);
        }
        let blobs = Arc::new(StoreBlobs::new(&self.host.store, self.host.threads));
        let mut target = None;
        for names in repositories.values() {
            let first = names[0];
            let client = match push.insecure {
                true => self.host.insecure_registry(first.registry())?,
                false => self.host.registry()?.clone(),
            };
            let host = self.host.clone();
            let sources = sources(&host, first)?;
            let compressing = Semaphore::new(host.threads.max(1));
            let (blobs, events) = (blobs.clone(), events.clone());
            let sending = Sending {
                host,
                client,
                repository: first,
                blobs,
                sources,
                compressing,
                events,
                layers: Mutex::default(),
                sent: Mutex::default(),
            };
            target = Some(sending.all(images, packing, push, names).await?);
        }
        let target = target.ok_or(OutputError::NoName)?;
        let names = names.iter().map(Reference::to_string).collect();
        Ok(Exported { target, names })
    }
}

/// Repositories of the same registry that layers are likely to be in: those of images in the store that have them.
fn sources(host: &Host, target: &Reference) -> Result<BTreeMap<LayerId, BTreeSet<String>>, OutputError> {
    let images = host.store.images();
    let tags = images.tags()?.into_iter().map(|tag| (tag.reference, tag.image));
    let mut sources: BTreeMap<LayerId, BTreeSet<String>> = BTreeMap::new();
    for (reference, image) in tags.chain(images.resolved_references()?) {
        let Ok(reference) = Reference::parse(&reference) else { continue };
        if reference.registry() != target.registry() || reference.repository() == target.repository() {
            continue;
        }
        for layer in images.get(&image)?.into_iter().flat_map(|record| record.tree) {
            sources.entry(layer.id).or_default().insert(reference.repository().to_owned());
        }
    }
    Ok(sources)
}

/// Everything on its way to one repository.
struct Sending<'a> {
    host: Arc<Host>,
    client: RegistryClient,
    repository: &'a Reference,
    blobs: Arc<StoreBlobs>,
    sources: BTreeMap<LayerId, BTreeSet<String>>,
    compressing: Semaphore,
    events: EventSender,
    /// Layers that are there or on the way.
    layers: Mutex<BTreeMap<TreeLayer, Arc<OnceCell<Descriptor>>>>,
    /// Blobs that are there or on the way: images of several platforms share some.
    sent: Mutex<BTreeMap<ContentDigest, Arc<OnceCell<()>>>>,
}

impl Sending<'_> {
    async fn all(
        &self,
        images: &[StoredImage],
        packing: &Packing,
        push: Push,
        names: &[&Reference],
    ) -> Result<Descriptor, OutputError> {
        let manifests = try_join_all(images.iter().map(|image| self.image(image, packing))).await?;
        let owned: Vec<Reference> = names.iter().map(|name| (*name).clone()).collect();
        let (store, said, packed) = (self.host.store.clone(), images.to_vec(), manifests.clone());
        let attestations = blocking(move || documents::attestations(&store, &said, &packed, &owned)).await?;
        let blobs = attestations.iter().flat_map(|attestation| &attestation.blobs);
        try_join_all(blobs.map(|blob| self.blob(blob, None))).await?;
        let (target, index) = documents::target(&manifests, &attestations, packing)?;
        let top = match index {
            None => manifests[0].clone(),
            Some(index) => {
                let said = attestations.iter().map(|attestation| &attestation.document);
                try_join_all(manifests.iter().chain(said).map(|document| self.put(document, None))).await?;
                index
            }
        };
        match push.by_digest {
            true => self.put(&top, None).await?,
            false => {
                try_join_all(names.iter().map(|name| self.put(&top, Some(name)))).await?;
                if !attestations.is_empty() {
                    let documents = manifests.into_iter().chain([top]).collect();
                    self.remember(images, &target, documents, attestations, names).await?;
                }
            }
        }
        Ok(target)
    }

    /// Has the store remember what is said of the images, so that it can be verified without a network.
    async fn remember(
        &self,
        images: &[StoredImage],
        target: &Descriptor,
        mut documents: Vec<Packed>,
        attestations: Vec<Attestation>,
        names: &[&Reference],
    ) -> Result<(), OutputError> {
        // The blobs of attestations are in the store already.
        let mut known: BTreeSet<ContentDigest> = BTreeSet::new();
        for said in attestations {
            known.extend(said.blobs.iter().map(|blob| blob.digest));
            documents.push(said.document);
        }
        let images: BTreeSet<ContentDigest> = images.iter().map(|image| image.id).collect();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let (store, target) = (self.host.store.clone(), target.clone());
        blocking(move || {
            for document in &documents {
                known.insert(store.blobs().put(&document.bytes)?);
            }
            for reference in names {
                store.published().put(Published {
                    reference,
                    target: target.clone(),
                    documents: known.clone(),
                    referrers: None,
                    images: images.clone(),
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Sends what an image consists of and returns its manifest, which is not sent.
    async fn image(&self, image: &StoredImage, packing: &Packing) -> Result<Packed, OutputError> {
        let (store, wanted, packing) = (self.host.store.clone(), image.clone(), packing.clone());
        let form = packing.clone();
        if let Some((packed, manifest)) =
            blocking(move || documents::pulled(&store, &wanted, &packing)).await?
        {
            let known = manifest.layers.len() == image.tree.len();
            let layers = manifest.layers.iter().enumerate().map(|(at, layer)| {
                let id = known.then(|| image.tree[at].id);
                self.blob(layer, id)
            });
            try_join(try_join_all(layers), self.blob(&manifest.config, None)).await?;
            return Ok(packed);
        }
        let layers = try_join_all(image.tree.iter().map(|layer| self.layer(layer, &form)));
        let (layers, ()) = try_join(layers, self.config(image)).await?;
        documents::manifest(&self.host.store, image, layers, &form)
    }

    async fn config(&self, image: &StoredImage) -> Result<(), OutputError> {
        let size = self.host.store.blobs().size(&image.id)?.unwrap_or(0);
        self.blob(&Descriptor::new(MediaType::OCI_CONFIG, image.id, size), None).await
    }

    /// Sends a layer, once for all images that have it.
    async fn layer(&self, layer: &TreeLayer, packing: &Packing) -> Result<Descriptor, OutputError> {
        let cell = {
            // Nothing panics while it is held, and every state of the map is good.
            let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            layers.entry(*layer).or_default().clone()
        };
        cell.get_or_try_init(|| self.packed(layer, packing)).await.cloned()
    }

    async fn packed(&self, layer: &TreeLayer, packing: &Packing) -> Result<Descriptor, OutputError> {
        let permit = self.compressing.acquire().await.expect("it is never closed");
        let (dialect, force) = (packing.dialect.unwrap_or(Dialect::Oci), packing.force);
        let codec = Codec::of(packing, LayerCompression::Gzip);
        let (blobs, wanted) = (self.blobs.clone(), *layer);
        let blob = match blocking(move || blobs.find(&wanted, dialect, codec, force)).await? {
            LayerBlob::Known(blob) => blob,
            LayerBlob::New(new) => match self.send_new(&layer.id, new).await? {
                Some(blob) => return Ok(blob),
                None => {
                    let blobs = self.blobs.clone();
                    blocking(move || blobs.layer(&wanted, dialect, codec, force)).await?
                }
            },
        };
        drop(permit);
        self.blob(&blob, Some(layer.id)).await?;
        Ok(blob)
    }

    /// Compresses a layer and sends it in the same pass: what was never compressed the registry hardly has. `None` where the line broke:
    /// then it is better compressed once, and sent from the disk as often as it takes.
    async fn send_new(&self, id: &LayerId, new: NewBlob) -> Result<Option<Descriptor>, OutputError> {
        let what = format!("pushing layer {}", &id.hex()[..12]);
        let tell = |state| self.events.send(BuildEvent::Task { what: what.clone(), state });
        tell(TaskState::Started).await;
        let (sender, receiver) = mpsc::channel(PIECES);
        let (name, named) = oneshot::channel();
        let blobs = self.blobs.clone();
        let packing = async {
            let packed = blocking(move || {
                let packed = blobs.write_new(new, &mut Pieces::new(&sender));
                if packed.is_err() {
                    // What was sent must not look whole. A receiver that is gone does not mistake it.
                    let _ = sender.blocking_send(Err(io::ErrorKind::BrokenPipe.into()));
                }
                packed
            })
            .await;
            if let Ok(blob) = &packed {
                // An upload that has ended does not ask for a name any more.
                let _ = name.send(blob.clone());
            }
            packed
        };
        let named = async { named.await.ok() };
        let upload = self.client.push_unnamed(self.repository, received(receiver), named);
        let (packed, sent) = join(packing, upload).await;
        tell(TaskState::Done).await;
        match sent.map_err(|error| self.failed(error))? {
            true => packed.map(Some),
            false => Ok(None),
        }
    }

    async fn blob(&self, blob: &Descriptor, layer: Option<LayerId>) -> Result<(), OutputError> {
        if blob.media_type.is_foreign() {
            return Ok(());
        }
        let cell = {
            // Nothing panics while it is held, and every state of the map is good.
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.entry(blob.digest).or_default().clone()
        };
        cell.get_or_try_init(|| async { self.send(blob, layer).await.map_err(|error| self.failed(error)) })
            .await
            .copied()
    }

    async fn send(&self, blob: &Descriptor, layer: Option<LayerId>) -> Result<(), RegistryError> {
        if self.client.has_blob(self.repository, blob).await? {
            return Ok(());
        }
        let sources = layer.and_then(|layer| self.sources.get(&layer));
        for source in sources.into_iter().flatten().take(MOUNTS_MAX) {
            if self.client.mount_blob(self.repository, source, blob).await? {
                tracing::debug!(digest = %blob.digest, source, "mounted from another repository");
                return Ok(());
            }
        }
        let what = format!("pushing {}", &blob.digest.to_string()[..19]);
        let tell = |state| self.events.send(BuildEvent::Task { what: what.clone(), state });
        tell(TaskState::Started).await;
        let content = Content { blobs: self.blobs.clone(), blob: blob.clone() };
        self.client.push_blob(self.repository, blob, &content).await?;
        tell(TaskState::Done).await;
        Ok(())
    }

    /// Puts a document under a name, or under its digest.
    async fn put(&self, document: &Packed, name: Option<&Reference>) -> Result<(), OutputError> {
        let by_digest = || {
            let untagged = Reference::parse(&self.repository.name()).expect("the name of a reference is one");
            untagged.with_digest(document.descriptor.digest)
        };
        let reference = name.cloned().unwrap_or_else(by_digest);
        let bytes = Bytes::from(document.bytes.clone());
        let put = self.client.push_manifest(&reference, &document.descriptor, bytes).await;
        put.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: RegistryError) -> OutputError {
        OutputError::Push { repository: self.repository.name(), source }
    }
}

/// A blob's bytes as the network takes them.
pub(crate) struct Content {
    /// Where they come from.
    pub(crate) blobs: Arc<StoreBlobs>,
    /// Which blob.
    pub(crate) blob: Descriptor,
}

impl BlobContent for Content {
    fn open(&self, offset: u64) -> OpeningContent<'_> {
        let (blobs, blob) = (self.blobs.clone(), self.blob.clone());
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(PIECES);
            // It ends by itself when the receiver is dropped: the next piece finds nobody.
            tokio::task::spawn_blocking(move || {
                let mut pieces = Pieces::new(&sender);
                if let Err(error) = pieces.write_from(&blobs, &blob, offset) {
                    // A receiver that is gone has no use for the reason either.
                    let _ = sender.blocking_send(Err(error));
                }
            });
            Ok(received(receiver))
        })
    }
}

/// What comes through a channel, as a stream.
fn received(receiver: mpsc::Receiver<io::Result<Bytes>>) -> ContentStream {
    let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
    stream::unfold(receiver, next).boxed()
}

/// Cuts what is written to it into pieces for the network.
pub(super) struct Pieces<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    /// Bytes at the start that are not wanted.
    skip: u64,
    piece: Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(sender: &'a mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { sender, skip: 0, piece: Vec::with_capacity(PIECE) }
    }

    fn write_from(&mut self, blobs: &StoreBlobs, blob: &Descriptor, offset: u64) -> io::Result<()> {
        match blobs.open(&blob.digest).map_err(io::Error::other)? {
            Some(mut file) => {
                file.seek(SeekFrom::Start(offset))?;
                io::copy(&mut io::BufReader::with_capacity(PIECE, file), self)?;
            }
            None => {
                self.skip = offset;
                blobs.write_to(blob, self)?;
            }
        }
        self.send()
    }

    /// Hands over what is left.
    pub(super) fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(Ok(Bytes::from(piece)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        // It is no more than the length of `bytes`.
        let wanted = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
        let taken = wanted.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&wanted[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(bytes.len() - wanted.len() + taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
