//! The graph while it is being planned: steps in order, each kept once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mica_image::Platform;
use mica_parser::syntax::Span;

use super::outcome::Setting;
use super::paths;
use crate::graph::{BuildGraph, ContextSource, ImageSource, InlineSource, Op, Step, StepId};

/// Steps and what each sees. Two steps that do the same with the same inputs are one step, whichever stages wrote them.
#[derive(Default)]
pub(super) struct Draft {
    steps: Vec<(Step, Vec<(u32, StepId)>)>,
    known: HashMap<blake3::Hash, StepId>,
    contexts: BTreeMap<Option<String>, (StepId, BTreeSet<String>)>,
    settings: BTreeMap<StepId, Setting>,
}

/// Where a step comes from and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) title: String,
    pub(super) stage: Option<String>,
    pub(super) span: Option<Span>,
    pub(super) line: Option<u32>,
}

impl Origin {
    /// A step nobody wrote.
    pub(super) fn internal(title: impl Into<String>) -> Self {
        Self { title: title.into(), stage: None, span: None, line: None }
    }
}

impl Draft {
    /// Adds a step, or returns the one that does the same.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        platform: &Platform,
        ignore_cache: bool,
        op: Op,
        inputs: Vec<(u32, StepId)>,
    ) -> StepId {
        let identity = identity(platform, ignore_cache, &op, &inputs);
        if let Some(known) = self.known.get(&identity) {
            return *known;
        }
        let has_parent = inputs.iter().any(|(slot, _)| *slot == 0);
        let Origin { title, stage, span, line } = origin;
        let platform = platform.clone();
        let id = self.push(
            Step { id: StepId(0), name: title, stage, span, line, platform, has_parent, ignore_cache, op },
            inputs,
        );
        self.known.insert(identity, id);
        id
    }

    /// Returns the step of a base image.
    pub(super) fn image(&mut self, origin: Origin, source: &ImageSource) -> StepId {
        self.add(origin, &source.platform, false, Op::Image(source.clone()), Vec::new())
    }

    /// Returns the step of a tree without files.
    pub(super) fn nothing(&mut self, platform: &Platform) -> StepId {
        self.inline(platform, Vec::new())
    }

    /// Returns the step of files written in the Dockerfile.
    pub(super) fn inline(&mut self, platform: &Platform, files: Vec<(String, String)>) -> StepId {
        let origin = Origin::internal("[internal] preparing inline document");
        self.add(origin, platform, false, Op::Inline(InlineSource { files }), Vec::new())
    }

    /// Returns the step of a context, of which `path` is wanted too. A plan has one step for each context.
    pub(super) fn context(&mut self, name: Option<&str>, path: &str, platform: &Platform) -> StepId {
        let key = name.map(str::to_owned);
        if !self.contexts.contains_key(&key) {
            let id = self.add_context(key.clone(), platform);
            self.contexts.insert(key.clone(), (id, BTreeSet::new()));
        }
        let (id, wanted) = self.contexts.get_mut(&key).expect("it was just added");
        wanted.insert(paths::join("/", path));
        *id
    }

    fn add_context(&mut self, name: Option<String>, platform: &Platform) -> StepId {
        let title = match &name {
            None => "[internal] load build context".to_owned(),
            Some(name) => format!("[context {name}] load from client"),
        };
        let op = Op::Context(ContextSource { name, wanted: Vec::new() });
        let platform = platform.clone();
        let Origin { title, stage, span, line } = Origin::internal(title);
        let step = Step {
            id: StepId(0),
            name: title,
            stage,
            span,
            line,
            platform,
            has_parent: false,
            ignore_cache: false,
            op,
        };
        self.push(step, Vec::new())
    }

    fn push(&mut self, step: Step, inputs: Vec<(u32, StepId)>) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).expect("a Dockerfile has fewer than 2^32 steps"));
        self.steps.push((step, inputs));
        id
    }

    /// Notes what a stage is like after a step; of stages that share one the first counts.
    pub(super) fn set(&mut self, step: StepId, setting: impl FnOnce() -> Setting) {
        self.settings.entry(step).or_insert_with(setting);
    }

    /// Makes the graph, and tells what stages are like after its steps.
    pub(super) fn finish(mut self) -> (BuildGraph, BTreeMap<StepId, Setting>) {
        for (id, wanted) in self.contexts.into_values() {
            if let Op::Context(source) = &mut self.steps[id.0 as usize].0.op {
                source.wanted = simplest(wanted);
            }
        }
        let mut graph = BuildGraph::default();
        for (step, inputs) in self.steps {
            graph.add(step, &inputs);
        }
        (graph, self.settings)
    }
}

/// Names all that makes a step what it is; its place in the file does not.
fn identity(platform: &Platform, ignore_cache: bool, op: &Op, inputs: &[(u32, StepId)]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let described = serde_json::to_writer(&mut hasher, &(platform, ignore_cache, op, inputs));
    described.expect("a step is plain data, and a hasher takes all of it");
    hasher.finalize()
}

/// Whoever wants everything need not say what else is wanted.
fn simplest(wanted: BTreeSet<String>) -> Vec<String> {
    if wanted.contains("/") { vec!["/".to_owned()] } else { wanted.into_iter().collect() }
}
