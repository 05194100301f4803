//! Base images: names become images of the store, a layout's, or a registry's; layers come when a step needs them.
//!
//! The local store is looked at first (an image just built with `-t` is found), then what a tag was resolved to before, then the
//! registry. A resolved tag is not asked for again without `--pull`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use mica_cache::{ImageRecord, Resolved};
use mica_image::Timestamp;
use mica_image::archive::{ImageArchive, ReadArchiveError};
use mica_image::config::CONFIG_SIZE_MAX;
use mica_image::tree::{Tree, TreeLayer};
use mica_image::{ContentDigest, Descriptor, DiffId, Document, ImageConfig, Manifest, Platform, Reference};
use mica_remote::RegistryError;
use mica_solver::graph::{ImageLocation, ImageSource};
use mica_solver::plan::{Knowledge, ResolvedImage};
use mica_solver::{BuildEvent, EventSender, StepContext, StepId};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::blocking::blocking;
use super::images::{self, FindError};
use super::import::{ImportError, import_layer};
use super::lock::{Lock, LockedImage};
use super::output::StoredImage;
use super::request::BuildRequest;
use super::{Engine, Host};
use crate::environment::now;

/// A base image could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// The registry has no such image, or could not be asked.
    #[error("cannot resolve image `{reference}`")]
    Registry {
        /// The name.
        reference: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// Nothing may be fetched.
    #[error("image `{0}` is not in the store, and the build is offline")]
    Offline(String),
    /// What the registry gave is no image.
    #[error("image `{reference}`: {reason}")]
    NotAnImage {
        /// The name.
        reference: String,
        /// Why.
        reason: String,
    },
    /// The image is another than the lock file says.
    #[error("image `{reference}` is {actual}, and the lock file says {expected}")]
    Locked {
        /// The name.
        reference: String,
        /// What the lock file says.
        expected: ContentDigest,
        /// What it is.
        actual: ContentDigest,
    },
    /// The lock file names an image that only a store has.
    #[error("image `{reference}` was locked as {id}, which is in no registry and not in this store")]
    LockedElsewhere {
        /// The name.
        reference: String,
        /// The image.
        id: ContentDigest,
    },
    /// A layout or archive could not be read.
    #[error(transparent)]
    Archive(#[from] ReadArchiveError),
    /// A layout has no image for the platform.
    #[error("`{location}` has no image for {platform}")]
    NoPlatform {
        /// Where.
        location: String,
        /// The platform wanted.
        platform: String,
    },
    /// The store could not be searched.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A layer could not be imported.
    #[error("image `{reference}`")]
    Import {
        /// The name.
        reference: String,
        /// Why.
        #[source]
        source: ImportError,
    },
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] super::NetworkSetupError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// A blob could not be stored.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
}

impl BaseError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint(),
            Self::Offline(name) => Some(format!("`mica pull {name}` while there is a network")),
            Self::Locked { reference, .. } | Self::LockedElsewhere { reference, .. } => {
                Some(format!("`mica lock --update={reference}` holds the name to what it is now"))
            }
            Self::Find(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source: RegistryError::Transport(_), .. })
    }

    /// Whether the image may well be there, and only cannot be looked at now.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.is_unavailable() || matches!(self, Self::Offline(_))
    }
}

/// A base image whose config is known and whose layers may still be elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    name: String,
    id: ContentDigest,
    config: ImageConfig,
    platform: Platform,
    /// What its name stands for in a registry: a manifest or an index, where that is known.
    digest: Option<ContentDigest>,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    /// In the store.
    Stored(Tree),
    /// In a registry.
    Registry {
        reference: Reference,
        /// The platform that was asked for.
        platform: Platform,
        manifest: Manifest,
        manifest_digest: ContentDigest,
        /// What the name stands for: the manifest or an index.
        top: ContentDigest,
    },
    /// In an archive or layout.
    Archive { archive: Arc<ImageArchive>, manifest: Manifest },
}

impl Base {
    fn stored(name: &str, image: StoredImage) -> Self {
        Self {
            name: name.to_owned(),
            id: image.id,
            config: image.config,
            platform: image.platform,
            digest: None,
            origin: Origin::Stored(image.tree),
        }
    }

    /// Returns the digest of its config.
    pub(super) fn id(&self) -> ContentDigest {
        self.id
    }

