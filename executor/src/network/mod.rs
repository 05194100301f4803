//! The network of a step: a helper that carries packets between its namespace and the host's ordinary sockets, and
//! the two files every program reads.
//!
//! Either helper leaves the host's settings alone, needs `/dev/net/tun` only, and is told to keep the host's loopback
//! interface out of reach. Both answer names at the same address, so that a step sees the same `/etc/resolv.conf`
//! whichever there is.

//!
//! A namespace is made and configured before its step starts, and from a build's second step on while the step before is at work:
//! that takes longer than the rest of a step's start.

mod files;
mod helper;
mod namespace;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use thiserror::Error;

use crate::cancel::Cancel;
use crate::outside::Outside;
pub(crate) use files::{hosts, resolv_conf};
pub(crate) use namespace::Connection;
use namespace::{Made, Ways};

/// How often a step that waits for its network looks whether it is cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// Gives steps networks.
#[derive(Debug)]
pub(crate) struct Network {
    ways: Arc<Ways>,
    spare: Mutex<Spare>,
}

/// A network that is made before anybody asks for it.
#[derive(Debug, Default)]
struct Spare {
    /// Whether a step has had a network: then others may follow.
    asked: bool,
    next: Option<Receiver<Made>>,
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

impl Network {
    pub(crate) fn new(outside: Outside) -> Network {
        Network { ways: Arc::new(Ways::new(outside)), spare: Mutex::default() }
    }

    /// Returns a network of its own for a step, configured.
    pub(crate) fn connect(&self, cancel: &Cancel) -> Result<Connection, NetworkError> {
        tun_problem().map_or(Ok(()), |reason| Err(NetworkError::NoTun(reason)))?;
        // What came to nothing then is made again, and told if it fails again.
        if let Some(spare) = self.take_spare()
            && let Ok(connection) = wait(&spare, cancel)?
        {
            return Ok(connection);
        }
        wait(&namespace::make(&self.ways), cancel)?.map_err(|reasons| NetworkError::NoHelper { reasons })
    }

    /// Takes what was made before, and has the next one made if one was asked for before.
    fn take_spare(&self) -> Option<Receiver<Made>> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare.next.take();
        if std::mem::replace(&mut spare.asked, true) {
            spare.next = Some(namespace::make(&self.ways));
        }
        taken
    }
}

fn wait(made: &Receiver<Made>, cancel: &Cancel) -> Result<Made, NetworkError> {
    loop {
        match made.recv_timeout(LOOK) {
            Ok(made) => return Ok(made),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err("no thread could be started for it".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err(NetworkError::Cancelled),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
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
