//! Digests of the tars of new layers, computed while later steps run.
//!
//! Only layers of the steps that images are made of get one: a stage that something is merely copied from never pays for it. What
//! fails here fails again, and is told, when the image is put together. The disk takes large layers meanwhile, so that the sync at
//! the end of the build finds less to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use mica_cache::Store;
use mica_image::index::LayerIndex;
use mica_image::tree::TreeLayer;
use mica_solver::graph::{BuildGraph, Target};
use mica_solver::{StepId, StepResult};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine::blocking::blocking;

/// A layer of so many bytes is worth a flush of its own.
const LARGE: u64 = 32 << 20;

/// The digests of one build.
pub(super) struct DiffIds {
    /// The steps whose layers images have.
    wanted: HashSet<StepId>,
    /// As many at once as there are processors: each reads at full speed.
    permits: Arc<Semaphore>,
    /// One flush at a time is all that a disk can use.
    flush: Arc<Semaphore>,
    /// The clamp of their times.
    clamp: Option<i64>,
    begun: Mutex<Begun>,
}

/// What was started.
#[derive(Default)]
struct Begun {
    steps: HashSet<StepId>,
    tasks: JoinSet<()>,
}

impl DiffIds {
    /// Computes nothing yet.
    pub(super) fn new(wanted: HashSet<StepId>, threads: usize, clamp: Option<i64>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (permits, flush) = (semaphore(threads.max(1)), semaphore(1));
        Self { wanted, permits, flush, clamp, begun: Mutex::default() }
    }

    /// Starts with the layer that `step` made, whose index may be at hand, unless that was done.
    pub(super) fn start(&self, store: &Store, step: StepId, result: &StepResult, index: Option<LayerIndex>) {
        let StepResult::Tree(tree) = result else { return };
        let Some(layer) = tree.last().filter(|_| self.wanted.contains(&step)).cloned() else { return };
        let layer = TreeLayer { clamp: self.clamp, ..layer };
        let (store, permits) = (store.clone(), self.permits.clone());
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if !begun.steps.insert(step) {
            return;
        }
        begun.tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            blocking(move || compute(&store, &layer, index)).await;
        });
    }

    /// Has the disk take the layer of so many bytes that `step` is about to make or has just made, if it is large and will stay.
    pub(super) fn flush(&self, store: &Store, step: StepId, bytes: u64) {
        if bytes < LARGE || !self.wanted.contains(&step) {
            return;
        }
        let Ok(permit) = self.flush.clone().try_acquire_owned() else { return };
        let store = store.clone();
        let flush = blocking(move || {
            store.flush();
            drop(permit);
        });
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).tasks.spawn(flush);
    }

    /// Waits for all that were started.
    pub(super) async fn finish(&self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        begun.tasks.join_all().await;
    }
}

fn compute(store: &Store, layer: &TreeLayer, index: Option<LayerIndex>) {
    if let Err(error) = store.layers().diff_id_of(layer, index) {
        tracing::debug!(layer = %layer.id, %error, "the tar of a new layer cannot be hashed yet");
    }
}

/// Returns the steps that the targets' trees are made of.
pub(super) fn in_images(graph: &BuildGraph, targets: &[Target]) -> HashSet<StepId> {
    graph.lineages(targets.iter().filter_map(|target| target.step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_image::{ImageConfig, Platform};
    use mica_solver::Step;
    use mica_solver::graph::{InlineSource, Op, WorkdirOp};

    fn step(has_parent: bool, op: Op) -> Step {
        Step {
            id: StepId(0),
            name: String::new(),
            stage: None,
            span: None,
            line: None,
            platform: Platform::host(),
            has_parent,
            ignore_cache: false,
            op,
        }
    }

    fn workdir() -> Op {
        Op::Workdir(WorkdirOp { path: "/a".into(), user: String::new() })
    }

    #[test]
    fn only_steps_below_a_target_are_in_its_image() {
        let mut graph = BuildGraph::default();
        let source = graph.add(step(false, Op::Inline(InlineSource { files: vec![] })), &[]);
        let other_stage = graph.add(step(false, workdir()), &[]);
        let first = graph.add(step(false, workdir()), &[(1, source)]);
        let second = graph.add(step(true, workdir()), &[(0, first), (1, other_stage)]);
        let target = Target {
            platform: Platform::host(),
            stage: "0".into(),
            step: Some(second),
            config: ImageConfig::default(),
            history: vec![],
        };
        assert_eq!(in_images(&graph, &[target.clone(), target]), HashSet::from([first, second]));
    }
}
