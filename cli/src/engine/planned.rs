//! From a request to a plan: contexts, Dockerfile, base images.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mica_image::Platform;
use mica_parser::diagnostic::{Diagnostic, Severity};
use mica_parser::syntax::Dockerfile;
use mica_solver::graph::ImageSource;
use mica_solver::plan::{
    IgnoredPaths, NamedContext, Plan, PlanRequest, Planned, ResolvedImage, plan, unresolved_image,
};
use mica_solver::{BuildEvent, EventSender, TaskState};

use super::bases::{BaseError, Bases};
use super::blocking::blocking;
use super::build_error::BuildError;
use super::context::{BuildContext, DockerfileText, read_dockerfile};
use super::lock::{self, Lock, LockError};
use super::reproducible::Reproducible;
use super::request::{BuildRequest, ContextInput};
use super::source_time::{Sources, source_time};
use super::{Engine, chain};

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
        let mut planning = Planning {
            engine: self,
            request,
            events,
            lock: lock.as_deref(),
            purpose,
            file: &parsed.dockerfile,
            plan_request: plan_request(request, named, &contexts, purpose.takes_every_stage()),
            known: HashMap::new(),
            bases: Bases::default(),
            out_of_reach: Vec::new(),
        };
        let (plan, diagnostics) = loop {
            let (planned, mut diagnostics) = plan(planning.file, &planning.plan_request, &planning.known);
            diagnostics.extend(parsed.diagnostics.iter().cloned());
            mica_parser::diagnostic::sort(&mut diagnostics);
            diagnostics.dedup();
            match planned {
                Some(Planned::NeedImages(wanted)) if purpose == Purpose::Stages => {
                    planning.do_without(wanted)
                }
                Some(Planned::NeedImages(wanted)) if !has_errors(&diagnostics) => {
                    let refused = planning.refused(&wanted);
                    if !refused.is_empty() {
                        diagnostics.extend(refused);
                        return Err(BuildError::Diagnostics { diagnostics, dockerfile });
                    }
                    if let Err((diagnostic, error)) = planning.resolve(wanted).await {
                        return Err(BuildError::Base { diagnostic: Box::new(diagnostic), dockerfile, error });
                    }
                }
                Some(Planned::NeedTime(source)) if !has_errors(&diagnostics) => {
                    let named = &planning.plan_request.named_contexts;
                    let sources =
                        Sources { request, named, contexts: &contexts, lock: planning.lock, events };
                    planning.plan_request.source_time = source_time(&self.host, &source, &sources).await?;
                }
                Some(Planned::Ready(plan)) => {
                    diagnostics.extend(refused_sources(planning.lock, &plan));
                    break (Some(*plan), diagnostics);
                }
                Some(Planned::NeedImages(_) | Planned::NeedTime(_)) | None => break (None, diagnostics),
            }
        };
        let (bases, out_of_reach) = (Arc::new(planning.bases), planning.out_of_reach);
        Ok(PlannedBuild { plan, diagnostics, dockerfile, contexts, bases, lock, out_of_reach })
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

/// A Dockerfile on its way to a plan, with what was found out for it.
struct Planning<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    events: &'a EventSender,
    lock: Option<&'a Lock>,
    purpose: Purpose,
    file: &'a Dockerfile,
    plan_request: PlanRequest,
    known: HashMap<ImageSource, ResolvedImage>,
    bases: Bases,
    out_of_reach: Vec<BaseError>,
}

impl Planning<'_> {
    /// Goes on without having looked at images.
    fn do_without(&mut self, wanted: Vec<ImageSource>) {
        for source in wanted {
            let image = ResolvedImage::out_of_reach(&source.platform);
            self.known.insert(source, image);
        }
    }

    /// Where everything must be locked: the images that are not.
    fn refused(&self, wanted: &[ImageSource]) -> Vec<Diagnostic> {
        let Some(lock) = self.lock.filter(|lock| lock.strict) else { return Vec::new() };
        let uncovered = wanted.iter().filter(|source| lock::uncovered_image(lock, source).is_some());
        let reason = "it is not in the lock file";
        uncovered.map(|source| lock::not_locked(lock, self.diagnostic(source, reason))).collect()
    }

    /// Looks at images; an error comes with the place in the Dockerfile that asks for the image.
    async fn resolve(&mut self, wanted: Vec<ImageSource>) -> Result<(), (Diagnostic, BaseError)> {
        for source in wanted {
            match self.engine.resolve_base(&source, self.request, self.lock, self.events).await {
                Ok(base) => {
                    self.known.insert(source.clone(), base.resolved());
                    self.bases.insert(source, base);
                }
                Err(error) if self.purpose.bears(&error) => {
                    self.do_without(vec![source]);
                    self.out_of_reach.push(error);
                }
                Err(error) => return Err((self.diagnostic(&source, &chain(&error)), error)),
            }
        }
        Ok(())
    }

    fn diagnostic(&self, source: &ImageSource, reason: &str) -> Diagnostic {
        unresolved_image(self.file, &self.plan_request, &self.known, source, reason)
    }
}

/// Where everything must be locked: the sources of steps that are not.
fn refused_sources(lock: Option<&Lock>, plan: &Plan) -> Vec<Diagnostic> {
    let Some(lock) = lock.filter(|lock| lock.strict) else { return Vec::new() };
    plan.graph.steps().filter_map(|step| lock::uncovered_source(lock, step)).collect()
}

pub(super) fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
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
