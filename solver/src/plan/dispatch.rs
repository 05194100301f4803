//! Goes through the instructions of each stage in order and makes steps, configuration and history of them.

use std::collections::BTreeSet;

use mica_image::{ImageConfig, Platform};
use mica_parser::syntax::{Span, Spanned};
use mica_parser::words::expand;

use super::arguments::NOT_ENVIRONMENT;
use super::base::Foundation;
use super::contexts::FoundContext;
use super::draft::{Draft, Origin};
use super::environment::{Environment, split_pair};
use super::paths;
use super::planner::PlatformPlan;
use super::report::{OrProblem, Problem, Report};
use super::request::{Knowledge, NamedContext, NoCache};
use super::stage_state::{Content, StageState, default_path, empty_image};
use super::stages::{Base, Command, StageIndex};
use super::title::Titles;
use crate::graph::{
    CopyOp, CopySource, GitSource, HistoryItem, HttpSource, ImageLocation, ImageSource, Op, StepId, Target,
    Unpack,
};

/// The name a named context that is a download gives its file.
const DOWNLOADED_CONTEXT: &str = "context";

/// The stages that have been gone through, by index.
pub(super) type States = Vec<Option<StageState>>;

impl<'a> PlatformPlan<'a> {
    /// Goes through all stages that `target` needs.
    pub(super) fn dispatch(&self, target: StageIndex, draft: &mut Draft, report: &mut Report) -> States {
        let needed = match self.request.all_stages {
            true => self.stages.iter().map(|(index, _)| index).collect(),
            false => self.stages.reachable(target),
        };
        let mut states: States = vec![None; self.stages.len()];
        for index in in_order(self, &needed) {
            let state = self.dispatch_stage(index, &states, draft, report);
            states[index.0] = Some(state);
        }
        states
    }

    fn dispatch_stage(
        &self,
        index: StageIndex,
        states: &States,
        draft: &mut Draft,
        report: &mut Report,
    ) -> StageState {
        let stage = self.stages.get(index);
        let titles = self.titles(index);
        let mut builder = StageBuilder::start(self, index, states, titles, draft, report);
        if !stage.is_written() {
            return builder.state;
        }
        builder.inherit();
        for command in &stage.commands {
            if let Err(problem) = builder.instruction(command) {
                builder.report.error(problem);
            }
        }
        builder.state
    }

    fn titles(&self, index: StageIndex) -> Titles {
        let stage = self.stages.get(index);
        let is_step = |command: &&Command<'_>| {
            let keyword = command.node.keyword.value.to_ascii_lowercase();
            matches!(keyword.as_str(), "add" | "copy" | "run" | "workdir")
        };
        let base = usize::from(matches!(stage.base, Base::Image(_)));
        let total = if stage.is_written() { base + stage.commands.iter().filter(is_step).count() } else { 0 };
        Titles { label: stage.label.clone(), total, done: 0, with_platform: self.names_platform() }
    }

    /// Makes the result of the target stage.
    pub(super) fn finish(&self, target: StageIndex, states: &States, draft: &mut Draft) -> Target {
        let state = states[target.0].as_ref().expect("the target is among the stages it needs");
        let step = tree_of(state, draft);
        let mut config = state.image.clone();
        config.created = None;
        config.config.labels.extend(self.request.labels.iter().cloned());
        if !self.request.platforms.is_empty() {
            set_platform(&mut config, &self.target);
        }
        config.set_platform(&config.platform().normalized());
        let (stage, history) = (self.stage_text(target), self.history(target, states));
        Target { platform: self.target.clone(), stage, step, config, history }
    }

    /// Returns the history of a stage, what the stages below it did first.
    fn history(&self, index: StageIndex, states: &States) -> Vec<HistoryItem> {
        let below = |index: &StageIndex| match self.stages.get(*index).base {
            Base::Stage(base) => Some(base),
            _ => None,
        };
        let mut chain: Vec<StageIndex> = std::iter::successors(Some(index), below).collect();
        chain.reverse();
        let entries = |index: StageIndex| states[index.0].as_ref().map_or(&[][..], |state| &state.history);
        chain.into_iter().flat_map(entries).cloned().collect()
    }

    /// Returns a stage's name, or its number.
    pub(super) fn stage_text(&self, index: StageIndex) -> String {
        self.stages.get(index).name.clone().unwrap_or_else(|| index.0.to_string())
    }

    fn ignores_cache(&self, index: StageIndex) -> bool {
        match &self.request.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                let name = self.stages.get(index).name.as_deref();
                name.is_some_and(|name| names.iter().any(|listed| listed.eq_ignore_ascii_case(name)))
            }
        }
    }
}

