//! The mounts of a command: from what is known of them to what the sandbox is given, while a step runs and when it is entered later.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use mica_cache::{FileError, LayerError, MountLease, Ownership, Store};
use mica_executor::{MountKind, MountSpec, Source, SourceId, Writes};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tree::{Tree, TreeLayer};
use mica_solver::graph::{RunMount, RunMountKind};
use serde::{Deserialize, Serialize};

use super::agent_socket::AgentSocket;
use super::chain;
use super::request::SecretSource;
use super::secret::{self, SecretError};
use super::ssh::Agent;

/// A mount, and what it shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KnownMount {
    /// The mount as planned.
    pub mount: RunMount,
    /// What stands behind it.
    pub shows: Shows,
}

/// What stands behind a mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shows {
    /// Nothing but what the mount itself says, and what is given for it.
    Itself,
    /// A path of layers.
    Layers {
        /// The layers.
        tree: Tree,
        /// The path.
        path: String,
    },
    /// Files that are no layer yet.
    Selection {
        /// The digest of what was selected.
        digest: String,
        /// The path below it.
        path: String,
    },
    /// A cache mount.
    Cache {
        /// Its name in the store.
        name: String,
        /// Whether it starts with files.
        filled: bool,
    },
}

/// What is given to commands from outside.
pub(crate) struct Given<'a> {
    /// The store.
    pub store: &'a Store,
    /// Secrets by id.
    pub secrets: &'a BTreeMap<String, SecretSource>,
    /// Agents or keys by id.
    pub ssh: &'a BTreeMap<String, Vec<PathBuf>>,
    /// Where programs are looked for.
    pub search_path: &'a OsStr,
}

/// A mount cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// A secret cannot be used.
    #[error("secret `{id}`")]
    Secret {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// There is no way to an agent.
    #[error("ssh `{id}`: {reason}")]
    Agent {
        /// The agent's id.
        id: String,
        /// Why.
        reason: String,
    },
    /// A layer cannot be shown.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Something that was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absent {
    /// `secret` or `ssh agent`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// Whether the mount cannot be without it.
    pub required: bool,
}

