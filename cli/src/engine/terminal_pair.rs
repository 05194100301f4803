//! A terminal for a command: a new pair whose one side the command gets, while the user's own terminal is passed through raw.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use mica_executor::Stdio;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The user's terminal while a command has it; restored when dropped.
#[derive(Debug)]
pub(super) struct Attached {
    saved: Option<Termios>,
    output: Option<std::thread::JoinHandle<()>>,
}

/// Makes a pair, gives one side to the command and copies between the other and the standard streams.
pub(super) fn attach(interactive: bool) -> io::Result<(Stdio, Attached)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let stdin = std::io::stdin();
    if let Ok(size) = tcgetwinsize(stdin.as_fd()) {
        tcsetwinsize(&ours, size)?;
    }
    let saved = if interactive && stdin.is_terminal() { Some(raw(stdin.as_fd())?) } else { None };
    let from = File::from(ours.try_clone()?);
    let output = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || copy_output(from))?;
    if interactive {
        copy_input(ours)?;
    }
    Ok((Stdio::Terminal(theirs), Attached { saved, output: Some(output) }))
}

fn raw(terminal: std::os::fd::BorrowedFd<'_>) -> io::Result<Termios> {
    let saved = tcgetattr(terminal)?;
    let mut raw = saved.clone();
    raw.make_raw();
    tcsetattr(terminal, OptionalActions::Now, &raw)?;
    Ok(saved)
}

/// Copies until the command's side is closed, which the kernel reports as an error.
fn copy_output(mut from: File) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer) {
        let mut out = io::stdout().lock();
        if read == 0 || out.write_all(&buffer[..read]).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Copies on a thread of its own, which ends with the process: nothing can interrupt its reading.
fn copy_input(to: OwnedFd) -> io::Result<()> {
    let mut to = File::from(to);
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read) = io::stdin().lock().read(&mut buffer) {
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(output) = self.output.take() {
            // The thread ends by itself when the command's side is closed; a panic in it has nothing to tell.
            let _ = output.join();
        }
        if let Some(saved) = &self.saved {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, saved);
        }
    }
}
