//! `mica verify --key`: who says what of an image, and whether the image is still what it was said of.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use mica_image::archive::ImageArchive;
use mica_image::{Descriptor, Document};

use super::envelope::Envelope;
use super::key::{KeyError, VerifyingKey};
use super::seat::{Seat, SeatError};
use super::statement::Statement;
use crate::engine::Engine;
use crate::engine::blocking::blocking;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// What the key says of the image.
    pub statements: Vec<Statement>,
    /// What does not match, in words.
    pub problems: Vec<String>,
    /// How many blobs were read and are what their digests say; those of a registry are verified when they are pulled.
    pub blobs: usize,
}

impl Verified {
    /// Whether the key vouches for the image, and the image is what it was said of.
    pub(crate) fn is_good(&self) -> bool {
        !self.statements.is_empty() && self.problems.is_empty()
    }
}

/// It could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The image, or what is said of it.
    #[error(transparent)]
    Seat(#[from] SeatError),
}

impl VerifyError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Key(error) => error.hint(),
            Self::Seat(error) => error.hint(),
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Seat(error) if error.is_unavailable())
    }
}

impl Engine {
    /// Verifies that a key vouches for an image. A layout is read whole, and no network is asked about it.
    pub(crate) async fn verify(&self, image: &str, key: &Path) -> Result<Verified, VerifyError> {
        let key = VerifyingKey::read(key)?;
        let seat = self.seat(image).await?;
        let mut verified = Verified::default();
        if let Some(archive) = seat.layout() {
            let (archive, target) = (archive.clone(), seat.target.clone());
            let (problems, blobs) = blocking(move || content(&archive, &target)).await;
            (verified.problems, verified.blobs) = (problems, blobs);
            if !verified.problems.is_empty() {
                return Ok(verified);
            }
        }
        signatures(&seat, &key, &mut verified).await?;
        Ok(verified)
    }
}

/// Sorts what is kept beside an image into what the key says and why the rest does not count.
async fn signatures(seat: &Seat, key: &VerifyingKey, verified: &mut Verified) -> Result<(), VerifyError> {
    let mut distrusted = Vec::new();
    let envelopes = match seat.envelopes().await {
        Err(error @ (SeatError::Blob { .. } | SeatError::Archive(_))) => {
            verified.problems.push(format!("a signed statement: {}", crate::engine::chain(&error)));
            return Ok(());
        }
        envelopes => envelopes?,
    };
    for bytes in &envelopes {
        match Envelope::open(bytes, key, &seat.target.digest) {
            Ok(statement) => verified.statements.push(statement),
            Err(why) => distrusted.push(why),
        }
    }
    if envelopes.is_empty() {
        verified.problems.push("nothing signed is kept beside it".to_owned());
    } else if verified.statements.is_empty() {
        verified.problems.extend(distrusted.iter().map(|why| format!("a signed statement: {why}")));
    } else {
        // What others signed is theirs; what claims to be this key's and is not, is not.
        let forged = distrusted.iter().filter(|why| matches!(why, super::envelope::Distrust::Signature));
        verified.problems.extend(forged.map(|why| format!("a signed statement: {why}")));
    }
    Ok(())
}

/// Reads all that a layout has of an image; returns what is not what its digest says, and how much was read.
fn content(archive: &Arc<ImageArchive>, target: &Descriptor) -> (Vec<String>, usize) {
    let mut problems = Vec::new();
    let mut read = 0;
    let mut open = vec![(target.clone(), "what its name stands for".to_owned())];
    while let Some((at, what)) = open.pop() {
        let document = match archive.read_document(&at) {
            Ok((document, _)) => document,
            Err(error) => {
                problems.push(format!("{what} ({}): {}", at.digest, crate::engine::chain(&error)));
                continue;
            }
        };
        read += 1;
        match document {
            Document::Index(index) => open.extend(index.manifests.into_iter().rev().map(|entry| {
                let platform =
                    entry.platform.as_ref().map_or_else(|| "an entry".to_owned(), ToString::to_string);
                (entry, format!("the manifest of {platform}"))
            })),
            Document::Manifest(manifest) => {
                let layers = manifest.layers.iter().enumerate();
                let layers = layers.map(|(number, layer)| (layer, format!("layer {} of {what}", number + 1)));
                let config = (&manifest.config, format!("the config of {what}"));
                for (blob, name) in std::iter::once(config).chain(layers) {
                    match verify_blob(archive, blob) {
                        Ok(()) => read += 1,
                        Err(why) => problems.push(format!("{name} ({}): {why}", blob.digest)),
                    }
                }
            }
        }
    }
    (problems, read)
}

fn verify_blob(archive: &ImageArchive, blob: &Descriptor) -> Result<(), String> {
    if blob.media_type.is_foreign() {
        return Ok(());
    }
    let mut content = archive.open_blob(blob).map_err(|error| crate::engine::chain(&error))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
