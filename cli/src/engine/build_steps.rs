//! The steps of a build with what each saw and made: for entering one later, and for telling where a file of an image came from.
//!
//! One document a build, a detail of the store, named by its content: a build that changes nothing writes nothing. It never holds the
//! value of a secret, only where it was: a file or a variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mica_cache::{DetailId, FileError, Store};
use mica_image::tree::{Tree, TreeLayer};
use mica_image::{ImageConfig, LayerId};
use mica_solver::graph::{BuildGraph, HistoryItem, RunOp};
use mica_solver::plan::Setting;
use mica_solver::{Op, Step, StepId};
use serde::{Deserialize, Serialize};

use super::mounting::{self, KnownMount};
use super::request::{BuildRequest, SecretSource};

/// The steps of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildSteps {
    /// The steps in order.
    pub steps: Vec<BuildStep>,
    /// `--no-new-privileges`.
    pub no_new_privileges: bool,
    /// Where secrets were, by id.
    pub secrets: BTreeMap<String, Whence>,
    /// Agents or keys, by id.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
}

/// Where a secret was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Whence {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildStep {
    /// Its number as the build showed it: 7 is `#7`.
    pub number: u32,
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// Its stage, by name or number.
    pub stage: Option<String>,
    /// Its line in the Dockerfile.
    pub line: Option<u32>,
    /// The number of the step it stands on.
    pub parent: Option<u32>,
    /// The layers it adds; nothing where it makes none, or was not reached.
    pub adds: Option<Vec<TreeLayer>>,
    /// Whether it failed: then what it adds is what it left.
    pub failed: bool,
    /// What its stage is like after it; nothing for what belongs to no stage.
    pub setting: Option<Setting>,
    /// What it does, as far as that matters later.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// It runs a command.
    Run {
        /// The command, without mounts and without proxies that hold a password.
        op: Box<RunOp>,
        /// Its mounts.
        mounts: Vec<KnownMount>,
        /// Variables that are left out for the passwords in them.
        left_out: Vec<String>,
    },
    /// It copies files: each source path with the step whose files it is taken from.
    Copy(Vec<(String, u32)>),
    /// It gives files.
    Source,
}

/// Which side of a step is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Before it.
    Before,
    /// After it.
    After,
}

/// What the runner saw of steps.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The trees of those that have one; of one that failed, with what it left on top.
    pub trees: BTreeMap<StepId, Tree>,
    /// The mounts of commands.
    pub mounts: BTreeMap<StepId, Vec<KnownMount>>,
}

