//! The documents of an export: a manifest for each image, an index over several, and what is annotated on them.

use mica_cache::Store;
use mica_image::manifest::MANIFEST_SIZE_MAX;
use mica_image::{
    Descriptor, Dialect, Document, Index, LayerCompression, Manifest, MediaType, Platform, Reference,
};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::blobs::{Codec, StoreBlobs};
use super::{OutputError, StoredImage};
use crate::engine::attest::manifest::AttestationManifest;
use crate::engine::attest::statement::Statement;
use crate::engine::request::{Annotated, Packing};

/// A manifest or index with its bytes.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// What it is.
    pub(super) descriptor: Descriptor,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// Makes the manifests of all images, with their layers compressed, in order.
pub(super) fn manifests(
    store: &Store,
    blobs: &StoreBlobs,
    images: &[StoredImage],
    packing: &Packing,
    usual: LayerCompression,
) -> Result<Vec<Packed>, OutputError> {
    let codec = Codec::of(packing, usual);
    let dialect = packing.dialect.unwrap_or(Dialect::Oci);
    let pack = |image: &StoredImage| match pulled(store, image, packing)? {
        Some((packed, _)) => Ok(packed),
        None => {
            let layer = |layer| blobs.layer(layer, dialect, codec, packing.force);
            let layers = image.tree.par_iter().map(layer).collect::<Result<_, _>>()?;
            manifest(store, image, layers, packing)
        }
    };
    images.iter().map(pack).collect()
}

/// Returns the manifest an image was pulled with, if all it names is still here and nothing else is asked for: then it goes out under
/// the same digest.
pub(super) fn pulled(
    store: &Store,
    image: &StoredImage,
    packing: &Packing,
) -> Result<Option<(Packed, Manifest)>, OutputError> {
    let blobs = store.blobs();
    let Some(digest) = image.manifest else { return Ok(None) };
    if !blobs.has(&digest)? {
        return Ok(None);
    }
    let bytes = blobs.read(&digest, MANIFEST_SIZE_MAX)?;
    let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, &MediaType::default()) else {
        return Ok(None);
    };
    for layer in &manifest.layers {
        if !blobs.has(&layer.digest)? {
            return Ok(None);
        }
    }
    if !suits(&manifest, image, packing) {
        return Ok(None);
    }
    let mut descriptor = Descriptor::of(manifest.media_type.clone(), &bytes);
    if descriptor.media_type.is_empty() {
        descriptor.media_type = MediaType::OCI_MANIFEST;
    }
    describe(&mut descriptor, image, packing);
    Ok(Some((Packed { descriptor, bytes }, manifest)))
}

/// Whether a manifest is already as it is asked for.
fn suits(manifest: &Manifest, image: &StoredImage, packing: &Packing) -> bool {
    let dialect_suits =
        packing.dialect.is_none_or(|dialect| manifest.media_type == MediaType::manifest(dialect));
    let wanted = packing.compression.filter(|_| packing.force);
    let layers_suit = wanted.is_none_or(|wanted| {
        manifest.layers.iter().all(|layer| layer.media_type.layer_compression() == Some(wanted))
    });
    let annotated = annotations(packing, Annotated::Manifest, Some(&image.platform)).next().is_some();
    dialect_suits && layers_suit && !annotated
}

/// Makes the manifest of one image.
pub(super) fn manifest(
    store: &Store,
    image: &StoredImage,
    layers: Vec<Descriptor>,
    packing: &Packing,
) -> Result<Packed, OutputError> {
    let dialect = packing.dialect.unwrap_or(Dialect::Oci);
    let config_size = store.blobs().size(&image.id)?.unwrap_or(0);
    let config = Descriptor::new(MediaType::config(dialect), image.id, config_size);
    let mut manifest = Manifest::new(dialect, config, layers);
    manifest.annotations.extend(annotations(packing, Annotated::Manifest, Some(&image.platform)));
    let mut descriptor = manifest.descriptor();
    describe(&mut descriptor, image, packing);
    Ok(Packed { descriptor, bytes: manifest.to_bytes() })
}

fn describe(descriptor: &mut Descriptor, image: &StoredImage, packing: &Packing) {
    descriptor.platform = Some(image.platform.clone());
    let added = annotations(packing, Annotated::ManifestDescriptor, Some(&image.platform));
    descriptor.annotations.extend(added);
}

/// A manifest of statements, with the blobs it names.
#[derive(Debug, Clone)]
pub(super) struct Attestation {
    /// The manifest.
    pub(super) document: Packed,
    /// Its config and layers, which are in the store.
    pub(super) blobs: Vec<Descriptor>,
}

/// Makes a manifest of what is said of each image that something is said of.
pub(super) fn attestations(
    store: &Store,
    images: &[StoredImage],
    manifests: &[Packed],
    names: &[Reference],
) -> Result<Vec<Attestation>, OutputError> {
    let mut made = Vec::new();
    for (image, manifest) in images.iter().zip(manifests).filter(|(image, _)| !image.said.is_empty()) {
        let digest = manifest.descriptor.digest;
        let statement = |said| Statement::of(said, names, &image.platform, &digest);
        let statements: Vec<Statement> = image.said.iter().map(statement).collect();
        let AttestationManifest { descriptor, bytes, blobs } = AttestationManifest::new(&statements, digest);
        let mut kept = Vec::new();
        for (blob, bytes) in blobs {
            store.blobs().put(&bytes)?;
            kept.push(blob);
        }
        made.push(Attestation { document: Packed { descriptor, bytes }, blobs: kept });
    }
    Ok(made)
}

/// Returns what the names of an export stand for: the only manifest, or an index over several, which has to be written too.
pub(super) fn target(
    manifests: &[Packed],
    attestations: &[Attestation],
    packing: &Packing,
) -> Result<(Descriptor, Option<Packed>), OutputError> {
    if let ([only], []) = (manifests, attestations) {
        let about_an_index = |subject| matches!(subject, Annotated::Index | Annotated::IndexDescriptor);
        return match packing.annotations.iter().find(|annotation| about_an_index(annotation.subject)) {
            Some(annotation) => Err(OutputError::NoIndex { key: annotation.key.clone() }),
            None => Ok((Descriptor { platform: None, ..only.descriptor.clone() }, None)),
        };
    }
    let dialect = packing.dialect.unwrap_or(Dialect::Oci);
    let said = attestations.iter().map(|attestation| &attestation.document);
    let entries = manifests.iter().chain(said).map(|manifest| manifest.descriptor.clone()).collect();
    let mut index = Index::new(dialect, entries);
    index.annotations.extend(annotations(packing, Annotated::Index, None));
    let mut descriptor = index.descriptor();
    descriptor.annotations.extend(annotations(packing, Annotated::IndexDescriptor, None));
    Ok((descriptor.clone(), Some(Packed { descriptor, bytes: index.to_bytes() })))
}

fn annotations<'a>(
    packing: &'a Packing,
    subject: Annotated,
    platform: Option<&'a Platform>,
) -> impl Iterator<Item = (String, String)> + 'a {
    packing
        .annotations
        .iter()
        .filter(move |found| found.subject == subject)
        .filter(move |found| found.platform.is_none() || found.platform.as_ref() == platform)
        .map(|found| (found.key.clone(), found.value.clone()))
}
