//! Collection: removing what no image, no recent record and no living process needs.
//!
//! What is needed is found without stopping anybody. Each victim is then looked at once more while nobody can look anything up
//! (the gate is held exclusively) and only renamed away in that moment. It is spared when a living lease pins it now, or when
//! it was used since the collection began: whoever looks something up pins it and marks it as used in one critical section, so
//! nothing that came into use after the first look is lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_image::{ContentDigest, LayerId};

use crate::files::{At, FileError, is_absent, list, list_sharded, read_optional, remove_file, remove_tree};
use crate::images::{ImageRecord, ImageStore, Version};
use crate::layer::{FsTime, LayerMeta, LayerStore, read_meta};
use crate::lease::{Pin, living_pins};
use crate::locks::{Hold, LockError, LockFile};
use crate::record::{CacheRecord, TreeHash, numbered, read_record};
use crate::sealed::unseal;
use crate::store::Store;

/// What a collection keeps besides what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Which images.
    pub images: KeepImages,
    /// How many versions of each tag, the newest first; `None` is all.
    pub versions: Option<usize>,
    /// How long a record (and what only it needs) may go unused; `None` is for ever.
    pub records_for: Option<Duration>,
    /// How many bytes of layers and blobs may stay for the sake of records: those used least recently go first.
    pub max_bytes: Option<u64>,
}

/// Which images a collection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepImages {
    /// All.
    All,
    /// Those that a tag's version names or that were pulled by name.
    Named,
    /// Those that a tag's version names.
    Tagged,
}

impl KeepPolicy {
    /// Keeps all images and records: only what nothing refers to goes (after `rmi`).
    pub const UNREACHABLE: Self =
        Self { images: KeepImages::All, versions: None, records_for: None, max_bytes: None };
    /// Keeps what tags name and nothing else.
    pub const TAGGED: Self = Self {
        images: KeepImages::Tagged,
        versions: None,
        records_for: Some(Duration::ZERO),
        max_bytes: None,
    };
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Versions of tags.
    pub versions: usize,
    /// Images.
    pub images: usize,
    /// Records.
    pub records: usize,
    /// Failures that were kept for a look.
    pub failures: usize,
    /// Layers.
    pub layers: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of files that went.
    pub bytes: u64,
}

/// What a collection would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// What it would remove.
    pub report: Report,
    /// Bytes of layers and blobs that the images it keeps need, and what is in use.
    pub needed_bytes: u64,
}

impl Store {
    /// Removes what `policy` does not keep and nothing uses; waits while another process collects.
    pub fn collect(&self, policy: &KeepPolicy, cancelled: &dyn Fn() -> bool) -> Result<Report, LockError> {
        let lock = self.shared.root.join("locks/collect");
        let _lock = LockFile::acquire(&lock, Hold::Exclusive, cancelled)?;
        Ok(self.collect_as(policy, Intent::Remove)?.report)
    }

    /// Tells what [`Store::collect`] would do now, and removes nothing.
    pub fn would_collect(&self, policy: &KeepPolicy) -> Result<Forecast, FileError> {
        self.collect_as(policy, Intent::Count)
    }

    fn collect_as(&self, policy: &KeepPolicy, intent: Intent) -> Result<Forecast, FileError> {
        let (pins, start) = self
            .shared
            .gate
            .exclusive(|| Ok::<_, FileError>((living_pins(&self.shared.root)?, self.shared.fs_time()?)))?;
        let (needed, report) = (Needed::default(), Report::default());
        let mut collection = Collection { store: self, policy, intent, start, pins, needed, report };
        let needed_bytes = collection.run()?;
        Ok(Forecast { report: collection.report, needed_bytes })
    }
}

/// Whether victims are removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Remove,
    Count,
}

struct Collection<'a> {
    store: &'a Store,
    policy: &'a KeepPolicy,
    intent: Intent,
    /// When the collection began; what was used later is in use.
    start: FsTime,
    /// What was pinned then.
    pins: HashSet<Pin>,
    needed: Needed,
    report: Report,
}

#[derive(Default)]
struct Needed {
    layers: BTreeSet<LayerId>,
    blobs: BTreeSet<ContentDigest>,
    details: HashSet<String>,
    merged: HashSet<TreeHash>,
    bytes: u64,
}

struct Candidate {
    path: PathBuf,
    used: FsTime,
    record: Option<CacheRecord>,
}

