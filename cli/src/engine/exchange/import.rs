//! Using caches from elsewhere: their documents are fetched once, before the build; a layer's index when a record of it is a hit; its
//! bytes when a step or an output needs them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::join_all;
use mica_cache::layer::{CompressedBlob, Promise, Supplier};
use mica_cache::{BlobError, CacheRecord, FileError, LayerError, RecordKey, Replace, Store};
use mica_image::compress::Decoder;
use mica_image::config::CONFIG_SIZE_MAX;
use mica_image::index::LayerIndex;
use mica_image::tar::TarOptions;
use mica_image::{Descriptor, LayerId, Manifest};
use mica_remote::RegistryError;
use mica_solver::{BuildEvent, EventSender, TaskState};
use tokio::runtime::Handle;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::document::{
    CacheDocument, DOCUMENT_SIZE_MAX, INDEX_SIZE_MAX, Named, SentLayer, SentRecord, named,
};
use super::error::ExchangeError;
use super::inline::{Carried, CarriedLayer, carried};
use super::mount_tree::MountTree;
use super::mounts;
use super::options::{CacheImport, DocumentName, Mounts};
use super::place::Place;
use crate::engine::{Host, chain};

/// The most images of one index that are asked for a cache.
const IMAGES_MAX: usize = 32;

/// The caches a build may use.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    caches: Vec<Arc<Cache>>,
    /// Records that were hits, to be kept once their layers are here.
    hits: Mutex<BTreeMap<RecordKey, CacheRecord>>,
    /// What cache mounts were when they were read, by cache and id.
    mounts: Mutex<BTreeMap<(String, String), MountTree>>,
}

/// One cache whose document was read.
#[derive(Debug)]
struct Cache {
    place: Place,
    mounts: Mounts,
    store: Store,
    content: Content,
    by_key: HashMap<RecordKey, Vec<usize>>,
    events: EventSender,
    runtime: Handle,
    state: Mutex<State>,
}

/// What a cache has.
#[derive(Debug, Default)]
struct Content {
    records: Vec<SentRecord>,
    layers: BTreeMap<LayerId, Kept>,
}

/// How a cache keeps a layer.
#[derive(Debug)]
enum Kept {
    /// As index and tar.
    Sent(SentLayer),
    /// As the layer of an image.
    Carried(CarriedLayer),
}

/// What has been found out about a cache.
#[derive(Debug, Default)]
struct State {
    /// Nobody answers any more.
    is_gone: bool,
    /// A warning was given.
    was_told: bool,
    /// Layers it does not have, whatever it says.
    bad: BTreeSet<LayerId>,
    /// Whether bytes that were relied on did not come, since it was asked last.
    has_failed: bool,
}

/// A record of a cache.
pub(crate) struct Found<'a> {
    cache: &'a Arc<Cache>,
    /// What it says.
    pub(crate) record: &'a CacheRecord,
}

impl Imports {
    /// Reads the documents of all caches; one that cannot be had is told and left out.
    pub(crate) async fn open(host: &Host, wanted: &[CacheImport], events: &EventSender) -> Self {
        let opened = join_all(wanted.iter().map(|import| async {
            let shown = import.place.shown();
            let what = format!("reading the cache {shown}");
            events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
            let opened = open(host, import, events).await;
            events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
            match opened {
                Ok(cache) => Some(cache),
                Err(problem) => {
                    let message = format!("the cache `{shown}` is not used: {problem}");
                    events.send(BuildEvent::Warning { message }).await;
                    None
                }
            }
        }))
        .await;
        Self { caches: opened.into_iter().flatten().collect(), ..Self::default() }
    }

