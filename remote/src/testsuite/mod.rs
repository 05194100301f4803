//! Servers for tests: a small HTTP server on this machine, and a registry on top of it that can be made to misbehave.

mod registry;
mod server;

use std::time::Duration;

pub(crate) use registry::{Access, Fault, TestRegistry};
pub(crate) use server::{Reply, Request, TestServer};

use crate::transport::{RetryPolicy, Transport, TransportOptions};

/// Returns a transport that tries again at once, so that tests do not wait.
pub(crate) fn hasty_transport() -> Transport {
    let retry = RetryPolicy { attempts: 4, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };
    let options =
        TransportOptions { idle_timeout: Duration::from_secs(10), retry, ..TransportOptions::default() };
    Transport::new(&options).unwrap()
}
