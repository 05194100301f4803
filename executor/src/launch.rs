//! What this host adds to a [`RunSpec`](crate::RunSpec): directories, descriptors, content.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::spec::SourceId;

/// The host's part of one step.
#[derive(Debug)]
pub struct Launch {
    /// The layers of the root, topmost first.
    pub lowers: Vec<PathBuf>,
    /// An empty directory that receives what the step changes.
    pub upper: PathBuf,
    /// An empty directory on the file system of `upper`, never used for a mount before.
    pub work: PathBuf,
    /// A directory on the same file system that receives empty mount points and becomes the bottommost layer,
    /// so that they appear in no diff. It may be kept for steps with the same mount targets.
    pub skeleton: PathBuf,
    /// An empty directory on the same file system for writes that are thrown away; the caller removes it.
    pub scratch: PathBuf,
    /// What stands behind the [`SourceId`]s.
    pub sources: BTreeMap<SourceId, Source>,
    /// The content of the host's `/etc/resolv.conf`, from which the step's is made.
    pub resolv_conf: Vec<u8>,
    /// Where input comes from and output goes.
    pub stdio: Stdio,
    /// How long a cancelled step may take to end by itself.
    pub grace: Duration,
}

impl Launch {
    /// The usual time between the polite and the final signal.
    pub const GRACE: Duration = Duration::from_secs(2);
}

/// Content of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, file or socket.
    Path(PathBuf),
    /// Bytes, for secrets.
    Content(Vec<u8>),
}

/// Where a step's input comes from and its output goes.
#[derive(Debug)]
pub enum Stdio {
    /// Empty input; output goes to the callback.
    Captured,
    /// These descriptors.
    Passed {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// The slave side of a terminal, which becomes the step's controlling one.
    Terminal(OwnedFd),
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
