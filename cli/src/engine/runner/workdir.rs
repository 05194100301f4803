//! WORKDIR: the directory, when it is not there yet.

use mica_executor::copy::{Owner, WorkdirOptions, resolve_owner, workdir};
use mica_image::tree::RecordingTree;
use mica_solver::Executed;
use mica_solver::graph::WorkdirOp;

use super::copy::{LayerReader, seconds_now, store};
use super::{StepError, Work};

/// Makes the missing directories of `op.path` and records the layer.
pub(super) fn execute(work: &Work, op: &WorkdirOp) -> Result<Executed, StepError> {
    let tree = work.shared.store.layers().tree(&work.inputs.parent)?;
    let destination = RecordingTree::new(&tree);
    let owner = match op.user.as_str() {
        "" => Owner::default(),
        user => {
            let reader = LayerReader { shared: &work.shared, facts: &destination };
            let (owner, _) = resolve_owner(user, &destination, &reader)
                .map_err(|error| StepError::owner(&work.step, error))?;
            owner
        }
    };
    let options = WorkdirOptions { owner, now: seconds_now() };
    let placement = workdir(op.path.as_bytes(), &destination, &options)
        .map_err(|error| StepError::place(&work.step, error))?;
    store(work, placement, &[], destination.facts())
}
