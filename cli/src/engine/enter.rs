//! Entering a step: a command in the sandbox the step had, over the files it left or found.
//!
//! Nothing the command does changes the store, but what it writes to cache mounts, as the step would; unless it is to be saved: then it
//! becomes one more layer on the step's tree, and an image with the configuration its stage had there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mica_cache::{
    Failure, FileError, LayerError, LockError, MountLease, Sharing as CacheSharing, Snapshot, Store,
    VersionInfo,
};
use mica_executor::{Cancel, NetworkMode, RunSpec, UserSpec};
use mica_image::tree::{Tree, TreeLayer};
use mica_image::{ContentDigest, Reference};
use mica_solver::StepId;
use mica_solver::graph::{HistoryItem, RunMountKind, Sharing, Target};
use mica_solver::plan::Setting;

use super::blocking::blocking;
use super::build_error::BuildError;
use super::build_record::{self, StepName};
use super::build_steps::{Action, BuildStep, BuildSteps, End, Whence};
use super::mounting::{self, Given, KnownMount, MountError, Prepared, Shows};
use super::request::SecretSource;
use super::run::{RunError, Streams, in_foreground, name_terminal};
use super::runner::{spec, without_network};
use super::stored::assemble;
use super::{Engine, Host};
use crate::environment::now;

/// The shell of a stage that names none.
const SHELL: &str = "/bin/sh";

/// What is to run in a step.
#[derive(Debug)]
pub(crate) struct EnterRequest {
    /// The command; empty is a shell.
    pub command: Vec<String>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents or keys by id.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// Whether the command gets a terminal.
    pub tty: bool,
    /// The name that what the command did is saved under.
    pub save: Option<Reference>,
}

/// A step that can be entered.
#[derive(Debug)]
pub(crate) struct Entry {
    steps: BuildSteps,
    number: u32,
    end: End,
    failure: Option<Failure>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Entered {
    /// The command's exit code.
    pub code: i32,
    /// What was saved.
    pub saved: Option<Saved>,
}

/// A version that was saved.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Its name.
    pub name: Reference,
    /// Its number.
    pub version: u64,
    /// The image.
    pub image: ContentDigest,
}

/// A step cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// There is no build to speak of.
    #[error("nothing was built in this store yet")]
    NothingBuilt,
    /// What its steps saw is not known.
    #[error("what the steps of the last build saw is not known any more")]
    Forgotten,
    /// No failed step is kept.
    #[error("no step that failed is kept")]
    NoFailure,
    /// The last build has no such step.
    #[error("the last build has no step `{0}` that can be entered")]
    NoStep(String),
    /// The build did not come to it.
    #[error("the last build did not come to {0}")]
    NotReached(String),
    /// Layers were removed.
    #[error("the files of {0} were removed from the store")]
    Removed(String),
    /// A mount cannot be made.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A cache mount cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The command cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A layer cannot be read or stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image cannot be made.
    #[error("cannot save what was done")]
    Save(#[source] Box<BuildError>),
}

impl EnterError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        let again = "build again, with `--no-cache` if the step would not run otherwise";
        match self {
            Self::Forgotten | Self::Removed(_) => Some(again.to_owned()),
            Self::NoFailure => Some("`mica enter STEP` enters any step of the last build".to_owned()),
            Self::NoStep(_) => Some(
                "a step is `#7`, `stage:line` or a stage; `mica why` lists those of the last build"
                    .to_owned(),
            ),
            Self::NotReached(_) => Some("`mica enter` alone enters the step that failed".to_owned()),
            Self::Run(error) => error.hint(),
            _ => None,
        }
    }
}

/// Finds a step of the last build, or the step that failed last.
pub(crate) fn find(store: &Store, name: Option<&str>, end: End) -> Result<Entry, EnterError> {
    let Some(name) = name else { return last_failure(store, end) };
    let record = build_record::last(store.root()).ok_or(EnterError::NothingBuilt)?;
    let id = record.seen.ok_or(EnterError::Forgotten)?;
    let steps = BuildSteps::read(store, &id)?.ok_or(EnterError::Forgotten)?;
    let wanted = StepName::parse(name);
    let fits = |step: &&BuildStep| {
        step.setting.is_some() && wanted.fits(step.number, step.stage.as_deref(), step.line)
    };
    let meant: Vec<&BuildStep> = steps.steps.iter().filter(fits).collect();
    let reached = |step: &&&BuildStep| steps.tree(step.number, end).is_some();
    // A stage begins on its base, before its first own step, and ends after its last.
    let is_own = |step: &&&BuildStep| !matches!(step.action, Action::Source);
    let (found, end) = match (end, meant.iter().find(is_own)) {
        (End::Before, Some(_)) => (meant.iter().filter(is_own).find(reached), End::Before),
        _ => (meant.iter().rev().find(reached), End::After),
    };
    let number = match (found, meant.first()) {
        (Some(step), _) => step.number,
        (None, Some(step)) => return Err(EnterError::NotReached(title(step))),
        (None, None) => return Err(EnterError::NoStep(name.to_owned())),
    };
    Ok(Entry { steps, number, end, failure: None })
}

