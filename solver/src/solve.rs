//! Runs a graph: each step as soon as its inputs are ready, bounded by a job limit.
//!
//! One task owns all step states; steps run as tasks of a `JoinSet` and report by returning. The first failure cancels whatever
//! still runs, waits for it to settle, and is the one reported. Look-ups are not bounded, only executions are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event::{BuildEvent, LeftOutFiles, StepInfo, StepPhase};
use crate::graph::{BuildGraph, Op, Step, StepId};
use crate::key::step_parts;
use crate::runner::{EventSender, Lookup, StepContext, StepInputs, StepResult, StepRunner};

/// How a graph is run.
#[derive(Debug, Clone)]
pub struct SolveOptions {
    /// How many steps may execute at once; at least 1.
    pub jobs: usize,
    /// Cancels the whole build.
    pub cancel: CancellationToken,
}

/// Why a graph could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E: std::error::Error + 'static> {
    /// A step failed; it is the first that did.
    #[error("step {step} failed")]
    Step {
        /// The step.
        step: StepId,
        /// Why.
        #[source]
        error: E,
    },
    /// The build was cancelled from outside.
    #[error("the build was canceled")]
    Canceled,
    /// A step's task panicked: a bug.
    #[error("the task of a step panicked: {0}")]
    Panicked(String),
}

/// The results of all steps.
#[derive(Debug, Default)]
pub struct Solved {
    /// Results by step.
    pub results: BTreeMap<StepId, StepResult>,
    /// How each step came to its result.
    pub outcomes: BTreeMap<StepId, Outcome>,
}

/// How a step came to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was a source.
    Resolved,
    /// It was in the cache.
    Cached,
    /// It ran; `true` when its layer had been in the store already.
    Ran(bool),
}

/// Where a step stands; only the scheduler knows.
enum State {
    Waiting { missing: usize },
    Started,
    Done(StepResult),
}

/// Runs every step of `graph`.
pub async fn solve<R: StepRunner>(
    graph: Arc<BuildGraph>,
    runner: Arc<R>,
    options: &SolveOptions,
    events: &EventSender,
) -> Result<Solved, SolveError<R::Error>> {
    events.send(BuildEvent::Planned { steps: graph.steps().map(info).collect() }).await;
    let cancel = options.cancel.child_token();
    let job = Job {
        runner,
        context: StepContext { events: events.clone(), cancel: cancel.clone() },
        permits: Arc::new(Semaphore::new(options.jobs.max(1))),
    };
    let mut scheduler = Scheduler { states: initial_states(&graph), graph, job, tasks: JoinSet::new() };
    scheduler.start_ready();
    let mut solved = Solved::default();
    let mut failure = None;
    while let Some(joined) = scheduler.tasks.join_next().await {
        match joined {
            Ok((step, Ok((result, outcome)))) => {
                solved.results.insert(step, result.clone());
                solved.outcomes.insert(step, outcome);
                scheduler.finish(step, result);
                if failure.is_none() && !cancel.is_cancelled() {
                    scheduler.start_ready();
                }
            }
            Ok((step, Err(error))) => {
                failure.get_or_insert_with(|| match error {
                    _ if options.cancel.is_cancelled() => SolveError::Canceled,
                    Some(error) => SolveError::Step { step, error },
                    None => SolveError::Canceled,
                });
                cancel.cancel();
            }
            Err(panic) => {
                failure.get_or_insert(SolveError::Panicked(panic.to_string()));
                cancel.cancel();
            }
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None if options.cancel.is_cancelled() => Err(SolveError::Canceled),
        None => Ok(solved),
    }
}

fn info(step: &Step) -> StepInfo {
    StepInfo { id: step.id, name: step.name.clone(), line: step.line }
}

fn initial_states(graph: &BuildGraph) -> Vec<State> {
    graph.steps().map(|step| State::Waiting { missing: graph.inputs(step.id).len() }).collect()
}

/// What every step's task shares.
struct Job<R> {
    runner: Arc<R>,
    context: StepContext,
    permits: Arc<Semaphore>,
}

impl<R> Clone for Job<R> {
    fn clone(&self) -> Self {
        Self { runner: self.runner.clone(), context: self.context.clone(), permits: self.permits.clone() }
    }
}

/// A step's end: its result, an error, or `None` for “canceled before it ran”.
type StepEnd<E> = Result<(StepResult, Outcome), Option<E>>;

struct Scheduler<R: StepRunner> {
    graph: Arc<BuildGraph>,
    states: Vec<State>,
    job: Job<R>,
    tasks: JoinSet<(StepId, StepEnd<R::Error>)>,
}

impl<R: StepRunner> Scheduler<R> {
    fn start_ready(&mut self) {
        for index in 0..self.states.len() {
            if !matches!(self.states[index], State::Waiting { missing: 0 }) {
                continue;
            }
            self.states[index] = State::Started;
            let id = StepId(u32::try_from(index).expect("step numbers are 32 bit"));
            let (graph, job, inputs) = (self.graph.clone(), self.job.clone(), self.inputs_of(id));
            self.tasks.spawn(async move {
                let step = graph.step(id);
                (id, advance(step, &inputs, &job).await)
            });
        }
    }

    fn inputs_of(&self, id: StepId) -> StepInputs {
        let mut inputs = StepInputs::default();
        for (slot, input) in self.graph.inputs(id) {
            let State::Done(result) = &self.states[input.0 as usize] else {
                unreachable!("a step is started when all its inputs are done");
            };
            if slot == 0 && self.graph.step(id).has_parent {
                inputs.parent = result.tree();
            }
            inputs.slots.push((slot, result.clone()));
        }
        inputs
    }

    fn finish(&mut self, id: StepId, result: StepResult) {
        self.states[id.0 as usize] = State::Done(result);
        for dependant in self.graph.dependants(id) {
            let edges = self.graph.inputs(dependant).iter().filter(|(_, input)| *input == id).count();
            if let State::Waiting { missing } = &mut self.states[dependant.0 as usize] {
                *missing -= edges;
            }
        }
    }
}

/// Takes one step from ready inputs to its result, and tells the events of it.
async fn advance<R: StepRunner>(step: &Step, inputs: &StepInputs, job: &Job<R>) -> StepEnd<R::Error> {
    let events = &job.context.events;
    if job.context.cancel.is_cancelled() {
        return Err(None);
    }
    events.send(BuildEvent::StepStarted { id: step.id }).await;
    let end =
        if is_source(&step.op) { resolve(step, job).await } else { look_up_or_run(step, inputs, job).await };
    match &end {
        Ok(_) => {}
        Err(Some(error)) if !job.context.cancel.is_cancelled() => {
            events.send(BuildEvent::StepFailed { id: step.id, message: error.to_string() }).await;
        }
        Err(_) => events.send(BuildEvent::StepCanceled { id: step.id }).await,
    }
    end
}

const fn is_source(op: &Op) -> bool {
    match op {
        Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) | Op::Inline(_) => true,
        Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => false,
    }
}