impl BuildSteps {
    /// Puts together what is known of a build's steps.
    pub(super) fn of(
        graph: &BuildGraph,
        settings: &BTreeMap<StepId, Setting>,
        seen: &Seen,
        failed: Option<StepId>,
        request: &BuildRequest,
    ) -> Self {
        let whence = |source: &SecretSource| match source {
            // An absolute path stays one; where there is no current directory it would not be found again either.
            SecretSource::File(path) => {
                Whence::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            SecretSource::Variable { name, .. } => Whence::Variable(name.clone()),
        };
        Self {
            steps: graph.steps().map(|step| build_step(graph, settings, seen, failed, step)).collect(),
            no_new_privileges: request.no_new_privileges,
            secrets: request.secrets.iter().map(|(id, source)| (id.clone(), whence(source))).collect(),
            ssh: request.ssh.clone(),
        }
    }

    /// Stores the document.
    pub(super) fn store(&self, store: &Store) -> Result<DetailId, FileError> {
        store.details().put(&serde_json::to_vec(self).expect("steps have text keys"))
    }

    /// Reads a document; nothing where it was removed.
    pub(super) fn read(store: &Store, id: &DetailId) -> Result<Option<Self>, FileError> {
        let bytes = store.details().get(id)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Returns a step by its number.
    pub(crate) fn step(&self, number: u32) -> Option<&BuildStep> {
        self.steps.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// Returns a step and those it stands on, the lowest first.
    pub(crate) fn chain(&self, number: u32) -> Vec<&BuildStep> {
        let below = |step: &&BuildStep| step.parent.and_then(|parent| self.step(parent));
        let mut chain: Vec<_> =
            std::iter::successors(self.step(number), below).take(self.steps.len()).collect();
        chain.reverse();
        chain
    }

    /// Returns the tree before or after a step; nothing where the build did not come to it.
    pub(crate) fn tree(&self, number: u32, end: End) -> Option<Tree> {
        let mut chain = self.chain(number);
        if end == End::Before {
            chain.pop();
        }
        let layers: Option<Vec<&Vec<TreeLayer>>> = chain.iter().map(|step| step.adds.as_ref()).collect();
        Some(layers?.into_iter().flatten().copied().collect())
    }

    /// Returns the configuration before or after a step with the history of its base, and the history entries since.
    pub(crate) fn image(&self, number: u32, end: End) -> Option<(ImageConfig, Vec<HistoryItem>)> {
        let chain = self.chain(number);
        let mut config = chain.last()?.setting.as_ref()?.config.clone();
        config.history = chain.first()?.setting.as_ref()?.config.history.clone();
        let mut history: Vec<HistoryItem> =
            chain.iter().filter_map(|step| step.setting.as_ref()).flat_map(|of| of.history.clone()).collect();
        if end == End::Before {
            history.pop();
        }
        Some((config, history))
    }

    /// Returns all layers that showing a step takes: its tree and its mounts.
    pub(super) fn layers(&self, store: &Store, number: u32) -> Result<Vec<LayerId>, FileError> {
        let mut layers: Vec<LayerId> =
            self.tree(number, End::After).unwrap_or_default().iter().map(|layer| layer.id).collect();
        if let Some(Action::Run { mounts, .. }) = self.step(number).map(|step| &step.action) {
            for mount in mounts {
                let shown = mounting::layers(store, &mount.shows)?;
                layers.extend(shown.iter().flat_map(|(tree, _)| tree).map(|layer| layer.id));
            }
        }
        Ok(layers)
    }
}

fn build_step(
    graph: &BuildGraph,
    settings: &BTreeMap<StepId, Setting>,
    seen: &Seen,
    failed: Option<StepId>,
    step: &Step,
) -> BuildStep {
    let inputs = graph.inputs(step.id);
    let parent = inputs.first().filter(|_| step.has_parent).map(|(_, parent)| *parent);
    let below = parent.and_then(|parent| seen.trees.get(&parent)).map_or(0, Vec::len);
    let from = |slot: u32| inputs.iter().find(|(known, _)| *known == slot).map(|(_, step)| step.0 + 1);
    let action = match &step.op {
        Op::Run(op) => run_action(op, seen.mounts.get(&step.id).cloned().unwrap_or_default()),
        Op::Copy(op) => Action::Copy(
            op.sources.iter().filter_map(|source| Some((source.path.clone(), from(source.slot)?))).collect(),
        ),
        _ => Action::Source,
    };
    BuildStep {
        number: step.id.0 + 1,
        name: step.name.clone(),
        stage: step.stage.clone(),
        line: step.line,
        parent: parent.map(|parent| parent.0 + 1),
        adds: seen.trees.get(&step.id).map(|tree| tree[below.min(tree.len())..].to_vec()),
        failed: failed == Some(step.id),
        setting: settings.get(&step.id).cloned(),
        action,
    }
}

/// An address of a proxy may hold a password; nobody's name has an `@`.
fn run_action(op: &RunOp, mounts: Vec<KnownMount>) -> Action {
    let (left_out, proxy_env): (Vec<_>, Vec<_>) =
        op.proxy_env.iter().cloned().partition(|(_, value)| value.contains('@'));
    let op = RunOp { proxy_env, mounts: Vec::new(), ..op.clone() };
    let left_out = left_out.into_iter().map(|(name, _)| name).collect();
    Action::Run { op: Box::new(op), mounts, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u32, parent: Option<u32>, adds: Option<Vec<u8>>) -> BuildStep {
        let layer = |byte| TreeLayer::made(LayerId::from_bytes([byte; 32]));
        let item =
            HistoryItem { created_by: format!("{number}"), step: Some(StepId(number - 1)), line: number };
        let (mut config, history) = (ImageConfig::default(), parent.map(|_| item).into_iter().collect());
        config.config.user = number.to_string();
        config.history.resize_with(usize::from(parent.is_none()), Default::default);
        let (env, cwd, user) = (vec![], "/".to_owned(), String::new());
        BuildStep {
            number,
            name: String::new(),
            stage: None,
            line: None,
            parent,
            adds: adds.map(|bytes| bytes.into_iter().map(layer).collect()),
            failed: false,
            setting: Some(Setting { env, cwd, user, config, history }),
            action: Action::Source,
        }
    }

    #[test]
    fn trees_and_histories_are_those_of_all_steps_below() {
        let steps = vec![
            step(1, None, Some(vec![1, 2])),
            step(2, Some(1), Some(vec![3])),
            step(3, Some(2), Some(vec![4])),
            step(4, Some(3), None),
        ];
        let (secrets, ssh) = (BTreeMap::new(), BTreeMap::new());
        let steps = BuildSteps { steps, no_new_privileges: false, secrets, ssh };
        let tree = |number, end| -> Option<Vec<u8>> {
            Some(steps.tree(number, end)?.iter().map(|layer| layer.id.as_bytes()[0]).collect())
        };
        assert_eq!(tree(3, End::After), Some(vec![1, 2, 3, 4]));
        assert_eq!(tree(3, End::Before), Some(vec![1, 2, 3]));
        assert_eq!(tree(4, End::Before), Some(vec![1, 2, 3, 4]));
        assert_eq!((tree(4, End::After), tree(1, End::Before)), (None, Some(vec![])));
        let lines = |end| -> Vec<u32> {
            let (config, history) = steps.image(3, end).unwrap();
            assert_eq!((config.config.user.as_str(), config.history.len()), ("3", 1));
            history.iter().map(|item| item.line).collect()
        };
        assert_eq!((lines(End::After), lines(End::Before)), (vec![2, 3], vec![2]));
    }
}