/// Stages that only stand for an image come first: they need nothing and may be needed by any.
fn in_order(plan: &PlatformPlan<'_>, needed: &BTreeSet<StageIndex>) -> Vec<StageIndex> {
    let (written, implied): (Vec<_>, Vec<_>) =
        needed.iter().copied().partition(|index| plan.stages.get(*index).from.is_some());
    implied.into_iter().chain(written).collect()
}

/// The base's own variant and version stay where the platform asked for says nothing of them.
fn set_platform(config: &mut ImageConfig, target: &Platform) {
    let same = config.os == target.os && config.architecture == target.architecture;
    config.os.clone_from(&target.os);
    config.architecture.clone_from(&target.architecture);
    if !same || !target.variant.is_empty() {
        config.variant.clone_from(&target.variant);
    }
    if !same || !target.os_version.is_empty() {
        config.os_version.clone_from(&target.os_version);
    }
    if !target.os_features.is_empty() {
        config.os_features.clone_from(&target.os_features);
    }
}

/// Returns the step whose tree a stage has; loose files become a tree by being copied.
fn tree_of(state: &StageState, draft: &mut Draft) -> Option<StepId> {
    let platform = &state.platform;
    let (files, path, title) = match &state.content {
        Content::Empty => return None,
        Content::Tree(step) => return Some(*step),
        Content::Context(name) => {
            (draft.context(Some(name), "/", platform), "/", format!("[context {name}] copy"))
        }
        Content::Files(step) => (*step, "/", "[internal] copy files".to_owned()),
    };
    let source = CopySource { slot: 1, path: path.to_owned(), unpack: Unpack::No };
    let copy = CopyOp {
        sources: vec![source],
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
    };
    Some(draft.add(Origin::internal(title), platform, false, Op::Copy(copy), vec![(1, files)]))
}

/// A stage being gone through.
pub(super) struct StageBuilder<'p, 'a> {
    pub(super) plan: &'p PlatformPlan<'a>,
    pub(super) index: StageIndex,
    pub(super) states: &'p States,
    pub(super) draft: &'p mut Draft,
    pub(super) report: &'p mut Report,
    pub(super) titles: Titles,
    pub(super) state: StageState,
    /// Whether this stage has had a CMD, so that an ENTRYPOINT leaves it alone.
    pub(super) cmd_set: bool,
}

impl<'p, 'a> StageBuilder<'p, 'a> {
    fn start(
        plan: &'p PlatformPlan<'a>,
        index: StageIndex,
        states: &'p States,
        mut titles: Titles,
        draft: &'p mut Draft,
        report: &'p mut Report,
    ) -> Self {
        let state = match plan.foundation(index) {
            Foundation::Empty => {
                StageState::new(Content::Empty, empty_image(&plan.target), plan.target.clone())
            }
            Foundation::Stage(base) => {
                let base = states[base.0].as_ref().expect("a base comes before what is built on it");
                let mut state = base.child();
                state.content = tree_of(base, draft).map_or(Content::Empty, Content::Tree);
                state
            }
            Foundation::Image(source, context) => {
                image_state(plan, index, (&source, context), &mut titles, draft, report)
            }
            Foundation::Files(found) => files_state(plan, index, found, draft),
        };
        Self { plan, index, states, draft, report, titles, state, cmd_set: false }
    }

