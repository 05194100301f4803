//! Following one running step: output, reports, cancellation, end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cancel::Cancel;
use crate::launch::Stream;
use crate::status::ExitStatus;
use crate::wire::{Created, Failure, Report};

/// How long output is read on after the step has ended. Everything in it is dead by then, so the pipes end at once
/// unless a descriptor was passed to a process outside.
const DRAIN: Duration = Duration::from_secs(1);
const BUFFER: usize = 64 * 1024;

/// A started step; dropping it ends it and waits until nothing of it is left.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

/// Our ends of a step's pipes.
pub(crate) struct Pipes {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) report: OwnedFd,
}

/// What there is to say about a step that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) created: Vec<Created>,
    pub(crate) cancelled: bool,
}

impl Running {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Running {
        Running { pid, pidfd, reaped: false }
    }

    /// Ends the step at once.
    pub(crate) fn kill(&self) {
        // It may have ended already, which is what was wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn terminate(&self) {
        // As above; and PID 1 without a handler of its own never sees the polite signal.
        let signal = if handles_termination(self.pid) { Signal::TERM } else { Signal::KILL };
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end; the kernel reports it only after every process of the step's namespace is gone.
    fn reap(&mut self) -> Result<ExitStatus, Errno> {
        let status = retry_interrupted(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))?;
        self.reaped = true;
        Ok(status.as_ref().map_or(ExitStatus::Signal(0), ExitStatus::from_wait))
    }

    /// Follows the step to its end.
    pub(crate) fn watch(
        mut self,
        pipes: Pipes,
        grace: Duration,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ended, Errno> {
        let mut inputs = Inputs::new(pipes);
        let mut phase = Phase::Running;
        let mut cancelled = false;
        loop {
            let ready = inputs.wait(&self, cancel, phase)?;
            inputs.read(&ready, output)?;
            if ready.ended {
                let status = self.reap()?;
                phase = Phase::Ended(status, Instant::now() + DRAIN);
            }
            if let Phase::Ended(status, deadline) = phase {
                if inputs.all_closed() || Instant::now() >= deadline {
                    let (failure, created) = inputs.reports();
                    return Ok(Ended { status, failure, created, cancelled });
                }
                continue;
            }
            match phase {
                Phase::Running if ready.forced => self.kill(),
                Phase::Running if ready.polite => self.terminate(),
                Phase::Ending(deadline) if ready.forced || Instant::now() >= deadline => self.kill(),
                _ => continue,
            }
            cancelled = true;
            phase = match phase {
                Phase::Running if !ready.forced => Phase::Ending(Instant::now() + grace),
                _ => Phase::Killed,
            };
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // Nobody is left to tell of a failure here.
            let _ = self.reap();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// Asked politely; killed at the given time.
    Ending(Instant),
    Killed,
    /// Gone; output is read until the given time.
    Ended(ExitStatus, Instant),
}

impl Phase {
    fn timeout(self) -> Option<Duration> {
        match self {
            Phase::Running | Phase::Killed => None,
            Phase::Ending(deadline) | Phase::Ended(_, deadline) => {
                Some(deadline.saturating_duration_since(Instant::now()))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Ready {
    stdout: bool,
    stderr: bool,
    report: bool,
    ended: bool,
    polite: bool,
    forced: bool,
}

struct Inputs {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    report: Option<OwnedFd>,
    reported: Vec<u8>,
    buffer: Vec<u8>,
}

impl Inputs {
    fn new(pipes: Pipes) -> Inputs {
        Inputs {
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            report: Some(pipes.report),
            reported: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    fn all_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.report.is_none()
    }

    fn wait(&self, running: &Running, cancel: &Cancel, phase: Phase) -> Result<Ready, Errno> {
        let mut ready = Ready::default();
        let mut fds = Vec::with_capacity(6);
        let mut flags: Vec<&mut bool> = Vec::with_capacity(6);
        for (fd, flag) in [
            (&self.stdout, &mut ready.stdout),
            (&self.stderr, &mut ready.stderr),
            (&self.report, &mut ready.report),
        ] {
            if let Some(fd) = fd {
                fds.push(PollFd::new(fd, PollFlags::IN));
                flags.push(flag);
            }
        }
        if !matches!(phase, Phase::Ended(..)) {
            fds.push(PollFd::new(&running.pidfd, PollFlags::IN));
            flags.push(&mut ready.ended);
        }
        if matches!(phase, Phase::Running) {
            fds.push(PollFd::from_borrowed_fd(cancel.polite(), PollFlags::IN));
            flags.push(&mut ready.polite);
        }
        if matches!(phase, Phase::Running | Phase::Ending(_)) {
            fds.push(PollFd::from_borrowed_fd(cancel.forced(), PollFlags::IN));
            flags.push(&mut ready.forced);
        }
        let timeout = phase.timeout().map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for (fd, flag) in fds.iter().zip(flags) {
            *flag = !fd.revents().is_empty();
        }
        Ok(ready)
    }

    fn read(&mut self, ready: &Ready, output: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Errno> {
        if ready.stdout {
            read_some(&mut self.stdout, &mut self.buffer, |bytes| output(Stream::Stdout, bytes))?;
        }
        if ready.stderr {
            read_some(&mut self.stderr, &mut self.buffer, |bytes| output(Stream::Stderr, bytes))?;
        }
        if ready.report {
            let reported = &mut self.reported;
            read_some(&mut self.report, &mut self.buffer, |bytes| reported.extend_from_slice(bytes))?;
        }
        Ok(())
    }

    fn reports(&self) -> (Option<Failure>, Vec<Created>) {
        let mut failure = None;
        let mut created = Vec::new();
        for line in self.reported.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Report::Failed(reason)) => failure = Some(reason),
                Ok(Report::Created(made)) => created.extend(made),
                Err(error) => tracing::warn!(%error, "the init stage reported something odd"),
            }
        }
        (failure, created)
    }
}

/// Hands on what can be read now; closes the descriptor at its end.
fn read_some(source: &mut Option<OwnedFd>, buffer: &mut [u8], take: impl FnOnce(&[u8])) -> Result<(), Errno> {
    let Some(fd) = source else { return Ok(()) };
    match retry_interrupted(|| rustix::io::read(&*fd, &mut *buffer))? {
        0 => *source = None,
        length => take(&buffer[..length]),
    }
    Ok(())
}

fn retry_interrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Returns whether a process has a handler for the polite signal. The kernel drops signals to PID 1 of a namespace
/// that it has no handler for, so waiting for their effect would be in vain.
fn handles_termination(pid: Pid) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    std::fs::read_to_string(path).is_ok_and(|status| catches(&status, Signal::TERM))
}

fn catches(status: &str, signal: Signal) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_from_the_status_file() {
        let status = "Name:\tsh\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000004002\n";
        assert!(catches(status, Signal::TERM));
        assert!(catches(status, Signal::INT));
        assert!(!catches(status, Signal::HUP));
        assert!(!catches("Name:\tx\n", Signal::TERM));
    }
}
