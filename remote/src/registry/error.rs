//! What registries refuse and what goes wrong on the way, in words a person can act on.

use std::io;

use mica_image::manifest::InvalidManifest;
use mica_image::{BlobMismatch, ContentDigest, Platform};
use reqwest::{Method, StatusCode};

use super::keychain::KeychainError;
use crate::transport::TransportError;

/// A registry that could not be set up, or a request to one that failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Credentials could not be had.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// The name of a registry, or the address of a mirror, is no address.
    #[error("`{text}` is not the address of a registry")]
    Address {
        /// As it was given.
        text: String,
    },
    /// The registry wants other credentials, or any.
    #[error("the registry denied access to {subject}{}", credentials_note(*.had_credentials))]
    Denied {
        /// What was asked for.
        subject: String,
        /// The registry.
        registry: String,
        /// Whether there were credentials to show.
        had_credentials: bool,
    },
    /// There is no such image, manifest or blob.
    #[error("{subject} was not found in the registry")]
    NotFound {
        /// What was asked for.
        subject: String,
    },
    /// There is such an image, but not for this platform.
    #[error("{reference} has no image for {wanted}; it has: {}", list(available))]
    NoSuchPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// The registry answered with an error.
    #[error("{method} {subject} failed: {host} answered {status}{}", message_note(message))]
    Status {
        /// What was done.
        method: Method,
        /// What it was done to.
        subject: String,
        /// The host.
        host: String,
        /// The answer.
        status: StatusCode,
        /// What the registry had to say; may be empty.
        message: String,
    },
    /// The registry's answer does not follow the specification.
    #[error("the answer of {host} is not valid: {what}")]
    Protocol {
        /// The host.
        host: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A token could not be had.
    #[error("the token server {host} answered {what}")]
    Token {
        /// The token server.
        host: String,
        /// What it answered.
        what: String,
    },
    /// Credentials would have been sent in the clear.
    #[error("the registry {registry} asks to send its credentials to {host} without encryption")]
    InsecureTokenServer {
        /// The registry.
        registry: String,
        /// The token server.
        host: String,
    },
    /// A manifest is not valid.
    #[error("the manifest of {reference} is not valid")]
    Manifest {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// A manifest is not the one that was asked for.
    #[error("the manifest of {reference} has the digest {actual} instead of {expected}")]
    ManifestDigest {
        /// The image.
        reference: String,
        /// What was asked for, or what the registry claimed.
        expected: ContentDigest,
        /// What came.
        actual: ContentDigest,
    },
    /// Indexes are nested too deeply.
    #[error("{reference} is an index of indexes, nested too deeply")]
    Nesting {
        /// The image.
        reference: String,
    },
    /// A blob is not the one that was asked for.
    #[error("the registry {registry} delivered wrong content")]
    Blob {
        /// The registry.
        registry: String,
        /// What is wrong.
        #[source]
        source: BlobMismatch,
    },
    /// A blob could not be fetched in full.
    #[error(
        "blob {digest} could not be fetched: the connection broke {failures} times, the last time after {received} bytes"
    )]
    Interrupted {
        /// The blob.
        digest: ContentDigest,
        /// How many bytes came in all.
        received: u64,
        /// How often it was tried.
        failures: u32,
    },
    /// The content to push could not be read.
    #[error("cannot read blob {digest} to push it")]
    Content {
        /// The blob.
        digest: ContentDigest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// Returns what the person could do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Transport(error) => return error.hint(),
            Self::Denied { registry, had_credentials: false, .. } => format!(
                "check the name, as registries hide what one may not see; if it is right, log in: `mica login {registry}`"
            ),
            Self::Denied { registry, .. } => format!(
                "the credentials for {registry} may be wrong, out of date, or not allowed to do this; also check the name"
            ),
            Self::NotFound { .. } => "check the spelling of the name and the tag".to_owned(),
            Self::NoSuchPlatform { .. } => "ask for one of these with `--platform`".to_owned(),
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                "the registry limits requests: log in, use a mirror, or try again later".to_owned()
            }
            Self::Status { status, .. } if status.is_server_error() => {
                "the registry has a problem of its own; try again later".to_owned()
            }
            _ => return None,
        })
    }
}

fn credentials_note(had_credentials: bool) -> &'static str {
    if had_credentials { " with the credentials it was given" } else { "" }
}

fn message_note(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none that says what it is for".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
