//! A build from request to image: plan, solve, assemble, outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mica_cache::{BuiltBy, DetailId, Failure, FileError, KeepPolicy, Store, VersionInfo};
use mica_image::tree::Tree;
use mica_image::{ContentDigest, LayerId, Platform, Reference};
use mica_parser::diagnostic::Diagnostic;
use mica_solver::graph::{BuildGraph, Target};
use mica_solver::plan::{Plan, Setting};
use mica_solver::{
    BuildEvent, EventSender, SolveError, SolveOptions, Solved, StepId, StepResult, TaskState, solve,
};
use tokio_util::sync::CancellationToken;

use super::attest::say::Finished;
use super::attest::statement::Predicate;
use super::blocking::blocking;
use super::build_error::BuildError;
use super::build_log::BuildLog;
use super::build_record::{BuildRecord, Watch};
use super::build_steps::BuildSteps;
use super::commit::commit_of;
use super::context::{BuildContext, DockerfileText};
use super::exchange::{self, Imports};
use super::lock::{self, Lock};
use super::materials::remote_materials;
use super::output::{Exported, StoredImage};
use super::planned::{PlannedBuild, Purpose, has_errors};
use super::reproducible::{self, Clamp, ClampSource};
use super::request::{BuildRequest, ContextInput, OutputKind};
use super::runner::{EngineRunner, Resolved, StepError};
use super::source_time::directory_commit;
use super::stored::{Carried, assemble};
use super::{Engine, chain};
use crate::environment::now;

/// What a build made.
#[derive(Debug)]
pub(crate) struct BuildReport {
    /// The images, one for each platform.
    pub images: Vec<BuiltImage>,
    /// Warnings about the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, for showing them.
    pub dockerfile: DockerfileText,
    /// Names in the store.
    pub names: Vec<String>,
    /// The images among the outputs.
    pub exported: Vec<Exported>,
    /// What times were clamped to.
    pub clamp: Option<Clamp>,
}

/// One image of a build.
#[derive(Debug, Clone)]
pub(crate) struct BuiltImage {
    /// The digest of its config.
    pub id: ContentDigest,
    /// Its platform.
    pub platform: Platform,
    /// What is said of it.
    pub said: Vec<Predicate>,
}

impl BuiltImage {
    fn of(image: &StoredImage) -> Self {
        Self { id: image.id, platform: image.platform.clone(), said: image.said.clone() }
    }
}

impl Engine {
    /// Builds.
    pub(crate) async fn build(
        &self,
        request: BuildRequest,
        events: &EventSender,
        cancel: &CancellationToken,
    ) -> Result<BuildReport, BuildError> {
        let imports = Arc::new(Imports::open(&self.host, &request.cache_from, events).await);
        let begun = begin(self, Arc::new(request), imports.clone(), events).await?;
        let Begun { request, graph, targets, runner, dockerfile, diagnostics, log, times, .. } = &begun;
        let (log, epoch, mut inputs) = (log.clone(), times.created(), begun.inputs.clone());
        let started = now();
        let options = SolveOptions { jobs: request.jobs, cancel: cancel.clone() };
        let mut watch = Watch::default();
        let solved = loop {
            let solved = watched(graph, runner.clone(), &options, events, &mut watch).await;
            let brought = match &solved {
                Ok(solved) => self.bring(targets, solved).await,
                Err(_) => Ok(()),
            };
            // Bytes that a cache promised did not come: the steps that count as done because of it are not, and it is not asked again.
            if imports.have_failed() && !cancel.is_cancelled() {
                continue;
            }
            brought?;
            break solved;
        };
        let failed = match &solved {
            Err(SolveError::Step { step, .. }) => Some(*step),
            _ => None,
        };
        let seen = self.note_steps(&begun, failed).await;
        let mut record = BuildRecord {
            started: log.started(),
            dockerfile: dockerfile.name.clone(),
            names: local_names(request).iter().map(Reference::familiar).collect(),
            images: Vec::new(),
            succeeded: false,
            clamp: times.clamp(),
            steps: watch.steps(graph, &runner.all_causes()),
            seen: seen.steps,
        };
        let solved = match solved {
            Ok(solved) => solved,
            Err(error) => {
                log.write_report(&record);
                return Err(match error {
                    SolveError::Canceled => BuildError::Canceled,
                    SolveError::Panicked(message) => BuildError::Panicked(message),
                    SolveError::Step { step, error } => {
                        let step = Box::new(graph.step(step).clone());
                        BuildError::Step {
                            step,
                            dockerfile: begun.dockerfile,
                            error,
                            kept: seen.failure_is_kept,
                        }
                    }
                });
            }
        };
        runner.finish().await;
        let remote = remote_materials(graph, runner);
        inputs.extend(remote.iter().map(|it| (format!("source {}", it.url), it.content.to_string())));
        let mut stored = Vec::new();
        for target in targets {
            stored.push(self.assemble(target, &begun, &solved, seen.steps).await?);
        }
        let finished = Finished { request, graph, runner, dockerfile, remote: &remote, started, epoch };
        self.say(finished, &mut stored, events).await?;
        self.tag(&local_names(request), &stored, dockerfile, &inputs)?;
        let exported = self.write_outputs(request, &stored, events).await?;
        imports.keep_hits(&self.host.store)?;
        exchange::export(&self.host, request, &runner.learned(), events)
            .await
            .map_err(|(cache, source)| BuildError::Cache { cache, source })?;
        record.images = stored.iter().map(|image| image.id).collect();
        record.note_layers(&solved);
        record.succeeded = true;
        log.write_report(&record);
        self.sync(events).await?;
        Ok(BuildReport {
            images: stored.iter().map(BuiltImage::of).collect(),
            warnings: diagnostics.clone(),
            names: local_names(request).iter().map(Reference::to_string).collect(),
            dockerfile: begun.dockerfile,
            exported,
            clamp: begun.times.clamp,
        })
    }

