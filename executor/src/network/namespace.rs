//! Network namespaces with a helper, made by threads that are in them.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, gettid};

use super::helper::{self, Kind};
use crate::outside::Outside;
use crate::sys;

/// A network, or why there is none.
pub(super) type Made = Result<Connection, String>;

/// A network that lasts until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Connection {
    _helper: helper::Running,
    namespace: Namespace,
}

impl Connection {
    /// Returns the network namespace.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.descriptor.as_fd()
    }
}

/// What is known of making networks here.
#[derive(Debug)]
pub(super) struct Ways {
    outside: Outside,
    /// Set once pasta was found not to work here, so that later steps do not try again.
    without_pasta: AtomicBool,
}

impl Ways {
    pub(super) fn new(outside: Outside) -> Self {
        Self { outside, without_pasta: AtomicBool::new(false) }
    }
}

/// Begins to make a network; nothing is received where no thread can be started.
pub(super) fn make(ways: &Arc<Ways>) -> Receiver<Made> {
    let (tell, made) = sync_channel(1);
    let ways = ways.clone();
    // Nobody may wait for it any more, and then it ends here.
    let work = move || drop(tell.send(connected(&ways)));
    let _ = std::thread::Builder::new().name("network".to_owned()).spawn(work);
    made
}

fn connected(ways: &Ways) -> Made {
    let namespace = Namespace::make()?;
    let mut reasons = Vec::new();
    for kind in [Kind::Pasta, Kind::Slirp4netns] {
        if kind == Kind::Pasta && ways.without_pasta.load(Ordering::Relaxed) {
            reasons.push("pasta does not work here".to_owned());
            continue;
        }
        match helper::start(kind, &ways.outside, namespace.thread) {
            Ok(helper) => return Ok(Connection { _helper: helper, namespace }),
            Err(reason) => {
                tracing::debug!(helper = kind.program(), reason, "a network helper does not work");
                ways.without_pasta.fetch_or(kind == Kind::Pasta, Ordering::Relaxed);
                reasons.push(reason);
            }
        }
    }
    Err(reasons.join("; "))
}

/// A network namespace with a thread in it, by which helpers find it: they end when it is gone.
#[derive(Debug)]
struct Namespace {
    thread: Pid,
    descriptor: OwnedFd,
    /// Nothing is ever sent: its end lets the thread go.
    _keep: SyncSender<Infallible>,
}

impl Namespace {
    fn make() -> Result<Namespace, String> {
        let failed = |error: &dyn std::fmt::Display| format!("a network namespace cannot be made: {error}");
        let (tell, told) = sync_channel(1);
        let (keep, kept) = sync_channel(1);
        let stay = move || {
            let entered = enter();
            let stays = entered.is_ok();
            if tell.send(entered).is_ok() && stays {
                let _: Result<Infallible, _> = kept.recv();
            }
        };
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(stay)
            .map_err(|error| failed(&error))?;
        let entered = told.recv().unwrap_or(Err(Errno::SRCH));
        let (thread, descriptor) = entered.map_err(|error| failed(&error))?;
        Ok(Namespace { thread, descriptor, _keep: keep })
    }
}

/// Puts the calling thread into a new network namespace.
fn enter() -> Result<(Pid, OwnedFd), Errno> {
    sys::unshare(UnshareFlags::NEWNET)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok((gettid(), open("/proc/thread-self/ns/net", flags, Mode::empty())?))
}
