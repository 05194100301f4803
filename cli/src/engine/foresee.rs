//! What a build would do: the same look-ups, and nothing runs.
//!
//! A step that would run leaves those after it without an input. They are looked up all the same as far as what they take is
//! known: a COPY of context files does not depend on what it is placed onto being new. What does depend on it *may* run, because
//! an equal result would leave it cached.

use std::collections::BTreeMap;
use std::sync::Arc;

use mica_solver::graph::BuildGraph;
use mica_solver::key::step_parts;
use mica_solver::{EventSender, Lookup, Op, Step, StepContext, StepId, StepInputs, StepResult, StepRunner};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::build::begin;
use super::build_error::BuildError;
use super::build_record::{StepOutcome, StepRecord, is_source, step_record, unused_cache};
use super::cause::{Cause, CauseKind};
use super::exchange::Imports;
use super::request::BuildRequest;
use super::runner::{EngineRunner, StepError};

/// What is known of a step's result.
#[derive(Clone)]
enum Known {
    /// It is this.
    Sure(StepResult),
    /// It was this before the steps that would run; these are the first of them.
    Before(StepResult, StepId),
    /// Nothing, because of this step.
    Unknown(StepId),
}

impl Known {
    fn result(&self) -> Option<&StepResult> {
        match self {
            Self::Sure(result) | Self::Before(result, _) => Some(result),
            Self::Unknown(_) => None,
        }
    }

    fn because(&self) -> Option<StepId> {
        match self {
            Self::Sure(_) => None,
            Self::Before(_, step) | Self::Unknown(step) => Some(*step),
        }
    }
}

impl Engine {
    /// Tells what a build of `request` would do to each step. Base images and remote sources are fetched, as their content counts.
    pub(crate) async fn foresee(
        &self,
        request: BuildRequest,
        events: &EventSender,
    ) -> Result<Vec<StepRecord>, BuildError> {
        let imports = Imports::open(&self.host, &request.cache_from, events).await;
        let begun = begin(self, Arc::new(request), imports.into(), events).await?;
        let (graph, runner) = (begun.graph, begun.runner);
        let context = StepContext { events: events.clone(), cancel: CancellationToken::new() };
        let mut foresight = Foresight { graph: &graph, runner: &runner, known: BTreeMap::new() };
        let mut records = Vec::new();
        for step in graph.steps() {
            let (record, known) = foresight.step(step, &context).await.map_err(|error| BuildError::Step {
                step: Box::new(step.clone()),
                dockerfile: begun.dockerfile.copy(),
                error,
                kept: false,
            })?;
            foresight.known.insert(step.id, known);
            records.push(record);
        }
        Ok(records)
    }
}

struct Foresight<'a> {
    graph: &'a BuildGraph,
    runner: &'a EngineRunner,
    known: BTreeMap<StepId, Known>,
}

impl Foresight<'_> {
    async fn step(&self, step: &Step, context: &StepContext) -> Result<(StepRecord, Known), StepError> {
        let record = |outcome, causes| StepRecord { outcome, causes, ..step_record(step) };
        if is_source(step) {
            let result = self.runner.source(step, context).await?;
            return Ok((record(StepOutcome::Resolved, vec![]), Known::Sure(result)));
        }
        let (inputs, new_below) = match self.inputs(step) {
            Ok(found) => found,
            Err(depends) => {
                let known = self.before(step, None, depends).await?;
                let text = format!("{depends} would run, and it takes what that makes");
                return Ok((record(StepOutcome::MayRun, vec![Cause::new(CauseKind::Depends, text)]), known));
            }
        };
        let mut parts = step_parts(step, &inputs.parent);
        parts.0.extend(self.runner.contents(step, &inputs).await?.0);
        let causes = if step.ignore_cache {
            vec![unused_cache()]
        } else {
            match self.runner.lookup(step, &parts.key(), &parts, &inputs).await? {
                Lookup::Hit { result, .. } => {
                    let known = new_below
                        .map_or_else(|| Known::Sure(result.clone()), |id| Known::Before(result.clone(), id));
                    return Ok((record(StepOutcome::Cached, vec![]), known));
                }
                Lookup::Miss(_) => self.runner.causes(step.id),
            }
        };
        let known = self.before(step, Some(&inputs), step.id).await?;
        Ok((record(StepOutcome::WouldRun, causes), known))
    }

    /// What a step sees, and the step that would run below it; the step whose result it needs when that is not known.
    fn inputs(&self, step: &Step) -> Result<(StepInputs, Option<StepId>), StepId> {
        let mut inputs = StepInputs::default();
        let mut new_below = None;
        for (slot, id) in self.graph.inputs(step.id) {
            let known = &self.known[&id];
            let is_parent = slot == 0 && step.has_parent;
            let because = known.because();
            // Only a COPY or WORKDIR does not take what it is placed onto.
            let needs_it = !is_parent || matches!(step.op, Op::Run(_));
            let (Some(result), true) = (known.result(), because.is_none() || !needs_it) else {
                return Err(because.unwrap_or(id));
            };
            if is_parent {
                inputs.parent = result.tree();
                new_below = because;
            }
            inputs.slots.push((slot, result.clone()));
        }
        Ok((inputs, new_below))
    }

    /// What the step made when it ran last, for what only needs to know what it is placed onto.
    async fn before(
        &self,
        step: &Step,
        inputs: Option<&StepInputs>,
        because: StepId,
    ) -> Result<Known, StepError> {
        let parent = match inputs {
            Some(inputs) => Some(inputs.parent.clone()),
            None if !step.has_parent => Some(Vec::new()),
            None => {
                let inputs = self.graph.inputs(step.id);
                let parent = inputs.first().and_then(|(_, id)| self.known[id].result());
                parent.map(StepResult::tree)
            }
        };
        let Some(parent) = parent else { return Ok(Known::Unknown(because)) };
        let before = self.runner.made_before(step, &parent).await?;
        Ok(before.map_or(Known::Unknown(because), |result| Known::Before(result, because)))
    }
}
