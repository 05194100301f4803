//! The mounts of a RUN: their content for the key, and what the sandbox is given.

use std::collections::BTreeMap;

use mica_cache::{MountLease, Ownership, Sharing as CacheSharing};
use mica_executor::copy::{Layout, SelectRequest, SourcePattern, select};
use mica_executor::{MountKind, MountSpec, Source, SourceId, Writes};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tree::{FollowLast, MergedTree, Tree, TreeLayer, resolve};
use mica_solver::graph::{NetworkMode, RunMount, RunMountKind, RunOp, Sharing};
use mica_solver::{KeyParts, Step, StepInputs, StepResult};

use super::copy::{Bearer, Taken, copy_into, layer_of};
use super::source::SourceFiles;
use super::ssh::AgentSocket;
use super::{Shared, StepError};
use crate::engine::chain;
use crate::engine::patterns::DockerfilePatterns;
use crate::engine::secret::{self, SecretError};
use crate::engine::ssh::Agent;

/// The sandbox's own version; raised when a change of it could be seen by a step.
const SANDBOX_VERSION: u32 = 1;

/// Names the content of bind mounts, and what the sandbox adds to the key.
pub(super) fn contents(
    shared: &Shared,
    step: &Step,
    run: &RunOp,
    inputs: &StepInputs,
) -> Result<KeyParts, StepError> {
    let mut parts = KeyParts::default();
    parts.push("sandbox", SANDBOX_VERSION.to_string());
    parts.push("owners", shared.store.ownership().as_str());
    if run.network == NetworkMode::Default && shared.host.network_problem().is_some() {
        // What runs without the network it asked for is never a hit for what runs with it.
        parts.push("network in effect", "none");
    }
    if shared.request.no_new_privileges {
        parts.push("no new privileges", "true");
    }
    let mut all = Vec::new();
    for mount in &run.mounts {
        let Some((slot, source)) = content_source(mount) else { continue };
        let taken = take(shared, step, slot, source, &mount.target, inputs)?;
        parts.push(&taken.part, blake3::Hash::from_bytes(taken.selection.digest()).to_hex().to_string());
        if let (RunMountKind::Bind { .. }, Some(StepResult::Tree(tree))) = (&mount.kind, inputs.slot(slot)) {
            parts.push(format!("top of mount `{}`", mount.target), top(shared, step, tree, source)?);
        }
        all.push(taken);
    }
    shared.keep_taken(step.id, all);
    Ok(parts)
}

/// Mode and owner of what is mounted: a selection has what is in a directory, a mount shows the directory itself.
fn top(shared: &Shared, step: &Step, tree: &Tree, source: &str) -> Result<String, StepError> {
    let tree = shared.store.layers().tree(tree)?;
    let resolved = resolve(&tree, source.as_bytes(), FollowLast::Yes)
        .map_err(|error| StepError::mount(step, error.to_string()))?;
    let top = &resolved.entry.entry;
    Ok(format!("{:04o} {}:{}", top.mode, top.uid, top.gid))
}

/// The slot and path whose content a mount shows at its start.
fn content_source(mount: &RunMount) -> Option<(u32, &str)> {
    match &mount.kind {
        RunMountKind::Bind { slot, source, .. } => Some((*slot, source)),
        RunMountKind::Cache { from, .. } => from.as_ref().map(|(slot, source)| (*slot, source.as_str())),
        _ => None,
    }
}

fn take(
    shared: &Shared,
    step: &Step,
    slot: u32,
    source: &str,
    target: &str,
    inputs: &StepInputs,
) -> Result<Taken, StepError> {
    let patterns = [SourcePattern { path: source.as_bytes().to_vec(), wildcards: false }];
    let request = SelectRequest {
        sources: &patterns,
        layout: Layout::Flat,
        exclude: &[],
        patterns: &DockerfilePatterns,
    };
    let part = format!("content of mount `{target}`");
    match inputs.slot(slot).expect("a plan gives every mount its slot") {
        StepResult::Tree(tree) => {
            let tree = shared.store.layers().tree(tree)?;
            let selection = select(&tree, &request).map_err(|error| StepError::select(step, error))?;
            Ok(Taken { part, selection, from: Bearer::Layers })
        }
        StepResult::Files(id) => match &*shared.files(*id) {
            SourceFiles::Context { tree, .. } => {
                let selection = select(&**tree, &request).map_err(|error| StepError::select(step, error))?;
                Ok(Taken { part, selection, from: Bearer::Context(tree.clone()) })
            }
            // A stage without a step.
            SourceFiles::Inline(files) if files.is_empty() => {
                let selection = select(&MergedTree::new(Vec::new()), &request)
                    .map_err(|error| StepError::select(step, error))?;
                Ok(Taken { part, selection, from: Bearer::Itself })
            }
            SourceFiles::Download(_) | SourceFiles::Inline(_) => Err(StepError::mount(
                step,
                format!("nothing can be mounted at `{target}` from a single file source"),
            )),
        },
    }
}

