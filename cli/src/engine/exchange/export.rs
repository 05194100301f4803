//! Sending a build's cache: layers in parallel, each only if it is not there already, then the document that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use mica_cache::{CacheRecord, KeyPart, LayerError};
use mica_image::compress::ZstdEncoder;
use mica_image::tree::TreeLayer;
use mica_image::{Descriptor, Dialect, LayerId};
use mica_solver::{BuildEvent, EventSender, KeyParts, StepId, TaskState};
use tokio::sync::Semaphore;

use super::document::{CacheDocument, SentLayer, SentRecord, index_type};
use super::error::ExchangeError;
use super::import::Imports;
use super::mounts::{self, Sent};
use super::options::{CacheExport, CacheMode, DocumentName};
use super::place::Place;
use crate::engine::blocking::blocking;
use crate::engine::mask::Masker;
use crate::engine::output::{Codec, Content, StoreBlobs};
use crate::engine::request::{BuildRequest, SecretSource};
use crate::engine::{Host, chain};

/// Layers that are on their way to one place at once.
const SENT_AT_ONCE: usize = 8;
const INDEX_LEVEL: i32 = 3;

/// What a build used and made, of which caches are exports.
pub(crate) struct Learned {
    /// The record of each step, and its place in the file.
    pub(crate) records: BTreeMap<StepId, (String, CacheRecord)>,
    /// The steps that the images are made of.
    pub(crate) in_images: BTreeSet<StepId>,
    /// The cache mounts that steps were given.
    pub(crate) mounts: BTreeSet<String>,
    /// Caches that were imported, for what is still there alone.
    pub(crate) imports: Arc<Imports>,
}

impl Learned {
    /// Returns the records of the steps that the images are made of, with their places.
    pub(crate) fn of_images(&self) -> Vec<(String, CacheRecord)> {
        let made = self.records.iter().filter(|(step, _)| self.in_images.contains(step));
        made.map(|(_, record)| record.clone()).collect()
    }
}

/// Sends a build's cache to every place that was asked for; what may fail is only told.
pub(crate) async fn export(
    host: &Arc<Host>,
    request: &BuildRequest,
    learned: &Learned,
    events: &EventSender,
) -> Result<(), (String, ExchangeError)> {
    for wanted in &request.cache_to {
        let shown = wanted.place.shown();
        let what = format!("writing the cache {shown}");
        events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
        let exported =
            tokio::time::timeout(wanted.deadline, one(host, request, wanted, learned, events)).await;
        events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        match exported.unwrap_or(Err(ExchangeError::Deadline(wanted.deadline))) {
            Err(error) if wanted.ignore_error => {
                let message = format!("the cache `{shown}` was not written: {}", chain(&error));
                events.send(BuildEvent::Warning { message }).await;
            }
            result => result.map_err(|error| (shown, error))?,
        }
    }
    Ok(())
}

async fn one(
    host: &Arc<Host>,
    request: &BuildRequest,
    wanted: &CacheExport,
    learned: &Learned,
    events: &EventSender,
) -> Result<(), ExchangeError> {
    let place = Place::open(host, &wanted.place)?;
    let DocumentName::Tag(name) = place.name().clone() else {
        return Err(ExchangeError::Format("a cache is written under a tag, not under a digest".to_owned()));
    };
    let chosen = |step: &StepId| wanted.mode == CacheMode::Max || learned.in_images.contains(step);
    let records = learned.records.iter().filter(|(step, _)| chosen(step)).map(|(_, record)| record);
    let ids: BTreeSet<LayerId> = records.clone().map(|(_, record)| record.layer).collect();
    let sending = Sending {
        host: host.clone(),
        blobs: Arc::new(StoreBlobs::new(&host.store, host.threads)),
        place,
        codec: Codec::new(wanted.compression, wanted.level),
        force: wanted.force,
        imports: learned.imports.clone(),
        at_once: Semaphore::new(SENT_AT_ONCE),
        compressing: Semaphore::new(host.threads.max(1)),
    };
    let sent = try_join_all(ids.iter().map(|id| sending.layer(*id))).await?;
    let layers: BTreeMap<LayerId, SentLayer> =
        ids.into_iter().zip(sent).filter_map(|(id, sent)| Some((id, sent?))).collect();
    let secrets = Secrets::of(request);
    let there = records.filter(|(_, record)| layers.contains_key(&record.layer));
    let records = there.map(|(place, record)| secrets.portable(place, record)).collect();
    sending.document(&name, CacheDocument::new(records, layers)).await?;
    let mounts = learned.mounts.iter().filter(|id| wanted.mounts.include(mounts::shown(id)));
    for id in mounts {
        let base = learned.imports.mount_before(sending.place.shown(), id);
        if mounts::send(host, &sending.place, id, base).await? == Sent::Busy {
            let message = format!(
                "the cache mount `{}` is used by another build and was not exported",
                mounts::shown(id)
            );
            events.send(BuildEvent::Warning { message }).await;
        }
    }
    Ok(())
}

/// Everything on its way to one place.
struct Sending {
    host: Arc<Host>,
    blobs: Arc<StoreBlobs>,
    place: Place,
    codec: Codec,
    /// Whether what is there in another compression will not do.
    force: bool,
    imports: Arc<Imports>,
    at_once: Semaphore,
    compressing: Semaphore,
}