    /// Whether there is no cache to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// Returns the records of `key`, in the order of the caches; their conditions are still to be verified.
    pub(crate) fn records(&self, key: &RecordKey) -> Vec<Found<'_>> {
        let of = |cache| usable_records(cache, key);
        self.caches.iter().flat_map(of).collect()
    }

    /// Returns the record of a step at the same place of its file.
    pub(crate) fn at(&self, place: &str) -> Option<&CacheRecord> {
        let all = self.caches.iter().flat_map(|cache| &cache.content.records);
        all.rev().find(|sent| sent.place == place).map(|sent| &sent.record)
    }

    /// Has a record's layer promised to the store; returns whether it is there now.
    pub(crate) fn promise(&self, store: &Store, found: &Found<'_>) -> Result<bool, LayerError> {
        let (id, layers) = (found.record.layer, store.layers());
        let is_there = layers.get(&id)?.is_some() || found.cache.promise(store, &id)?;
        if is_there {
            lock(&self.hits).insert(found.record.key, found.record.clone());
        }
        Ok(is_there)
    }

    /// Returns how a layer that is only promised was sent.
    pub(super) fn sent(&self, id: &LayerId) -> Option<&SentLayer> {
        let usable = self.caches.iter().filter(|cache| cache.is_usable(id));
        let mut kept = usable.filter_map(|cache| cache.content.layers.get(id));
        kept.find_map(|kept| match kept {
            Kept::Sent(sent) => Some(sent),
            Kept::Carried(_) => None,
        })
    }

    /// Puts into the directory of the cache mount `id` what caches have of it and it has not. One that cannot is told.
    pub(crate) fn bring_mount(&self, store: &Store, id: &str, directory: &Path) {
        for cache in self.caches.iter().filter(|cache| cache.mounts.include(mounts::shown(id))) {
            match cache.bring_mount(store, id, directory) {
                Ok(tree) => {
                    drop(lock(&self.mounts).insert((cache.place.shown().to_owned(), id.to_owned()), tree))
                }
                Err(error) => cache.tell(&chain(&error), is_unreachable(&error)),
            }
        }
    }

    /// Returns what a cache mount was when it was read from the cache that people call so.
    pub(super) fn mount_before(&self, cache: &str, id: &str) -> MountTree {
        let known = lock(&self.mounts);
        known.get(&(cache.to_owned(), id.to_owned())).cloned().unwrap_or_default()
    }

    /// Returns whether something that was relied on did not come since this was asked last: steps that count as done are not.
    pub(crate) fn have_failed(&self) -> bool {
        let failed = |cache: &Arc<Cache>| std::mem::take(&mut lock(&cache.state).has_failed);
        self.caches.iter().filter(|cache| failed(cache)).count() > 0
    }

    /// Keeps the records that were hits and whose layers are here, so that the next build finds them without the cache.
    pub(crate) fn keep_hits(&self, store: &Store) -> Result<(), FileError> {
        let (records, layers) = (store.records(), store.layers());
        for record in lock(&self.hits).values() {
            if layers.is_promised(&record.layer) || layers.get(&record.layer)?.is_none() {
                continue;
            }
            if records.explain(&record.key)?.is_none_or(|known| known.layer != record.layer) {
                records.put(record, Replace::Keep)?;
            }
        }
        Ok(())
    }
}

fn usable_records<'a>(cache: &'a Arc<Cache>, key: &RecordKey) -> Vec<Found<'a>> {
    let numbers = cache.by_key.get(key).into_iter().flatten();
    let records = numbers.map(|number| &cache.content.records[*number].record);
    let usable = records.filter(|record| cache.is_usable(&record.layer));
    usable.map(|record| Found { cache, record }).collect()
}

async fn open(host: &Host, import: &CacheImport, events: &EventSender) -> Result<Arc<Cache>, String> {
    let told = |error: ExchangeError| chain(&error);
    let place = Place::open(host, &import.place).map_err(told)?;
    let content = read(&place).await.map_err(told)?;
    let mut by_key: HashMap<RecordKey, Vec<usize>> = HashMap::new();
    for (number, SentRecord { record, .. }) in content.records.iter().enumerate() {
        by_key.entry(record.key).or_default().push(number);
    }
    let (events, runtime) = (events.clone(), Handle::current());
    let (store, mounts) = (host.store.clone(), import.mounts.clone());
    Ok(Arc::new(Cache { place, mounts, store, content, by_key, events, runtime, state: Mutex::default() }))
}