    /// Returns what its name stands for in a registry, as far as is known here.
    pub(super) fn name_digest(
        &self,
        host: &Host,
        source: &ImageSource,
    ) -> Result<Option<ContentDigest>, BaseError> {
        if self.digest.is_some() {
            return Ok(self.digest);
        }
        let ImageLocation::Reference(reference) = &source.location else { return Ok(None) };
        let asked = host.store.images().resolved(&reference.to_string(), &source.platform.to_string())?;
        Ok(asked.filter(|asked| asked.image == self.id).map(|asked| asked.manifest))
    }

    /// What planning needs of it.
    pub(crate) fn resolved(&self) -> ResolvedImage {
        ResolvedImage {
            knowledge: Knowledge::Known,
            id: self.id,
            config: self.config.clone(),
            platform: self.platform.clone(),
        }
    }
}

/// The bases of one build.
#[derive(Debug, Default)]
pub(crate) struct Bases(HashMap<ImageSource, Base>);

impl Bases {
    /// Adds one.
    pub(crate) fn insert(&mut self, source: ImageSource, base: Base) {
        self.0.insert(source, base);
    }

    /// Returns all with what they were asked for as.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ImageSource, &Base)> {
        self.0.iter()
    }

    /// Returns the names of all, with what they are.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&str, ContentDigest)> {
        self.0.values().map(|base| (base.name.as_str(), base.id))
    }

    /// Returns a base's tree, with its layers brought into the store.
    pub(crate) async fn tree(
        &self,
        host: &Arc<Host>,
        source: &ImageSource,
        step: StepId,
        cx: &StepContext,
    ) -> Result<Tree, BaseError> {
        let base = self.0.get(source).expect("a plan asks for every image it uses");
        base.fetch(host, &Progress { events: cx.events.clone(), step: Some(step) }).await
    }
}

/// Where a transfer's progress is told.
#[derive(Clone)]
struct Progress {
    events: EventSender,
    step: Option<StepId>,
}

impl Progress {
    async fn tell(&self, what: &str, current: u64, total: u64) {
        let what = what.to_owned();
        if let Some(id) = self.step {
            self.events.send(BuildEvent::StepProgress { id, what, current, total: Some(total) }).await;
        }
    }
}

impl Engine {
    /// Resolves a base image's name.
    pub(crate) async fn resolve_base(
        &self,
        source: &ImageSource,
        request: &BuildRequest,
        lock: Option<&Lock>,
        events: &EventSender,
    ) -> Result<Base, BaseError> {
        let locked = lock.and_then(|lock| lock.file.image(source));
        match &source.location {
            ImageLocation::Reference(reference) => {
                if let Some(locked) = locked.filter(|_| reference.digest().is_none()) {
                    return self
                        .resolve_locked(reference, &source.platform, locked, request.offline, events)
                        .await;
                }
                let network = match (request.offline, request.pull) {
                    (true, _) => Network::Never,
                    (false, true) => Network::Always,
                    (false, false) => Network::WhenMissing,
                };
                self.resolve_reference(reference, &source.platform, network, events).await
            }
            ImageLocation::OciLayout(text) => {
                let (host, text, platform) = (self.host.clone(), text.clone(), source.platform.clone());
                let base = blocking(move || open_layout(&host, &text, &platform)).await?;
                held_to(base, locked, &source.platform)
            }
        }
    }

    /// Resolves a name that is held to one image: what it stands for now is not asked.
    async fn resolve_locked(
        &self,
        reference: &Reference,
        platform: &Platform,
        locked: &LockedImage,
        offline: bool,
        events: &EventSender,
    ) -> Result<Base, BaseError> {
        let id = locked.ids.get(&platform.to_string());
        if let Some(id) = id
            && let Some(image) = self.whole(id)?
        {
            return Ok(Base { digest: locked.digest, ..Base::stored(&reference.to_string(), image) });
        }
        let Some(digest) = locked.digest else {
            let id = id.or(locked.ids.values().next()).copied();
            let id = id.expect("a lock that was read has a digest or an id for every image");
            return Err(BaseError::LockedElsewhere { reference: reference.familiar(), id });
        };
        let network = if offline { Network::Never } else { Network::WhenMissing };
        let pinned = reference.with_digest(digest);
        let base = self.resolve_reference(&pinned, platform, network, events).await?;
        held_to(Base { name: reference.to_string(), ..base }, Some(locked), platform)
    }

