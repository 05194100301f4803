//! One collection, from what is needed to what is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use mica_image::{ContentDigest, DiffId, LayerId};

use super::policy::{Forecast, KeepImages, KeepPolicy, Report};
use super::room::{self, Item, What};
use super::sizes::{Part, Sizes};
use crate::files::{
    FileError, list, list_sharded, remove_empty_directory, remove_file, remove_tree, rename_away,
};
use crate::images::{ImageRecord, ImageStore, Resolved, Version};
use crate::layer::{FsTime, LayerKind, LayerMeta, LayerStore, layer_directory, needed_by, read_meta};
use crate::lease::{Pin, living_pins};
use crate::locks::{Hold, LockFile};
use crate::record::{TreeHash, numbered};
use crate::sealed::read_sealed;
use crate::store::Store;

/// Whether victims are removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Remove,
    Count,
}

pub(super) struct Collection<'a> {
    pub(super) store: &'a Store,
    pub(super) policy: &'a KeepPolicy,
    pub(super) intent: Intent,
    /// When the collection began; what was used later is in use.
    start: FsTime,
    /// What was pinned then.
    pins: HashSet<Pin>,
    pub(super) metas: BTreeMap<LayerId, LayerMeta>,
    pub(super) sizes: Sizes<'a>,
    pub(super) needed: Needed,
    pub(super) report: Report,
}

#[derive(Default)]
pub(super) struct Needed {
    pub(super) layers: BTreeSet<LayerId>,
    /// Tars of imported layers that are needed by name; of a layer that is not here, all are.
    tars: BTreeMap<LayerId, BTreeSet<DiffId>>,
    pub(super) blobs: BTreeSet<ContentDigest>,
    images: BTreeSet<ContentDigest>,
    pub(super) details: HashSet<String>,
    merged: HashSet<TreeHash>,
    pub(super) bytes: u64,
}

impl<'a> Collection<'a> {
    /// Collects, or tells what that would do.
    pub(super) fn run(
        store: &'a Store,
        policy: &'a KeepPolicy,
        intent: Intent,
    ) -> Result<Forecast, FileError> {
        let shared = &*store.shared;
        let (pins, start) =
            shared.gate.exclusive(|| Ok::<_, FileError>((living_pins(&shared.root)?, shared.fs_time()?)))?;
        let (needed, report) = (Needed::default(), Report::default());
        let sizes = Sizes::load(shared)?;
        let metas = BTreeMap::new();
        let mut collection = Collection { store, policy, intent, start, pins, metas, sizes, needed, report };
        let needed_bytes = collection.collect()?;
        let Collection { sizes, report, .. } = collection;
        if intent == Intent::Remove {
            sizes.save()?;
        }
        Ok(Forecast { report, needed_bytes })
    }

    /// Returns how many bytes images, what is in use and what cannot be collected need.
    fn collect(&mut self) -> Result<u64, FileError> {
        self.metas = self.metas()?;
        self.needed.bytes = self.sizes.rest()?;
        self.keep_pinned()?;
        let resolved = self.images().all_resolved()?;
        let mut items = self.collect_images(&resolved)?;
        items.extend(room::failures(self.store)?);
        let needed_bytes = self.needed.bytes;
        items.extend(room::records(self.store)?);
        if self.policy.max_bytes.is_some() {
            items.extend(self.derived()?);
            items.extend(self.mounts()?);
        }
        room::by_last_use(&mut items);
        self.collect_items(items)?;
        self.collect_resolved(resolved)?;
        self.collect_published()?;
        self.collect_empty_keys()?;
        self.collect_layers()?;
        self.collect_tars()?;
        self.collect_blobs()?;
        self.collect_details()?;
        self.collect_caches()?;
        Ok(needed_bytes)
    }

    fn metas(&self) -> Result<BTreeMap<LayerId, LayerMeta>, FileError> {
        let mut metas = BTreeMap::new();
        for id in self.layers().list()? {
            metas.extend(read_meta(&self.store.shared, &id)?.map(|meta| (id, meta)));
        }
        Ok(metas)
    }

    fn keep_pinned(&mut self) -> Result<(), FileError> {
        for pin in self.pins.clone() {
            match pin {
                Pin::Layer(id) => self.keep_layer(&id)?,
                Pin::Blob(digest) => self.keep_blob(&digest),
                Pin::Merged(hash) => drop(self.needed.merged.insert(hash)),
            }
        }
        Ok(())
    }

