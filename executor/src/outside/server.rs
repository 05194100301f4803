//! The serving side: starts programs, follows them, and ends them when their connection ends.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::frame::{Answer, Kind, Request, finish, read_frame, write_frame};
use crate::sys;
use crate::wire::Bytes;

/// Serves requests until mica is gone.
pub(super) fn serve(control: &OwnedFd) {
    // Ctrl-C goes to the whole group of processes; whether that ends a request is for mica to decide.
    sys::catch_and_ignore_signals();
    let mut threads = Vec::new();
    while let Some((connection, streams)) = receive(control) {
        threads.retain(|thread: &std::thread::JoinHandle<()>| !thread.is_finished());
        let serve = move || serve_connection(&connection, streams);
        // Without a thread the connection is dropped, which tells the other side.
        threads.extend(std::thread::Builder::new().spawn(serve));
    }
    for thread in threads {
        // Its program has been ended with its connection; a panic in it has been printed.
        let _ = thread.join();
    }
}

fn receive(control: &OwnedFd) -> Option<(OwnedFd, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut data = [std::io::IoSliceMut::new(&mut byte)];
        match recvmsg(control, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(message) => break message,
        }
    };
    if message.bytes == 0 {
        return None;
    }
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let mut rights = descriptors.next()?;
    Some((rights.next()?, rights.collect()))
}

/// Serves one request. Errors on the connection mean that nobody waits for the answer any more.
pub(super) fn serve_connection(connection: &OwnedFd, streams: Vec<OwnedFd>) {
    if let Ok(request) = read_frame::<Request>(connection) {
        let answer = match &request.kind {
            Kind::Run { stdin } => run(connection, &request, &stdin.0),
            Kind::Start => start(connection, &request, streams),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Failed {
            missing: error.kind() == std::io::ErrorKind::NotFound,
            reason: error.to_string(),
        });
        let _ = write_frame(connection, &answer);
    }
    finish(connection);
}

fn command(request: &Request) -> Command {
    let mut words = request.argv.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).envs(request.env.iter().map(|(name, value)| (name, value)));
    for name in &request.unset {
        command.env_remove(name);
    }
    if let Some(cwd) = &request.cwd {
        command.current_dir(cwd.as_path());
    }
    command
}

fn run(connection: &OwnedFd, request: &Request, stdin: &[u8]) -> std::io::Result<Answer> {
    let mut command = command(request);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        if let Some(mut input) = input {
            // A program need not read what it is given.
            scope.spawn(move || drop(input.write_all(stdin)));
        }
        let stdout = scope.spawn(|| read_all(output));
        let stderr = scope.spawn(|| read_all(errors));
        let status = follow(connection, &mut child)?;
        let collect = |thread: std::thread::ScopedJoinHandle<'_, Vec<u8>>| thread.join().unwrap_or_default();
        Ok(Answer::Ended {
            code: code(status),
            stdout: collect(stdout).into(),
            stderr: collect(stderr).into(),
        })
    })
}

fn start(connection: &OwnedFd, request: &Request, streams: Vec<OwnedFd>) -> std::io::Result<Answer> {
    let mut command = command(request);
    let mut streams = streams.into_iter();
    let mut next = || streams.next().map_or_else(Stdio::null, Stdio::from);
    command.stdin(next()).stdout(next()).stderr(next());
    if rustix::process::geteuid().is_root() {
        // Others cannot; the namespaces their helpers make are not peers of ours.
        sys::with_own_mounts(&mut command);
    }
    let mut child = command.spawn()?;
    // The command holds our copies of the streams, whose other ends wait for the program to close them.
    drop(command);
    write_frame(connection, &Answer::Started)?;
    let status = follow(connection, &mut child)?;
    Ok(Answer::Ended { code: code(status), stdout: Bytes::default(), stderr: Bytes::default() })
}

/// Waits for a program, and ends it when the other side goes away.
fn follow(connection: &OwnedFd, child: &mut Child) -> std::io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(connection, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        if fds[0].revents().is_empty() {
            child.kill()?;
        }
        return child.wait();
    }
}

fn read_all(source: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        // What was read before an error is still worth showing.
        let _ = source.read_to_end(&mut bytes);
    }
    bytes
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
