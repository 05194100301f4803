//! Starting pasta or slirp4netns and knowing when they are ready.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::files::NAME_SERVER;
use crate::outside::{Helper, Outside, OutsideCommand, OutsideError};

/// Both are ready in some 10 ms.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pasta,
    Slirp4netns,
}

impl Kind {
    pub(super) fn program(self) -> &'static str {
        match self {
            Kind::Pasta => "pasta",
            Kind::Slirp4netns => "slirp4netns",
        }
    }

    fn argv(self, pid: Pid) -> Vec<String> {
        let pid = pid.as_raw_nonzero().to_string();
        let words: &[&str] = match self {
            // No port of either side is shown to the other, and the host's loopback is not mapped to the gateway.
            Kind::Pasta => &[
                "pasta",
                "--config-net",
                "--foreground",
                "--quiet",
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--no-map-gw",
                "--dns-forward",
                NAME_SERVER,
                &pid,
            ],
            // Ready is told on standard output; the end of standard input ends it, however we end.
            Kind::Slirp4netns => &[
                "slirp4netns",
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--ready-fd=1",
                "--exit-fd=0",
                &pid,
                "tap0",
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// Starts a helper for the network namespace of a thread and waits until it is configured.
pub(super) fn start(kind: Kind, outside: &Outside, pid: Pid) -> Result<Running, String> {
    let program = kind.program();
    let failed = |errno: Errno| format!("{program}: {errno}");
    let (exit, exit_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let log = memfd_create("log", MemfdFlags::CLOEXEC).map_err(failed)?;
    let log_end = rustix::io::fcntl_dupfd_cloexec(&log, 0).map_err(failed)?;
    let command = OutsideCommand { argv: kind.argv(pid), ..OutsideCommand::default() };
    let helper = outside.start(&command, [exit, ready_end, log_end]).map_err(|error| match error {
        OutsideError::Start { missing: true, .. } => format!("{program} is not installed"),
        error => error.to_string(),
    })?;
    let running = Running { helper, _exit: exit_end };
    let state = match kind {
        Kind::Pasta => wait_for_route(&running.helper, pid),
        Kind::Slirp4netns => wait_for_word(&running.helper, &ready),
    };
    match state.map_err(failed)? {
        State::Ready => Ok(running),
        State::TimedOut => Err(format!("{program} was not ready in time")),
        State::Ended => Err(format!("{program} failed: {}", last_line(log))),
    }
}

/// A helper at work; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    helper: Helper,
    _exit: OwnedFd,
}

enum State {
    Ready,
    Ended,
    TimedOut,
}

/// slirp4netns says when it is ready.
fn wait_for_word(helper: &Helper, ready_fd: &OwnedFd) -> Result<State, Errno> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ready = PollFd::new(ready_fd, PollFlags::IN);
        match wait([ready, ended(helper)], deadline.saturating_duration_since(Instant::now()))? {
            Some(State::Ready) => {
                if let Some(state) = read_word(ready_fd)? {
                    return Ok(state);
                }
            }
            Some(state) => return Ok(state),
            None if Instant::now() >= deadline => return Ok(State::TimedOut),
            None => {}
        }
    }
}

/// The word is `1`. Warnings may come before it, at moments that depend on when the C library writes them out.
fn read_word(ready: &OwnedFd) -> Result<Option<State>, Errno> {
    let mut words = [0; 512];
    let length = rustix::io::read(ready, &mut words)?;
    Ok(match words[..length] {
        [] => Some(State::Ended),
        [.., b'1'] => Some(State::Ready),
        _ => None,
    })
}

/// pasta does not say when it is ready; the last thing it configures is the route out.
fn wait_for_route(helper: &Helper, pid: Pid) -> Result<State, Errno> {
    let deadline = Instant::now() + PATIENCE;
    let directory = format!("/proc/{}/net", pid.as_raw_nonzero());
    while Instant::now() < deadline {
        if has_route(&directory) {
            return Ok(State::Ready);
        }
        match wait([ended(helper), ended(helper)], POLL)? {
            Some(State::Ready) => return Ok(State::Ended),
            Some(state) => return Ok(state),
            None => {}
        }
    }
    Ok(State::TimedOut)
}

/// Waits for ready or ended; `None` when the time is over.
fn wait(mut fds: [PollFd<'_>; 2], time: Duration) -> Result<Option<State>, Errno> {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    match poll(&mut fds, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let [ready, ended] = fds.map(|fd| fd.revents());
    Ok(match () {
        () if ready.contains(PollFlags::IN) => Some(State::Ready),
        () if !ended.is_empty() || !ready.is_empty() => Some(State::Ended),
        () => None,
    })
}

fn ended(helper: &Helper) -> PollFd<'_> {
    PollFd::from_borrowed_fd(helper.ended(), PollFlags::IN)
}

fn has_route(directory: &str) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("{directory}/{name}")).unwrap_or_default();
    default_route_4(&read("route")) || default_route_6(&read("ipv6_route"))
}

fn default_route_4(table: &str) -> bool {
    table.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

fn default_route_6(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Every namespace has such an entry on the loopback interface that says "unreachable".
        matches!(fields.as_slice(), [destination, "00", .., interface]
            if destination.bytes().all(|byte| byte == b'0') && *interface != "lo")
    })
}

fn last_line(log: OwnedFd) -> String {
    let mut log = File::from(log);
    let mut text = Vec::new();
    // Without the log the message is only shorter.
    let _ = log.rewind().and_then(|()| log.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let head = "Iface\tDestination\tGateway\n";
        assert!(!default_route_4(head));
        assert!(!default_route_4(&format!("{head}eth0\t000200C0\t00000000\n")));
        assert!(default_route_4(&format!("{head}eth0\t00000000\t010200C0\n")));
        let nothing = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 0 ffffffff 1 0 200200 lo";
        assert!(!default_route_6(nothing));
        assert!(default_route_6(&nothing.replace("lo", "eth0")));
    }

    #[test]
    fn the_hosts_loopback_is_kept_out_of_reach() {
        let pid = Pid::from_raw(7).unwrap();
        assert!(Kind::Pasta.argv(pid).contains(&"--no-map-gw".to_owned()));
        assert!(Kind::Pasta.argv(pid).windows(2).any(|pair| pair == ["-T", "none"]));
        assert!(Kind::Slirp4netns.argv(pid).contains(&"--disable-host-loopback".to_owned()));
    }
}