    async fn resolve_reference(
        &self,
        reference: &Reference,
        platform: &Platform,
        network: Network,
        events: &EventSender,
    ) -> Result<Base, BaseError> {
        let name = reference.to_string();
        if network != Network::Always
            && let Some(image) = self.local(reference, platform)?
        {
            return Ok(Base::stored(&name, image));
        }
        if network == Network::Never {
            return Err(BaseError::Offline(reference.familiar()));
        }
        let what = format!("resolving {}", reference.familiar());
        events.send(BuildEvent::Task { what: what.clone(), state: mica_solver::TaskState::Started }).await;
        let base = self.ask_registry(reference, platform).await;
        events.send(BuildEvent::Task { what, state: mica_solver::TaskState::Done }).await;
        match base {
            // `--pull` of a name that only exists here: an image built with `-t`.
            Err(BaseError::Registry { source, reference: asked }) => match self.local(reference, platform)? {
                Some(image) if matches!(source, RegistryError::NotFound { .. }) => {
                    Ok(Base::stored(&name, image))
                }
                _ => Err(BaseError::Registry { source, reference: asked }),
            },
            other => other,
        }
    }

    /// Looks for an image of this name and platform in the store: built or tagged here, or pulled before.
    fn local(&self, reference: &Reference, platform: &Platform) -> Result<Option<StoredImage>, BaseError> {
        let store = &self.host.store;
        let named = store.images().current(&reference.with_default_tag().to_string())?;
        if let (Some(version), None) = (named, reference.digest()) {
            let ids =
                version.info.platforms.get(&platform.to_string()).copied().into_iter().chain([version.image]);
            for id in ids {
                if let Some(image) = self.whole(&id)?
                    && platform.runs(&image.platform)
                {
                    return Ok(Some(image));
                }
            }
        }
        match store.images().resolved(&reference.to_string(), &platform.to_string())? {
            Some(resolved) => self.whole(&resolved.image),
            None => Ok(None),
        }
    }

    /// Opens an image if all its layers are here, and keeps them here.
    ///
    /// They are not when somebody removes the image at this moment, or when the machine went down before they were on the disk.
    fn whole(&self, id: &ContentDigest) -> Result<Option<StoredImage>, BaseError> {
        let store = &self.host.store;
        let Some(image) = images::open(store, id)? else { return Ok(None) };
        for layer in &image.tree {
            if store.layers().get(&layer.id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }

    async fn ask_registry(&self, reference: &Reference, platform: &Platform) -> Result<Base, BaseError> {
        let registry_error = |source| BaseError::Registry { reference: reference.familiar(), source };
        let client = self.host.registry()?;
        let image = client.fetch_image(reference, platform).await.map_err(registry_error)?;
        let Document::Manifest(manifest) = image.manifest.document else {
            return Err(not_an_image(reference, "the registry gave an index of indexes"));
        };
        if manifest.config.size > CONFIG_SIZE_MAX {
            return Err(not_an_image(reference, "its config is larger than any real one"));
        }
        let bytes = match self.stored_config(manifest.config.digest).await {
            Some(bytes) => bytes,
            None => client
                .fetch_blob(reference, &manifest.config)
                .try_fold(Vec::new(), async |mut bytes, piece| {
                    bytes.extend_from_slice(&piece);
                    Ok(bytes)
                })
                .await
                .map_err(registry_error)?,
        };
        let config =
            ImageConfig::parse(&bytes).map_err(|error| not_an_image(reference, &error.to_string()))?;
        check_counts(&reference.familiar(), &config, &manifest)?;
        let found = config.platform();
        if !platform.runs(&found) && image.index.is_some() {
            return Err(not_an_image(reference, &format!("is for {found}, not for {platform}")));
        }
        let host = self.host.clone();
        let (manifest_bytes, top) = (image.manifest.bytes, image.index.map(|index| index.descriptor.digest));
        let manifest_digest = image.manifest.descriptor.digest;
        let id = manifest.config.digest;
        blocking(move || -> Result<(), BaseError> {
            host.store.blobs().put(&bytes)?;
            host.store.blobs().put(&manifest_bytes)?;
            Ok(())
        })
        .await?;
        Ok(Base {
            name: reference.to_string(),
            id,
            config,
            platform: found,
            digest: Some(top.unwrap_or(manifest_digest)),
            origin: Origin::Registry {
                reference: reference.clone(),
                platform: platform.clone(),
                manifest,
                manifest_digest,
                top: top.unwrap_or(manifest_digest),
            },
        })
    }

    /// Returns a config that was fetched before.
    async fn stored_config(&self, digest: ContentDigest) -> Option<Vec<u8>> {
        let host = self.host.clone();
        // One that is missing, cannot be read or is not what its name says is fetched again.
        let read = move || host.store.blobs().read(&digest, CONFIG_SIZE_MAX).ok();
        blocking(read).await.filter(|bytes| ContentDigest::of(bytes) == digest)
    }

    /// Fetches an image from its registry whatever the store has, names it, and returns it.
    pub(crate) async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        events: &EventSender,
    ) -> Result<ContentDigest, BaseError> {
        let base = self.resolve_reference(reference, platform, Network::Always, events).await?;
        base.import(&self.host, events).await?;
        if reference.digest().is_none() {
            images::tag(&self.host.store, base.id, reference)?;
        }
        Ok(base.id)
    }
}

impl Engine {
    /// Brings an image into the store, from its registry if need be, and gives it no name.
    pub(in crate::engine) async fn fetch_unnamed(
        &self,
        reference: &Reference,
        platform: &Platform,
        events: &EventSender,
    ) -> Result<ContentDigest, BaseError> {
        self.resolve_reference(reference, platform, Network::WhenMissing, events)
            .await?
            .import(&self.host, events)
            .await
    }
}

/// Refuses an image that is not the one its name is held to.
fn held_to(base: Base, locked: Option<&LockedImage>, platform: &Platform) -> Result<Base, BaseError> {
    match locked.and_then(|locked| locked.ids.get(&platform.to_string())) {
        Some(expected) if *expected != base.id => {
            Err(BaseError::Locked { reference: base.name, expected: *expected, actual: base.id })
        }
        _ => Ok(base),
    }
}

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Never,
    WhenMissing,
    Always,
}