impl Sending {
    /// Sends what a layer consists of; `None` for one that is nowhere any more.
    async fn layer(&self, id: LayerId) -> Result<Option<SentLayer>, ExchangeError> {
        let _permit = self.at_once.acquire().await.expect("it is never closed");
        let layers = self.host.store.layers();
        if layers.is_promised(&id) {
            if let Some(sent) = self.imports.sent(&id)
                && (!self.force || sent.codec == self.codec.name())
                && self.place.has(&sent.index).await?
                && self.place.has(&sent.blob).await?
            {
                return Ok(Some(sent.clone()));
            }
            match blocking(move || layers.fulfil(&id)).await {
                // That was told when it was found out.
                Err(LayerError::Promise { .. }) => return Ok(None),
                result => result?,
            }
        }
        let (index, bytes) = self.index(id).await?;
        if !self.place.has(&index).await? {
            self.place.put(&index, &bytes).await?;
        }
        self.blob(id, index).await.map(Some)
    }

    async fn index(&self, id: LayerId) -> Result<(Descriptor, Bytes), ExchangeError> {
        let layers = self.host.store.layers();
        blocking(move || {
            let index = layers.portable_index(&id)?.encode();
            let failed = |source| ExchangeError::file("compress the index of", id.to_string(), source);
            let mut encoder = ZstdEncoder::new(Vec::new(), INDEX_LEVEL, 1).map_err(failed)?;
            std::io::Write::write_all(&mut encoder, &index).map_err(failed)?;
            let bytes = encoder.finish().map_err(failed)?;
            Ok((Descriptor::of(index_type(), &bytes), Bytes::from(bytes)))
        })
        .await
    }

    /// Sends the layer's tar, which is the blob an image with this layer and codec has.
    async fn blob(&self, id: LayerId, index: Descriptor) -> Result<SentLayer, ExchangeError> {
        let permit = self.compressing.acquire().await.expect("it is never closed");
        let (blobs, layers, codec) = (self.blobs.clone(), self.host.store.layers(), self.codec);
        let (blob, diff_id, created) = blocking(move || {
            let layer = TreeLayer::made(id);
            // The codec is told with the blob, so it must be that one, and not whatever the layer came in.
            let blob = blobs.layer(&layer, Dialect::Oci, codec, true)?;
            let diff_id = layers.diff_id(&layer)?;
            Ok::<_, ExchangeError>((blob, diff_id, layers.require(&id)?.meta().created))
        })
        .await?;
        drop(permit);
        if !self.place.has(&blob).await? {
            let content = Content { blobs: self.blobs.clone(), blob: blob.clone() };
            self.place.put(&blob, &content).await?;
        }
        Ok(SentLayer { index, blob, diff_id, codec: self.codec.name(), created })
    }

    async fn document(&self, name: &str, document: CacheDocument) -> Result<(), ExchangeError> {
        let bytes = document.to_bytes();
        let config = CacheDocument::describe(&bytes);
        if !self.place.has(&config).await? {
            self.place.put(&config, &Bytes::from(bytes)).await?;
        }
        self.place.put_manifest(name, document.manifest(config).to_bytes()).await
    }
}

/// Values that must not travel.
pub(super) struct Secrets(Masker);

impl Secrets {
    pub(super) fn of(request: &BuildRequest) -> Self {
        let values = request.secrets.values().filter_map(|secret| match secret {
            SecretSource::Variable { value, .. } => Some(value.clone()),
            // One that cannot be read was given to no step either.
            SecretSource::File(path) => std::fs::read(path).ok(),
        });
        let values: Vec<Vec<u8>> = values.collect();
        Self(Masker::new(values.iter().map(Vec::as_slice)))
    }

    /// Returns a record as it is sent: without the values of variables and secrets, and without what lies in this store alone.
    pub(super) fn portable(&self, place: &str, record: &CacheRecord) -> SentRecord {
        let mut record = record.clone();
        record.log = None;
        record.step = self.masked(&record.step);
        for part in &mut record.parts {
            part.detail = None;
            part.value = self.masked(&portable_value(&part.name, &part.value));
        }
        for path in record.left_out.iter_mut().flat_map(|files| &mut files.paths) {
            *path = self.masked(path);
        }
        SentRecord { place: place.to_owned(), record }
    }

    fn masked(&self, text: &str) -> String {
        let mut masker = self.0.clone();
        let mut shown = masker.push(text.as_bytes());
        shown.extend(masker.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// Variables may have been given as build arguments, which people put passwords in: only a digest of their values is sent.
fn portable_value(name: &str, value: &str) -> String {
    match name.starts_with("env ") && !is_digest(value) {
        true => format!("digest {}", &blake3::hash(value.as_bytes()).to_hex()[..16]),
        false => value.to_owned(),
    }
}

/// Returns whether a part of a key, of a record that may have come from a cache, has this value.
pub(crate) fn has_value(part: &KeyPart, value: &str) -> bool {
    part.value == value || is_digest(&part.value) && part.value == portable_value(&part.name, value)
}

/// Whether a value came from a cache, where it was replaced already.
fn is_digest(value: &str) -> bool {
    let hex = value.strip_prefix("digest ").unwrap_or_default();
    hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the parts of a key as records of a cache have them, to be compared with those.
pub(crate) fn portable_parts(parts: &KeyParts) -> KeyParts {
    let mut portable = KeyParts::default();
    for part in &parts.0 {
        portable.push(&part.name, portable_value(&part.name, &part.value));
    }
    portable
}
