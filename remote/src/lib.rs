//! Everything that speaks to the network: registries, HTTP servers, git repositories.
//!
//! This crate fetches and sends what it is told to and decides nothing. It reads no environment variables and no
//! configuration files: credentials, proxies and certificates are handed to it.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod daemon;
mod disposition;
pub mod git;
pub mod http;
mod once;
pub mod registry;
#[cfg(test)]
mod testsuite;
pub mod transport;

pub use bucket::{Bucket, BucketError, BucketOptions};
pub use daemon::{Daemon, DaemonAddress, DaemonError};
pub use registry::{RegistryClient, RegistryError, RegistryOptions};
pub use transport::{Secret, Transport, TransportError, TransportOptions};
