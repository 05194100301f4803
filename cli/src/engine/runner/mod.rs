//! Does what the solver decides: resolves sources, looks up records, runs steps, stores their layers.
//!
//! A step's way through here: [`StepRunner::contents`] names the content it takes (for COPY: selects it), `lookup` finds a record
//! whose conditions hold, `execute` takes the step's lock, looks again (another build may have done the work), runs it and
//! stores layer and record.

mod copy;
mod diff_ids;
mod error;
mod held;
mod lookup;
mod mounts;
mod places;
mod reason;
mod run;
mod source;
mod workdir;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mica_cache::{CacheRecord, KeyPart as RecordPart, PlaceId, RecordKey, Store, TreeHash};
use mica_image::LayerId;
use mica_image::index::LayerIndex;
use mica_image::tree::Tree;
use mica_solver::graph::{BuildGraph, Target};
use mica_solver::{
    BuildEvent, CacheKey, Executed, KeyParts, Lookup, Op, Step, StepContext, StepId, StepInputs, StepPhase,
    StepResult, StepRunner,
};

pub(crate) use error::{FREE_SPACE, StepError};
pub(crate) use run::{network, spec, without_network};
pub(crate) use source::Download;
use source::SourceFiles;

use super::Host;
use super::bases::Bases;
use super::blocking::blocking;
use super::build_log::BuildLog;
use super::build_steps::Seen;
use super::cause::{Cause, in_one_line};
use super::exchange::{Imports, Learned};
use super::lock::Lock;
use super::materials::RemoteContent;
use super::request::BuildRequest;
use copy::Taken;
use diff_ids::DiffIds;
use places::Places;

/// Runs the steps of one build.
pub(crate) struct EngineRunner {
    pub(super) shared: Arc<Shared>,
}

/// What was resolved to plan a build.
pub(crate) struct Resolved {
    /// Its base images.
    pub(in crate::engine) bases: Arc<Bases>,
    /// Its contexts by name.
    pub(in crate::engine) contexts: BTreeMap<Option<String>, super::context::BuildContext>,
    /// What names are held to.
    pub(in crate::engine) lock: Option<Arc<Lock>>,
    /// Caches of other machines.
    pub(in crate::engine) imports: Arc<Imports>,
}

/// What the steps of one build have in common.
pub(crate) struct Shared {
    pub(super) host: Arc<Host>,
    pub(super) store: Store,
    pub(super) request: Arc<BuildRequest>,
    pub(super) resolved: Resolved,
    pub(super) log: BuildLog,
    /// Whether it was said that steps have no network.
    network_told: AtomicBool,
    /// Whether it was said that logs of steps cannot be written.
    lost_log_told: AtomicBool,
    /// Cache mounts that were emptied because the cache is not to be used.
    emptied: Mutex<BTreeSet<String>>,
    /// Where each step stands in its file, to find earlier records of the same place.
    places: Places,
    /// The records of this build's own steps: what they are is not what another step was.
    met: Mutex<HashSet<RecordKey>>,
    /// Why steps were not in the cache.
    causes: Mutex<BTreeMap<StepId, Vec<Cause>>>,
    /// Files of resolved source steps.
    files: Mutex<HashMap<StepId, Arc<SourceFiles>>>,
    /// What COPY and WORKDIR steps and bind mounts were found to take, from `contents` to `execute`.
    taken: Mutex<HashMap<StepId, Arc<Vec<Taken>>>>,
    diff_ids: DiffIds,
    /// The records of steps that were hits or ran, where a cache is to be exported.
    used: Mutex<BTreeMap<StepId, CacheRecord>>,
    in_images: HashSet<StepId>,
    /// The steps that commands look inside, unless caches of other machines may have what the commands would make.
    entered: HashSet<StepId>,
    /// What is told of steps after the build.
    seen: Mutex<Seen>,
    /// The cache mounts that steps were given.
    mounts: Mutex<BTreeSet<String>>,
}

