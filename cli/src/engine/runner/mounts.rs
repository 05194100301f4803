//! The mounts of a RUN: their content for the key, and what the sandbox is given.

use std::collections::BTreeMap;

use mica_cache::{MountLease, Sharing as CacheSharing};
use mica_executor::copy::{Layout, SelectRequest, SourcePattern};
use mica_image::tree::{FollowLast, Tree, TreeLayer, resolve};
use mica_solver::graph::{NetworkMode, RunMount, RunMountKind, RunOp, Sharing};
use mica_solver::{KeyParts, Step, StepId, StepInputs, StepResult};

use super::copy::{Taken, copy_into, layer_of, select_from};
use super::{Shared, StepError};
use crate::engine::chain;
use crate::engine::mounting::{self, Given, KnownMount, MountError, Prepared, Shows};
use crate::engine::patterns::DockerfilePatterns;

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
    let input = inputs.slot(slot).expect("a plan gives every mount its slot");
    select_from(shared, step, input, part, &request)
}

/// The mounts of a step with what they show, as far as [`contents`] found it out.
pub(super) fn known(shared: &Shared, step: StepId, run: &RunOp, inputs: &StepInputs) -> Vec<KnownMount> {
    let taken = shared.taken(step);
    let shows = |mount: &RunMount, content: Option<&Taken>| match (&mount.kind, content) {
        (RunMountKind::Bind { slot, source, .. }, Some(content)) => match inputs.slot(*slot) {
            Some(StepResult::Tree(tree)) => Shows::Layers { tree: tree.clone(), path: source.clone() },
            _ => Shows::Selection {
                digest: blake3::Hash::from_bytes(content.selection.digest()).to_hex().to_string(),
                path: content.single_name().unwrap_or_default(),
            },
        },
        (RunMountKind::Cache { from, .. }, content) => {
            Shows::Cache { name: cache_name(mount, content), filled: from.is_some() }
        }
        _ => Shows::Itself,
    };
    let with_content = with_content(run, &taken);
    with_content
        .into_iter()
        .map(|(mount, content)| KnownMount { mount: mount.clone(), shows: shows(mount, content) })
        .collect()
}

/// The mounts of a step, each with what it takes.
fn with_content<'a>(run: &'a RunOp, taken: &'a [Taken]) -> Vec<(&'a RunMount, Option<&'a Taken>)> {
    let mut taken = taken.iter();
    run.mounts.iter().map(|mount| (mount, content_source(mount).and_then(|_| taken.next()))).collect()
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
    let with_content = with_content(run, &taken);
    let leases = take_caches(shared, step, &with_content, cancelled)?;
    let mut known = known(shared, step.id, run, inputs);
    for (mount, (_, content)) in known.iter_mut().zip(with_content) {
        if let (Shows::Selection { digest, path }, Some(content)) = (&mount.shows, content) {
            // Files of a context become a layer of their own, so that what `.dockerignore` leaves out stays out and nothing of the
            // host is mounted.
            let id = layer_of(shared, step, content)?;
            shared.store.layers().remember_mounted(digest, &id)?;
            mount.shows = Shows::Layers { tree: vec![TreeLayer::made(id)], path: path.clone() };
        }
    }
    let given = Given {
        store: &shared.store,
        secrets: &shared.request.secrets,
        ssh: &shared.request.ssh,
        search_path: &shared.host.path,
    };
    let prepared = mounting::prepare(&given, &known, leases).map_err(|error| failed(step, error))?;
    match prepared.absent.iter().find(|absent| absent.required) {
        Some(absent) => Err(StepError::missing(step, absent.what, &absent.id, absent.help())),
        None => Ok(prepared),
    }
}

fn failed(step: &Step, error: MountError) -> StepError {
    match error {
        MountError::Secret { .. } => StepError::mount(step, chain(&error)),
        MountError::Agent { .. } => StepError::mount(step, error.to_string()),
        MountError::Layer(error) => error.into(),
        MountError::File(error) => error.into(),
    }
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
        shared.bring_cache_mount(&name, lease.path());
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

/// Fills the directory of a new cache mount.
fn fill(
    shared: &Shared,
    step: &Step,
    directory: &std::path::Path,
    owner: (u32, u32, u32),
    content: Option<&Taken>,
) -> std::io::Result<()> {
    if let Some(content) = content {
        copy_into(shared, step, content, directory).map_err(std::io::Error::other)?;
    }
    mounting::own(shared.store.ownership(), directory, owner)
}