    /// Removes images the policy does not keep and keeps what the others need; returns those that are kept while there is room.
    fn collect_images(&mut self, resolved: &[(PathBuf, Resolved)]) -> Result<Vec<Item>, FileError> {
        let mut tagged: BTreeSet<ContentDigest> = BTreeSet::new();
        for version in self.collect_versions()? {
            tagged.insert(version.image);
            tagged.extend(version.info.platforms.values());
        }
        let pulled: BTreeSet<_> = resolved.iter().map(|(_, resolved)| resolved.image).collect();
        let mut items = Vec::new();
        for image in self.images().list()? {
            let is_wanted = tagged.contains(&image.id)
                || match self.policy.images {
                    KeepImages::All => true,
                    KeepImages::Named => pulled.contains(&image.id),
                    KeepImages::Tagged => false,
                };
            if self.policy.max_bytes.is_some() && !tagged.contains(&image.id) && is_wanted {
                items.push(Item { used: self.image_use(&image)?, what: What::Image(Box::new(image)) });
            } else if is_wanted {
                self.keep_image(&image)?;
            } else {
                self.remove_image(&image)?;
            }
        }
        Ok(items)
    }

    /// Returns when an image was stored, named or opened last.
    fn image_use(&self, image: &ImageRecord) -> Result<FsTime, FileError> {
        let stored = last_use(&self.images().image_path(&image.id))?;
        let opened = last_use(&self.store.blobs().path(&image.id))?;
        Ok(stored.max(opened).unwrap_or(self.start))
    }

    /// A build that has stored its image and not named it yet holds the configuration: then it stays.
    pub(super) fn remove_image(&mut self, image: &ImageRecord) -> Result<(), FileError> {
        let path = self.images().image_path(&image.id);
        if self.remove_victim(&path, &path, Pin::Blob(image.id))? {
            self.report.images += 1;
            return Ok(());
        }
        self.keep_image(image)
    }