    /// Brings the layers of the images into the store, where they are only promised.
    async fn bring(&self, targets: &[Target], solved: &Solved) -> Result<(), BuildError> {
        let trees = targets.iter().filter_map(|target| Some(solved.results[&target.step?].tree()));
        let layers: BTreeSet<LayerId> = trees.flatten().map(|layer| layer.id).collect();
        let brought = layers.into_iter().map(|id| {
            let layers = self.host.store.layers();
            blocking(move || layers.fulfil(&id))
        });
        for result in futures_util::future::join_all(brought).await {
            result?;
        }
        Ok(())
    }

    async fn assemble(
        &self,
        target: &Target,
        begun: &Begun,
        solved: &Solved,
        steps: Option<DetailId>,
    ) -> Result<StoredImage, BuildError> {
        let mut tree = target.step.map_or_else(Tree::new, |step| match &solved.results[&step] {
            StepResult::Tree(tree) => tree.clone(),
            StepResult::Files(_) => Tree::new(),
        });
        let new_layers = target.history.iter().filter(|item| item.step.is_some()).count();
        let base_layers = tree.len().saturating_sub(new_layers);
        for layer in &mut tree[base_layers..] {
            layer.clamp = begun.times.clamp();
        }
        let epoch = begun.times.created();
        let request = begun.request.clone();
        let carried =
            request.inline_cache.then(|| Carried { request, records: begun.runner.learned().of_images() });
        let (store, target) = (self.host.store.clone(), target.clone());
        let built_by = steps.zip(target.step).map(|(steps, step)| BuiltBy { steps, last: step.0 + 1 });
        blocking(move || assemble(&store, &target, tree, epoch, (carried, built_by))).await
    }

    /// Stores what the steps saw and made, and keeps what the one that failed left. A build is none the worse without.
    async fn note_steps(&self, begun: &Begun, failed: Option<StepId>) -> Noted {
        let seen = begun.runner.take_seen();
        let steps = BuildSteps::of(&begun.graph, &begun.settings, &seen, failed, &begun.request);
        let left = failed.filter(|step| seen.trees.contains_key(step)).map(|step| step.0 + 1);
        let (store, when, project) = (self.host.store.clone(), begun.log.started(), begun.identity.clone());
        blocking(move || {
            let mut noted = Noted::default();
            let noting = steps.store(&store).and_then(|id| {
                noted.steps = Some(id);
                let Some(step) = left else { return Ok(()) };
                let layers = steps.layers(&store, step)?;
                keep_failure(&store, &project, &Failure { when, steps: id, step, layers })?;
                noted.failure_is_kept = true;
                Ok(())
            });
            if let Err(error) = noting {
                tracing::warn!(error = chain(&error), "what the steps saw and made is not kept");
            }
            noted
        })
        .await
    }

