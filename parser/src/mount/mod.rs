//! `RUN --mount`: the typed value of one flag.
//!
//! Values are expanded before they are typed, except `from`, which names a stage and must not depend on variables; that is why
//! [`Mount::parse_with`] takes the expansion as a function.

mod parse;
mod size;

#[cfg(test)]
pub(crate) use parse::KEYS;
pub use parse::MountError;

/// A mount of a RUN, in the words of its flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Stage, image or named context the source is in; the build context when absent.
    pub from: Option<String>,
    /// Path in `from`; for a secret another way to say `id`.
    pub source: Option<String>,
    /// Where it appears, absolute or relative to the working directory; secrets and agents have defaults.
    pub target: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Size limit of a tmpfs in bytes; 0 is none.
    pub size: i64,
    /// Identity of a cache, a secret or an agent.
    pub id: Option<String>,
    /// How concurrent steps use a cache.
    pub sharing: Sharing,
    /// Whether the step fails without the secret or agent.
    pub required: bool,
    /// The environment variable that gets a secret.
    pub env: Option<String>,
    /// Permissions of a cache directory, secret or socket.
    pub mode: Option<u32>,
    /// Owner of a cache directory, secret or socket.
    pub uid: Option<u32>,
    /// Group of a cache directory, secret or socket.
    pub gid: Option<u32>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret the person gave.
    Secret,
    /// The socket of an ssh agent.
    Ssh,
}

impl MountKind {
    pub(crate) const ALL: [MountKind; 5] =
        [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];

    /// Returns the name `type=` takes.
    pub const fn name(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

impl std::fmt::Display for MountKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How concurrent steps use a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All use it at once.
    #[default]
    Shared,
    /// A second user gets another one.
    Private,
    /// A second user waits.
    Locked,
}

impl Sharing {
    const ALL: [Sharing; 3] = [Sharing::Shared, Sharing::Private, Sharing::Locked];

    /// Returns the name `sharing=` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Sharing::Shared => "shared",
            Sharing::Private => "private",
            Sharing::Locked => "locked",
        }
    }
}