fn last_failure(store: &Store, end: End) -> Result<Entry, EnterError> {
    for failure in store.failures().list()? {
        if let Some(steps) = BuildSteps::read(store, &failure.steps)?
            && steps.step(failure.step).is_some_and(|step| step.setting.is_some())
        {
            return Ok(Entry { steps, number: failure.step, end, failure: Some(failure) });
        }
    }
    Err(EnterError::NoFailure)
}

fn title(step: &BuildStep) -> String {
    format!("#{} {}", step.number, step.name)
}

impl Entry {
    /// Returns the step and which side of it is shown.
    pub(crate) fn describe(&self) -> String {
        let side = match (self.end, self.step().failed) {
            (End::Before, _) => "before it ran",
            (End::After, true) => "as it failed",
            (End::After, false) => "after it",
        };
        format!("{}, {side}", title(self.step()))
    }

    /// Returns where the secrets of the step were, by id.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&str, &Whence)> {
        let ids = self.mounts().iter().filter_map(|known| match &known.mount.kind {
            RunMountKind::Secret { id, .. } => Some(id),
            _ => None,
        });
        ids.filter_map(|id| Some((id.as_str(), self.steps.secrets.get(id)?)))
    }

    /// Adds what the build was given to what is given now, as far as its files are still there.
    fn complete(&self, request: &mut EnterRequest) {
        for (id, whence) in self.secrets() {
            if let (Whence::File(path), false) = (whence, request.secrets.contains_key(id))
                && path.exists()
            {
                request.secrets.insert(id.to_owned(), SecretSource::File(path.clone()));
            }
        }
        for (id, paths) in &self.steps.ssh {
            if paths.iter().all(|path| path.exists()) {
                request.ssh.entry(id.clone()).or_insert_with(|| paths.clone());
            }
        }
    }

    fn step(&self) -> &BuildStep {
        self.steps.step(self.number).expect("an entry is made of a step that is there")
    }

    fn setting(&self) -> &Setting {
        self.step().setting.as_ref().expect("an entry is made of a step with a setting")
    }

    fn mounts(&self) -> &[KnownMount] {
        match &self.step().action {
            Action::Run { mounts, .. } => mounts,
            Action::Copy(_) | Action::Source => &[],
        }
    }

    /// Returns what runs: the step's own sandbox with another command.
    fn spec(&self, request: &EnterRequest, prepared: &Prepared) -> RunSpec {
        let setting = self.setting();
        let argv = match request.command.as_slice() {
            [] => vec![setting.config.config.shell.first().map_or(SHELL, String::as_str).to_owned()],
            command => command.to_vec(),
        };
        let mut made = match &self.step().action {
            Action::Run { op, .. } => {
                let op = mica_solver::graph::RunOp { argv, ..(**op).clone() };
                spec(&op, prepared.specs.clone(), &prepared.env, self.steps.no_new_privileges)
            }
            Action::Copy(_) | Action::Source => RunSpec {
                env: setting.env.clone(),
                cwd: setting.cwd.clone(),
                user: UserSpec(setting.user.clone()),
                network: NetworkMode::Private,
                no_new_privileges: self.steps.no_new_privileges,
                ..RunSpec::new(argv)
            },
        };
        if request.tty {
            name_terminal(&mut made.env);
        }
        made
    }
}

impl Engine {
    /// Runs a command in a step; `say` tells what the step had and the command has not, before it starts.
    pub(crate) async fn enter(
        &self,
        entry: Entry,
        mut request: EnterRequest,
        say: impl Fn(&str) + Send + 'static,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Entered, EnterError> {
        entry.complete(&mut request);
        let cancel = Cancel::new().map_err(|errno| RunError::Streams(errno.into()))?;
        let (host, for_run) = (self.host.clone(), cancel.clone());
        let mut running = std::pin::pin!(blocking(move || enter(&host, &entry, &request, &say, &for_run)));
        tokio::select! {
            result = &mut running => return result,
            () = interrupted => cancel.cancel(),
        }
        running.await
    }
}

