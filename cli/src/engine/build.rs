//! A build from request to image: context, Dockerfile, plan, solve, assemble, outputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use mica_cache::{BuiltBy, DetailId, Failure, FileError, ImageRecord, KeepPolicy, Store, VersionInfo};
use mica_image::tree::Tree;
use mica_image::{ContentDigest, ImageConfig, LayerId, Platform, Reference, Timestamp};
use mica_parser::diagnostic::{Diagnostic, Severity};
use mica_solver::graph::{BuildGraph, HistoryItem, ImageSource, Target};
use mica_solver::plan::{
    IgnoredPaths, NamedContext, Plan, PlanRequest, Planned, ResolvedImage, Setting, plan, unresolved_image,
};
use mica_solver::{
    BuildEvent, EventSender, SolveError, SolveOptions, Solved, Step, StepId, StepResult, TaskState, solve,
};
use tokio_util::sync::CancellationToken;

use super::assemble::{AssembledLayer, image_config};
use super::attest::say::{Finished, SayError};
use super::attest::statement::Predicate;
use super::bases::{BaseError, Bases};
use super::blocking::blocking;
use super::build_log::BuildLog;
use super::build_record::{BuildRecord, Watch};
use super::build_steps::BuildSteps;
use super::commit::commit_of;
use super::context::{BuildContext, ContextError, DockerfileText, read_dockerfile};
use super::exchange::{self, ExchangeError, Imports};
use super::lock::{self, Lock, LockError};
use super::materials::remote_materials;
use super::output::{Exported, OutputError, StoredImage};
use super::reproducible::{self, Clamp, ClampSource, Reproducible};
use super::request::{BuildRequest, ContextInput, OutputKind};
use super::runner::{EngineRunner, Resolved, StepError};
use super::source_time::{Sources, directory_commit, source_time};
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

/// A build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The Dockerfile has mistakes.
    #[error("the Dockerfile has mistakes")]
    Diagnostics {
        /// All of them, warnings included.
        diagnostics: Vec<Diagnostic>,
        /// The file.
        dockerfile: DockerfileText,
    },
    /// A step failed.
    #[error("{error}")]
    Step {
        /// Its name and place.
        step: Box<Step>,
        /// The file, for showing the line.
        dockerfile: DockerfileText,
        /// Why.
        #[source]
        error: StepError,
        /// Whether what it left is kept, to be entered.
        kept: bool,
    },
    /// The context or Dockerfile could not be had.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A base image could not be had.
    #[error("{error}")]
    Base {
        /// Where the Dockerfile asks for it.
        diagnostic: Box<Diagnostic>,
        /// The file.
        dockerfile: DockerfileText,
        /// Why.
        #[source]
        error: BaseError,
    },
    /// An image could not be stored.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// A blob could not be stored.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// Nothing could be said of an image.
    #[error(transparent)]
    Say(#[from] SayError),
    /// An output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A cache could not be exported.
    #[error("cannot write the cache `{cache}`")]
    Cache {
        /// Where to.
        cache: String,
        /// Why.
        #[source]
        source: ExchangeError,
    },
    /// A root file system could not be imported.
    #[error("cannot import `{}`", path.display())]
    Import {
        /// The tar.
        path: PathBuf,
        /// Why.
        #[source]
        source: super::import::ImportError,
    },
    /// The build was interrupted.
    #[error("the build was canceled")]
    Canceled,
    /// A bug.
    #[error("a step's task panicked: {0}")]
    Panicked(String),
}

impl BuildError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Step { error, kept, .. } => {
                error.hint().or_else(|| kept.then(|| "`mica enter` opens a shell where it failed".to_owned()))
            }
            Self::Base { error, .. } => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Layer(error) => error.hint().map(str::to_owned),
            Self::Output(error) => error.hint(),
            Self::Cache { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The target and what it needs.
    Target,
    /// Every stage.
    AllStages,
    /// To see what is wrong with every stage, if with less than all images looked at.
    Check,
    /// To tell what the target can be given, if with less than all images looked at.
    Outline,
    /// To list the stages, for which no image is looked at.
    Stages,
}

impl Purpose {
    fn takes_every_stage(self) -> bool {
        matches!(self, Self::AllStages | Self::Check)
    }

    /// Returns whether planning goes on without an image that cannot be looked at for this reason.
    fn bears(self, error: &BaseError) -> bool {
        matches!(self, Self::Check | Self::Outline) && error.is_out_of_reach()
    }
}

