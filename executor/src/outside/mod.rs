//! Programs that must run outside the user namespace mica has entered.
//!
//! Inside, mica is uid 0 and some programs misbehave when they see that: `newuidmap`, network helpers, `git`, `ssh`,
//! credential helpers. Before the namespace is entered a small process is forked that stays outside and runs them on
//! request. Each request has a connection of its own, on which closing means "end it"; so nothing outlives mica,
//! however mica ends. As root there is no such process and the same code serves requests on a thread.
//!
//! ```text
//! control socket (seqpacket):  one byte + descriptors: connection [stdin stdout stderr]
//! connection (stream):         -> frame(Request)   <- frame(Answer) ...
//! frame:                       u32 length (native order), JSON
//! ```

mod frame;
mod server;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use thiserror::Error;

use crate::cancel::Cancel;
use crate::sys::{self, Forked};
use frame::{Answer, Request, read_frame, write_frame};

/// The way to programs outside; clones share it.
#[derive(Debug, Clone)]
pub struct Outside {
    /// `None` where mica itself is outside.
    control: Option<Arc<OwnedFd>>,
}

/// A program to run outside.
#[derive(Debug, Clone, Default)]
pub struct OutsideCommand {
    /// The program, looked up in mica's own `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Variables set in addition to mica's own environment.
    pub env: Vec<(String, String)>,
    /// Variables taken out of it.
    pub unset: Vec<String>,
    /// Where it runs; mica's own working directory when absent.
    pub cwd: Option<PathBuf>,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// What a program outside did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideOutput {
    /// Its exit code; 128 and the number where a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program outside could not be run.
#[derive(Debug, Error)]
pub enum OutsideError {
    /// It could not be started.
    #[error("cannot run `{program}`: {reason}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        reason: String,
        /// Whether no such program was found.
        missing: bool,
    },
    /// The process outside cannot be reached.
    #[error("cannot reach the process outside the user namespace")]
    Connection(#[from] std::io::Error),
    /// Cancellation was asked for; the program has been ended.
    #[error("cancelled")]
    Cancelled,
}

/// A program that runs outside until this is dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    connection: OwnedFd,
}

impl Outside {
    /// Returns the way for a process that is outside itself.
    pub fn direct() -> Outside {
        Outside { control: None }
    }

    /// Forks the process that stays outside. Only before any thread exists.
    pub(crate) fn fork() -> Result<Outside, Errno> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match sys::fork_before_threads()? {
            Forked::Child => {
                drop(ours);
                server::serve(&theirs);
                sys::exit_now(0)
            }
            Forked::Parent => Ok(Outside { control: Some(Arc::new(ours)) }),
        }
    }

    /// Runs a program to its end.
    pub fn run(
        &self,
        command: &OutsideCommand,
        cancel: Option<&Cancel>,
    ) -> Result<OutsideOutput, OutsideError> {
        let connection = self.connect(&[])?;
        write_frame(&connection, &Request::run(command))?;
        if let Some(cancel) = cancel {
            wait_unless_cancelled(&connection, cancel)?;
        }
        match read_frame(&connection)? {
            Answer::Ended { code, stdout, stderr } => {
                Ok(OutsideOutput { code, stdout: stdout.0, stderr: stderr.0 })
            }
            answer => Err(unexpected(command, answer)),
        }
    }

    /// Starts a program with the given standard streams.
    pub(crate) fn start(
        &self,
        command: &OutsideCommand,
        streams: [OwnedFd; 3],
    ) -> Result<Helper, OutsideError> {
        let connection = self.connect(&streams)?;
        write_frame(&connection, &Request::start(command))?;
        match read_frame(&connection)? {
            Answer::Started => Ok(Helper { connection }),
            answer => Err(unexpected(command, answer)),
        }
    }

    fn connect(&self, streams: &[OwnedFd]) -> Result<OwnedFd, OutsideError> {
        let kind = SocketType::STREAM;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .map_err(std::io::Error::from)?;
        match &self.control {
            Some(control) => send_descriptors(control, &theirs, streams)?,
            None => {
                let streams = streams.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>()?;
                std::thread::Builder::new()
                    .name("outside".to_owned())
                    .spawn(move || server::serve_connection(&theirs, streams))?;
            }
        }
        Ok(ours)
    }
}

impl Helper {
    /// Returns a descriptor that becomes readable when the program has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

fn send_descriptors(
    control: &OwnedFd,
    connection: &OwnedFd,
    streams: &[OwnedFd],
) -> Result<(), std::io::Error> {
    let descriptors: Vec<BorrowedFd<'_>> = [connection].into_iter().chain(streams).map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)), "the buffer has room for four");
    sendmsg(control, &[std::io::IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn wait_unless_cancelled(connection: &OwnedFd, cancel: &Cancel) -> Result<(), OutsideError> {
    loop {
        let mut fds = [
            PollFd::new(connection, PollFlags::IN),
            PollFd::from_borrowed_fd(cancel.polite(), PollFlags::IN),
            PollFd::from_borrowed_fd(cancel.forced(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result.map_err(std::io::Error::from)?,
        };
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        return Err(OutsideError::Cancelled);
    }
}

fn unexpected(command: &OutsideCommand, answer: Answer) -> OutsideError {
    let program = command.argv.first().cloned().unwrap_or_default();
    match answer {
        Answer::Failed { reason, missing } => OutsideError::Start { program, reason, missing },
        Answer::Started | Answer::Ended { .. } => {
            let reason = "the process outside gave an answer to another question".to_owned();
            OutsideError::Start { program, reason, missing: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn command(argv: &[&str]) -> OutsideCommand {
        OutsideCommand { argv: argv.iter().map(|word| (*word).to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn programs_get_input_and_give_output_and_status() {
        let script = "cat; echo \"$A\" >&2; exit 3";
        let env = vec![("A".to_owned(), "b".to_owned())];
        let command = OutsideCommand { stdin: vec![b'x'; 300_000], env, ..command(&["sh", "-c", script]) };
        let output = Outside::direct().run(&command, None).unwrap();
        assert_eq!((output.code, output.stdout.len(), output.stderr.as_slice()), (3, 300_000, &b"b\n"[..]));
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let error = Outside::direct().run(&command(&["no-such-program-here"]), None).unwrap_err();
        assert!(matches!(error, OutsideError::Start { missing: true, .. }), "{error}");
    }

    #[test]
    fn cancelling_ends_the_program() {
        let cancel = Cancel::new().unwrap();
        cancel.cancel();
        let error = Outside::direct().run(&command(&["sleep", "1000"]), Some(&cancel)).unwrap_err();
        assert!(matches!(error, OutsideError::Cancelled));
    }

    #[test]
    fn dropping_a_helper_ends_it() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let null =
            || OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null").unwrap());
        let helper = Outside::direct().start(&command(&["sleep", "1000"]), [null(), write, null()]).unwrap();
        drop(helper);
        let mut rest = Vec::new();
        std::fs::File::from(read).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