fn not_an_image(reference: &Reference, reason: &str) -> BaseError {
    BaseError::NotAnImage { reference: reference.familiar(), reason: reason.to_owned() }
}

fn check_counts(name: &str, config: &ImageConfig, manifest: &Manifest) -> Result<(), BaseError> {
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers == diff_ids {
        return Ok(());
    }
    let reason = format!("the manifest has {layers} layers where the config has {diff_ids}");
    Err(BaseError::NotAnImage { reference: name.to_owned(), reason })
}

/// Opens `path[:tag]` or `path[@digest]`.
fn open_layout(host: &Host, text: &str, platform: &Platform) -> Result<Base, BaseError> {
    let (path, wanted) = split_layout(text);
    let archive = Arc::new(ImageArchive::open(&path, &host.store.layers().begin()?.files())?);
    open_archived(&archive, wanted.as_deref(), platform, &format!("oci-layout://{text}"))
}

/// Finds the image of an archive for `platform`.
pub(in crate::engine) fn open_archived(
    archive: &Arc<ImageArchive>,
    wanted: Option<&str>,
    platform: &Platform,
    location: &str,
) -> Result<Base, BaseError> {
    let mut target = archive.find(wanted)?.target.clone();
    let manifest = loop {
        match archive.read_document(&target)?.0 {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => {
                target = index.select(platform).cloned().ok_or_else(|| BaseError::NoPlatform {
                    location: location.to_owned(),
                    platform: platform.to_string(),
                })?;
            }
        }
    };
    let (config, _) = archive.read_config(&manifest.config)?;
    check_counts(location, &config, &manifest)?;
    Ok(Base {
        name: location.to_owned(),
        id: manifest.config.digest,
        platform: config.platform(),
        config,
        digest: None,
        origin: Origin::Archive { archive: archive.clone(), manifest },
    })
}

fn split_layout(text: &str) -> (PathBuf, Option<String>) {
    if let Some((path, digest)) = text.rsplit_once('@') {
        return (PathBuf::from(path), Some(digest.to_owned()));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (PathBuf::from(path), Some(tag.to_owned())),
        _ => (PathBuf::from(text), None),
    }
}

