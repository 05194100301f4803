//! Decides what a build does: plans steps, names their cache keys, runs them when their inputs are ready.
//!
//! Touches no file, socket or process: everything it needs done goes through [`StepRunner`].
#![forbid(unsafe_code)]

pub mod event;
pub mod graph;
pub mod key;
pub mod plan;
mod runner;
mod solve;

pub use event::{BuildEvent, LeftOutFiles, LogStream, StepInfo, StepPhase, TaskState};
pub use graph::{BuildGraph, Op, Step, StepId};
pub use key::{CacheKey, KeyPart, KeyParts};
pub use runner::{EventSender, Executed, Lookup, StepContext, StepInputs, StepResult, StepRunner};
pub use solve::{Outcome, SolveError, SolveOptions, Solved, solve};
