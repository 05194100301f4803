//! Where signed statements are kept: beside the image, in its layout or its repository, as manifests with a subject.
//!
//! ```text
//! manifest      artifactType = application/vnd.dsse.envelope.v1+json
//! ├ subject     what the image's name stands for
//! ├ config      application/vnd.oci.empty.v1+json
//! └ layer       the envelope; annotation in-toto.io/predicate-type
//! ```
//!
//! In a layout the manifest stands in `index.json`. A registry lists it among the referrers; one that keeps no such list gets it under
//! the tag `sha256-<hex>`, as OCI says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use mica_image::archive::{ImageArchive, ReadArchiveError};
use mica_image::layout::{BlobSource, NamedImage, WithDocuments, WriteLayoutError, write_layout_directory};
use mica_image::{
    ContentDigest, Descriptor, Dialect, Document, Index, Manifest, MediaType, Platform, Reference,
};
use mica_remote::{RegistryClient, RegistryError, registry::BlobStream};
use mica_solver::EventSender;

use super::envelope::Envelope;
use super::manifest::PREDICATE_TYPE;
use super::rebuild::RebuildError;
use super::remembered::{Notes, Remembered};
use super::sign::attached;
use crate::engine::bases::{BaseError, open_archived, path_and_name, whole};
use crate::engine::blocking::blocking;
use crate::engine::history::LookError;
use crate::engine::output::StoredImage;
use crate::engine::{Engine, NetworkSetupError};

/// The type of the manifests.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A statement larger than this is not read.
pub(super) const STATEMENT_SIZE_MAX: u64 = 128 << 20;

/// An image where it is kept.
pub(crate) struct Seat {
    place: Place,
    /// What its name stands for.
    pub(crate) target: Descriptor,
    /// How it was named.
    pub(crate) name: String,
}

enum Place {
    Layout {
        path: PathBuf,
        archive: Arc<ImageArchive>,
    },
    Registry {
        client: RegistryClient,
        reference: Reference,
        notes: Notes,
    },
    /// Of a registry that is not asked.
    Remembered(Remembered),
}