impl Base {
    /// Brings the layers into the store, all at once, and returns the tree.
    async fn fetch(&self, host: &Arc<Host>, progress: &Progress) -> Result<Tree, BaseError> {
        let manifest = match &self.origin {
            Origin::Stored(tree) => return Ok(tree.clone()),
            Origin::Registry { manifest, .. } | Origin::Archive { manifest, .. } => manifest,
        };
        let wanted: Vec<_> = manifest.layers.iter().zip(&self.config.rootfs.diff_ids).collect();
        let fetches = wanted.iter().map(|(blob, diff_id)| self.layer(host, blob, **diff_id, None, progress));
        let fetched = try_join_all(fetches).await?;
        let mut tree = Tree::new();
        for ((blob, diff_id), layer) in wanted.iter().zip(fetched) {
            let layer = match layer {
                Some(layer) => Some(layer),
                None => self.layer(host, blob, **diff_id, Some(tree.clone()), progress).await?,
            };
            tree.push(layer.expect("with what is below it a layer is imported or fails"));
        }
        self.keep(host, &tree)?;
        Ok(tree)
    }

    /// Returns one layer, from the store if it is there.
    async fn layer(
        &self,
        host: &Arc<Host>,
        blob: &Descriptor,
        diff_id: DiffId,
        below: Option<Tree>,
        progress: &Progress,
    ) -> Result<Option<TreeLayer>, BaseError> {
        if let Some((layer, _)) = host.store.layers().imported(&diff_id)? {
            return Ok(Some(TreeLayer::imported(layer.id(), diff_id)));
        }
        let (store, blob) = (host.store.clone(), blob.clone());
        let imported = match &self.origin {
            Origin::Stored(_) => unreachable!("a stored image has its layers"),
            Origin::Archive { archive, .. } => {
                let archive = archive.clone();
                blocking(move || {
                    let mut stream = archive.open_blob(&blob)?;
                    Ok(import_layer(&store, &mut stream, &blob, Some(diff_id), below.as_ref()))
                })
                .await
                .map_err(BaseError::Archive)?
            }
            Origin::Registry { reference, .. } => {
                let what = format!("downloading {}", &blob.digest.to_string()[..19]);
                let total = blob.size;
                progress.tell(&what, 0, total).await;
                let stream = host.registry()?.fetch_blob(reference, &blob).map_err(std::io::Error::other);
                let mut bridge = SyncIoBridge::new(Box::pin(StreamReader::new(stream)));
                let import = move || import_layer(&store, &mut bridge, &blob, Some(diff_id), below.as_ref());
                let imported = blocking(import).await;
                progress.tell(&what, total, total).await;
                imported
            }
        };
        imported.map_err(|source| BaseError::Import { reference: self.name.clone(), source })
    }

    /// Records the image, so that it is found again without its origin.
    fn keep(&self, host: &Host, tree: &Tree) -> Result<(), BaseError> {
        let images = host.store.images();
        let (manifest, config_bytes) = match &self.origin {
            Origin::Registry { manifest_digest, .. } => (Some(*manifest_digest), None),
            Origin::Archive { archive, manifest } => (None, Some(archive.read_config(&manifest.config)?.1)),
            Origin::Stored(_) => (None, None),
        };
        if let Some(bytes) = config_bytes {
            host.store.blobs().put(&bytes)?;
        }
        let created =
            self.config.created.as_ref().and_then(Timestamp::unix).map_or(0, |(seconds, _)| seconds);
        let platform = self.platform.to_string();
        let record = ImageRecord {
            id: self.id,
            tree: tree.clone(),
            platform,
            created,
            manifest,
            lines: vec![],
            built_by: None,
        };
        images.put(&record)?;
        if let Origin::Registry { reference, platform, top, .. } = &self.origin {
            let when = now().unix().map_or(0, |(seconds, _)| seconds);
            let resolved =
                Resolved { reference: reference.to_string(), manifest: *top, image: self.id, when };
            images.remember_resolved(&reference.to_string(), &platform.to_string(), &resolved)?;
        }
        Ok(())
    }

    /// Brings an archived image into the store and returns it.
    pub(in crate::engine) async fn import(
        &self,
        host: &Arc<Host>,
        events: &EventSender,
    ) -> Result<ContentDigest, BaseError> {
        self.fetch(host, &Progress { events: events.clone(), step: None }).await?;
        Ok(self.id)
    }
}
