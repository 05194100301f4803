//! The network of a step: a helper that carries packets between its namespace and the host's ordinary sockets, and
//! the two files every program reads.
//!
//! Either helper leaves the host's settings alone, needs `/dev/net/tun` only, and is told to keep the host's loopback
//! interface out of reach. Both answer names at the same address, so that a step sees the same `/etc/resolv.conf`
//! whichever there is.

mod files;
mod helper;

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::Pid;
use thiserror::Error;

use crate::cancel::Cancel;
use crate::outside::Outside;
pub(crate) use files::{hosts, resolv_conf};
use helper::Kind;

/// Gives network namespaces a way out.
#[derive(Debug)]
pub(crate) struct Network {
    outside: Outside,
    /// Set once pasta was found not to work here, so that later steps do not try again.
    without_pasta: AtomicBool,
}

/// Why a step has no network.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// No helper could work here.
    #[error("no network for the step: {0}; or use the host's network with `--network=host`")]
    NoTun(String),
    /// No helper works here.
    #[error(
        "no network for the step: {reasons}; install the package `passt` or `slirp4netns`, \
         or use the host's network with `--network=host`"
    )]
    NoHelper {
        /// What was tried and how it failed.
        reasons: String,
    },
    /// Cancellation was asked for.
    #[error("cancelled")]
    Cancelled,
}

/// A network that lasts until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Connection {
    _helper: helper::Running,
}

impl Network {
    pub(crate) fn new(outside: Outside) -> Network {
        Network { outside, without_pasta: AtomicBool::new(false) }
    }

    /// Connects the network namespace of a process and returns when it is configured.
    pub(crate) fn connect(&self, pid: Pid, cancel: &Cancel) -> Result<Connection, NetworkError> {
        tun_problem().map_or(Ok(()), |reason| Err(NetworkError::NoTun(reason)))?;
        let mut reasons = Vec::new();
        for kind in [Kind::Pasta, Kind::Slirp4netns] {
            if kind == Kind::Pasta && self.without_pasta.load(Ordering::Relaxed) {
                reasons.push("pasta does not work here".to_owned());
                continue;
            }
            match helper::start(kind, &self.outside, pid, cancel) {
                Ok(helper) => return Ok(Connection { _helper: helper }),
                Err(helper::Failed::Cancelled) => return Err(NetworkError::Cancelled),
                Err(helper::Failed::Because(reason)) => {
                    tracing::debug!(helper = kind.program(), reason, "a network helper does not work");
                    // A step that could not be set up takes its helper with it, which says nothing of the helper.
                    self.without_pasta.fetch_or(kind == Kind::Pasta && has_network(pid), Ordering::Relaxed);
                    reasons.push(reason);
                }
            }
        }
        Err(NetworkError::NoHelper { reasons: reasons.join("; ") })
    }
}

/// Returns whether a process still has a network namespace; a dead one has not.
fn has_network(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{}/ns/net", pid.as_raw_nonzero())).is_ok()
}

/// Returns what is wrong with the device through which helpers carry packets, and how to mend it.
pub(crate) fn tun_problem() -> Option<String> {
    let path = "/dev/net/tun";
    match access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => None,
        Err(Errno::NOENT) => Some(format!("there is no `{path}`; load it with `modprobe tun`")),
        Err(error) => Some(format!("`{path}` may not be opened ({error}); allow it with `chmod 666 {path}`")),
    }
}
