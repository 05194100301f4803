//! The client side of the OCI distribution specification: pulling, pushing and listing.
//!
//! ```text
//! RegistryClient ─ endpoint   which server a registry's name means, mirrors first
//!                ├ authority  the Authorization header a request needs (challenge → credentials → token)
//!                ├ manifest   names to documents, verified
//!                ├ blob       content as a verified stream that survives cut connections
//!                ├ push       the way back
//!                └ list       tags and referrers
//! ```
//!
//! It never decides what to fetch, and never asks a server whether it is one.

mod authority;
mod blob;
mod challenge;
mod client;
mod docker_config;
mod endpoint;
mod error;
mod keychain;
mod list;
mod manifest;
mod push;
#[cfg(test)]
mod tests;
mod upload;

pub use blob::BlobStream;
pub use client::{RegistryClient, RegistryOptions};
pub use docker_config::{DockerConfig, helper_erase_input, helper_store_input};
pub use error::RegistryError;
pub use keychain::{Credentials, HelperAnswer, HelperCommand, Keychain, KeychainError};
pub use manifest::{FetchedManifest, PlatformImage};
pub use push::{BlobContent, ContentStream, OpeningContent};
