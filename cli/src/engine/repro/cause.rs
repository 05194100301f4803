//! Why two runs of a step differ, and the usual way out.

use serde::{Deserialize, Serialize};

/// Why two runs of a step differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// The time of the build.
    Time,
    /// The zone that times are told in.
    TimeZone,
    /// The language of commands.
    Locale,
    /// The name of the host.
    HostName,
    /// The umask.
    Umask,
    /// How many processors there are.
    Processors,
    /// Who builds: root, or root of a user namespace.
    User,
    /// A path of the machine that builds.
    BuildPath,
    /// The head of an archive or compressed file.
    ArchiveHeader,
    /// The order of things, for a reason yet to be found.
    Order,
    /// The order in which a directory is listed.
    DirectoryOrder,
    /// An order that is another each time: processes get ahead of each other, tables are seeded by chance.
    ParallelOrder,
    /// Something random.
    Random,
    /// What the network answered.
    Network,
    /// The context changed meanwhile.
    Context,
    /// Nothing that was tried makes a difference alone.
    Unknown,
}

impl Cause {
    /// Returns it in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Time => "time of the build",
            Self::TimeZone => "time zone",
            Self::Locale => "locale",
            Self::HostName => "host name",
            Self::Umask => "umask",
            Self::Processors => "number of processors",
            Self::User => "user who builds",
            Self::BuildPath => "path of the build",
            Self::ArchiveHeader => "archive header",
            Self::Order => "order",
            Self::DirectoryOrder => "order of a directory",
            Self::ParallelOrder => "order that changes with every run",
            Self::Random => "random value",
            Self::Network => "answer of the network",
            Self::Context => "build context",
            Self::Unknown => "unknown",
        }
    }

    /// Returns what usually helps.
    pub(crate) const fn fix(self) -> &'static str {
        match self {
            Self::Time => {
                "take the time from SOURCE_DATE_EPOCH, which `--reproducible` gives every step, or do not write it"
            }
            Self::TimeZone => "set TZ, or build with `--reproducible`, which does",
            Self::Locale => "set LC_ALL for the command, or build with `--reproducible`, which does",
            Self::HostName => "do not write the host name; with `mica` it is always the same",
            Self::Umask => "set modes where files are made (`install -m`, `chmod`, `COPY --chmod`)",
            Self::Processors => "give the number (`make -j4`), and do not write it",
            Self::User => {
                "do not write owners or maps of the machine; use `--owner=0 --group=0` for archives"
            }
            Self::BuildPath => "do not write paths of the machine; map them (`-ffile-prefix-map`)",
            Self::ArchiveHeader => {
                "`gzip -n`; `tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner --mode=go=rX`; `zip -X`; `ar D`"
            }
            Self::Order => "sort it",
            Self::DirectoryOrder => "sort what a directory lists (`find … | sort`, `tar --sort=name`)",
            Self::ParallelOrder => {
                "sort it, or run one after another what runs in parallel; in Python `PYTHONHASHSEED=0` fixes sets"
            }
            Self::Random => "use a fixed seed or name, or make it when the container starts",
            Self::Network => {
                "ask for a version or digest (`ADD --checksum`, pinned packages), or keep the answer in the context"
            }
            Self::Context => "leave the context alone while it is built",
            Self::Unknown => "look at both files with `mica diff`, or run the step alone",
        }
    }
}