fn enter(
    host: &Host,
    entry: &Entry,
    request: &EnterRequest,
    say: &dyn Fn(&str),
    cancel: &Cancel,
) -> Result<Entered, EnterError> {
    let store = &host.store;
    let tree = shown(store, entry)?;
    if let Some(failure) = &entry.failure {
        store.failures().note_use(failure)?;
    }
    let snapshot = store.layers().prepare(&tree)?;
    let leases = take_caches(store, entry.mounts(), cancel)?;
    let given = Given { store, secrets: &request.secrets, ssh: &request.ssh, search_path: &host.path };
    let prepared = mounting::prepare(&given, entry.mounts(), leases)?;
    let mut spec = entry.spec(request, &prepared);
    if let (NetworkMode::Private, Some(problem)) = (spec.network, host.network_problem()) {
        say(&format!("warning: {}", without_network(problem)));
        spec.network = NetworkMode::None;
    }
    tell_absent(entry, &prepared, say);
    let streams = Streams { tty: request.tty, input: true };
    let code = in_foreground(host, &snapshot, (&spec, prepared.sources), streams, cancel)?;
    drop((prepared.leases, prepared.sockets));
    let saved = match &request.save {
        Some(name) => Some(save(store, entry, (tree, snapshot), &spec, name)?),
        None => None,
    };
    Ok(Entered { code, saved })
}

/// Returns the tree that is shown, all of whose layers are there.
fn shown(store: &Store, entry: &Entry) -> Result<Tree, EnterError> {
    let tree = entry
        .steps
        .tree(entry.number, entry.end)
        .ok_or_else(|| EnterError::NotReached(title(entry.step())))?;
    for layer in &tree {
        if store.layers().get(&layer.id)?.is_none() {
            return Err(EnterError::Removed(title(entry.step())));
        }
    }
    Ok(tree)
}

/// Takes the cache mounts that are there, or can be made: one that starts with files cannot be made without them.
fn take_caches(
    store: &Store,
    mounts: &[KnownMount],
    cancel: &Cancel,
) -> Result<BTreeMap<String, MountLease>, EnterError> {
    let mut leases = BTreeMap::new();
    for known in mounts {
        let (RunMountKind::Cache { sharing, mode, uid, gid, .. }, Shows::Cache { name, filled }) =
            (&known.mount.kind, &known.shows)
        else {
            continue;
        };
        if leases.contains_key(name) || (*filled && !store.mounts().exists(name)?) {
            continue;
        }
        let sharing = match sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        let make =
            |directory: &std::path::Path| mounting::own(store.ownership(), directory, (*uid, *gid, *mode));
        let lease = store.mounts().take(name, sharing, &make, &|| cancel.is_cancelled())?;
        leases.insert(name.clone(), lease);
    }
    Ok(leases)
}

/// Tells what the step had and the command has not.
fn tell_absent(entry: &Entry, prepared: &Prepared, say: &dyn Fn(&str)) {
    for absent in &prepared.absent {
        if absent.required
            || entry.steps.secrets.contains_key(&absent.id)
            || entry.steps.ssh.contains_key(&absent.id)
        {
            say(&format!("warning: the {} `{}` is not there: {}", absent.what, absent.id, absent.help()));
        }
    }
    for known in entry.mounts() {
        let is_there = prepared.specs.iter().any(|spec| spec.target == known.mount.target);
        let files = matches!(known.mount.kind, RunMountKind::Bind { .. } | RunMountKind::Cache { .. });
        if files && !is_there {
            let target = &known.mount.target;
            say(&format!(
                "warning: what was mounted at `{target}` is not there any more: build again to have it"
            ));
        }
    }
    if let Action::Run { left_out, .. } = &entry.step().action {
        for name in left_out {
            say(&format!("warning: `{name}` is not set: its value may hold a password, so it was not kept"));
        }
    }
}

/// Makes a layer of what the command did, and a version of `name` of the step's tree with it.
fn save(
    store: &Store,
    entry: &Entry,
    (mut tree, snapshot): (Tree, Snapshot),
    spec: &RunSpec,
    name: &Reference,
) -> Result<Saved, EnterError> {
    let layers = store.layers();
    let seconds = now().unix().map_or(0, |(seconds, _)| seconds);
    let committed = layers.commit_upper(snapshot, &layers.tree(&tree)?, &|_| false, seconds)?;
    tree.push(TreeLayer::made(committed.layer.id()));
    let (config, mut history) =
        entry.steps.image(entry.number, entry.end).expect("an entry is made of a step with a setting");
    let created_by = format!("RUN {} # mica enter", spec.argv.join(" "));
    history.push(HistoryItem { created_by, step: Some(StepId(entry.number - 1)), line: 0 });
    let (stage, platform) = (entry.step().stage.clone().unwrap_or_default(), config.platform());
    let target = Target { platform, stage, step: None, config, history };
    let image = assemble(store, &target, tree, None, (None, None))
        .map_err(|error| EnterError::Save(Box::new(error)))?;
    let name = name.with_default_tag();
    let inputs = BTreeMap::from([("entered".to_owned(), entry.describe())]);
    let info = VersionInfo { when: seconds, inputs, ..VersionInfo::default() };
    let version = store.images().tag(&name.to_string(), image.id, info)?;
    store.sync()?;
    Ok(Saved { name, version, image: image.id })
}
