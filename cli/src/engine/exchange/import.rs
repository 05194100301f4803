//! Using caches from elsewhere: their documents are fetched once, before the build; a layer's index when a record of it is a hit; its
//! bytes when a step or an output needs them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::join_all;
use mica_cache::layer::{Promise, Supplier};
use mica_cache::{CacheRecord, FileError, LayerError, RecordKey, Replace, Store};
use mica_image::LayerId;
use mica_image::compress::Decoder;
use mica_image::index::LayerIndex;
use mica_remote::RegistryError;
use mica_solver::{BuildEvent, EventSender, TaskState};
use tokio::runtime::Handle;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::document::{CacheDocument, DOCUMENT_SIZE_MAX, INDEX_SIZE_MAX, SentLayer, SentRecord, config_of};
use super::error::ExchangeError;
use super::mount_tree::MountTree;
use super::mounts;
use super::options::{CacheImport, Mounts};
use super::place::Place;
use crate::engine::{Host, chain};

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
    document: CacheDocument,
    by_key: HashMap<RecordKey, Vec<usize>>,
    events: EventSender,
    runtime: Handle,
    state: Mutex<State>,
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

    /// Returns the records of `key`, in the order of the caches; their conditions are still to be verified.
    pub(crate) fn records(&self, key: &RecordKey) -> Vec<Found<'_>> {
        let of = |cache| usable_records(cache, key);
        self.caches.iter().flat_map(of).collect()
    }

    /// Returns the record of a step at the same place of its file.
    pub(crate) fn at(&self, place: &str) -> Option<&CacheRecord> {
        let all = self.caches.iter().flat_map(|cache| &cache.document.records);
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
        usable.filter_map(|cache| cache.document.layers.get(id)).next()
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
    let records = numbers.map(|number| &cache.document.records[*number].record);
    let usable = records.filter(|record| cache.is_usable(&record.layer));
    usable.map(|record| Found { cache, record }).collect()
}

async fn open(host: &Host, import: &CacheImport, events: &EventSender) -> Result<Arc<Cache>, String> {
    let told = |error: ExchangeError| chain(&error);
    let place = Place::open(host, &import.place).map_err(told)?;
    let manifest = place.manifest(place.name()).await.map_err(told)?;
    let manifest = manifest.ok_or("it is not there (yet)")?;
    let config = config_of(&manifest).map_err(told)?;
    let bytes = place.read(&config, DOCUMENT_SIZE_MAX).await.map_err(told)?;
    let document = CacheDocument::parse(&bytes).map_err(told)?;
    let mut by_key: HashMap<RecordKey, Vec<usize>> = HashMap::new();
    for (number, SentRecord { record, .. }) in document.records.iter().enumerate() {
        by_key.entry(record.key).or_default().push(number);
    }
    let (events, runtime) = (events.clone(), Handle::current());
    let mounts = import.mounts.clone();
    Ok(Arc::new(Cache { place, mounts, document, by_key, events, runtime, state: Mutex::default() }))
}

impl Cache {
    fn is_usable(&self, layer: &LayerId) -> bool {
        let state = lock(&self.state);
        !state.is_gone && !state.bad.contains(layer)
    }

    /// Fetches a layer's index and has the layer promised; returns whether that went well.
    fn promise(self: &Arc<Self>, store: &Store, id: &LayerId) -> Result<bool, LayerError> {
        let Some(sent) = self.document.layers.get(id) else {
            self.blame(id, "it names a layer it does not have", false);
            return Ok(false);
        };
        let index = match self.index(sent) {
            Ok(index) => index,
            Err(error) => {
                self.blame(id, &chain(&error), is_unreachable(&error));
                return Ok(false);
            }
        };
        let supplier = Arc::new(Bringer { cache: Arc::downgrade(self) });
        let (diff_id, blob, codec) = (sent.diff_id, sent.compressed(), sent.codec.clone());
        let promise = Promise { index, created: sent.created, diff_id, blob, codec, supplier };
        match store.layers().promise(id, promise) {
            Ok(()) => Ok(true),
            Err(error @ (LayerError::Promise { .. } | LayerError::Index { .. })) => {
                self.blame(id, &chain(&error), false);
                Ok(false)
            }
            Err(error) => Err(error),
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
        let sent = cache.document.layers.get(layer).ok_or(io::ErrorKind::NotFound)?;
        let stream = cache.runtime.block_on(cache.place.blob(&sent.blob)).map_err(io::Error::other)?;
        let bridge = SyncIoBridge::new_with_handle(StreamReader::new(stream), cache.runtime.clone());
        let what = format!("downloading {} from the cache", &sent.blob.digest.to_string()[..19]);
        cache.events.send_blocking(BuildEvent::Task { what: what.clone(), state: TaskState::Started });
        Ok(Box::new(Told { inner: bridge, what, events: cache.events.clone() }))
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
