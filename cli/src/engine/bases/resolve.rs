//! What a base image's name stands for: in the store, in the lock file, in a registry.

use futures_util::TryStreamExt as _;
use mica_image::config::CONFIG_SIZE_MAX;
use mica_image::{ContentDigest, Document, ImageConfig, Platform, Reference};
use mica_remote::RegistryError;
use mica_solver::graph::{ImageLocation, ImageSource};
use mica_solver::{BuildEvent, EventSender, TaskState};

use super::archived::open_layout;
use super::{Base, BaseError, Origin, check_counts, whole};
use crate::engine::Engine;
use crate::engine::blocking::blocking;
use crate::engine::images;
use crate::engine::lock::{Lock, LockedImage};
use crate::engine::output::StoredImage;
use crate::engine::request::BuildRequest;

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
            && let Some(image) = whole(&self.host.store, id)?
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
        events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
        let base = self.ask_registry(reference, platform).await;
        events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
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
                if let Some(image) = whole(store, &id)?
                    && platform.runs(&image.platform)
                {
                    return Ok(Some(image));
                }
            }
        }
        match store.images().resolved(&reference.to_string(), &platform.to_string())? {
            Some(resolved) => whole(store, &resolved.image),
            None => Ok(None),
        }
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
