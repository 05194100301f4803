//! A socket for one step that leads to an agent: owned as its mount says, gone with the step.
//!
//! The agent's own socket is not mounted: it belongs to somebody else in the step, and an agent talks to its own user only.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use mica_cache::Scratch;
use rustix::event::{PollFd, PollFlags, poll};

use crate::engine::ssh::Agent;

/// Connections at once; a step has no use for more, and each is two threads of ours.
const MOST_CONNECTIONS: usize = 32;

/// A listening socket and its thread; dropping it ends all connections.
#[derive(Debug)]
pub(crate) struct AgentSocket {
    path: PathBuf,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    _scratch: Scratch,
}

impl AgentSocket {
    /// Makes the socket below `scratch`; its owner is set only where files have owners.
    pub(crate) fn open(
        scratch: Scratch,
        agent: Agent,
        owner: Option<(u32, u32)>,
        mode: u32,
    ) -> io::Result<Self> {
        let path = scratch.files().join("ssh");
        let listener = UnixListener::bind(&path)?;
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || serve(&listener, &stopped, &agent))?;
        Ok(Self { path, stop: Some(stop), thread: Some(thread), _scratch: scratch })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Nothing in it panics, and there would be nobody to tell.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, stopped: &UnixStream, agent: &Agent) {
    std::thread::scope(|scope| {
        let mut open: Vec<Arc<[UnixStream; 2]>> = Vec::new();
        while wait(listener, stopped) {
            let Ok((step, _)) = listener.accept() else { break };
            open.retain(|pair| Arc::strong_count(pair) > 1);
            if open.len() == MOST_CONNECTIONS {
                continue;
            }
            // To the step, an agent that has gone is one that hangs up.
            let Ok(theirs) = UnixStream::connect(agent.socket()) else { continue };
            let pair = Arc::new([step, theirs]);
            open.push(pair.clone());
            scope.spawn(move || join(&pair));
        }
        for stream in open.iter().flat_map(|pair| pair.iter()) {
            hang_up(stream, Shutdown::Both);
        }
    });
}

/// Returns whether somebody wants to connect; `false` when it is time to stop.
fn wait(listener: &UnixListener, stopped: &UnixStream) -> bool {
    let mut polled = [
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
    ];
    loop {
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return polled[1].revents().is_empty(),
        }
    }
}

fn join([step, agent]: &[UnixStream; 2]) {
    std::thread::scope(|scope| {
        scope.spawn(|| pass(step, agent));
        pass(agent, step);
    });
}

/// Passes on what one side says until it says no more; an error on either side is the end of what it says.
fn pass(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    hang_up(to, Shutdown::Write);
    hang_up(from, Shutdown::Read);
}

/// One that is already closed is what we want.
fn hang_up(stream: &UnixStream, how: Shutdown) {
    let _ = stream.shutdown(how);
}