/// What a step's mounts need while it runs.
#[derive(Default)]
pub(super) struct Prepared {
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
}

/// Prepares all mounts of `run`.
pub(super) fn prepare(
    shared: &Shared,
    step: &Step,
    run: &RunOp,
    inputs: &StepInputs,
    cancelled: &dyn Fn() -> bool,
) -> Result<Prepared, StepError> {
    let taken = shared.taken(step.id);
    let mut taken = taken.iter();
    let mounts: Vec<_> =
        run.mounts.iter().map(|mount| (mount, content_source(mount).and_then(|_| taken.next()))).collect();
    let leases = take_caches(shared, step, &mounts, cancelled)?;
    let mut prepared = Prepared { leases, ..Prepared::default() };
    for (number, (mount, content)) in mounts.into_iter().enumerate() {
        let id = SourceId(format!("mount-{number}"));
        let mut preparing = Preparing { shared, step, inputs, prepared: &mut prepared, id };
        preparing.mount(mount, content)?;
    }
    Ok(prepared)
}

/// Takes every cache of a step, each once and all in one order: steps that wait for each other's would wait for ever.
fn take_caches(
    shared: &Shared,
    step: &Step,
    mounts: &[(&RunMount, Option<&Taken>)],
    cancelled: &dyn Fn() -> bool,
) -> Result<BTreeMap<String, MountLease>, StepError> {
    let mut caches = BTreeMap::new();
    for (mount, content) in mounts {
        let RunMountKind::Cache { sharing, mode, uid, gid, .. } = &mount.kind else { continue };
        let sharing = match sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        let wanted =
            caches.entry(cache_name(mount, *content)).or_insert((sharing, (*uid, *gid, *mode), *content));
        if sharing == CacheSharing::Locked || wanted.0 == CacheSharing::Shared {
            wanted.0 = sharing;
        }
    }
    let mut leases = BTreeMap::new();
    for (name, (sharing, owner, content)) in caches {
        if step.ignore_cache {
            shared.empty_cache_mount(&name)?;
        }
        let make = |directory: &std::path::Path| fill(shared, step, directory, owner, content);
        let lease = shared.store.mounts().take(&name, sharing, &make, cancelled)?;
        leases.insert(name, lease);
    }
    Ok(leases)
}

/// Another owner or mode, or other initial content, is another cache directory, as in the reference.
fn cache_name(mount: &RunMount, content: Option<&Taken>) -> String {
    let RunMountKind::Cache { id, mode, uid, gid, .. } = &mount.kind else { return String::new() };
    let mut name = format!("{id}\0{uid}:{gid} {mode:o}");
    if let Some(content) = content {
        name.push_str(&blake3::Hash::from_bytes(content.selection.digest()).to_hex());
    }
    name
}

struct Preparing<'a> {
    shared: &'a Shared,
    step: &'a Step,
    inputs: &'a StepInputs,
    prepared: &'a mut Prepared,
    id: SourceId,
}

