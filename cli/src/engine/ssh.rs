//! Agents for `--ssh`: the one of a socket that was given, or one of our own that holds the keys that were given.
//!
//! Our own is OpenSSH's: it lives below scratch space, reads the keys from a pipe and ends when its standard input is closed, so
//! however mica ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mica_cache::{Scratch, Store};

/// Says when the agent listens, and ends it together with its input. Signals of the terminal are for mica.
const ATTEND: &str = r#"trap "" HUP INT TERM; echo; cat > /dev/null; kill "$SSH_AGENT_PID""#;

/// A way to an agent.
#[derive(Debug)]
pub(crate) enum Agent {
    /// The user's own.
    Theirs(PathBuf),
    /// One of our own, and what keeps it.
    Ours(KeyAgent),
}

/// An agent with keys from files.
#[derive(Debug)]
pub(crate) struct KeyAgent {
    socket: PathBuf,
    process: Child,
    _scratch: Scratch,
}

/// There is no agent for what was given with `--ssh`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// A path cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket beside something else.
    #[error("`{}` is the socket of an agent, which must be all that is given", .0.display())]
    SocketAndMore(PathBuf),
    /// OpenSSH is not there or does not work.
    #[error(
        "keys need `{program}` of OpenSSH, which cannot be run; the socket of a running agent can be given instead"
    )]
    Program {
        /// The program.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The key is none, or has a passphrase.
    #[error("`{}` is not taken as a key ({said}); a key with a passphrase has to be in a running agent", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What `ssh-add` says.
        said: String,
    },
    /// There is no room for the socket.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
}

impl Agent {
    /// Opens what was given: a socket, or files of keys. `search` is where programs are looked for.
    pub(crate) fn open(store: &Store, given: &[PathBuf], search: &OsStr) -> Result<Self, AgentError> {
        let sockets = given
            .iter()
            .map(|path| Ok((path, is_socket(path)?)))
            .collect::<Result<Vec<(&PathBuf, bool)>, AgentError>>()?;
        match sockets.as_slice() {
            [(path, true)] => Ok(Self::Theirs((*path).clone())),
            several => match several.iter().find(|(_, socket)| *socket) {
                Some((path, _)) => Err(AgentError::SocketAndMore((*path).clone())),
                None => KeyAgent::start(store, given, search).map(Self::Ours),
            },
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        match self {
            Self::Theirs(path) => path,
            Self::Ours(agent) => &agent.socket,
        }
    }
}

impl KeyAgent {
    fn start(store: &Store, keys: &[PathBuf], search: &OsStr) -> Result<Self, AgentError> {
        let scratch = store.layers().begin()?;
        let socket = scratch.files().join("agent");
        let failed = |source| AgentError::Program { program: "ssh-agent", source };
        let mut process = Command::new("ssh-agent")
            .arg("-a")
            .arg(&socket)
            .args(["sh", "-c", ATTEND])
            .env("PATH", search)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let listening =
            process.stdout.take().map_or(Ok(0), |out| BufReader::new(out).read_line(&mut String::new()));
        let agent = Self { socket, process, _scratch: scratch };
        if listening.map_err(failed)? == 0 {
            return Err(failed(io::Error::other("it does not listen")));
        }
        for key in keys {
            agent.add(key, search)?;
        }
        Ok(agent)
    }

    /// From a pipe, because `ssh-add` refuses files that others may read.
    fn add(&self, key: &Path, search: &OsStr) -> Result<(), AgentError> {
        let text = fs::read(key).map_err(|source| AgentError::Read { path: key.to_owned(), source })?;
        let failed = |source| AgentError::Program { program: "ssh-add", source };
        let mut adding = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("PATH", search)
            .env("SSH_AUTH_SOCK", &self.socket)
            .env("SSH_ASKPASS_REQUIRE", "never")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut input) = adding.stdin.take() {
            // It may have refused the key before it has read all of it; then its own words say why.
            let _ = input.write_all(&text);
        }
        let output = adding.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(AgentError::Key { path: key.to_owned(), said })
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It is over however it ended.
        let _ = self.process.wait();
    }
}

fn is_socket(path: &Path) -> Result<bool, AgentError> {
    let metadata = fs::metadata(path).map_err(|source| AgentError::Read { path: path.to_owned(), source })?;
    Ok(metadata.file_type().is_socket())
}