async fn resolve<R: StepRunner>(step: &Step, job: &Job<R>) -> StepEnd<R::Error> {
    let begin = Instant::now();
    let result = job.runner.source(step, &job.context).await.map_err(Some)?;
    finished(step, job, begin, false, 0).await;
    Ok((result, Outcome::Resolved))
}

async fn look_up_or_run<R: StepRunner>(step: &Step, inputs: &StepInputs, job: &Job<R>) -> StepEnd<R::Error> {
    let mut parts = step_parts(step, &inputs.parent);
    parts.0.extend(job.runner.contents(step, inputs).await.map_err(Some)?.0);
    let key = parts.key();
    let reason = if step.ignore_cache {
        "the cache is not used for it".to_owned()
    } else {
        match job.runner.lookup(step, &key, &parts, inputs).await.map_err(Some)? {
            Lookup::Hit { result, left_out } => {
                tell_left_out(step, job, left_out).await;
                job.context.events.send(BuildEvent::StepCached { id: step.id }).await;
                return Ok((result, Outcome::Cached));
            }
            Lookup::Miss(reason) => reason,
        }
    };
    job.context.events.send(BuildEvent::StepPhase { id: step.id, phase: StepPhase::Waiting }).await;
    let permit = tokio::select! {
        permit = job.permits.acquire() => permit.expect("the semaphore is never closed"),
        () = job.context.cancel.cancelled() => return Err(None),
    };
    let begin = Instant::now();
    job.context.events.send(BuildEvent::StepRunning { id: step.id, reason }).await;
    let executed = job.runner.execute(step, &key, &parts, inputs, &job.context).await.map_err(Some)?;
    drop(permit);
    tell_left_out(step, job, executed.left_out).await;
    if executed.shared {
        job.context.events.send(BuildEvent::StepCached { id: step.id }).await;
        return Ok((executed.result, Outcome::Cached));
    }
    finished(step, job, begin, executed.equal_output, executed.bytes).await;
    Ok((executed.result, Outcome::Ran(executed.equal_output)))
}

async fn tell_left_out<R>(step: &Step, job: &Job<R>, files: Vec<LeftOutFiles>) {
    if !files.is_empty() {
        job.context.events.send(BuildEvent::StepLeftOut { id: step.id, files }).await;
    }
}

async fn finished<R>(step: &Step, job: &Job<R>, begin: Instant, equal_output: bool, bytes: u64) {
    let duration = begin.elapsed();
    job.context.events.send(BuildEvent::StepFinished { id: step.id, duration, equal_output, bytes }).await;
}