    /// Takes over what the base's configuration says of environment, directory and user.
    fn inherit(&mut self) {
        let state = &mut self.state;
        if let Content::Context(_) | Content::Files(_) = state.content {
            state.content = tree_of(state, self.draft).map_or(Content::Empty, Content::Tree);
        }
        let config = &mut state.image.config;
        if !config.env.iter().any(|pair| split_pair(pair).0 == "PATH") {
            config.env.extend(default_path(&state.platform).map(|path| format!("PATH={path}")));
        }
        for pair in &config.env {
            let (name, value) = split_pair(pair);
            state.env.set(name, value);
        }
        if !config.working_dir.is_empty() {
            config.working_dir = paths::resolve("/", &config.working_dir);
            state.cwd = paths::clean(&config.working_dir);
        }
        if !config.user.is_empty() {
            state.user.clone_from(&config.user);
        }
        if let (Content::Tree(step), true) = (&self.state.content, self.is_base()) {
            self.draft.set(*step, || self.state.setting(self.state.image.clone(), Vec::new()));
        }
    }

    /// Whether the stage stands on an image, not on another stage.
    fn is_base(&self) -> bool {
        matches!(self.plan.stages.get(self.index).base, Base::Image(_))
    }

    /// Expands a word with the variables in effect; names that are not set are warned of.
    pub(super) fn expand(
        &mut self,
        command: &Command<'_>,
        word: &Spanned<String>,
    ) -> Result<String, Problem> {
        let env = &self.state.env;
        let expansion = expand(&word.value, self.plan.escape, env).or_problem(
            "bad-substitution",
            command.place(word.span),
            format_args!("cannot expand `{}`", word.value),
        )?;
        self.warn_unset(command, word.span, &expansion.unmatched);
        Ok(expansion.text)
    }

    /// Expands a word that may be absent; an empty result counts as absent.
    pub(super) fn expand_option(
        &mut self,
        command: &Command<'_>,
        word: Option<&Spanned<String>>,
    ) -> Result<Option<String>, Problem> {
        let expanded = word.map(|word| self.expand(command, word)).transpose()?;
        Ok(expanded.filter(|text| !text.is_empty()))
    }

    /// Warns of variables that are not set; an ARG without a value is declared, and that is enough.
    pub(super) fn warn_unset(&mut self, command: &Command<'_>, span: Span, names: &BTreeSet<String>) {
        if self.state.base == Knowledge::OutOfReach {
            return;
        }
        let declared = |name: &String| self.state.build_args.iter().any(|(known, _)| known == name);
        for name in names.iter().filter(|name| !declared(name) && !NOT_ENVIRONMENT.contains(&name.as_str())) {
            self.report.for_node(&command.node).undefined_var(command.place(span), name, &self.state.env);
        }
    }

    /// Names the next step of the stage.
    pub(super) fn title(&mut self, command: &Command<'_>, text: &str) -> String {
        let state = &self.state;
        self.titles.next(text, &state.platform, &state.env, command.is_trigger)
    }

    /// Adds a step on top of the stage's tree; `inputs` are what else it sees.
    pub(super) fn add_step(
        &mut self,
        command: &Command<'_>,
        title: String,
        op: Op,
        inputs: Vec<(u32, StepId)>,
    ) -> StepId {
        let ignore_cache = !matches!(op, Op::Workdir(_)) && self.plan.ignores_cache(self.index);
        let in_file = command.elsewhere.is_none();
        let origin = Origin {
            title,
            stage: Some(self.plan.stage_text(self.index)),
            span: in_file.then_some(command.node.span),
            line: in_file.then_some(command.node.start_line),
        };
        let mut all = Vec::with_capacity(inputs.len() + 1);
        if let Content::Tree(parent) = self.state.content {
            all.push((0, parent));
        }
        all.extend(inputs);
        let id = self.draft.add(origin, &self.state.platform, ignore_cache, op, all);
        self.state.content = Content::Tree(id);
        id
    }

    /// Returns where a stage is defined.
    pub(super) fn place_of(&self, index: StageIndex) -> Span {
        let stage = self.plan.stages.get(index);
        stage.from.map_or(stage.span, |node| node.span)
    }