    fn tag(
        &self,
        tags: &[Reference],
        stored: &[StoredImage],
        dockerfile: &DockerfileText,
        inputs: &BTreeMap<String, String>,
    ) -> Result<(), BuildError> {
        let Some(first) = stored.first() else { return Ok(()) };
        let images = self.host.store.images();
        for tag in tags {
            let name = tag.to_string();
            if images.current(&name)?.is_some_and(|version| version.image == first.id && stored.len() == 1) {
                continue;
            }
            let mut info = VersionInfo {
                when: now().unix().map_or(0, |(seconds, _)| seconds),
                dockerfile: Some(ContentDigest::of(&dockerfile.text)),
                inputs: inputs.clone(),
                ..VersionInfo::default()
            };
            if stored.len() > 1 {
                info.platforms = stored.iter().map(|image| (image.platform.to_string(), image.id)).collect();
            }
            images.tag(&name, first.id, info)?;
        }
        Ok(())
    }

    /// Returns what times are clamped to, where they are: `epoch` is SOURCE_DATE_EPOCH, `made` what the context says of itself.
    async fn clamp(&self, request: &BuildRequest, epoch: Option<i64>, made: Option<i64>) -> Option<Clamp> {
        if !request.normalises(reproducible::TIMES) {
            return None;
        }
        if let Some(seconds) = request.recorded_clamp {
            return Some(Clamp { seconds, from: ClampSource::Provenance });
        }
        let (seconds, from) = match (epoch, made) {
            (Some(seconds), _) => (seconds, ClampSource::SourceDateEpoch),
            (None, Some(seconds)) => (seconds, ClampSource::Context),
            (None, None) => match directory_commit(&self.host, request).await {
                Some((commit, seconds)) => (seconds, ClampSource::Commit(commit)),
                None => (0, ClampSource::Nothing),
            },
        };
        Some(Clamp { seconds, from })
    }

    async fn sync(&self, events: &EventSender) -> Result<(), BuildError> {
        let task = |state| BuildEvent::Task { what: "writing to disk".to_owned(), state };
        events.send(task(TaskState::Started)).await;
        let store = self.host.store.clone();
        blocking(move || store.sync()).await?;
        events.send(task(TaskState::Done)).await;
        Ok(())
    }
}

/// What was noted of a build's steps.
#[derive(Default)]
struct Noted {
    steps: Option<DetailId>,
    failure_is_kept: bool,
}

/// Keeps a failure, and removes what an earlier one left that has to go for it.
fn keep_failure(store: &Store, project: &str, failure: &Failure) -> Result<(), FileError> {
    if store.failures().keep(project, failure)?
        && let Err(error) = store.collect(&KeepPolicy::UNREACHABLE, &|| false)
    {
        tracing::warn!(error = chain(&error), "what an earlier failure left stays until the next collection");
    }
    Ok(())
}

/// The names an image gets in the store: the build's, and those of outputs that go under a name.
fn local_names(request: &BuildRequest) -> Vec<Reference> {
    let mut names = request.tags.clone();
    for output in &request.outputs {
        let named = match output.kind {
            OutputKind::Image => true,
            OutputKind::Registry(push) => !push.by_digest,
            _ => false,
        };
        names.extend(output.names.iter().filter(|_| named).cloned());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.to_string()));
    names
}

/// A build that is planned and has its runner.
pub(super) struct Begun {
    pub(super) request: Arc<BuildRequest>,
    pub(super) graph: Arc<BuildGraph>,
    targets: Vec<Target>,
    pub(super) runner: Arc<EngineRunner>,
    pub(super) dockerfile: DockerfileText,
    diagnostics: Vec<Diagnostic>,
    inputs: BTreeMap<String, String>,
    log: BuildLog,
    times: Times,
    settings: BTreeMap<StepId, Setting>,
    /// Tells builds of one Dockerfile in one context from others.
    identity: String,
}

/// The times an image is given.
#[derive(Debug)]
struct Times {
    /// SOURCE_DATE_EPOCH.
    epoch: Option<i64>,
    /// What the times in its new layers are clamped to.
    clamp: Option<Clamp>,
}

impl Times {
    fn clamp(&self) -> Option<i64> {
        self.clamp.as_ref().map(|clamp| clamp.seconds)
    }

    /// When the image says it was made; `None` for when it was.
    fn created(&self) -> Option<i64> {
        self.epoch.or_else(|| self.clamp())
    }
}