impl Absent {
    /// Returns how it can be given.
    pub(crate) fn help(&self) -> String {
        let id = &self.id;
        match self.what {
            "secret" => {
                format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`")
            }
            _ => format!("give it with `--ssh {id}`, or `--ssh {id}=SOCKET|KEY`"),
        }
    }
}

/// What a command's mounts need while it runs.
#[derive(Default)]
pub(crate) struct Prepared {
    /// For the portable description.
    pub specs: Vec<MountSpec>,
    /// What stands behind their names on this host.
    pub sources: BTreeMap<SourceId, Source>,
    /// Variables that secrets set.
    pub env: Vec<(String, String)>,
    /// Values to be kept out of the log.
    pub secrets: Vec<Vec<u8>>,
    /// Cache mounts in use, by name.
    pub leases: BTreeMap<String, MountLease>,
    /// Sockets of agents.
    pub sockets: Vec<AgentSocket>,
    /// What was not given.
    pub absent: Vec<Absent>,
}

/// Prepares mounts; `leases` are the cache mounts among them. One whose files or cache are not to be had is left out.
pub(crate) fn prepare(
    given: &Given<'_>,
    mounts: &[KnownMount],
    leases: BTreeMap<String, MountLease>,
) -> Result<Prepared, MountError> {
    let mut prepared = Prepared { leases, ..Prepared::default() };
    for (number, known) in mounts.iter().enumerate() {
        let id = SourceId(format!("mount-{number}"));
        let kind = Preparing { given, prepared: &mut prepared, id }.kind(known)?;
        prepared.specs.extend(kind.map(|kind| MountSpec { target: known.mount.target.clone(), kind }));
    }
    Ok(prepared)
}

struct Preparing<'a> {
    given: &'a Given<'a>,
    prepared: &'a mut Prepared,
    id: SourceId,
}

impl Preparing<'_> {
    fn kind(&mut self, known: &KnownMount) -> Result<Option<MountKind>, MountError> {
        Ok(match (&known.mount.kind, &known.shows) {
            (RunMountKind::Bind { read_only, .. }, shows) => {
                let Some((tree, path)) = layers(self.given.store, shows)? else { return Ok(None) };
                let writes = if *read_only { Writes::Refused } else { Writes::Discarded };
                Some(MountKind::Overlay { lowers: self.lowers(&tree)?, subpath: path, writes })
            }
            (RunMountKind::Cache { read_only, .. }, Shows::Cache { name, .. }) => {
                self.cache(name, *read_only)
            }
            // All cache mounts have a name.
            (RunMountKind::Cache { .. }, _) => None,
            (RunMountKind::Tmpfs { size }, _) => Some(MountKind::Tmpfs { size: *size }),
            (RunMountKind::Secret { .. }, _) => self.secret(&known.mount)?,
            (RunMountKind::Ssh { id, required, mode, uid, gid }, _) => {
                self.ssh(&known.mount, (id, *required), (*uid, *gid, *mode))?
            }
            (RunMountKind::Script { content }, _) => {
                Some(MountKind::File { content: content.clone(), mode: 0o755 })
            }
        })
    }

    fn lowers(&mut self, tree: &Tree) -> Result<Vec<SourceId>, MountError> {
        let lowers = self.given.store.layers().lowers(tree)?;
        let mut ids = Vec::with_capacity(lowers.len());
        for (number, path) in lowers.into_iter().enumerate() {
            let id = SourceId(format!("{}-{number}", self.id.0));
            self.prepared.sources.insert(id.clone(), Source::Path(path));
            ids.push(id);
        }
        Ok(ids)
    }

    fn cache(&mut self, name: &str, read_only: bool) -> Option<MountKind> {
        let lease = self.prepared.leases.get(name)?;
        self.prepared.sources.insert(self.id.clone(), Source::Path(lease.path().to_owned()));
        Some(MountKind::Bind { source: self.id.clone(), subpath: String::new(), readonly: read_only })
    }

    fn secret(&mut self, mount: &RunMount) -> Result<Option<MountKind>, MountError> {
        let RunMountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else { return Ok(None) };
        let failed = |source| MountError::Secret { id: id.clone(), source };
        let given = self.given.secrets.get(id);
        if given.is_none() {
            self.prepared.absent.push(Absent { what: "secret", id: id.clone(), required: *required });
        }
        let value = given.map(secret::read).transpose().map_err(failed)?;
        if let Some(name) = env {
            let text = secret::text(value.as_deref().unwrap_or_default()).map_err(failed)?;
            self.prepared.env.push((name.clone(), text));
        }
        let Some(value) = value else { return Ok(None) };
        self.prepared.secrets.push(value.clone());
        if mount.target.is_empty() {
            return Ok(None);
        }
        self.prepared.sources.insert(self.id.clone(), Source::Content(value));
        Ok(Some(MountKind::Secret { source: self.id.clone(), uid: *uid, gid: *gid, mode: *mode }))
    }

    fn ssh(
        &mut self,
        mount: &RunMount,
        (id, required): (&str, bool),
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<Option<MountKind>, MountError> {
        let Some(keys) = self.given.ssh.get(id) else {
            self.prepared.absent.push(Absent { what: "ssh agent", id: id.to_owned(), required });
            return Ok(None);
        };
        let store = self.given.store;
        let failed = |reason| MountError::Agent { id: id.to_owned(), reason };
        let agent =
            Agent::open(store, keys, self.given.search_path).map_err(|error| failed(chain(&error)))?;
        let owner = (store.ownership() != Ownership::Single).then_some((uid, gid));
        let socket = AgentSocket::open(store.layers().begin()?, agent, owner, mode)
            .map_err(|error| failed(format!("cannot make a socket: {error}")))?;
        self.prepared.sources.insert(self.id.clone(), Source::Path(socket.path().to_owned()));
        self.prepared.sockets.push(socket);
        self.prepared.env.push(("SSH_AUTH_SOCK".to_owned(), mount.target.clone()));
        Ok(Some(MountKind::SshSocket { source: self.id.clone() }))
    }
}

/// Returns the layers and the path that a bind mount shows; nothing where its files are no layer any more.
pub(crate) fn layers(store: &Store, shows: &Shows) -> Result<Option<(Tree, String)>, FileError> {
    Ok(match shows {
        Shows::Layers { tree, path } => Some((tree.clone(), path.clone())),
        Shows::Selection { digest, path } => {
            let layer = store.layers().mounted(digest)?;
            layer.map(|id| (vec![TreeLayer::made(id)], path.clone()))
        }
        Shows::Itself | Shows::Cache { .. } => None,
    })
}

/// Gives the directory of a new cache mount its owner, where files have owners, and its mode.
pub(crate) fn own(
    ownership: Ownership,
    directory: &std::path::Path,
    (uid, gid, mode): (u32, u32, u32),
) -> std::io::Result<()> {
    let top = RootDir::open(directory, Links::Refused)?;
    if ownership != Ownership::Single {
        top.set_owner(b"", uid, gid)?;
    }
    top.set_mode(b"", mode)
}
