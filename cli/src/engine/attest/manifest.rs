//! Attestations of an image as the reference attaches them: a manifest beside the image's in the index, whose layers are statements.
//!
//! ```text
//! index
//! ├ manifest       linux/amd64
//! └ manifest       unknown/unknown
//!   │              vnd.docker.reference.type = attestation-manifest
//!   │              vnd.docker.reference.digest = the image's manifest
//!   └ layers       application/vnd.in-toto+json, in-toto.io/predicate-type = …
//! ```

use mica_image::{ContentDigest, Descriptor, Dialect, Manifest, MediaType, Platform};
use serde_json::json;

use super::statement::Statement;

/// The annotation that tells what a manifest of an index is.
pub(crate) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The annotation that tells which manifest it speaks of.
pub(crate) const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// The annotation of a layer that tells what kind of statement it is.
pub(crate) const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The value of [`REFERENCE_TYPE`].
pub(crate) const ATTESTATION: &str = "attestation-manifest";
/// The media type of statements.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A manifest of statements with all it consists of.
#[derive(Debug, Clone)]
pub(crate) struct AttestationManifest {
    /// Its entry in an index.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its config and layers.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

impl AttestationManifest {
    /// Puts statements about the manifest `image` together.
    pub(crate) fn new(statements: &[Statement], image: ContentDigest) -> Self {
        let mut blobs = Vec::new();
        let mut layers = Vec::new();
        for statement in statements {
            let bytes = statement.to_bytes();
            let mut layer = Descriptor::of(MediaType::parse(IN_TOTO), &bytes);
            layer.annotations.insert(PREDICATE_TYPE.to_owned(), statement.predicate_type.clone());
            blobs.push((layer.clone(), bytes));
            layers.push(layer);
        }
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
        let config = json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let described = Descriptor::of(MediaType::OCI_CONFIG, &config);
        blobs.push((described.clone(), config));
        let manifest = Manifest::new(Dialect::Oci, described, layers);
        let mut descriptor = manifest.descriptor();
        descriptor.platform = Some(Platform::new("unknown", "unknown", ""));
        descriptor.annotations.insert(REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned());
        descriptor.annotations.insert(REFERENCE_DIGEST.to_owned(), image.to_string());
        Self { descriptor, bytes: manifest.to_bytes(), blobs }
    }
}

/// Whether an entry of an index is an attestation, of `image` if that is given.
pub(crate) fn is_attestation(entry: &Descriptor, image: Option<&ContentDigest>) -> bool {
    let speaks = |image: &ContentDigest| {
        entry.annotations.get(REFERENCE_DIGEST).is_some_and(|digest| *digest == image.to_string())
    };
    entry.annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == ATTESTATION) && image.is_none_or(speaks)
}
