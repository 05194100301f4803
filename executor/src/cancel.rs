//! Asking running steps to end, politely and then not.
//!
//! A [`Cancel`] is two event descriptors, so that a step waits for it in the same `poll` as for its output. Neither
//! is ever read: once asked, it stays asked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// A handle that ends every step it was given to; clones share it.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<Events>,
}

#[derive(Debug)]
struct Events {
    polite: OwnedFd,
    forced: OwnedFd,
}

impl Cancel {
    /// Returns a handle nobody has used yet.
    pub fn new() -> Result<Cancel, Errno> {
        let open = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Cancel { shared: Arc::new(Events { polite: open()?, forced: open()? }) })
    }

    /// Asks the steps to end: a signal they may handle, and after a grace period one they may not.
    pub fn cancel(&self) {
        signal(&self.shared.polite);
    }

    /// Ends the steps at once.
    pub fn kill(&self) {
        signal(&self.shared.forced);
    }

    /// Returns whether either was asked.
    pub fn is_cancelled(&self) -> bool {
        is_set(&self.shared.polite) || is_set(&self.shared.forced)
    }

    pub(crate) fn polite(&self) -> BorrowedFd<'_> {
        self.shared.polite.as_fd()
    }

    pub(crate) fn forced(&self) -> BorrowedFd<'_> {
        self.shared.forced.as_fd()
    }
}

fn signal(event: &OwnedFd) {
    // A counter that is already full is a signal that was already given.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

fn is_set(event: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_was_asked() {
        let cancel = Cancel::new().unwrap();
        let other = cancel.clone();
        assert!(!other.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert!(other.is_cancelled());
    }
}