impl Preparing<'_> {
    fn mount(&mut self, mount: &RunMount, content: Option<&Taken>) -> Result<(), StepError> {
        let kind = match &mount.kind {
            RunMountKind::Bind { slot, source, read_only } => {
                let content = content.expect("a bind mount has content");
                Some(self.bind(*slot, source, *read_only, content)?)
            }
            RunMountKind::Cache { read_only, .. } => Some(self.cache(mount, *read_only, content)),
            RunMountKind::Tmpfs { size } => Some(MountKind::Tmpfs { size: *size }),
            RunMountKind::Secret { .. } => self.secret(mount)?,
            RunMountKind::Ssh { id, required, mode, uid, gid } => {
                self.ssh(mount, id, *required, (*uid, *gid, *mode))?
            }
            RunMountKind::Script { content } => {
                Some(MountKind::File { content: content.clone(), mode: 0o755 })
            }
        };
        if let Some(kind) = kind {
            self.prepared.specs.push(MountSpec { target: mount.target.clone(), kind });
        }
        Ok(())
    }

    /// Files of a stage are its layers' directories; files of a context become a layer of their own first, so that what
    /// `.dockerignore` leaves out stays out and nothing of the host is mounted.
    fn bind(
        &mut self,
        slot: u32,
        source: &str,
        read_only: bool,
        content: &Taken,
    ) -> Result<MountKind, StepError> {
        let (tree, subpath) = match self.inputs.slot(slot) {
            Some(StepResult::Tree(tree)) => (tree.clone(), source.to_owned()),
            _ => {
                let layer = layer_of(self.shared, self.step, content)?;
                let file_name = content.single_name().unwrap_or_default();
                (vec![TreeLayer { id: layer, diff_id: None }], file_name)
            }
        };
        let lowers = self.lowers(&tree)?;
        let writes = if read_only { Writes::Refused } else { Writes::Discarded };
        Ok(MountKind::Overlay { lowers, subpath, writes })
    }

    fn lowers(&mut self, tree: &Tree) -> Result<Vec<SourceId>, StepError> {
        let lowers = self.shared.store.layers().lowers(tree)?;
        let mut ids = Vec::with_capacity(lowers.len());
        for (number, path) in lowers.into_iter().enumerate() {
            let id = SourceId(format!("{}-{number}", self.id.0));
            self.prepared.sources.insert(id.clone(), Source::Path(path));
            ids.push(id);
        }
        Ok(ids)
    }

    fn cache(&mut self, mount: &RunMount, read_only: bool, content: Option<&Taken>) -> MountKind {
        let name = cache_name(mount, content);
        let lease = self.prepared.leases.get(&name).expect("all caches were taken before");
        self.prepared.sources.insert(self.id.clone(), Source::Path(lease.path().to_owned()));
        MountKind::Bind { source: self.id.clone(), subpath: String::new(), readonly: read_only }
    }

    fn secret(&mut self, mount: &RunMount) -> Result<Option<MountKind>, StepError> {
        let RunMountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else { return Ok(None) };
        let value = match self.shared.request.secrets.get(id) {
            None if *required => {
                let help =
                    format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`");
                return Err(StepError::missing(self.step, "secret", id, help));
            }
            None => None,
            Some(source) => Some(secret::read(source).map_err(|error| self.bad_secret(id, &error))?),
        };
        if let Some(name) = env {
            let text = secret::text(value.as_deref().unwrap_or_default());
            let text = text.map_err(|error| self.bad_secret(id, &error))?;
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

    fn bad_secret(&self, id: &str, error: &SecretError) -> StepError {
        StepError::mount(self.step, format!("secret `{id}`: {}", chain(error)))
    }

    fn ssh(
        &mut self,
        mount: &RunMount,
        id: &str,
        required: bool,
        (uid, gid, mode): (u32, u32, u32),
    ) -> Result<Option<MountKind>, StepError> {
        let Some(given) = self.shared.request.ssh.get(id) else {
            if required {
                let help = format!("give it with `--ssh {id}`, or `--ssh {id}=SOCKET|KEY`");
                return Err(StepError::missing(self.step, "ssh agent", id, help));
            }
            return Ok(None);
        };
        let store = &self.shared.store;
        let agent = Agent::open(store, given, &self.shared.host.path)
            .map_err(|error| StepError::mount(self.step, format!("ssh `{id}`: {}", chain(&error))))?;
        let owner = (store.ownership() != Ownership::Single).then_some((uid, gid));
        let socket = AgentSocket::open(store.layers().begin()?, agent, owner, mode).map_err(|error| {
            StepError::mount(self.step, format!("ssh `{id}`: cannot make a socket: {error}"))
        })?;
        self.prepared.sources.insert(self.id.clone(), Source::Path(socket.path().to_owned()));
        self.prepared.sockets.push(socket);
        self.prepared.env.push(("SSH_AUTH_SOCK".to_owned(), mount.target.clone()));
        Ok(Some(MountKind::SshSocket { source: self.id.clone() }))
    }
}

/// Fills the directory of a new cache mount.
fn fill(
    shared: &Shared,
    step: &Step,
    directory: &std::path::Path,
    (uid, gid, mode): (u32, u32, u32),
    content: Option<&Taken>,
) -> std::io::Result<()> {
    if let Some(content) = content {
        copy_into(shared, step, content, directory).map_err(std::io::Error::other)?;
    }
    let top = RootDir::open(directory, Links::Refused)?;
    if shared.store.ownership() != Ownership::Single {
        top.set_owner(b"", uid, gid)?;
    }
    top.set_mode(b"", mode)
}
