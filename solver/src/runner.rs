//! The one seam between deciding and doing: what the scheduler asks of the engine.

use std::future::Future;

use mica_image::tree::Tree;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::{BuildEvent, LeftOutFiles};
use crate::graph::{Step, StepId};
use crate::key::{CacheKey, KeyParts};

/// The result of a step, as later steps see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// A tree of layers: of an image, or of a stage after this step.
    Tree(Tree),
    /// Files that are no layer (a context, a download, a checkout, heredocs); the runner knows them by the step's number.
    Files(StepId),
}

impl StepResult {
    /// Returns the tree, which is empty for [`StepResult::Files`].
    #[must_use]
    pub fn tree(&self) -> Tree {
        match self {
            Self::Tree(tree) => tree.clone(),
            Self::Files(_) => Tree::new(),
        }
    }
}

/// What a step sees, by slot.
#[derive(Debug, Clone, Default)]
pub struct StepInputs {
    /// The tree of slot 0 when the step has a parent, otherwise empty.
    pub parent: Tree,
    /// Every slot's result, the parent's included.
    pub slots: Vec<(u32, StepResult)>,
}

impl StepInputs {
    /// Returns what is in `slot`.
    #[must_use]
    pub fn slot(&self, slot: u32) -> Option<&StepResult> {
        self.slots.iter().find(|(number, _)| *number == slot).map(|(_, result)| result)
    }
}

/// What a step's execution is given besides its inputs.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// Where events go.
    pub events: EventSender,
    /// Cancelled when the build is.
    pub cancel: CancellationToken,
}

/// The sending end of the event stream; sending to a renderer that has gone is no error.
#[derive(Debug, Clone)]
pub struct EventSender(mpsc::Sender<BuildEvent>);

impl EventSender {
    /// Makes a bounded stream of events.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<BuildEvent>) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self(sender), receiver)
    }

    /// Sends from async code.
    pub async fn send(&self, event: BuildEvent) {
        // The receiver is gone only when nobody looks any more; the build goes on.
        let _ = self.0.send(event).await;
    }

    /// Sends from a blocking thread.
    pub fn send_blocking(&self, event: BuildEvent) {
        // As in `send`.
        let _ = self.0.blocking_send(event);
    }
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup {
    /// A record whose conditions hold.
    Hit {
        /// The step's result.
        result: StepResult,
        /// Files that were left out of its layer when it ran.
        left_out: Vec<LeftOutFiles>,
    },
    /// None, and why in one line.
    Miss(String),
}

/// What an execution made.
#[derive(Debug)]
pub struct Executed {
    /// The step's result.
    pub result: StepResult,
    /// Whether the store had this very layer before.
    pub equal_output: bool,
    /// Bytes the step's layer brought.
    pub bytes: u64,
    /// Whether another build did the work meanwhile, so that nothing ran here.
    pub shared: bool,
    /// Files that were left out of its layer.
    pub left_out: Vec<LeftOutFiles>,
}

/// Does what the scheduler decides.
pub trait StepRunner: Send + Sync + 'static {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Resolves a source step: image, context, http, git, inline.
    fn source(
        &self,
        step: &Step,
        cx: &StepContext,
    ) -> impl Future<Output = Result<StepResult, Self::Error>> + Send;

    /// Returns the parts of the key that name the content a step takes from its inputs, and what its sandbox adds.
    fn contents(
        &self,
        step: &Step,
        inputs: &StepInputs,
    ) -> impl Future<Output = Result<KeyParts, Self::Error>> + Send;

    /// Looks for a record of `key` that holds for `inputs`.
    fn lookup(
        &self,
        step: &Step,
        key: &CacheKey,
        parts: &KeyParts,
        inputs: &StepInputs,
    ) -> impl Future<Output = Result<Lookup, Self::Error>> + Send;

    /// Runs the step, stores its layer and record.
    fn execute(
        &self,
        step: &Step,
        key: &CacheKey,
        parts: &KeyParts,
        inputs: &StepInputs,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Executed, Self::Error>> + Send;
}