/// A Dockerfile with everything that was resolved to plan it.
pub(crate) struct PlannedBuild {
    /// The plan; `None` with error diagnostics.
    pub plan: Option<Plan>,
    /// All diagnostics.
    pub diagnostics: Vec<Diagnostic>,
    /// The file.
    pub dockerfile: DockerfileText,
    /// The contexts by name.
    pub contexts: BTreeMap<Option<String>, BuildContext>,
    /// The bases.
    pub bases: Arc<Bases>,
    /// What names are held to.
    pub lock: Option<Arc<Lock>>,
    /// Why base images were not looked at, in a check that went on without them.
    pub out_of_reach: Vec<BaseError>,
}

/// Contexts and Dockerfile of a build, before anything is planned.
pub(super) struct OpenedBuild {
    contexts: BTreeMap<Option<String>, BuildContext>,
    pub(super) dockerfile: DockerfileText,
}

impl OpenedBuild {
    /// Returns the main context.
    pub(super) fn main(&self) -> &BuildContext {
        &self.contexts[&None]
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
            stored.push(self.assemble(target, &solved, times, seen.steps).await?);
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

    /// Reads, parses and plans; asks for base images until none is missing.
    pub(crate) async fn plan(
        &self,
        request: &Arc<BuildRequest>,
        events: &EventSender,
        purpose: Purpose,
    ) -> Result<PlannedBuild, BuildError> {
        let opened = self.open_build(request, events).await?;
        let lock = lock::find(&request.lock, opened.main(), &opened.dockerfile)?.map(Arc::new);
        if let Some(lock) = &lock {
            tell_lock(lock, request, events).await?;
        }
        self.plan_opened(request, events, opened, lock, purpose).await
    }

    /// Plans what was opened; names are held to `lock`.
    pub(super) async fn plan_opened(
        &self,
        request: &Arc<BuildRequest>,
        events: &EventSender,
        opened: OpenedBuild,
        lock: Option<Arc<Lock>>,
        purpose: Purpose,
    ) -> Result<PlannedBuild, BuildError> {
        let OpenedBuild { mut contexts, dockerfile } = opened;
        let parsed = mica_parser::parse(&dockerfile.text);
        let named = self.named_contexts(request, &mut contexts).await?;
        let mut plan_request = plan_request(request, named, &contexts, purpose.takes_every_stage());
        let mut known: HashMap<ImageSource, ResolvedImage> = HashMap::new();
        let mut bases = Bases::default();
        let mut out_of_reach = Vec::new();
        loop {
            let (planned, mut diagnostics) = plan(&parsed.dockerfile, &plan_request, &known);
            diagnostics.extend(parsed.diagnostics.iter().cloned());
            mica_parser::diagnostic::sort(&mut diagnostics);
            diagnostics.dedup();
            let plan = match planned {
                Some(Planned::NeedImages(wanted)) if purpose == Purpose::Stages => {
                    let unknown = |source: ImageSource| {
                        let image = ResolvedImage::out_of_reach(&source.platform);
                        (source, image)
                    };
                    known.extend(wanted.into_iter().map(unknown));
                    continue;
                }
                Some(Planned::NeedImages(wanted)) if !has_errors(&diagnostics) => {
                    let refused = refused_images(&lock, &wanted, |source, reason| {
                        unresolved_image(&parsed.dockerfile, &plan_request, &known, source, reason)
                    });
                    if !refused.is_empty() {
                        diagnostics.extend(refused);
                        return Err(BuildError::Diagnostics { diagnostics, dockerfile });
                    }
                    for source in wanted {
                        match self.resolve_base(&source, request, lock.as_deref(), events).await {
                            Ok(base) => {
                                known.insert(source.clone(), base.resolved());
                                bases.insert(source, base);
                            }
                            Err(error) if purpose.bears(&error) => {
                                known.insert(source.clone(), ResolvedImage::out_of_reach(&source.platform));
                                out_of_reach.push(error);
                            }
                            Err(error) => {
                                let file = &parsed.dockerfile;
                                let reason = chain(&error);
                                let diagnostic =
                                    unresolved_image(file, &plan_request, &known, &source, &reason);
                                return Err(BuildError::Base {
                                    diagnostic: Box::new(diagnostic),
                                    dockerfile,
                                    error,
                                });
                            }
                        }
                    }
                    continue;
                }
                Some(Planned::NeedTime(source)) if !has_errors(&diagnostics) => {
                    let named = &plan_request.named_contexts;
                    let lock = lock.as_deref();
                    let sources = Sources { request, named, contexts: &contexts, lock, events };
                    plan_request.source_time = source_time(&self.host, &source, &sources).await?;
                    continue;
                }
                Some(Planned::Ready(plan)) => Some(*plan),
                Some(Planned::NeedImages(_) | Planned::NeedTime(_)) | None => None,
            };
            let bases = Arc::new(bases);
            diagnostics.extend(refused_sources(lock.as_deref(), plan.as_ref()));
            return Ok(PlannedBuild { plan, diagnostics, dockerfile, contexts, bases, lock, out_of_reach });
        }
    }

    /// Opens the main context and reads the Dockerfile.
    pub(super) async fn open_build(
        &self,
        request: &Arc<BuildRequest>,
        events: &EventSender,
    ) -> Result<OpenedBuild, BuildError> {
        let mut main = match &request.context {
            ContextInput::Directory(path) if !path.is_file() => BuildContext::directory(path)?,
            ContextInput::Directory(path) | ContextInput::Archive(path) => {
                let (store, path) = (self.host.store.clone(), path.clone());
                blocking(move || BuildContext::archive(&store, &path)).await?
            }
            ContextInput::Url(url) => self.fetch_context(url, request, events).await?,
            ContextInput::Empty => BuildContext::empty(&self.host.store)?,
        };
        let dockerfile = read_dockerfile(&request.dockerfile, &main)?;
        main.read_ignore_file(dockerfile.path.as_deref())?;
        Ok(OpenedBuild { contexts: BTreeMap::from([(None, main)]), dockerfile })
    }

    /// Tells named contexts apart and opens those that are files.
    async fn named_contexts(
        &self,
        request: &BuildRequest,
        contexts: &mut BTreeMap<Option<String>, BuildContext>,
    ) -> Result<BTreeMap<String, NamedContext>, BuildError> {
        let mut named = BTreeMap::new();
        for (name, value) in &request.named_contexts {
            let (context, files) = self.named_context(name, value).await?;
            if let Some(files) = files {
                contexts.insert(Some(name.clone()), files);
            }
            named.insert(name.clone(), context);
        }
        Ok(named)
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
        solved: &Solved,
        times: &Times,
        steps: Option<DetailId>,
    ) -> Result<StoredImage, BuildError> {
        let mut tree = target.step.map_or_else(Tree::new, |step| match &solved.results[&step] {
            StepResult::Tree(tree) => tree.clone(),
            StepResult::Files(_) => Tree::new(),
        });
        let new_layers = target.history.iter().filter(|item| item.step.is_some()).count();
        let base_layers = tree.len().saturating_sub(new_layers);
        for layer in &mut tree[base_layers..] {
            layer.clamp = times.clamp();
        }
        let epoch = times.created();
        let (store, target) = (self.host.store.clone(), target.clone());
        let built_by = steps.zip(target.step).map(|(steps, step)| BuiltBy { steps, last: step.0 + 1 });
        blocking(move || assemble(&store, &target, tree, epoch, built_by)).await
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

/// Makes and stores the image of a tree.
pub(super) fn assemble(
    store: &Store,
    target: &Target,
    tree: Tree,
    epoch: Option<i64>,
    built_by: Option<BuiltBy>,
) -> Result<StoredImage, BuildError> {
    let layers = store.layers();
    let mut assembled = Vec::with_capacity(tree.len());
    for layer in &tree {
        let created = match layer.diff_id {
            Some(_) => None,
            None => Some(Timestamp::from_unix(layers.require(&layer.id)?.meta().created, 0)),
        };
        let diff_id = layers.diff_id(layer)?;
        assembled.push(AssembledLayer { diff_id, created });
    }
    let config = image_config(target, &assembled, epoch);
    let lines = lines(&config, &target.history);
    store_image(store, config, tree, &target.platform, (lines, built_by))
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

/// Stores an image's config and record.
pub(super) fn store_image(
    store: &mica_cache::Store,
    config: ImageConfig,
    tree: Tree,
    platform: &Platform,
    (lines, built_by): (Vec<u32>, Option<BuiltBy>),
) -> Result<StoredImage, BuildError> {
    let id = store.blobs().put(&config.to_bytes())?;
    let created = config.created.as_ref().and_then(Timestamp::unix).map_or(0, |(seconds, _)| seconds);
    let record = ImageRecord {
        id,
        tree: tree.clone(),
        platform: platform.to_string(),
        created,
        manifest: None,
        lines,
        built_by,
    };
    store.images().put(&record)?;
    Ok(StoredImage { id, config, tree, platform: platform.clone(), manifest: None, said: Vec::new() })
}

/// Says that a lock is used, and refuses a context it cannot cover where it has to cover everything.
async fn tell_lock(lock: &Lock, request: &BuildRequest, events: &EventSender) -> Result<(), BuildError> {
    if let (true, ContextInput::Url(url)) = (lock.strict, &request.context)
        && !super::fetch::names_commit(url)
    {
        return Err(LockError::Context(lock::bare_url(url)).into());
    }
    let what = format!("using {} ({})", lock.shown(), lock.summary());
    for state in [TaskState::Started, TaskState::Done] {
        events.send(BuildEvent::Task { what: what.clone(), state }).await;
    }
    Ok(())
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

/// Where everything must be locked: the images that are not.
fn refused_images(
    lock: &Option<Arc<Lock>>,
    wanted: &[ImageSource],
    diagnostic: impl Fn(&ImageSource, &str) -> Diagnostic,
) -> Vec<Diagnostic> {
    let Some(lock) = lock.as_deref().filter(|lock| lock.strict) else { return Vec::new() };
    let uncovered = wanted.iter().filter(|source| lock::uncovered_image(lock, source).is_some());
    uncovered.map(|source| lock::not_locked(lock, diagnostic(source, "it is not in the lock file"))).collect()
}

/// Where everything must be locked: the sources of steps that are not.
fn refused_sources(lock: Option<&Lock>, plan: Option<&Plan>) -> Vec<Diagnostic> {
    let (Some(lock), Some(plan)) = (lock.filter(|lock| lock.strict), plan) else { return Vec::new() };
    plan.graph.steps().filter_map(|step| lock::uncovered_source(lock, step)).collect()
}

/// Says what a lock does not cover, and is therefore resolved as if there were none.
async fn warn_uncovered(lock: Option<&Lock>, plan: &Plan, events: &EventSender) {
    let Some(lock) = lock else { return };
    for name in plan.graph.steps().filter_map(|step| lock::uncovered_name(lock, step)) {
        let message = format!("`{name}` is not in {}: `mica lock` adds it", lock.shown());
        events.send(BuildEvent::Warning { message }).await;
    }
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
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

/// The lines of all history entries: 0 for the base's, which come first.
fn lines(config: &ImageConfig, new: &[HistoryItem]) -> Vec<u32> {
    let mut lines = vec![0; config.history.len().saturating_sub(new.len())];
    lines.extend(new.iter().map(|item| item.line));
    lines
}

/// Tells builds of one Dockerfile in one context from others.
fn identity(dockerfile: &DockerfileText, contexts: &BTreeMap<Option<String>, BuildContext>) -> String {
    let file = dockerfile.path.clone().unwrap_or_else(|| PathBuf::from(&dockerfile.name));
    let root = contexts.get(&None).map(|context| context.root().display().to_string());
    format!("{}\0{}", file.display(), root.unwrap_or_default())
}

fn plan_request(
    request: &BuildRequest,
    named_contexts: BTreeMap<String, NamedContext>,
    contexts: &BTreeMap<Option<String>, BuildContext>,
    all_stages: bool,
) -> PlanRequest {
    let ignore =
        contexts.get(&None).and_then(BuildContext::ignore).filter(|ignore| !ignore.patterns.has_negations());
    PlanRequest {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        labels: request.labels.clone(),
        platforms: request.platforms.clone(),
        no_cache: request.no_cache.clone(),
        named_contexts,
        network: request.network,
        extra_hosts: request.extra_hosts.clone(),
        ulimits: request.ulimits.clone(),
        shm_size: request.shm_size,
        resources: request.resources.clone(),
        cgroup_parent: request.cgroup_parent.clone(),
        allow: request.allow.clone(),
        ignore: ignore.map(|ignore| {
            let patterns = ignore.patterns.clone();
            IgnoredPaths::new(move |path| patterns.decide(path.as_bytes(), None).excluded)
        }),
        normalised: request.reproducible.as_ref().map(Reproducible::normalised).unwrap_or_default(),
        all_stages,
        ..PlanRequest::new(Platform::host())
    }
}
