//! `mica verify --key`: who says what of an image, and whether the image is still what it was said of.

use std::path::Path;

use mica_image::archive::ImageArchive;
use mica_image::{ContentDigest, Descriptor, Document};

use super::envelope::Envelope;
use super::key::{KeyError, VerifyingKey};
use super::seat::{Seat, SeatError};
use super::statement::Statement;
use crate::engine::blocking::blocking;
use crate::engine::{Engine, chain};

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
    pub(crate) async fn verify(
        &self,
        image: &str,
        key: &Path,
        offline: bool,
    ) -> Result<Verified, VerifyError> {
        let key = VerifyingKey::read(key)?;
        let seat = self.seat(image, offline).await?;
        let mut verified = Verified::default();
        if let Some(archive) = seat.layout() {
            let (archive, target) = (archive.clone(), seat.target.clone());
            let (altered, blobs) = blocking(move || content(&archive, &target)).await;
            verified.problems = altered.iter().map(Altered::to_string).collect();
            verified.blobs = blobs;
            if !verified.problems.is_empty() {
                return Ok(verified);
            }
        }
        signatures(&seat, &key, &mut verified).await?;
        seat.remember(None)?;
        Ok(verified)
    }
}

/// Sorts what is kept beside an image into what the key says and why the rest does not count.
async fn signatures(seat: &Seat, key: &VerifyingKey, verified: &mut Verified) -> Result<(), VerifyError> {
    let mut distrusted = Vec::new();
    let envelopes = match seat.envelopes().await {
        Err(error @ (SeatError::Blob { .. } | SeatError::Archive(_))) => {
            verified.problems.push(format!("a signed statement: {}", chain(&error)));
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

/// A blob of a layout that is not what its digest says.
#[derive(Debug, Clone)]
pub(super) struct Altered {
    /// The digest it is named by.
    pub(super) digest: ContentDigest,
    /// What it is of the image.
    what: String,
    /// What is wrong.
    pub(super) why: String,
}

impl std::fmt::Display for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.digest, self.why)
    }
}

/// Reads all that a layout has of an image; returns what is not what its digest says, and how much was read.
pub(super) fn content(archive: &ImageArchive, target: &Descriptor) -> (Vec<Altered>, usize) {
    let mut altered = Vec::new();
    let mut read = 0;
    let mut open = vec![(target.clone(), "what its name stands for".to_owned())];
    while let Some((at, what)) = open.pop() {
        let document = match archive.read_document(&at) {
            Ok((document, _)) => document,
            Err(error) => {
                altered.push(Altered { digest: at.digest, what, why: chain(&error) });
                continue;
            }
        };
        read += 1;
        match document {
            Document::Index(index) => open.extend(index.manifests.into_iter().rev().map(|entry| {
                let platform = entry.platform.as_ref().map(ToString::to_string);
                let platform = platform.unwrap_or_else(|| "an entry".to_owned());
                (entry, format!("the manifest of {platform}"))
            })),
            Document::Manifest(manifest) => {
                let layers = manifest.layers.iter().enumerate();
                let layers = layers.map(|(number, layer)| (layer, format!("layer {} of {what}", number + 1)));
                let config = (&manifest.config, format!("the config of {what}"));
                for (blob, what) in std::iter::once(config).chain(layers) {
                    match verify_blob(archive, blob) {
                        Ok(()) => read += 1,
                        Err(why) => altered.push(Altered { digest: blob.digest, what, why }),
                    }
                }
            }
        }
    }
    (altered, read)
}

fn verify_blob(archive: &ImageArchive, blob: &Descriptor) -> Result<(), String> {
    if blob.media_type.is_foreign() {
        return Ok(());
    }
    let mut content = archive.open_blob(blob).map_err(|error| chain(&error))?;
    std::io::copy(&mut content, &mut std::io::sink()).map(drop).map_err(|error| error.to_string())
}