impl EngineRunner {
    /// Returns a runner for `graph`; `identity` tells builds of one Dockerfile in one context from others, `clamp` is that of
    /// times in new layers.
    pub(crate) fn new(
        host: Arc<Host>,
        request: Arc<BuildRequest>,
        resolved: Resolved,
        log: BuildLog,
        (graph, targets): (&BuildGraph, &[Target]),
        identity: &str,
        clamp: Option<i64>,
    ) -> Self {
        let in_images = diff_ids::in_images(graph, targets);
        let diff_ids = DiffIds::new(in_images.clone(), host.threads, clamp);
        let entered = if resolved.imports.is_empty() { seen_by_commands(graph) } else { HashSet::new() };
        let shared = Shared {
            store: host.store.clone(),
            host,
            request,
            resolved,
            log,
            network_told: AtomicBool::new(false),
            lost_log_told: AtomicBool::new(false),
            emptied: Mutex::default(),
            places: Places::new(graph, identity),
            met: Mutex::default(),
            causes: Mutex::default(),
            files: Mutex::default(),
            taken: Mutex::default(),
            diff_ids,
            used: Mutex::default(),
            in_images,
            entered,
            seen: Mutex::default(),
            mounts: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns what was resolved to plan the build.
    pub(super) fn resolved(&self) -> &Resolved {
        &self.shared.resolved
    }

    /// Waits for the digests of new layers that are still being computed.
    pub(crate) async fn finish(&self) {
        self.shared.diff_ids.finish().await;
    }

    /// Returns what a download or checkout gave.
    pub(super) fn remote_content(&self, step: StepId) -> Option<RemoteContent> {
        let files = self.shared.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(&step)?.as_ref() {
            SourceFiles::Download(download) => Some(RemoteContent::File {
                digest: download.blob,
                size: download.size,
                name: download.name.clone(),
                modified: download.last_modified,
            }),
            SourceFiles::Context { commit, .. } => commit.clone().map(RemoteContent::Commit),
            SourceFiles::Inline(_) => None,
        }
    }

    /// Returns what caches are made of.
    pub(super) fn learned(&self) -> Learned {
        let shared = &self.shared;
        let used = shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        let placed = |(step, record): (&StepId, &CacheRecord)| {
            (*step, (shared.places.portable(*step), record.clone()))
        };
        Learned {
            records: used.iter().map(placed).collect(),
            in_images: shared.in_images.iter().copied().collect(),
            mounts: shared.mounts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            imports: shared.resolved.imports.clone(),
        }
    }

    /// Returns why a step was not in the cache.
    pub(super) fn causes(&self, step: StepId) -> Vec<Cause> {
        self.all_causes().remove(&step).unwrap_or_default()
    }

    /// Returns why the steps that were looked up were not in the cache.
    pub(super) fn all_causes(&self) -> BTreeMap<StepId, Vec<Cause>> {
        self.shared.causes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what was seen of the steps so far.
    pub(super) fn take_seen(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen())
    }

    /// Returns what a step made when it ran last at its place, on top of `parent`.
    pub(super) async fn made_before(
        &self,
        step: &Step,
        parent: &Tree,
    ) -> Result<Option<StepResult>, StepError> {
        let (shared, step, parent) = (self.shared.clone(), step.clone(), parent.clone());
        blocking(move || {
            let reason::Near::Record(record) = reason::nearest(&shared, &step, None)? else {
                return Ok(None);
            };
            let is_there = shared.store.layers().get(&record.layer)?.is_some();
            Ok(is_there.then(|| lookup::with_layer(&parent, record.layer)))
        })
        .await
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of a step's tree.
    fn note_tree(&self, step: StepId, result: &StepResult) {
        if let StepResult::Tree(tree) = result {
            self.seen().trees.insert(step, tree.clone());
        }
    }

    fn files(&self, step: StepId) -> Arc<SourceFiles> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(&step).cloned().expect("a source step is resolved before anything sees it")
    }

    fn keep_files(&self, step: StepId, files: SourceFiles) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(step, Arc::new(files));
    }

    fn taken(&self, step: StepId) -> Arc<Vec<Taken>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&step).cloned().unwrap_or_default()
    }

    fn keep_taken(&self, step: StepId, taken: Vec<Taken>) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(step, Arc::new(taken));
    }

    /// Forgets what a step took: it is done.
    fn forget_taken(&self, step: StepId) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&step);
    }

    /// Empties a cache mount once a build, so that later steps of the build meet what earlier ones left there.
    fn empty_cache_mount(&self, name: &str) -> Result<(), StepError> {
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        if emptied.insert(name.to_owned()) {
            self.store.mounts().prune(name)?;
        }
        Ok(())
    }

    /// Brings what caches have of a cache mount, once a build.
    fn bring_cache_mount(&self, name: &str, directory: &std::path::Path) {
        // It is held meanwhile, so that another step with the mount finds it as it will be.
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if mounts.insert(name.to_owned()) && !self.emptied(name) {
            self.resolved.imports.bring_mount(&self.store, name, directory);
        }
    }

    fn emptied(&self, name: &str) -> bool {
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Returns the layers that a step's place made when it ran last.
    fn made_before(&self, step: StepId) -> Result<Vec<LayerId>, StepError> {
        const LAYERS_LOOKED_AT: usize = 3;
        let records = self.store.records();
        let mut layers = Vec::new();
        for key in records.recent(&self.place(step))?.into_iter().take(LAYERS_LOOKED_AT) {
            layers.extend(records.explain(&key)?.map(|record| record.layer));
        }
        Ok(layers)
    }

    fn lock(&self) -> Option<&Lock> {
        self.resolved.lock.as_deref()
    }

    /// Remembers which record a step's result is, if somebody will want to know.
    fn note_used(&self, step: StepId, record: &CacheRecord) {
        if self.request.inline_cache || !self.request.cache_to.is_empty() {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.insert(step, record.clone());
        }
    }

    fn place(&self, step: StepId) -> PlaceId {
        self.places.of(step)
    }

    fn note_met(&self, key: &CacheKey) {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(RecordKey(*key.as_bytes()));
    }

    fn has_met(&self, key: &RecordKey) -> bool {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl StepRunner for EngineRunner {
    type Error = StepError;

    async fn source(&self, step: &Step, cx: &StepContext) -> Result<StepResult, StepError> {
        let result = source::resolve(&self.shared, step, cx).await?;
        self.shared.note_tree(step.id, &result);
        Ok(result)
    }

    async fn contents(&self, step: &Step, inputs: &StepInputs) -> Result<KeyParts, StepError> {
        let (shared, step, inputs) = (self.shared.clone(), step.clone(), inputs.clone());
        blocking(move || match &step.op {
            Op::Copy(copy) => copy::contents(&shared, &step, copy, &inputs),
            Op::Run(run) => {
                let parts = mounts::contents(&shared, &step, run, &inputs)?;
                let known = mounts::known(&shared, step.id, run, &inputs);
                shared.seen().mounts.insert(step.id, known);
                Ok(parts)
            }
            _ => Ok(KeyParts::default()),
        })
        .await
    }

    async fn lookup(
        &self,
        step: &Step,
        key: &CacheKey,
        parts: &KeyParts,
        inputs: &StepInputs,
    ) -> Result<Lookup, StepError> {
        let (shared, step, key, parts) = (self.shared.clone(), step.clone(), *key, parts.clone());
        let parent = inputs.parent.clone();
        blocking(move || match lookup::find(&shared, &step, &key, &parent)? {
            Some(lookup::Hit { result, left_out }) => {
                shared.note_met(&key);
                shared.note_tree(step.id, &result);
                shared.forget_taken(step.id);
                Ok(Lookup::Hit { result, left_out })
            }
            None => {
                let causes = reason::of_miss(&shared, &step, &parts, &parent)?;
                let reason = in_one_line(&causes);
                shared.causes.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id, causes);
                Ok(Lookup::Miss(reason))
            }
        })
        .await
    }

    async fn execute(
        &self,
        step: &Step,
        key: &CacheKey,
        parts: &KeyParts,
        inputs: &StepInputs,
        cx: &StepContext,
    ) -> Result<Executed, StepError> {
        let work = Work {
            shared: self.shared.clone(),
            step: step.clone(),
            key: *key,
            parts: parts.clone(),
            inputs: inputs.clone(),
            cx: cx.clone(),
        };
        let before = self.shared.made_before(step.id)?;
        let mut executed = match step.op {
            Op::Run(_) => run::execute(work).await?,
            _ => blocking(move || execute_files(&work)).await?,
        };
        self.shared.note_met(key);
        // The store may have the layer because quite another step made it.
        let layer = executed.result.tree().last().map(|layer| layer.id);
        executed.equal_output &= layer.is_some_and(|layer| before.contains(&layer));
        self.shared.note_tree(step.id, &executed.result);
        self.shared.diff_ids.flush(&self.shared.store, step.id, executed.bytes);
        // Where another build did the work, the digest may still be missing.
        self.shared.diff_ids.start(&self.shared.store, step.id, &executed.result, None);
        self.shared.forget_taken(step.id);
        Ok(executed)
    }
}

/// One step on its way from miss to record.
pub(crate) struct Work {
    shared: Arc<Shared>,
    step: Step,
    key: CacheKey,
    parts: KeyParts,
    inputs: StepInputs,
    cx: StepContext,
}

impl Work {
    /// Waits for the right to run this step and looks once more: another build may have run it meanwhile.
    fn lock(&self) -> Result<Turn, StepError> {
        let cancelled = || self.cx.cancel.is_cancelled();
        let lock = self.shared.store.lock_step(&self.key.hex(), &cancelled)?;
        if !self.step.ignore_cache
            && let Some(hit) = lookup::find(&self.shared, &self.step, &self.key, &self.inputs.parent)?
        {
            let lookup::Hit { result, left_out } = hit;
            return Ok(Turn::Shared(Executed {
                result,
                equal_output: true,
                bytes: 0,
                shared: true,
                left_out,
            }));
        }
        Ok(Turn::Ours(lock))
    }

    /// Returns the step's result once its layer is stored, and has the digest of the layer's tar computed from now on; by its
    /// index, if that is at hand.
    fn result(&self, layer: LayerId, index: Option<LayerIndex>) -> StepResult {
        let result = lookup::with_layer(&self.inputs.parent, layer);
        self.shared.diff_ids.start(&self.shared.store, self.step.id, &result, index);
        result
    }

    /// Tells that the step's work is done and becomes a layer.
    fn storing(&self) {
        let phase = StepPhase::Storing;
        self.cx.events.send_blocking(BuildEvent::StepPhase { id: self.step.id, phase });
    }

    /// The step's parts as records keep them, with the listings of what it took.
    fn record_parts(&self) -> Result<Vec<RecordPart>, StepError> {
        let details = copy::details(&self.shared, self.step.id)?;
        let part = |part: &mica_solver::KeyPart| RecordPart {
            name: part.name.clone(),
            value: part.value.clone(),
            detail: details.get(&part.name).copied(),
        };
        Ok(self.parts.0.iter().map(part).collect())
    }

    fn record_key(&self) -> RecordKey {
        RecordKey(*self.key.as_bytes())
    }
}

/// Returns the steps whose files commands see: what they run on, and what they mount.
fn seen_by_commands(graph: &BuildGraph) -> HashSet<StepId> {
    let commands = graph.steps().filter(|step| matches!(step.op, Op::Run(_)));
    graph.lineages(commands.flat_map(|step| graph.inputs(step.id)).map(|(_, step)| step))
}

/// Whose turn it is to run a step.
enum Turn {
    /// Ours, as long as this lock lives.
    Ours(mica_cache::StepLock),
    /// Another build's, and it is done.
    Shared(Executed),
}

fn execute_files(work: &Work) -> Result<Executed, StepError> {
    let lock = match work.lock()? {
        Turn::Shared(executed) => return Ok(executed),
        Turn::Ours(lock) => lock,
    };
    let executed = match &work.step.op {
        Op::Copy(copy) => copy::execute(work, copy),
        Op::Workdir(workdir) => workdir::execute(work, workdir),
        _ => unreachable!("only COPY and WORKDIR are file steps"),
    };
    drop(lock);
    executed
}

/// A hash of what a tree contains, for remembering that conditions held there.
fn tree_hash(tree: &Tree) -> TreeHash {
    let mut hasher = blake3::Hasher::new();
    for layer in tree {
        hasher.update(layer.id.as_bytes());
    }
    TreeHash(*hasher.finalize().as_bytes())
}
