//! What one step is to run: portable, so that any machine holding the same content can run it.
//!
//! No host path and no descriptor appears here; content that only this host knows is named by a [`SourceId`]
//! and handed over in the [`Launch`](crate::Launch).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The search path of a step whose environment sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One process and everything about it that can affect what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment, final and in order; a later value of a name wins.
    pub env: Vec<(String, String)>,
    /// The absolute working directory inside the root; missing components are created.
    pub cwd: String,
    /// Who runs the program, as written in `USER`; resolved against the root's own files.
    pub user: UserSpec,
    /// The host name the step sees.
    pub hostname: String,
    /// What network the step has.
    pub network: NetworkMode,
    /// Whether the usual confinement applies.
    pub security: SecurityMode,
    /// Keeps set-id programs such as `sudo` from gaining anything.
    pub no_new_privileges: bool,
    /// Lines added to `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Resource limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// The mode bits that new files do not get.
    pub umask: u32,
    /// How many processors the process may use; all when absent.
    pub processors: Option<u32>,
    /// The size of `/dev/shm` in bytes; 64 MiB when absent.
    pub shm_size: Option<u64>,
    /// Limits that need a control group.
    pub resources: Resources,
    /// The control group the step's own is made in.
    pub cgroup_parent: Option<String>,
    /// Mounts beside the root and the usual kernel file systems.
    pub mounts: Vec<MountSpec>,
}

impl RunSpec {
    /// Returns a step that runs `argv` as root in `/` without a network and with nothing else set.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> RunSpec {
        RunSpec {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: UserSpec::default(),
            hostname: "buildkitsandbox".to_owned(),
            network: NetworkMode::None,
            security: SecurityMode::Sandbox,
            no_new_privileges: false,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            umask: 0o022,
            processors: None,
            shm_size: None,
            resources: Resources::default(),
            cgroup_parent: None,
            mounts: Vec::new(),
        }
    }
}

/// A user as written: `name`, `uid`, `name:group`, `uid:gid`; empty for root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserSpec(pub String);

/// What network a step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// A loopback interface and nothing else.
    None,
    /// The host's own network.
    Host,
    /// A network of its own that reaches the outside but not the host's loopback.
    Private,
}

/// Whether the usual confinement applies to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityMode {
    /// System call filter, few capabilities, masked and read-only kernel files.
    Sandbox,
    /// None of these: the caller has made sure that it was asked for and granted.
    Insecure,
}

/// One resource limit of the process, by the names `--ulimit` knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The resource, as in `nofile`.
    pub name: String,
    /// The value in force; `None` for no limit.
    pub soft: Option<u64>,
    /// The highest value the step may set itself; `None` for no limit.
    pub hard: Option<u64>,
}

/// Limits that need a control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 for unlimited swap.
    pub memory_swap: Option<i64>,
    /// Relative weight of processor time, 1024 being usual.
    pub cpu_shares: Option<u64>,
    /// The period of `cpu_quota` in microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// The processors that may be used, as in `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that may be used.
    pub cpuset_mems: Option<String>,
}

impl Resources {
    /// Returns whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }
}

/// A name for content that only the host knows where to find.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub String);

impl<T: Into<String>> From<T> for SourceId {
    fn from(name: T) -> SourceId {
        SourceId(name.into())
    }
}

/// One mount beside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// The absolute path inside the root, as given; resolved inside the root with symbolic links followed.
    pub target: String,
    /// What appears there.
    pub kind: MountKind,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A directory or file of the host.
    Bind {
        /// Where it comes from.
        source: SourceId,
        /// A path below the source; never leads out of it.
        subpath: String,
        /// Refuses writes.
        readonly: bool,
    },
    /// Several directories as one tree.
    Overlay {
        /// The layers, topmost first.
        lowers: Vec<SourceId>,
        /// A path below the tree; never leads out of it.
        subpath: String,
        /// What becomes of writes.
        writes: Writes,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its size in bytes; the kernel's default when absent.
        size: Option<u64>,
    },
    /// A read-only file that never touches a disk.
    Secret {
        /// The content.
        source: SourceId,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// A socket of the host.
    SshSocket {
        /// The socket.
        source: SourceId,
    },
    /// A read-only file with the given content, as for scripts written in a Dockerfile.
    File {
        /// The content.
        content: String,
        /// Its permission bits.
        mode: u32,
    },
}

/// What becomes of writes below an overlay mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writes {
    /// They fail.
    Refused,
    /// They last until the step ends.
    Discarded,
}
