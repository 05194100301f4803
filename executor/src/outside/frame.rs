//! The messages on a connection.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OutsideCommand;
use crate::wire::Bytes;

/// More than any message; protects against a broken length.
const LIMIT: u32 = 1 << 30;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) unset: Vec<String>,
    pub(super) cwd: Option<Bytes>,
    pub(super) kind: Kind,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    /// With this input, to its end.
    Run { stdin: Bytes },
    /// With the descriptors that came with the connection, until the connection ends.
    Start,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Started,
    Ended { code: i32, stdout: Bytes, stderr: Bytes },
    Failed { reason: String, missing: bool },
}

impl Request {
    pub(super) fn run(command: &OutsideCommand) -> Request {
        Request { kind: Kind::Run { stdin: command.stdin.clone().into() }, ..Request::start(command) }
    }

    pub(super) fn start(command: &OutsideCommand) -> Request {
        Request {
            argv: command.argv.clone(),
            env: command.env.clone(),
            unset: command.unset.clone(),
            cwd: command.cwd.clone().map(Bytes::from),
            kind: Kind::Start,
        }
    }
}

pub(super) fn write_frame(connection: &OwnedFd, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message).expect("messages have no map with odd keys");
    let length = u32::try_from(text.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut stream = stream(connection)?;
    stream.write_all(&length.to_ne_bytes())?;
    stream.write_all(&text)
}

pub(super) fn read_frame<T: DeserializeOwned>(connection: &OwnedFd) -> io::Result<T> {
    let mut stream = stream(connection)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_ne_bytes(length);
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Tells the other side that nothing more will come.
pub(super) fn finish(connection: &OwnedFd) {
    if let Ok(stream) = stream(connection) {
        // The other side may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn stream(connection: &OwnedFd) -> io::Result<std::os::unix::net::UnixStream> {
    Ok(connection.try_clone()?.into())
}