    /// Adds an entry to the history; `step` is what made its layer.
    pub(super) fn record(&mut self, command: &Command<'_>, created_by: String, step: Option<StepId>) {
        let line = if command.elsewhere.is_some() { 0 } else { command.node.start_line };
        let item = HistoryItem { created_by, step, line };
        self.state.since_step.push(item.clone());
        self.state.history.push(item);
        if let Some(step) = step {
            let history = std::mem::take(&mut self.state.since_step);
            self.draft.set(step, || {
                let mut config = self.state.image.clone();
                config.history.clear();
                self.state.setting(config, history)
            });
        }
    }

    /// Returns the step whose files `source` has, of which `path` is wanted; `None` while the stage has not been gone through.
    pub(super) fn files_of(&mut self, source: Option<StageIndex>, path: &str) -> Option<StepId> {
        let platform = self.state.platform.clone();
        let Some(index) = source else {
            return Some(self.draft.context(None, path, &platform));
        };
        let source = self.states[index.0].as_ref()?;
        Some(match &source.content {
            Content::Empty => self.draft.nothing(&platform),
            Content::Tree(step) | Content::Files(step) => *step,
            Content::Context(name) => self.draft.context(Some(name), path, &platform),
        })
    }
}

fn image_state(
    plan: &PlatformPlan<'_>,
    index: StageIndex,
    (source, context): (&ImageSource, Option<&str>),
    titles: &mut Titles,
    draft: &mut Draft,
    report: &mut Report,
) -> StageState {
    let stage = plan.stages.get(index);
    let image = plan.images.get(source).expect("images were resolved before stages are gone through");
    let mut config = image.config.clone();
    config.config.on_build.clear();
    config.forget_cache();
    if let (Base::Image(reference), Some(from), None) = (&stage.base, stage.from, context) {
        let (wanted, found) = (&source.platform, config.platform());
        if wanted.os != found.os || wanted.architecture != found.architecture {
            let name = reference.familiar();
            report.for_node(from).invalid_base_image_platform(stage.span, &name, wanted, &found);
        }
    }
    let state = |content, config| StageState {
        base: image.knowledge,
        ..StageState::new(content, config, source.platform.clone())
    };
    if config.rootfs.diff_ids.is_empty() {
        return state(Content::Empty, config);
    }
    let name = match &source.location {
        ImageLocation::Reference(reference) => reference.to_string(),
        ImageLocation::OciLayout(text) => format!("oci-layout://{text}"),
    };
    let title = match context {
        Some(context) => format!("[context {context}] {name}"),
        None => titles.next(&format!("FROM {name}"), &source.platform, &Environment::default(), false),
    };
    let origin = Origin {
        title,
        stage: stage.from.map(|_| plan.stage_text(index)),
        span: stage.from.map(|node| node.span),
        line: stage.from.map(|node| node.start_line),
    };
    let step = draft.image(origin, source);
    state(Content::Tree(step), config)
}

fn files_state(
    plan: &PlatformPlan<'_>,
    index: StageIndex,
    found: FoundContext<'_>,
    draft: &mut Draft,
) -> StageState {
    let platform = plan.stages.get(index).platform.clone().unwrap_or_else(|| plan.target.clone());
    let title = |url: &str| Origin::internal(format!("[context {}] {url}", found.name));
    let content = match found.context {
        NamedContext::Http(url) => {
            let filename = DOWNLOADED_CONTEXT.to_owned();
            let op = Op::Http(HttpSource { url: url.clone(), checksum: None, filename });
            Content::Files(draft.add(title(url), &platform, false, op, Vec::new()))
        }
        NamedContext::Git(url) => {
            let op = Op::Git(GitSource { url: url.clone(), keep_git_dir: None, checksum: None });
            Content::Files(draft.add(title(url), &platform, false, op, Vec::new()))
        }
        _ => Content::Context(found.name.to_owned()),
    };
    StageState::new(content, empty_image(&platform), platform)
}
