//! Planning: a Dockerfile and a request become a graph of steps, image configurations and history.
//!
//! [`plan`] is a pure function. It never fetches: when it must know the configuration of a base image it says so, and is called
//! again with the image resolved (an ONBUILD of that image may then ask for another). Semantics are the reference builder's, down
//! to the text of history entries.
//!
//! The way of a file through here: `file` cuts it into stages, `survey` says what each stage is built on and takes files from,
//! `base` finds the images and ONBUILD triggers of the stages that are needed, `dispatch` goes through their instructions
//! (`instruction/`, one file each) and adds steps to the `draft` of the graph.

mod arguments;
mod base;
mod blame;
mod checks;
mod contexts;
mod dispatch;
mod draft;
mod environment;
mod epoch;
mod file;
mod go;
mod instruction;
mod outcome;
mod outline;
mod paths;
mod planner;
#[cfg(test)]
mod property_tests;
mod report;
mod request;
mod sources;
mod stage_state;
mod stages;
mod survey;
#[cfg(test)]
mod tests;
mod title;
mod unused;

pub use blame::unresolved_image;
pub use epoch::EpochSource;
pub use outcome::{Outline, OutlineArg, OutlineMount, Plan, Planned, Setting, StageSummary, UnusedArgument};
pub use planner::plan;
pub use request::{
    BaseImages, IgnoredPaths, Knowledge, NamedContext, NoCache, Normalised, PlanRequest, ResolvedImage,
    SourceTime,
};
