//! What planning gives.

use std::collections::BTreeMap;

use mica_image::ImageConfig;
use serde::{Deserialize, Serialize};

use super::epoch::EpochSource;
use crate::graph::{BuildGraph, HistoryItem, ImageSource, StepId, Target};

/// How far planning came.
#[derive(Debug)]
pub enum Planned {
    /// All the way.
    Ready(Box<Plan>),
    /// These images must be resolved first; then plan again, which may ask for more.
    NeedImages(Vec<ImageSource>),
    /// The time of this must be found out first; then plan again.
    NeedTime(EpochSource),
}

/// A build, planned.
#[derive(Debug)]
pub struct Plan {
    /// The steps.
    pub graph: BuildGraph,
    /// The images asked for, one for each platform.
    pub targets: Vec<Target>,
    /// The stages of the file in order.
    pub stages: Vec<StageSummary>,
    /// What the target can be given.
    pub outline: Outline,
    /// SOURCE_DATE_EPOCH in effect, in seconds.
    pub source_date_epoch: Option<i64>,
    /// Build arguments that no ARG declares.
    pub unused: Vec<UnusedArgument>,
    /// What stages are like after their steps: bases, RUN, COPY, ADD and WORKDIR.
    pub settings: BTreeMap<StepId, Setting>,
}

/// A build argument that no ARG declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedArgument {
    /// Its name.
    pub name: String,
    /// A declared one that it may be meant to be.
    pub nearest: Option<String>,
}

/// What a stage is like after a step: what a command there would be given, and what an image of it would say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The environment in order, ARGs in effect included.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as written; empty is root.
    pub user: String,
    /// The image configuration; the history in it is the base's, and only the base's own step has it.
    pub config: ImageConfig,
    /// The history entries since the step below, the step's own last.
    pub history: Vec<HistoryItem>,
}

/// A stage as `--call=targets` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageSummary {
    /// Its name, lower-case.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Whether it is built when no target is named.
    pub default: bool,
    /// Its base as written.
    pub base: String,
    /// Its platform as written.
    pub platform: Option<String>,
    /// 1-based line.
    pub line: u32,
}

/// The parameters of a target, as `--call=outline` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Build arguments by line.
    pub args: Vec<OutlineArg>,
    /// Secrets by line.
    pub secrets: Vec<OutlineMount>,
    /// SSH agents by line.
    pub ssh: Vec<OutlineMount>,
}

/// A build argument of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value in this build.
    pub value: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// 1-based line.
    pub line: u32,
}

/// A secret or ssh agent of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// 1-based line.
    pub line: u32,
}