    /// Removes what is known of names of images that went.
    fn collect_resolved(&mut self, resolved: Vec<(PathBuf, Resolved)>) -> Result<(), FileError> {
        for (path, resolved) in resolved {
            if self.needed.images.contains(&resolved.image) {
                self.keep_blob(&resolved.manifest);
            } else {
                self.remove_unused_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what is known of published images that went, and keeps the documents of the others.
    fn collect_published(&mut self) -> Result<(), FileError> {
        for (path, published) in self.store.published().all()? {
            if published.images.is_disjoint(&self.needed.images) {
                self.remove_unused_file(&path)?;
            } else {
                published.documents.iter().for_each(|document| self.keep_blob(document));
            }
        }
        Ok(())
    }

    /// Removes the versions of each tag that are too many, and returns the others.
    fn collect_versions(&mut self) -> Result<Vec<Version>, FileError> {
        let mut by_tag: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for version in self.images().all_versions()? {
            by_tag.entry(version.reference.clone()).or_default().push(version);
        }
        let mut kept = Vec::new();
        for mut versions in by_tag.into_values() {
            let surplus = versions.len().saturating_sub(self.policy.versions.unwrap_or(usize::MAX));
            for old in versions.drain(..surplus) {
                if self.intent == Intent::Remove {
                    self.images().remove_version(&old.reference, old.number)?;
                }
                self.report.versions += 1;
            }
            kept.extend(versions);
        }
        Ok(kept)
    }

    pub(super) fn keep_image(&mut self, image: &ImageRecord) -> Result<(), FileError> {
        self.needed.images.insert(image.id);
        self.keep_blob(&image.id);
        if let Some(manifest) = &image.manifest {
            self.keep_blob(manifest);
        }
        self.needed.details.extend(image.built_by.map(|built_by| built_by.steps.hex()));
        for layer in &image.tree {
            match &layer.diff_id {
                Some(diff_id) => self.keep_tar(&layer.id, diff_id)?,
                None => self.keep_layer(&layer.id)?,
            }
        }
        Ok(())
    }

    /// Keeps an imported layer with the blob of one of its tars.
    fn keep_tar(&mut self, id: &LayerId, diff_id: &DiffId) -> Result<(), FileError> {
        self.needed.tars.entry(*id).or_default().insert(*diff_id);
        let instance = self.layers().instance(id, diff_id)?;
        let digest = instance.map(|instance| instance.digest);
        match digest {
            Some(digest) => {
                self.keep_blob(&digest);
                self.keep_layer_alone(id);
                Ok(())
            }
            None => self.keep_layer(id),
        }
    }

    /// Keeps a layer with the layers that hold bytes for it and the blobs it came in.
    pub(super) fn keep_layer(&mut self, id: &LayerId) -> Result<(), FileError> {
        for id in self.keep_layer_alone(id) {
            for instance in self.layers().instances(&id)? {
                self.needed.tars.entry(id).or_default().insert(instance.diff_id);
                self.keep_blob(&instance.digest);
            }
        }
        Ok(())
    }

    /// Keeps a layer with those that hold bytes for it, and returns all of them.
    fn keep_layer_alone(&mut self, id: &LayerId) -> Vec<LayerId> {
        let all = needed_by(id, &self.metas);
        for id in &all {
            if self.needed.layers.insert(*id) {
                self.needed.bytes += self.layer_bytes(id);
            }
        }
        all
    }

    /// Returns what a layer takes that goes only with it.
    pub(super) fn layer_bytes(&mut self, id: &LayerId) -> u64 {
        let Some(meta) = self.metas.get(id) else { return 0 };
        let description = self.sizes.description(meta.index_bytes);
        description + if meta.kind == LayerKind::Made { self.sizes.part(id, Part::Files) } else { 0 }
    }

    fn keep_blob(&mut self, digest: &ContentDigest) {
        if self.needed.blobs.insert(*digest) {
            self.needed.bytes += self.sizes.blob(digest);
        }
    }

    /// Removes the directories of keys without records, and lists of keys that nobody noted for long.
    fn collect_empty_keys(&mut self) -> Result<(), FileError> {
        for (_, directory) in list_sharded(&self.root("records"))? {
            if self.intent == Intent::Remove && numbered(&directory)?.is_empty() {
                remove_empty_key(&directory)?;
            }
        }
        for (_, path) in list_sharded(&self.root("recent"))? {
            if last_use(&path)?.is_some_and(|used| self.is_stale(used)) {
                self.remove_unused_file(&path)?;
            }
        }
        Ok(())
    }

    /// Those that need others go before these, so that what stays of a collection that is killed is whole.
    fn collect_layers(&mut self) -> Result<(), FileError> {
        let mut victims = Vec::new();
        for (name, path) in list_sharded(&self.root("layers"))? {
            let Ok(id) = LayerId::from_hex(&name) else { continue };
            if !self.needed.layers.contains(&id) {
                victims.push((needed_by(&id, &self.metas).len(), id, path));
            }
        }
        victims.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (_, id, path) in victims {
            // One without this file was never used.
            let marker = path.join("meta");
            let marker = if marker.exists() { marker } else { path.clone() };
            self.report.layers += usize::from(self.remove_victim(&path, &marker, Pin::Layer(id))?);
        }
        Ok(())
    }

    /// Removes what is known of tars whose layer went or of which nothing needs just that one.
    fn collect_tars(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("diff-ids"))? {
            let id = read_sealed::<LayerId>(&path)?;
            let is_there = id.is_some_and(|id| layer_directory(&self.store.shared, &id).is_dir());
            let diff_id = DiffId::from_hex(&name).ok();
            if !is_there || !self.is_needed_tar(id, diff_id) {
                self.remove_unused_file(&path)?;
            }
        }
        for id in self.needed.layers.clone() {
            for instance in self.layers().instances(&id)? {
                if !self.is_needed_tar(Some(id), Some(instance.diff_id)) {
                    let path = layer_directory(&self.store.shared, &id)
                        .join("instances")
                        .join(instance.diff_id.hex());
                    self.remove_unused_file(&path)?;
                }
            }
        }
        Ok(())
    }

    fn is_needed_tar(&self, id: Option<LayerId>, diff_id: Option<DiffId>) -> bool {
        let Some(known) = id.and_then(|id| self.needed.tars.get(&id)) else { return true };
        diff_id.is_some_and(|diff_id| known.contains(&diff_id))
    }

    fn collect_blobs(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("blobs/sha256"))? {
            let Ok(digest) = ContentDigest::from_hex(&name) else { continue };
            if !self.needed.blobs.contains(&digest) {
                self.report.blobs += usize::from(self.remove_victim(&path, &path, Pin::Blob(digest))?);
            }
        }
        Ok(())
    }

    fn collect_details(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("details"))? {
            if !self.needed.details.contains(&name) {
                self.remove_unused_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what can be made again at any time and was not used for long.
    fn collect_caches(&mut self) -> Result<(), FileError> {
        for (name, home) in list(&self.root("merged"))? {
            let Some(hash) = TreeHash::from_hex(&name) else { continue };
            let is_stale = last_use(&home)?.is_some_and(|used| self.is_stale(used));
            if is_stale && !self.needed.merged.contains(&hash) {
                self.remove_victim(&home, &home, Pin::Merged(hash))?;
            }
        }
        for kind in ["locks/steps", "locks/unpack"] {
            for (_, path) in list(&self.root(kind))? {
                // Left by holders that were killed.
                if self.intent == Intent::Remove
                    && let Some(lock) = LockFile::try_acquire(&path, Hold::Exclusive)?
                {
                    lock.remove(&path);
                }
            }
        }
        for (_, path) in list_sharded(&self.root("mounted"))? {
            let layer = read_sealed::<LayerId>(&path)?;
            if layer.is_none_or(|layer| !self.needed.layers.contains(&layer)) {
                self.remove_unused_file(&path)?;
            }
        }
        for (_, path) in list(&self.root("contexts"))? {
            if last_use(&path)?.is_some_and(|used| self.is_stale(used)) {
                self.remove_unused_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes something others may look up; false if somebody came to use it.
    pub(super) fn remove_victim(&mut self, path: &Path, marker: &Path, pin: Pin) -> Result<bool, FileError> {
        if self.intent == Intent::Count {
            return self.count_victim(path, marker);
        }
        let shared = &self.store.shared;
        let away = shared.lease()?.fresh_path();
        let start = self.start;
        let is_gone = shared.gate.exclusive(|| {
            let is_used = last_use(marker)?.is_none_or(|used| used >= start);
            if is_used || living_pins(&shared.root)?.contains(&pin) {
                return Ok::<_, FileError>(false);
            }
            rename_away(path, &away)
        })?;
        if is_gone {
            self.report.bytes += crate::files::disk_usage(&away);
            remove_tree(&away)?;
        }
        Ok(is_gone)
    }

    /// Counts something that would be removed.
    fn count_victim(&mut self, path: &Path, marker: &Path) -> Result<bool, FileError> {
        let is_used = last_use(marker)?.is_none_or(|used| used >= self.start);
        self.report.bytes += if is_used { 0 } else { crate::files::disk_usage(path) };
        Ok(!is_used)
    }

    /// Removes a small file nobody pins, unless it was used since the collection began.
    pub(super) fn remove_unused_file(&mut self, path: &Path) -> Result<bool, FileError> {
        if self.intent == Intent::Count {
            return self.count_victim(path, path);
        }
        let start = self.start;
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let is_gone = self.store.shared.gate.exclusive(|| {
            if last_use(path)?.is_none_or(|used| used >= start) {
                return Ok::<_, FileError>(false);
            }
            remove_file(path).map(|()| true)
        })?;
        self.report.bytes += if is_gone { size } else { 0 };
        Ok(is_gone)
    }

    pub(super) fn is_stale(&self, used: FsTime) -> bool {
        let Some(limit) = self.policy.records_for else { return false };
        let age = self.start.seconds.saturating_sub(used.seconds);
        used < self.start && u64::try_from(age).unwrap_or(0) >= limit.as_secs()
    }

    fn root(&self, name: &str) -> PathBuf {
        self.store.shared.root.join(name)
    }

    fn layers(&self) -> LayerStore {
        self.store.layers()
    }

    fn images(&self) -> ImageStore {
        self.store.images()
    }
}

/// Removes what is remembered about records that are gone, and the directory unless a record came meanwhile.
fn remove_empty_key(directory: &Path) -> Result<(), FileError> {
    for (_, path) in list(directory)?.into_iter().filter(|(name, _)| name.starts_with("holds-")) {
        remove_file(&path)?;
    }
    remove_empty_directory(directory)
}

/// Returns when a file was used last; `None` when it is not there.
pub(super) fn last_use(path: &Path) -> Result<Option<FsTime>, FileError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(FsTime::modified(&stat))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(FileError::new("look at", path, error)),
    }
}