impl Collection<'_> {
    /// Returns how many bytes images and what is in use need.
    fn run(&mut self) -> Result<u64, FileError> {
        let metas = self.metas()?;
        self.keep_pinned(&metas)?;
        self.collect_images(&metas)?;
        let needed_bytes = self.needed.bytes;
        self.collect_records(&metas)?;
        self.collect_failures(&metas)?;
        self.collect_layers()?;
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

    fn keep_pinned(&mut self, metas: &BTreeMap<LayerId, LayerMeta>) -> Result<(), FileError> {
        for pin in self.pins.clone() {
            match pin {
                Pin::Layer(id) => self.keep_layer(&id, metas)?,
                Pin::Blob(digest) => drop(self.keep_blob(&digest)?),
                Pin::Merged(hash) => drop(self.needed.merged.insert(hash)),
            }
        }
        Ok(())
    }

    /// Removes images the policy does not keep; keeps what the others need.
    fn collect_images(&mut self, metas: &BTreeMap<LayerId, LayerMeta>) -> Result<(), FileError> {
        let images = self.images();
        let mut named: BTreeSet<ContentDigest> = BTreeSet::new();
        for version in self.collect_versions()? {
            named.insert(version.image);
            named.extend(version.info.platforms.values());
        }
        let resolved = images.all_resolved()?;
        if self.policy.images != KeepImages::Tagged {
            named.extend(resolved.iter().map(|(_, resolved)| resolved.image));
        }
        let mut kept = BTreeSet::new();
        for image in images.list()? {
            let wanted = self.policy.images == KeepImages::All || named.contains(&image.id);
            let path = images.image_path(&image.id);
            // A build that has stored its image and not named it yet holds the configuration.
            if wanted || !self.remove_victim(&path, &path, Pin::Blob(image.id))? {
                kept.insert(image.id);
                self.keep_image(&image, metas)?;
            } else {
                self.report.images += 1;
            }
        }
        for (path, resolved) in resolved {
            if kept.contains(&resolved.image) {
                self.keep_blob(&resolved.manifest)?;
            } else {
                self.remove_unused_file(&path)?;
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

    fn keep_image(
        &mut self,
        image: &ImageRecord,
        metas: &BTreeMap<LayerId, LayerMeta>,
    ) -> Result<(), FileError> {
        self.keep_blob(&image.id)?;
        if let Some(manifest) = &image.manifest {
            self.keep_blob(manifest)?;
        }
        self.needed.details.extend(image.built_by.map(|built_by| built_by.steps.hex()));
        image.tree.iter().try_for_each(|layer| self.keep_layer(&layer.id, metas))
    }

    /// Keeps a layer with the layers that hold bytes for it and the blobs it came in.
    fn keep_layer(&mut self, id: &LayerId, metas: &BTreeMap<LayerId, LayerMeta>) -> Result<(), FileError> {
        let Some(meta) = metas.get(id) else { return Ok(()) };
        for id in std::iter::once(id).chain(&meta.holders) {
            if !self.needed.layers.insert(*id) {
                continue;
            }
            self.needed.bytes += metas.get(id).map_or(0, |meta| meta.own_bytes);
            for instance in self.layers().instances(id)? {
                self.keep_blob(&instance.digest)?;
            }
        }
        Ok(())
    }

    fn keep_blob(&mut self, digest: &ContentDigest) -> Result<(), FileError> {
        if self.needed.blobs.insert(*digest) {
            self.needed.bytes += self.store.blobs().size(digest)?.unwrap_or(0);
        }
        Ok(())
    }

    /// Removes records that went unused for too long or need more room than there is.
    fn collect_records(&mut self, metas: &BTreeMap<LayerId, LayerMeta>) -> Result<(), FileError> {
        let mut candidates = self.candidates()?;
        candidates.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        let mut is_full = false;
        for candidate in candidates {
            let record = candidate.record.as_ref().filter(|_| !is_full && !self.is_stale(candidate.used));
            let Some(record) = record else {
                self.report.records += usize::from(self.remove_unused_file(&candidate.path)?);
                continue;
            };
            self.keep_layer(&record.layer, metas)?;
            // The newest record that is too much is the last that stays.
            is_full = self.policy.max_bytes.is_some_and(|max| self.needed.bytes > max);
            let details = record.parts.iter().filter_map(|part| part.detail).chain(record.log);
            self.needed.details.extend(details.map(|detail| detail.hex()));
        }
        self.collect_empty_keys()
    }

    /// Removes failures nobody looked at for too long, and all where room is wanted that records need already.
    fn collect_failures(&mut self, metas: &BTreeMap<LayerId, LayerMeta>) -> Result<(), FileError> {
        let is_full = self.policy.max_bytes.is_some_and(|max| self.needed.bytes > max);
        for (path, failure) in self.store.failures().all()? {
            let is_stale = last_use(&path)?.is_none_or(|used| self.is_stale(used));
            if (is_full || is_stale) && self.remove_unused_file(&path)? {
                self.report.failures += 1;
                continue;
            }
            failure.layers.iter().try_for_each(|layer| self.keep_layer(layer, metas))?;
            self.needed.details.insert(failure.steps.hex());
        }
        Ok(())
    }

    fn candidates(&self) -> Result<Vec<Candidate>, FileError> {
        let mut candidates = Vec::new();
        for (_, directory) in list_sharded(&self.root("records"))? {
            for (_, path) in numbered(&directory)? {
                let Some(used) = last_use(&path)? else { continue };
                let record = read_record(&path)?;
                candidates.push(Candidate { path, used, record });
            }
        }
        Ok(candidates)
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

    fn collect_layers(&mut self) -> Result<(), FileError> {
        for (name, path) in list_sharded(&self.root("layers"))? {
            let Ok(id) = LayerId::from_hex(&name) else { continue };
            if self.needed.layers.contains(&id) {
                continue;
            }
            // One without this file was never used.
            let marker = path.join("meta");
            let marker = if marker.exists() { marker } else { path.clone() };
            self.report.layers += usize::from(self.remove_victim(&path, &marker, Pin::Layer(id))?);
        }
        Ok(())
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
            let layer = read_optional(&path)?.and_then(|bytes| unseal::<LayerId>(&bytes));
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
    fn remove_victim(&mut self, path: &Path, marker: &Path, pin: Pin) -> Result<bool, FileError> {
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
            match std::fs::rename(path, &away) {
                Err(error) if is_absent(&error) => Ok(false),
                result => result.at("remove", path).map(|()| true),
            }
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
    fn remove_unused_file(&mut self, path: &Path) -> Result<bool, FileError> {
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

    fn is_stale(&self, used: FsTime) -> bool {
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
    match std::fs::remove_dir(directory) {
        Err(error) if is_absent(&error) || error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result.at("remove", directory),
    }
}

/// Returns when a file was used last; `None` when it is not there.
fn last_use(path: &Path) -> Result<Option<FsTime>, FileError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(FsTime::modified(&stat))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(FileError::new("look at", path, error)),
    }
}
