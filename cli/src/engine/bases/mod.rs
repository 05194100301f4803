//! Base images: names become images of the store, a layout's, or a registry's; layers come when a step needs them.
//!
//! The local store is looked at first (an image just built with `-t` is found), then what a tag was resolved to before, then the
//! registry. A resolved tag is not asked for again without `--pull`.

mod archived;
mod layers;
mod resolve;

use std::collections::HashMap;
use std::sync::Arc;

use mica_cache::Store;
use mica_image::archive::{ImageArchive, ReadArchiveError};
use mica_image::tree::Tree;
use mica_image::{ContentDigest, ImageConfig, Manifest, Platform, Reference};
use mica_remote::RegistryError;
use mica_solver::graph::{ImageLocation, ImageSource};
use mica_solver::plan::{Knowledge, ResolvedImage};
use mica_solver::{StepContext, StepId};

use super::Host;
use super::images::{self, FindError};
use super::import::{ImportError, Unpack};
use super::output::StoredImage;
pub(super) use archived::{open_archived, path_and_name};
use layers::Transfer;

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
            Self::Locked { reference, .. } => {
                Some(format!("`mica lock --update={reference}` holds the name to what it is now"))
            }
            Self::LockedElsewhere { reference, .. } => Some(format!(
                "bring it here (`mica load`), or let `mica lock --update={reference}` hold the name to what it is now"
            )),
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

    /// Returns a base's tree, with its layers brought into the store, and unpacked if so told.
    pub(crate) async fn tree(
        &self,
        host: &Arc<Host>,
        source: &ImageSource,
        step: StepId,
        unpack: Unpack,
        cx: &StepContext,
    ) -> Result<Tree, BaseError> {
        let base = self.0.get(source).expect("a plan asks for every image it uses");
        base.fetch(host, &Transfer { events: cx.events.clone(), step: Some(step), unpack }).await
    }
}

fn check_counts(name: &str, config: &ImageConfig, manifest: &Manifest) -> Result<(), BaseError> {
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers == diff_ids {
        return Ok(());
    }
    let reason = format!("the manifest has {layers} layers where the config has {diff_ids}");
    Err(BaseError::NotAnImage { reference: name.to_owned(), reason })
}

/// Opens an image of the store if all its layers are here, and keeps them here.
///
/// They are not when somebody removes the image at this moment, or when the machine went down before they were on the disk.
pub(in crate::engine) fn whole(store: &Store, id: &ContentDigest) -> Result<Option<StoredImage>, BaseError> {
    let Some(image) = images::open(store, id)? else { return Ok(None) };
    for layer in &image.tree {
        if store.layers().get(&layer.id)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(image))
}