/// An image or what is said of it could not be read or written where it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeatError {
    /// A layout could not be read.
    #[error(transparent)]
    Archive(#[from] ReadArchiveError),
    /// A blob of a layout could not be read.
    #[error("blob {digest}")]
    Blob {
        /// The blob.
        digest: ContentDigest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layout could not be written.
    #[error("cannot add to `{}`", path.display())]
    Write {
        /// The layout.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteLayoutError,
    },
    /// An archive cannot be added to.
    #[error("`{}` is one file, which nothing can be added to", .0.display())]
    File(PathBuf),
    /// A registry did not do its part.
    #[error("`{reference}`")]
    Registry {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// It is no name and no path.
    #[error(transparent)]
    Reference(#[from] mica_image::InvalidReference),
    /// No network may be asked, and the store does not know.
    #[error("`{0}` was never looked at in its registry from here, and nothing may be fetched")]
    Unknown(String),
    /// No network may be asked, and the store knows only other things about it.
    #[error("what is said of `{0}` is not in the store, and nothing may be fetched")]
    Unread(String),
    /// A document is none.
    #[error(transparent)]
    Form(#[from] mica_image::manifest::InvalidManifest),
    /// The store could not be read or written.
    #[error(transparent)]
    StoredBlob(#[from] mica_cache::BlobError),
    /// What is said is larger than anything sensible.
    #[error("a statement of {0} bytes is not read")]
    TooLarge(u64),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
    /// The store has no room.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
}

impl SeatError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::File(_) => Some("unpack it into a directory: an OCI layout can be added to".to_owned()),
            Self::Registry { source, .. } => source.hint(),
            Self::Reference(error) => error.hint(),
            Self::Unknown(name) | Self::Unread(name) => {
                Some(format!("`mica pull --attestations {name}` while there is a network"))
            }
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source: RegistryError::Transport(_), .. })
    }
}

impl Engine {
    /// Finds an image: `PATH[:NAME]` of a layout or archive where there is one, otherwise a name in a registry, which is asked
    /// unless `offline`.
    pub(crate) async fn seat(&self, text: &str, offline: bool) -> Result<Seat, SeatError> {
        if let Some((path, wanted)) = layout_path(text) {
            let (host, at) = (self.host.clone(), path.clone());
            let archive = blocking(move || -> Result<_, SeatError> {
                Ok(ImageArchive::open(&at, &host.store.layers().begin()?.files())?)
            })
            .await?;
            let target = archive.find(wanted.as_deref())?.target.clone();
            let place = Place::Layout { path, archive: Arc::new(archive) };
            return Ok(Seat { place, target, name: text.to_owned() });
        }
        let reference = Reference::parse(text)?.with_default_tag();
        let name = reference.familiar();
        if offline {
            let remembered = Remembered::find(&self.host.store, &reference)?;
            let remembered = remembered.ok_or_else(|| SeatError::Unknown(name.clone()))?;
            let target = remembered.target().clone();
            return Ok(Seat { place: Place::Remembered(remembered), target, name });
        }
        let client = self.host.registry()?.clone();
        let failed = |source| SeatError::Registry { reference: name.clone(), source };
        let fetched = client.fetch_manifest(&reference).await.map_err(failed)?;
        let target = fetched.descriptor;
        let notes = Notes::new(&self.host.store, &reference, &target);
        notes.document(fetched.bytes).await?;
        Ok(Seat { place: Place::Registry { client, reference, notes }, target, name })
    }

    /// Reads all that is said of an image in a registry, so that the store has it; `id` is what it is for `platform`.
    pub(crate) async fn remember_statements(
        &self,
        name: &str,
        platform: &Platform,
        id: ContentDigest,
    ) -> Result<(), SeatError> {
        let seat = self.seat(name, false).await?;
        // The image's own record may be replaced by that of an equal one that was built here, and forget the manifest.
        seat.manifest(platform).await?;
        attached(&seat).await?;
        seat.envelopes().await?;
        seat.remember(Some(id))
    }
}

/// Splits `PATH[:NAME]` where there is something at PATH; a plain word is a name.
fn layout_path(text: &str) -> Option<(PathBuf, Option<String>)> {
    let is_path = |text: &str| text.contains('/') || text == "." || text == ".." || text.ends_with(".tar");
    let (path, name) = path_and_name(text);
    let is_there = is_path(path) && Path::new(path).exists();
    is_there.then(|| (PathBuf::from(path), name.map(str::to_owned)))
}

impl Seat {
    /// Has the store remember what was read, and that `image` is what it is about.
    pub(crate) fn remember(&self, image: Option<ContentDigest>) -> Result<(), SeatError> {
        let Place::Registry { notes, .. } = &self.place else { return Ok(()) };
        image.into_iter().for_each(|id| notes.image(id));
        notes.keep()
    }

    /// Brings the image for a platform into the store, where it gets no name.
    pub(crate) async fn bring(
        &self,
        engine: &Engine,
        platform: &Platform,
        events: &EventSender,
    ) -> Result<StoredImage, RebuildError> {
        let id = match &self.place {
            Place::Layout { archive, .. } => {
                let wanted = self.target.digest.to_string();
                let base =
                    open_archived(archive, Some(&wanted), platform, &self.name).map_err(LookError::from)?;
                base.import(&engine.host, events).await.map_err(LookError::from)?
            }
            Place::Registry { reference, .. } => {
                let pinned = reference.with_digest(self.target.digest);
                engine.fetch_unnamed(&pinned, platform, events).await.map_err(LookError::from)?
            }
            Place::Remembered(_) => {
                self.manifest(platform).await?.ok_or_else(|| self.unread())?.config.digest
            }
        };
        let found = whole(&engine.host.store, &id).map_err(LookError::from)?;
        found.ok_or_else(|| LookError::from(BaseError::Offline(self.name.clone())).into())
    }

    /// Whether it is read without a network.
    pub(crate) fn layout(&self) -> Option<&Arc<ImageArchive>> {
        match &self.place {
            Place::Layout { archive, .. } => Some(archive),
            Place::Registry { .. } | Place::Remembered(_) => None,
        }
    }

    /// Reads a manifest or index, verified.
    pub(crate) async fn document(&self, target: &Descriptor) -> Result<Document, SeatError> {
        match &self.place {
            Place::Layout { archive, .. } => {
                let (archive, target) = (archive.clone(), target.clone());
                Ok(blocking(move || archive.read_document(&target)).await?.0)
            }
            Place::Registry { client, reference, notes } => {
                let fetched = client.fetch_manifest(&reference.with_digest(target.digest)).await;
                let fetched = fetched.map_err(|source| self.failed(source))?;
                notes.document(fetched.bytes).await?;
                Ok(fetched.document)
            }
            Place::Remembered(remembered) => {
                let bytes = remembered.read(target.digest).await?.ok_or_else(|| self.unread())?;
                Ok(Document::parse(&bytes, &target.media_type)?)
            }
        }
    }

    /// Returns the manifest of the image for a platform.
    pub(crate) async fn manifest(&self, platform: &Platform) -> Result<Option<Manifest>, SeatError> {
        let mut document = self.document(&self.target).await?;
        loop {
            let chosen = match document {
                Document::Manifest(manifest) => return Ok(Some(manifest)),
                Document::Index(index) => index.select(platform).cloned(),
            };
            let Some(chosen) = chosen else { return Ok(None) };
            document = self.document(&chosen).await?;
        }
    }

    /// Reads a small blob, verified.
    pub(crate) async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>, SeatError> {
        if blob.size > STATEMENT_SIZE_MAX {
            return Err(SeatError::TooLarge(blob.size));
        }
        match &self.place {
            Place::Layout { archive, .. } => {
                let (archive, blob) = (archive.clone(), blob.clone());
                blocking(move || {
                    let mut bytes = Vec::new();
                    let failed = |source| SeatError::Blob { digest: blob.digest, source };
                    std::io::Read::read_to_end(&mut archive.open_blob(&blob)?, &mut bytes).map_err(failed)?;
                    Ok(bytes)
                })
                .await
            }
            Place::Registry { client, reference, notes } => {
                let fetched =
                    client.fetch_blob(reference, blob).try_fold(Vec::new(), async |mut all, piece| {
                        all.extend_from_slice(&piece);
                        Ok(all)
                    });
                let bytes = fetched.await.map_err(|source| self.failed(source))?;
                notes.document(bytes.clone()).await?;
                Ok(bytes)
            }
            Place::Remembered(remembered) => remembered.read(blob.digest).await?.ok_or_else(|| self.unread()),
        }
    }

    /// Returns the bytes of a blob as its registry sends them; nothing where none is asked.
    pub(crate) fn stream(&self, blob: &Descriptor) -> Option<BlobStream> {
        match &self.place {
            Place::Registry { client, reference, .. } => Some(client.fetch_blob(reference, blob)),
            Place::Layout { .. } | Place::Remembered(_) => None,
        }
    }

    /// Returns the envelopes that are kept beside it.
    pub(crate) async fn envelopes(&self) -> Result<Vec<Vec<u8>>, SeatError> {
        let referrers = match &self.place {
            Place::Layout { archive, .. } => archive.artifacts().to_vec(),
            Place::Registry { client, reference, notes } => {
                let listed = client.referrers(reference, &self.target.digest).await;
                let listed = listed.map_err(|source| self.failed(source))?;
                notes.referrers(&listed);
                listed
            }
            Place::Remembered(remembered) => remembered.referrers().ok_or_else(|| self.unread())?.to_vec(),
        };
        let mut envelopes = Vec::new();
        for referrer in referrers.iter().filter(|referrer| referrer.artifact_type == ENVELOPE) {
            let Document::Manifest(manifest) = self.document(referrer).await? else { continue };
            let speaks =
                manifest.subject.as_ref().is_some_and(|subject| subject.digest == self.target.digest);
            for layer in manifest.layers.iter().filter(|_| speaks) {
                envelopes.push(self.blob(layer).await?);
            }
        }
        Ok(envelopes)
    }

    /// Keeps an envelope beside it; returns the digest of the manifest it is kept in.
    pub(crate) async fn keep(&self, envelope: &Envelope, kind: &str) -> Result<ContentDigest, SeatError> {
        let (bytes, empty) = (envelope.to_bytes(), b"{}".to_vec());
        let mut layer = Descriptor::of(MediaType::parse(ENVELOPE), &bytes);
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), kind.to_owned());
        let config = Descriptor::of(MediaType::parse(EMPTY), &empty);
        let mut manifest = Manifest::new(Dialect::Oci, config.clone(), vec![layer.clone()]);
        ENVELOPE.clone_into(&mut manifest.artifact_type);
        manifest.subject =
            Some(Descriptor::new(self.target.media_type.clone(), self.target.digest, self.target.size));
        manifest.annotations.insert(PREDICATE_TYPE.to_owned(), kind.to_owned());
        let mut described = manifest.descriptor();
        ENVELOPE.clone_into(&mut described.artifact_type);
        described.annotations = manifest.annotations.clone();
        let digest = described.digest;
        match &self.place {
            Place::Layout { path, .. } => {
                if path.is_file() {
                    return Err(SeatError::File(path.clone()));
                }
                let (path, documents) = (path.clone(), [bytes, empty, manifest.to_bytes()]);
                blocking(move || add_to_layout(&path, described, documents)).await?;
            }
            Place::Remembered(_) => unreachable!("nothing is signed without a network"),
            Place::Registry { client, reference, .. } => {
                for (blob, content) in [(&layer, bytes), (&config, empty)] {
                    let pushed = client.push_blob(reference, blob, &Bytes::from(content)).await;
                    pushed.map_err(|source| self.failed(source))?;
                }
                self.push(client, reference, described, manifest.to_bytes())
                    .await
                    .map_err(|source| self.failed(source))?;
            }
        }
        Ok(digest)
    }

    async fn push(
        &self,
        client: &RegistryClient,
        reference: &Reference,
        described: Descriptor,
        bytes: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let untagged = Reference::parse(&reference.name()).expect("the name of a reference is one");
        client.push_manifest(&untagged.with_digest(described.digest), &described, Bytes::from(bytes)).await?;
        let mut known = client.referrers(reference, &self.target.digest).await?;
        if known.iter().any(|found| found.digest == described.digest) {
            return Ok(());
        }
        // This registry keeps no list, so it is kept for it.
        known.push(described);
        let index = Index::new(Dialect::Oci, known);
        let tag = reference.with_tag(&format!("sha256-{}", self.target.digest.hex()));
        let tag = tag.expect("hexadecimal digits make a tag");
        client.push_manifest(&tag, &index.descriptor(), Bytes::from(index.to_bytes())).await
    }

    fn unread(&self) -> SeatError {
        SeatError::Unread(self.name.clone())
    }

    pub(super) fn failed(&self, source: RegistryError) -> SeatError {
        SeatError::Registry { reference: self.name.clone(), source }
    }
}

fn add_to_layout(path: &Path, target: Descriptor, documents: [Vec<u8>; 3]) -> Result<(), SeatError> {
    let mut source = WithDocuments::new(&Nothing);
    for document in documents {
        source.add(document);
    }
    let images = [NamedImage { target, names: Vec::new() }];
    write_layout_directory(path, &images, &source)
        .map_err(|source| SeatError::Write { path: path.to_owned(), source })
}

/// There are no blobs but those that are written.
struct Nothing;

impl BlobSource for Nothing {
    fn write_to(&self, _: &Descriptor, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