async fn read(place: &Place) -> Result<Content, ExchangeError> {
    let absent = || ExchangeError::Format("it is not there (yet)".to_owned());
    let manifest = place.manifest(place.name()).await?.ok_or_else(absent)?;
    let mut content = Content::default();
    match named(&manifest)? {
        Named::Cache(config) => {
            let bytes = place.read(&config, DOCUMENT_SIZE_MAX).await?;
            let CacheDocument { records, layers, .. } = CacheDocument::parse(&bytes)?;
            let layers = layers.into_iter().map(|(id, sent)| (id, Kept::Sent(sent))).collect();
            return Ok(Content { records, layers });
        }
        Named::Image(image) => content.add_image(place, &image).await?,
        Named::Images(images) => {
            for image in images.iter().filter(|image| is_image(image)).take(IMAGES_MAX) {
                let manifest = place.manifest(&DocumentName::Digest(image.digest)).await?;
                if let Named::Image(image) = named(&manifest.ok_or_else(absent)?)? {
                    content.add_image(place, &image).await?;
                }
            }
        }
    }
    match content.records.is_empty() {
        true => {
            Err(ExchangeError::Format("it is no cache of mica, and no image that carries one".to_owned()))
        }
        false => Ok(content),
    }
}

/// What is said of images stands beside them, for no platform.
fn is_image(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

impl Content {
    async fn add_image(&mut self, place: &Place, image: &Manifest) -> Result<(), ExchangeError> {
        let config = place.read(&image.config, CONFIG_SIZE_MAX).await?;
        if let Some(Carried { records, layers }) = carried(image, &config)? {
            self.records.extend(records);
            self.layers.extend(layers.into_iter().map(|(id, layer)| (id, Kept::Carried(layer))));
        }
        Ok(())
    }
}

impl Cache {
    fn is_usable(&self, layer: &LayerId) -> bool {
        let state = lock(&self.state);
        !state.is_gone && !state.bad.contains(layer)
    }

    /// Fetches what is needed to have a layer promised; returns whether that went well.
    fn promise(self: &Arc<Self>, store: &Store, id: &LayerId) -> Result<bool, LayerError> {
        let Some(kept) = self.content.layers.get(id) else {
            self.blame(id, "it names a layer it does not have", false);
            return Ok(false);
        };
        let promise = match self.offer(kept) {
            Ok(promise) => promise,
            Err(error) => {
                self.blame(id, &chain(&error), is_unreachable(&error));
                return Ok(false);
            }
        };
        match store.layers().promise(id, promise) {
            Ok(()) => Ok(true),
            Err(error @ (LayerError::Promise { .. } | LayerError::Index { .. })) => {
                self.blame(id, &chain(&error), false);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn offer(self: &Arc<Self>, kept: &Kept) -> Result<Promise, ExchangeError> {
        let supplier = Arc::new(Bringer { cache: Arc::downgrade(self) });
        match kept {
            Kept::Sent(sent) => {
                let (index, codec) = (self.index(sent)?, sent.codec.clone());
                let (created, tar) = (sent.created, TarOptions::default());
                let (diff_id, blob) = (sent.diff_id, sent.compressed());
                Ok(Promise { index, created, tar, diff_id, blob, codec, supplier })
            }
            Kept::Carried(layer) => {
                let mut stream = match self.store.blobs().open(&layer.blob.digest) {
                    Ok(file) => Box::new(file) as Box<dyn Read + Send>,
                    Err(BlobError::Missing(_)) => self.download(&layer.blob)?,
                    Err(error) => return Err(error.into()),
                };
                let (index, codec) = layer.receive(&self.store, &mut stream)?;
                let (created, tar, diff_id) = (layer.created, layer.tar, layer.diff_id);
                let blob = CompressedBlob { digest: layer.blob.digest, size: layer.blob.size };
                Ok(Promise { index, created, tar, diff_id, blob, codec, supplier })
            }
        }
    }

    fn index(&self, sent: &SentLayer) -> Result<LayerIndex, ExchangeError> {
        let packed = self.runtime.block_on(self.place.read(&sent.index, INDEX_SIZE_MAX))?;
        let wrong = |source| ExchangeError::Blob { digest: sent.index.digest, source };
        let mut bytes = Vec::new();
        let decoder = Decoder::new(packed.as_slice()).map_err(wrong)?;
        decoder.take(INDEX_SIZE_MAX).read_to_end(&mut bytes).map_err(wrong)?;
        LayerIndex::decode(&bytes).map_err(|error| wrong(io::Error::other(error)))
    }

    /// Opens a blob that is not here.
    fn download(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let stream = self.runtime.block_on(self.place.blob(blob))?;
        let bridge = SyncIoBridge::new_with_handle(StreamReader::new(stream), self.runtime.clone());
        let what = format!("downloading {} from the cache", &blob.digest.to_string()[..19]);
        self.events.send_blocking(BuildEvent::Task { what: what.clone(), state: TaskState::Started });
        Ok(Box::new(Told { inner: bridge, what, events: self.events.clone() }))
    }

    fn bring_mount(&self, store: &Store, id: &str, directory: &Path) -> Result<MountTree, ExchangeError> {
        let joined = self.runtime.block_on(mounts::read(&self.place, id))?;
        mounts::fill(&self.runtime, &self.place, store, &joined, directory)?;
        Ok(joined.tree)
    }

    /// Remembers that a layer cannot be had.
    fn blame(&self, layer: &LayerId, problem: &str, is_gone: bool) {
        lock(&self.state).bad.insert(*layer);
        self.tell(problem, is_gone);
    }

    /// Says once a cache that something is wrong with it.
    fn tell(&self, problem: &str, is_gone: bool) {
        let tell = {
            let mut state = lock(&self.state);
            state.is_gone |= is_gone;
            !std::mem::replace(&mut state.was_told, true)
        };
        if tell {
            let what = if is_gone { "is not used any more" } else { "is not used where it is wrong" };
            let message = format!("the cache `{}` {what}: {problem}", self.place.shown());
            self.events.send_blocking(BuildEvent::Warning { message });
        }
    }
}

/// Brings the bytes of a cache's layers, as long as the build lasts: the store, which outlives it, keeps what was promised.
#[derive(Debug)]
struct Bringer {
    cache: Weak<Cache>,
}

impl Supplier for Bringer {
    fn open(&self, layer: &LayerId) -> io::Result<Box<dyn Read + Send>> {
        let cache = self.cache.upgrade().ok_or_else(|| io::Error::other("the build has ended"))?;
        match cache.content.layers.get(layer).ok_or(io::ErrorKind::NotFound)? {
            Kept::Sent(sent) => cache.download(&sent.blob).map_err(io::Error::other),
            Kept::Carried(layer) => {
                let file = cache.store.blobs().open(&layer.blob.digest).map_err(io::Error::other)?;
                Ok(Box::new(file))
            }
        }
    }

    fn failed(&self, layer: &LayerId, error: &LayerError) {
        let Some(cache) = self.cache.upgrade() else { return };
        cache.blame(layer, &chain(error), is_unreachable(error));
        lock(&cache.state).has_failed = true;
    }
}

/// A transfer whose end is told.
struct Told<R> {
    inner: R,
    what: String,
    events: EventSender,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<R> Drop for Told<R> {
    fn drop(&mut self) {
        let what = std::mem::take(&mut self.what);
        self.events.send_blocking(BuildEvent::Task { what, state: TaskState::Done });
    }
}

/// Whether nobody answered, as opposed to what was answered being wrong.
fn is_unreachable(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(RegistryError::Transport(_) | RegistryError::Interrupted { .. }) = error.downcast_ref() {
            return true;
        }
        // An I/O error hides what it was made of from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and every state is good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
