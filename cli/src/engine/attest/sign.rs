//! `mica attest`: signs what is said of an image, and keeps it beside the image.

use std::path::PathBuf;

use mica_image::{ContentDigest, Descriptor, Document};
use serde_json::Value;

use super::envelope::Envelope;
use super::key::{KeyError, SigningKey};
use super::manifest::{IN_TOTO, is_attestation};
use super::seat::{Seat, SeatError};
use super::statement::{Statement, Subject};
use crate::engine::Engine;

/// What is to be signed.
#[derive(Debug)]
pub(crate) struct SignRequest {
    /// The image: a layout, or a name in a registry.
    pub image: String,
    /// The private key.
    pub key: PathBuf,
    /// A statement of one's own: its type and content.
    pub predicate: Option<(String, Value)>,
}

/// A statement that was signed.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Its type.
    pub kind: String,
    /// The manifest it is kept in.
    pub manifest: ContentDigest,
}

/// Nothing could be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The image, or the place of statements.
    #[error(transparent)]
    Seat(#[from] SeatError),
    /// Nothing is said of the image yet.
    #[error("nothing is said of `{0}` that could be signed")]
    Nothing(String),
    /// What is said is no statement.
    #[error("what is said of `{image}` in {digest} is no statement about it")]
    NoStatement {
        /// The image.
        image: String,
        /// The blob.
        digest: ContentDigest,
    },
}

impl SignError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Key(error) => error.hint(),
            Self::Seat(error) => error.hint(),
            Self::Nothing(_) => Some(
                "build it with `--provenance=true` or `--sbom=true`, or give `--type` and `--predicate`"
                    .to_owned(),
            ),
            Self::NoStatement { .. } => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Seat(error) if error.is_unavailable())
    }
}

impl Engine {
    /// Signs the statements that are attached to an image, or one that is given.
    pub(crate) async fn sign(&self, request: &SignRequest) -> Result<Vec<Signed>, SignError> {
        let key = SigningKey::read(&request.key)?;
        let seat = self.seat(&request.image, false).await?;
        let statements = match &request.predicate {
            Some((kind, value)) => {
                vec![Statement { subject: vec![top(&seat)], ..Statement::bare(kind, value.clone()) }]
            }
            None => {
                let attached = attached(&seat).await?;
                if let Some(foreign) = attached.iter().find(|attached| !attached.fits()) {
                    return Err(SignError::NoStatement { image: seat.name.clone(), digest: foreign.blob });
                }
                attached.into_iter().map(|attached| attached.statement).collect()
            }
        };
        if statements.is_empty() {
            return Err(SignError::Nothing(request.image.clone()));
        }
        let mut signed = Vec::new();
        for mut statement in statements {
            // The name stands for all of it, and that is what is verified.
            if !statement.speaks_of(&seat.target.digest) {
                statement.subject.push(top(&seat));
            }
            let envelope = Envelope::seal(&statement, &key)?;
            let manifest = seat.keep(&envelope, &statement.predicate_type).await?;
            signed.push(Signed { kind: statement.predicate_type, manifest });
        }
        // What was remembered of it lacks these.
        seat.envelopes().await?;
        seat.remember(None)?;
        Ok(signed)
    }
}

fn top(seat: &Seat) -> Subject {
    let digest = [("sha256".to_owned(), seat.target.digest.hex())].into_iter().collect();
    Subject { name: seat.name.clone(), digest }
}

/// A statement in the index of an image.
pub(crate) struct Attached {
    /// The statement.
    pub statement: Statement,
    /// The blob it is in.
    pub blob: ContentDigest,
    /// The manifest in the index that it is attached to.
    pub manifest: Descriptor,
}

impl Attached {
    /// Whether it speaks of the manifest it is attached to.
    pub(crate) fn fits(&self) -> bool {
        self.statement.speaks_of(&self.manifest.digest)
    }
}

/// Reads the statements that are attached to the images of an index.
///
/// One that names a manifest the index does not have is taken for the only image's, if there is only one.
pub(crate) async fn attached(seat: &Seat) -> Result<Vec<Attached>, SeatError> {
    let Document::Index(index) = seat.document(&seat.target).await? else { return Ok(Vec::new()) };
    let (said, images): (Vec<_>, Vec<_>) =
        index.manifests.iter().partition(|entry| is_attestation(entry, None));
    let mut found = Vec::new();
    for entry in said {
        let named = images.iter().find(|image| is_attestation(entry, Some(&image.digest)));
        let only = images.first().filter(|_| images.len() == 1);
        let Some(image) = named.or(only) else { continue };
        let Document::Manifest(manifest) = seat.document(entry).await? else { continue };
        for layer in manifest.layers.iter().filter(|layer| layer.media_type.as_str() == IN_TOTO) {
            // What is no statement says nothing.
            if let Ok(statement) = serde_json::from_slice(&seat.blob(layer).await?) {
                found.push(Attached { statement, blob: layer.digest, manifest: (*image).clone() });
            }
        }
    }
    Ok(found)
}