/// Plans a build and makes its runner.
pub(super) async fn begin(
    engine: &Engine,
    request: Arc<BuildRequest>,
    imports: Arc<Imports>,
    events: &EventSender,
) -> Result<Begun, BuildError> {
    let planned = engine.plan(&request, events, Purpose::Target).await?;
    let inputs = inputs(&request, &planned);
    let (dockerfile, diagnostics) = (planned.dockerfile, planned.diagnostics);
    let Some(plan) = planned.plan.filter(|_| !has_errors(&diagnostics)) else {
        return Err(BuildError::Diagnostics { diagnostics, dockerfile });
    };
    warn_uncovered(planned.lock.as_deref(), &plan, events).await;
    warn_unused(&plan, events).await;
    let (mut graph, targets) = (plan.graph, plan.targets);
    for step in request.conditions.iter().flat_map(|conditions| &conditions.again) {
        graph.ignore_cache(StepId(step.saturating_sub(1)));
    }
    let graph = Arc::new(graph);
    let log = BuildLog::new(engine.host.store.root(), now().unix().map_or(0, |(seconds, _)| seconds));
    let identity = identity(&dockerfile, &planned.contexts);
    let (epoch, made) = (plan.source_date_epoch, planned.contexts.get(&None).and_then(BuildContext::made));
    let times = Times { epoch, clamp: engine.clamp(&request, epoch, made).await };
    let runner = Arc::new(EngineRunner::new(
        engine.host.clone(),
        request.clone(),
        Resolved { bases: planned.bases, contexts: planned.contexts, lock: planned.lock, imports },
        log.clone(),
        (&graph, &targets),
        &identity,
        times.clamp(),
    ));
    Ok(Begun {
        request,
        graph,
        targets,
        runner,
        dockerfile,
        diagnostics,
        inputs,
        log,
        times,
        settings: plan.settings,
        identity,
    })
}

/// Solves, and takes notice of the events on their way to who shows them.
async fn watched(
    graph: &Arc<BuildGraph>,
    runner: Arc<EngineRunner>,
    options: &SolveOptions,
    events: &EventSender,
    watch: &mut Watch,
) -> Result<Solved, SolveError<StepError>> {
    let (sender, mut receiver) = EventSender::channel();
    let mut solving = std::pin::pin!(solve(graph.clone(), runner, options, &sender));
    loop {
        tokio::select! {
            biased;
            Some(event) = receiver.recv() => {
                watch.see(&event);
                events.send(event).await;
            }
            solved = &mut solving => {
                while let Ok(event) = receiver.try_recv() {
                    watch.see(&event);
                    events.send(event).await;
                }
                return solved;
            }
        }
    }
}

/// Warns of build arguments that no ARG asks for, in the words of `docker build`.
async fn warn_unused(plan: &Plan, events: &EventSender) {
    if plan.unused.is_empty() {
        return;
    }
    let names: Vec<&str> = plan.unused.iter().map(|unused| unused.name.as_str()).collect();
    let mut message = format!("one or more build-args [{}] were not consumed", names.join(" "));
    let nearest: Vec<_> = plan.unused.iter().filter_map(|unused| unused.nearest.as_deref()).collect();
    if !nearest.is_empty() {
        message.push_str(&format!(": did you mean `{}`?", nearest.join("`, `")));
    }
    events.send(BuildEvent::Warning { message }).await;
}

/// Says what a lock does not cover, and is therefore resolved as if there were none.
async fn warn_uncovered(lock: Option<&Lock>, plan: &Plan, events: &EventSender) {
    let Some(lock) = lock else { return };
    for name in plan.graph.steps().filter_map(|step| lock::uncovered_name(lock, step)) {
        let message = format!("`{name}` is not in {}: `mica lock` adds it", lock.shown());
        events.send(BuildEvent::Warning { message }).await;
    }
}

/// What a version remembers of how it was made.
fn inputs(request: &BuildRequest, planned: &PlannedBuild) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::new();
    // The addresses of proxies may hold passwords, and are no input of what is built.
    let is_input = |name: &str| !name.to_ascii_lowercase().ends_with("_proxy");
    for (name, value) in request.build_args.iter().filter(|(name, _)| is_input(name)) {
        inputs.insert(format!("arg {name}"), value.clone());
    }
    for (name, id) in planned.bases.ids() {
        inputs.insert(format!("base {name}"), id.to_string());
    }
    if let ContextInput::Directory(directory) = &request.context
        && let Some(commit) = commit_of(directory)
    {
        inputs.insert("commit".to_owned(), commit);
    }
    inputs
}

/// Tells builds of one Dockerfile in one context from others.
fn identity(dockerfile: &DockerfileText, contexts: &BTreeMap<Option<String>, BuildContext>) -> String {
    let file = dockerfile.path.clone().unwrap_or_else(|| PathBuf::from(&dockerfile.name));
    let root = contexts.get(&None).map(|context| context.root().display().to_string());
    format!("{}\0{}", file.display(), root.unwrap_or_default())
}
